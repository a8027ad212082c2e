//! Control messages, by which an origin tells gripd what to do with a WebSocket.

use crate::support::events::{control, event, say, subscribe};
use crate::support::paused::{Paused, PausedClient, ok, paused};
use crate::support::websocket::{BINARY, Frame, PING, TEXT};
use crate::support::{Answer, Events, Gripd, Socket, eventually};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};

fn start() -> (Gripd, Events) {
    let origin = Events::start();
    (origin.gripd("", "", |_| {}), origin)
}

/// Makes the origin send events in response to a message of the client. Waits until gripd has processed them.
fn told(client: &mut Socket, origin: &Events, said: impl AsRef<[u8]>) {
    client.send(TEXT, "?");
    origin.next().say([said.as_ref(), &say("done")].concat());
    assert_eq!(client.text(), "done");
}

/// Publishes a text. Returns the number of connections to which it was delivered, and of those whose filters skip it.
fn publish(gripd: &Gripd, channel: &str, text: &str, meta: &Value) -> (u64, u64) {
    let receipt = gripd.publish(&json!([{ "channel": channel, "meta": meta, "ws-message": { "content": text } }]));
    (receipt[0]["delivered"].as_u64().unwrap(), receipt[0]["filtered"].as_u64().unwrap())
}

fn filtered(channel: &str, filters: &[&str]) -> Vec<u8> {
    control(&json!({ "type": "subscribe", "channel": channel, "filters": filters }))
}

fn meta(name: &str, value: &Value) -> Vec<u8> {
    control(&json!({ "type": "set-meta", "name": name, "value": value }))
}

#[test]
fn control_messages_subscribe_and_unsubscribe() {
    let (gripd, origin) = start();
    let mut client = origin.open(&gripd, &[subscribe("a"), subscribe("b"), subscribe("a")].concat());
    assert_eq!((gripd.connections("a"), gripd.connections("b")), (1, 1));
    assert_eq!(publish(&gripd, "a", "one", &json!({})), (1, 0));
    assert_eq!(client.text(), "one");
    let leave = |channel| control(&json!({ "type": "unsubscribe", "channel": channel }));
    told(&mut client, &origin, [leave("a"), leave("never")].concat());
    assert_eq!((gripd.connections("a"), gripd.connections("b")), (0, 1));
    assert_eq!(publish(&gripd, "a", "two", &json!({})), (0, 0));
    publish(&gripd, "b", "three", &json!({}));
    assert_eq!(client.text(), "three");
    told(&mut client, &origin, subscribe("a"));
    publish(&gripd, "a", "four", &json!({}));
    assert_eq!(client.text(), "four");
}

#[test]
fn the_prefix_of_a_route_does_not_apply_to_the_channels_of_its_target() {
    let origin = Events::start();
    let gripd = origin.gripd(",prefix=app-", ",sub=all,sub=more", |_| {});
    let mut client = origin.open(&gripd, &subscribe("a"));
    let held = || ["app-a", "all", "more", "a", "app-all"].map(|channel| gripd.connections(channel));
    assert_eq!(held(), [1, 1, 1, 0, 0]);
    let leave = |channel| control(&json!({ "type": "unsubscribe", "channel": channel }));
    told(&mut client, &origin, [leave("a"), leave("all"), leave("more")].concat());
    assert_eq!(held(), [0, 1, 1, 0, 0]);
    publish(&gripd, "all", "to all", &json!({}));
    assert_eq!(client.text(), "to all");
}

#[test]
fn an_origin_cannot_unsubscribe_from_a_channel_of_its_target() {
    let origin = Events::start();
    let gripd = origin.gripd("", ",sub=all", |_| {});
    let mut client = origin.open(&gripd, b"");
    told(&mut client, &origin, control(&json!({ "type": "unsubscribe", "channel": "all" })));
    assert_eq!(gripd.connections("all"), 1);
}

#[test]
fn nobody_holds_more_channels_than_allowed() {
    let origin = Events::start();
    let gripd = origin.gripd("", "", |config| config.shard.max_channels = 2);
    let mut client = origin.open(&gripd, &["a", "b", "c"].map(subscribe).concat());
    let held = || ["a", "b", "c"].map(|channel| gripd.connections(channel));
    assert_eq!((held(), gripd.metric("subscriptions_refused_total")), ([1, 1, 0], 1));
    // A client that leaves a channel may hold another one instead.
    told(&mut client, &origin, [control(&json!({ "type": "unsubscribe", "channel": "a" })), subscribe("c")].concat());
    assert_eq!(held(), [0, 1, 1]);
}

#[test]
fn a_client_is_subscribed_before_its_handshake_is_answered() {
    let (gripd, origin) = start();
    for _ in 0..20 {
        let _client = origin.open(&gripd, &subscribe("a"));
        assert_eq!(gripd.connections("a"), 1);
        drop(_client);
        origin.next().say("");
        eventually("the connection is gone", || gripd.connections("a") == 0);
    }
}

#[test]
fn filters_use_the_meta_that_the_origin_sets() {
    let (gripd, origin) = start();
    let by_sender = |user: &str| [filtered("a", &["skip-self"]), meta("user", &json!(user))].concat();
    let (mut ann, mut bob) = (origin.open(&gripd, &by_sender("ann")), origin.open(&gripd, &by_sender("bob")));
    assert_eq!(publish(&gripd, "a", "by ann", &json!({ "sender": "ann" })), (1, 1));
    assert_eq!(bob.text(), "by ann");
    // Without the meta `user`, the client also gets the items that ann has sent.
    told(&mut ann, &origin, meta("user", &Value::Null));
    assert_eq!(publish(&gripd, "a", "by ann?", &json!({ "sender": "ann" })), (2, 0));
    assert_eq!([ann.text(), bob.text()], ["by ann?"; 2]);
    // Another subscription to the channel replaces its filters, or removes them.
    told(&mut bob, &origin, filtered("a", &["skip-users"]));
    assert_eq!(publish(&gripd, "a", "by bob", &json!({ "sender": "bob" })), (2, 0));
    assert_eq!(publish(&gripd, "a", "no bob", &json!({ "skip_users": "bob" })), (1, 1));
    assert_eq!([ann.text(), ann.text(), bob.text()], ["by bob", "no bob", "by bob"]);
    told(&mut bob, &origin, subscribe("a"));
    assert_eq!(publish(&gripd, "a", "for all", &json!({ "skip_users": "bob", "sender": "bob" })), (2, 0));
}

#[test]
fn filters_may_require_another_channel() {
    let origin = Events::start();
    let gripd = origin.gripd(",prefix=x-", "", |_| {});
    let in_room = [filtered("user7", &["require-sub"]), subscribe("room")].concat();
    let (mut inside, mut outside) =
        (origin.open(&gripd, &in_room), origin.open(&gripd, &filtered("user7", &["require-sub"])));
    assert_eq!(publish(&gripd, "x-user7", "here", &json!({ "require_sub": "room" })), (1, 1));
    assert_eq!(inside.text(), "here");
    let close = json!([{ "channel": "x-user7", "action": "close", "meta": { "require_sub": "room" } }]);
    assert_eq!(gripd.publish(&close)[0]["closed"], 1);
    assert_eq!(inside.ended(), (1000, String::new()));
    publish(&gripd, "x-user7", "still", &json!({}));
    assert_eq!(outside.text(), "still");
}

#[test]
fn filters_fill_in_content_for_each_client() {
    let (gripd, origin) = start();
    let mut ann = origin.open(&gripd, &[meta("user", &json!("ann")), filtered("a", &["var-subst"])].concat());
    let mut nobody = origin.open(&gripd, &filtered("a", &["var-subst"]));
    assert_eq!(publish(&gripd, "a", "hi %(user)s, 5%%", &json!({})), (1, 1));
    assert_eq!(ann.text(), "hi ann, 5%");
    let hex =
        [meta("id_format", &json!("id")), meta("id_encoding", &json!("hex")), filtered("b", &["build-id"])].concat();
    told(&mut nobody, &origin, hex);
    let binary = json!([{ "channel": "b", "ws-message": { "content-bin": "JSgx\nKUk=".replace('\n', "") } }]);
    assert_eq!(gripd.publish(&binary)[0]["delivered"], 1);
    assert_eq!(nobody.read(), Frame::whole(BINARY, "31"));
    // Content that was made for certain filters is delivered only to connections with the same filters.
    let made = |filters: Value| {
        let item = json!([{ "channel": "a", "ws-message": { "content": "x", "content-filters": filters } }]);
        gripd.publish(&item)[0]["delivered"].as_u64().unwrap()
    };
    assert_eq!((made(json!([])), made(json!(["build-id"])), made(json!(["var-subst"]))), (0, 0, 2));
}

#[test]
fn http_filters_ask_the_origin_of_the_websocket() {
    let (gripd, origin) = start();
    let said = |filter| [meta("url", &json!("/filter?x")), filtered("a", &[filter])].concat();
    let (mut checked, mut modified) =
        (origin.open(&gripd, &said("http-check")), origin.open(&gripd, &said("http-modify")));
    let item = json!({ "channel": "a", "meta": { "k": "v" }, "ws-message": { "content": "item" } });
    let items = json!({ "items": [item] });
    gripd.publish_body("", &items.to_string());
    for _ in 0..2 {
        let question = origin.next();
        assert_eq!(question.asked.line, "POST /filter?x HTTP/1.1");
        assert_eq!(question.asked.header("pub-meta"), Some(r#"{"k":"v"}"#));
        assert_eq!(question.asked.header("sub-meta"), Some(r#"{"url":"/filter?x"}"#));
        assert_eq!(question.asked.header("connection-id"), None);
        let modifies = question.asked.body == "item";
        question.answer(Answer::ok(if modifies { "changed" } else { "" }));
    }
    assert_eq!([checked.text(), modified.text()], ["item", "changed"]);
    // Messages of the origin are not delayed while filters are asked. Items that are published meanwhile are.
    gripd.publish_body("", &items.to_string());
    let questions = [origin.next(), origin.next()];
    gripd.publish_body("", &items.to_string());
    checked.send(TEXT, "?");
    origin.next().say(say("meanwhile"));
    assert_eq!(checked.text(), "meanwhile");
    for question in questions {
        question.answer(Answer::Bytes("HTTP/1.1 204 No\r\nAction: drop\r\n\r\n".into()));
    }
    for _ in 0..2 {
        origin.next().answer(Answer::Bytes("HTTP/1.1 204 No\r\n\r\n".into()));
    }
    assert_eq!([checked.text(), modified.text()], ["item"; 2]);
}

#[test]
fn too_many_filters_end_the_websocket() {
    let (gripd, origin) = start();
    let mut client = origin.open(&gripd, &filtered("a", &["skip-self"; 5]));
    assert_eq!(gripd.connections("a"), 1);
    client.send(TEXT, "?");
    origin.next().say(filtered("b", &["skip-self"; 6]));
    assert_eq!(client.ended(), (1011, "too many filters".into()));
    assert_eq!((gripd.connections("a"), gripd.connections("b")), (0, 0));
    let question = origin.next();
    assert!(question.events().starts_with("CLOSE"), "{}", question.events());
}

#[test]
fn invalid_control_messages_are_ignored() {
    let (gripd, origin) = start();
    let mut client = origin.open(&gripd, b"");
    let texts =
        ["c:", "c:{", "c:[]", "c:null", "c:{\"type\":1}", "c:{\"type\":\"set-hold\"}", "c:{\"type\":\"subscribe\"}"];
    let mut said: Vec<u8> = texts.iter().flat_map(|text| event("TEXT", text)).collect();
    said.extend(subscribe(""));
    said.extend(control(&json!({ "type": "keep-alive", "content": "x", "timeout": "soon" })));
    said.extend(control(&json!({ "type": "session", "id": "s" })));
    // Control messages are text messages, so gripd does not carry out a binary one.
    said.extend(event("BINARY", "c:{\"type\":\"detach\"}"));
    told(&mut client, &origin, [said, subscribe("a")].concat());
    assert_eq!((gripd.connections("a"), gripd.metric("channels")), (1, 1));
}

#[test]
fn an_idle_client_is_kept_alive() {
    let (gripd, origin) = start();
    let message = json!({ "type": "keep-alive", "content": "alive", "timeout": 1 });
    let mut client = origin.open(&gripd, &control(&message));
    assert_eq!([client.text(), client.text()], ["alive"; 2]);
    // The next message changes the keep-alive to a ping, and the one after it turns the keep-alive off.
    told(
        &mut client,
        &origin,
        control(&json!({ "type": "keep-alive", "content-bin": "aGk=", "message-type": "ping", "timeout": 1 })),
    );
    assert_eq!(client.read(), Frame::whole(PING, "hi"));
    told(&mut client, &origin, control(&json!({ "type": "keep-alive" })));
    let mut other = origin.open(&gripd, &control(&message));
    assert_eq!([other.text(), other.text(), other.text()], ["alive"; 3]);
    told(&mut client, &origin, b"");
}

#[test]
fn items_put_off_the_keep_alive_only_in_the_mode_idle() {
    paused(
        "* origin:80,over_http",
        |_| {},
        async |gripd| {
            gripd.origin_answers(|heard| {
                let mode = heard.target.trim_start_matches('/');
                let keep = control(&json!({ "type": "keep-alive", "content": "alive", "timeout": 2, "mode": mode }));
                let said = if heard.body.starts_with(b"OPEN") {
                    [b"OPEN\r\n", &*keep, &*subscribe("a")].concat()
                } else {
                    vec![]
                };
                ok("Content-Type: application/websocket-events\r\nSec-WebSocket-Extensions: grip\r\n", said)
            });
            let [mut idle, mut interval] = [open(gripd, "/idle").await, open(gripd, "/interval").await];
            // Items arrive all the time, for longer than the timeout of the keep-alive.
            let (begin, mut told) = (Instant::now(), 0);
            while begin.elapsed() < Duration::from_millis(3500) {
                gripd.publish(&json!([{ "channel": "a", "ws-message": { "content": "item" } }])).await;
                assert_eq!(text(&mut idle).await, "item", "a keep-alive came although the client was not idle");
                while text(&mut interval).await != "item" {
                    told += 1;
                }
                sleep(Duration::from_millis(100)).await;
            }
            assert!(told > 0, "no keep-alive came in the mode 'interval'");
            assert_eq!(text(&mut idle).await, "alive");
        },
    );
}

/// Opens a WebSocket.
async fn open(gripd: &Paused, path: &str) -> PausedClient {
    let handshake = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let mut client = gripd.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n{handshake}\r\n{key}\r\n\r\n")).await;
    let head = client.read_until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    client
}

/// Reads a text message of at most 125 bytes.
async fn text(client: &mut PausedClient) -> String {
    let [lead, length] = client.read_exact(2).await.try_into().unwrap();
    assert_eq!(lead, 0x80 | TEXT);
    String::from_utf8(client.read_exact(length.into()).await).unwrap()
}

#[test]
fn messages_may_be_delayed_and_flushed() {
    let (gripd, origin) = start();
    let delayed = |content: &str, timeout: u64| {
        control(&json!({ "type": "send-delayed", "content": content, "timeout": timeout }))
    };
    let mut client = origin.open(&gripd, b"");
    let begin = Instant::now();
    told(
        &mut client,
        &origin,
        control(&json!({ "type": "send-delayed", "content-bin": "/w==", "message-type": "binary" })),
    );
    assert_eq!(client.read(), Frame::whole(BINARY, [255]));
    assert!(begin.elapsed() >= Duration::from_millis(900), "the message was not delayed");
    // A second delayed message makes gripd send the first one at once. None is sent twice, even with two flushes.
    client.send(TEXT, "?");
    let flush = control(&json!({ "type": "flush-delayed" }));
    let said = [delayed("1", 600), say("2"), delayed("3", 600), say("4"), flush.clone(), flush, say("5")];
    origin.next().say(said.concat());
    let heard: Vec<String> = (0..5).map(|_| client.text()).collect();
    assert_eq!(heard, ["2", "1", "4", "3", "5"]);
}

#[test]
fn an_origin_may_detach_and_the_client_stays() {
    let (gripd, origin) = start();
    let mut client = origin.open(&gripd, &subscribe("a"));
    client.send(TEXT, "?");
    origin.next().say([say("bye"), control(&json!({ "type": "detach" })), say("unheard")].concat());
    assert_eq!(client.text(), "bye");
    let question = origin.next();
    assert_eq!(question.events(), "CLOSE|");
    question.say("");
    client.send(TEXT, "is anybody there?");
    client.send(PING, "there?");
    assert_eq!(client.read(), Frame::whole(10, "there?"));
    publish(&gripd, "a", "news", &json!({}));
    assert_eq!(client.text(), "news");
    client.close(4000, "");
    assert_eq!(client.ended(), (4000, String::new()));
    drop(gripd);
    assert_eq!(origin.count(), 3);
}
