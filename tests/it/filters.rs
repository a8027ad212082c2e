//! Filters, which decide which connections get an item, and with what content.

use crate::support::{Answer, Client, Gripd, Origin, eventually, gate};
use serde_json::{Value, json};
use std::time::Duration;

/// Starts an origin that holds `/stream` and `/poll`. The query consists of the values of `Grip-Channel` and
/// `Grip-Set-Meta`, as `CHANNELS|META`, with `_` for each space.
fn filtering() -> Origin {
    Origin::start(|asked| {
        let (path, query) = asked.target().split_once('?').unwrap();
        let query = query.replace('_', " ").replace("%7C", "|");
        let (channels, meta) = query.split_once('|').unwrap_or((&query, ""));
        let mode = if path == "/poll" { "response" } else { "stream" };
        let headers = format!(
            "Grip-Hold: {mode}\r\nGrip-Channel: {channels}\r\nGrip-Set-Meta: {meta}\r\nGrip-Link: </next>; rel=next; timeout=600\r\n"
        );
        Answer::with(&headers, "hello\n")
    })
}

fn stream(gripd: &Gripd, query: &str) -> Client {
    let mut client = gripd.get(&format!("/stream?{query}"));
    client.head();
    assert_eq!(client.chunk(), "hello\n");
    client
}

fn publish(gripd: &Gripd, content: &str, meta: &Value) -> (u64, u64) {
    let formats = json!({ "http-stream": { "content": content }, "http-response": { "body": content } });
    let receipt = gripd.publish(&json!([{ "channel": "a", "meta": meta, "formats": formats }]));
    (receipt[0]["delivered"].as_u64().unwrap(), receipt[0]["filtered"].as_u64().unwrap())
}

#[test]
fn filters_skip_items_for_some_connections() {
    let gripd = Gripd::start(&filtering());
    let mut ann = stream(&gripd, "a;filter=skip-self;filter=skip-users|user=ann");
    let mut bob = stream(&gripd, "a;filter=skip-self;filter=skip-users|user=bob");
    let mut poll = gripd.get("/poll?a;filter=skip-users|user=bob");
    eventually("the connections are held", || gripd.connections("a") == 3);
    assert_eq!(publish(&gripd, "by ann", &json!({ "sender": "ann", "skip_users": "cy, bob" })), (0, 3));
    assert_eq!(publish(&gripd, "for ann", &json!({ "skip_users": "bob" })), (1, 2));
    assert_eq!(ann.chunk(), "for ann");
    assert_eq!(publish(&gripd, "for all", &json!({})), (3, 0));
    assert_eq!([ann.chunk(), bob.chunk(), poll.answer().1], ["for all"; 3]);
}

#[test]
fn filters_decide_which_connections_are_closed() {
    let gripd = Gripd::start(&filtering());
    let mut inside = stream(&gripd, "user7;filter=require-sub,_room1;prev-id=1");
    let mut elsewhere = stream(&gripd, "user7;filter=require-sub,_room2");
    let mut poll = gripd.get("/poll?user7;filter=require-sub,_room1");
    eventually("the connections are held", || gripd.connections("user7") == 3);
    let close = json!([{ "channel": "user7", "action": "close", "meta": { "require_sub": "room1" } }]);
    assert_eq!(gripd.publish(&close)[0]["closed"], 2);
    assert_eq!((inside.chunks().as_str(), inside.rest().as_str()), ("", ""));
    assert_eq!(poll.answer().1, "hello\n");
    gripd.say("user7", "on");
    assert_eq!(elsewhere.chunk(), "on");
    // `skip-users` closes all connections except those of the named users.
    let mut bob = stream(&gripd, "room3;filter=skip-users|user=bob");
    let mut cy = stream(&gripd, "room3;filter=skip-users|user=cy");
    let close = json!([{ "channel": "room3", "action": "close", "meta": { "skip_users": "bob" } }]);
    assert_eq!(gripd.publish(&close)[0]["closed"], 1);
    assert_eq!(cy.chunks(), "");
    gripd.say("room3", "on");
    assert_eq!(bob.chunk(), "on");
}

#[test]
fn content_is_filled_in_for_each_connection() {
    let gripd = Gripd::start(&filtering());
    let mut bob = stream(&gripd, "a;filter=var-subst|user=bob");
    let mut nobody = stream(&gripd, "a;filter=var-subst");
    let mut poll = gripd.get("/poll?a;filter=var-subst|user=cy");
    eventually("the connections are held", || gripd.connections("a") == 3);
    // A connection without the meta `user` does not get the item, because its content would be incomplete.
    assert_eq!(publish(&gripd, "hi %(user)s, 5%%", &json!({})), (2, 1));
    assert_eq!([bob.chunk(), poll.answer().1], ["hi bob, 5%", "hi cy, 5%"]);
    publish(&gripd, "plain", &json!({}));
    assert_eq!(nobody.chunk(), "plain");
}

#[test]
fn the_filter_build_id_uses_the_ids_of_the_connections_channels() {
    let origin = Origin::start(|_| {
        let headers = "Grip-Hold: stream\r\nGrip-Channel: a; prev-id=1; filter=build-id, b; prev-id=7\r\n\
                       Grip-Set-Meta: id_format=\"%(a)s-%(b)s\"\r\nGrip-Link: </next>; rel=next; timeout=600\r\n";
        Answer::with(headers, "id: %I, 100%%\n")
    });
    let gripd = Gripd::with(&origin, ",prefix=app-", |_| {});
    let mut client = gripd.get("/");
    client.head();
    assert_eq!(client.chunk(), "id: 1-7, 100%\n");
    let item = |channel: &str, id: &str, prev: &str, filters: Value| {
        json!({ "channel": channel, "id": id, "prev-id": prev,
            "http-stream": { "content": format!("{id}:%I"), "content-filters": filters } })
    };
    let receipt = gripd.publish(&json!([
        item("app-b", "8", "7", json!([])),
        item("app-a", "2", "1", json!(["build-id"])),
        item("app-a", "3", "2", json!(["var-subst"])),
        item("app-a", "4", "3", json!(["build-id"])),
    ]));
    // An item for other content filters is not delivered, but counts as the predecessor of the next item.
    assert_eq!(receipt[2]["filtered"], 1);
    assert_eq!([client.chunk(), client.chunk(), client.chunk()], ["8:%I", "2:2-8", "4:4-8"]);
}

#[test]
fn http_filters_drop_and_change_items() {
    let origin = Origin::start(|asked| match asked.target() {
        "/check?x" => {
            assert!(asked.line.starts_with("POST") && asked.body.is_empty());
            assert_eq!(asked.header("sub-meta"), Some(r#"{"url":"/check?x"}"#));
            let secret = asked.header("pub-meta") == Some(r#"{"secret":"yes"}"#);
            Answer::Bytes(format!("HTTP/1.1 204 No\r\n{}\r\n", if secret { "Action: drop\r\n" } else { "" }))
        }
        "/modify" if asked.body == "same" => Answer::Bytes("HTTP/1.1 204 No\r\n\r\n".into()),
        "/modify" if asked.body == "wrong" => Answer::Bytes("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".into()),
        "/modify" => Answer::ok(&format!("<{}>", asked.body)),
        target => {
            let (mode, filter, url) = match target {
                "/checked" => ("stream", "http-check", "/check?x"),
                "/polled" => ("response", "http-modify", "/modify"),
                _ => ("stream", "http-modify", "/modify"),
            };
            let headers =
                format!("Grip-Hold: {mode}\r\nGrip-Channel: a; filter={filter}, b\r\nGrip-Set-Meta: url=\"{url}\"\r\n");
            Answer::with(&headers, "hello\n")
        }
    });
    let gripd = Gripd::start(&origin);
    let (mut checked, mut modified) = (gripd.get("/checked"), gripd.get("/modified"));
    for client in [&mut checked, &mut modified] {
        client.head();
        client.chunk();
    }
    let mut polled = gripd.get("/polled");
    eventually("the connections are held", || gripd.connections("a") == 3);
    assert_eq!(publish(&gripd, "wrong", &json!({ "secret": "yes" })), (0, 3));
    assert_eq!(publish(&gripd, "same", &json!({})), (3, 0));
    assert_eq!([checked.chunk(), modified.chunk(), polled.answer().1], ["same"; 3]);
    publish(&gripd, "other", &json!({}));
    // An item that needs no decision of the origin is delivered after the earlier item that needs one.
    gripd.say("b", "plain");
    assert_eq!([checked.chunk(), checked.chunk()], ["other", "plain"]);
    assert_eq!([modified.chunk(), modified.chunk()], ["<other>", "plain"]);
}

#[test]
fn a_close_waits_for_undecided_items_within_the_grace() {
    let (go, wait) = gate();
    let origin = Origin::start(move |asked| {
        if asked.target() == "/check" {
            // This fails only if the test is over.
            wait();
            return Answer::Bytes("HTTP/1.1 204 No\r\n\r\n".into());
        }
        Answer::with(
            "Grip-Hold: stream\r\nGrip-Channel: a; filter=http-check\r\nGrip-Set-Meta: url=/check\r\n",
            "hello\n",
        )
    });
    let gripd = Gripd::with(&origin, "", |config| config.shard.close_grace = Duration::from_millis(300));
    let stream = || {
        let mut client = gripd.get("/");
        client.head();
        client.chunk();
        client
    };
    let mut client = stream();
    let item = json!({ "items": [{ "channel": "a", "http-stream": { "content": "item" } }] }).to_string();
    gripd.publish_body("", &item);
    eventually("the filter is asked", || origin.asked_for("/check").len() == 1);
    let closing = std::thread::scope(|scope| {
        let closing = scope.spawn(|| gripd.close("a"));
        eventually("the close has begun", || gripd.connections("a") == 0);
        go.send(()).unwrap();
        closing.join().unwrap()
    });
    assert_eq!(closing, (1, 0));
    assert_eq!((client.chunks().as_str(), client.rest().as_str()), ("item", ""));
    // An item that is not decided within the grace is not delivered.
    let mut client = stream();
    gripd.publish_body("", &item);
    eventually("the filter is asked again", || origin.asked_for("/check").len() == 2);
    assert_eq!(gripd.close("a"), (1, 0));
    assert_eq!((client.chunks().as_str(), client.rest().as_str()), ("", ""));
    drop(go);
}
