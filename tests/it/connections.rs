//! `/connections`: the list of connections, and the kick of one of them.

use crate::support::kinds::{item, origin};
use crate::support::tokens::{SECRET, now, token};
use crate::support::{Client, Gripd, KINDS, Kind, Member, Socket, eventually};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn start() -> Gripd {
    Gripd::configured(&origin().route(""))
}

/// Starts a gripd whose clients may have tokens.
fn with_users() -> Gripd {
    Gripd::configured(&origin().route(&format!("user_jwt = [\"query:token\"]\nuser_key = \"{SECRET}\"")))
}

/// Returns all connections that match a query. Reads the list page by page.
fn all(gripd: &Gripd, query: &str) -> Vec<Value> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let mut page = gripd.json(&format!("/connections?{query}{after}"));
        all.extend_from_slice(page["connections"].as_array().unwrap());
        let Value::String(next) = page["next"].take() else { return all };
        assert!(all.len() < 10_000, "the list has no end");
        after = format!("&after={next}");
    }
}

/// Returns the only connection of a channel.
fn only(gripd: &Gripd, channel: &str) -> Value {
    let found = all(gripd, &format!("channel={channel}"));
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

fn id(connection: &Value) -> String {
    connection["id"].as_str().unwrap().to_owned()
}

fn ids(connections: &[Value]) -> Vec<String> {
    connections.iter().map(id).collect()
}

#[test]
fn each_kind_of_connection_is_listed_with_its_properties() {
    let gripd = with_users();
    assert_eq!(gripd.json("/connections"), json!({ "connections": [], "next": null }));
    let begin = now();
    for kind in KINDS {
        let name = kind.name();
        let mut member = kind.held(&gripd, &format!("room-{name},user456&token={}", token("456")));
        let mut shown = only(&gripd, &format!("room-{name}"));
        assert_eq!(gripd.json(&format!("/connections/{}", id(&shown)))["address"], shown["address"]);
        assert_eq!(id(&shown).split('-').filter(|part| part.parse::<u64>().is_ok()).count(), 3, "{shown}");
        let (since, bytes) = (shown["since"].take().as_u64().unwrap(), shown["bytes"].take().as_u64());
        assert!((begin..=now()).contains(&since) && bytes.is_some(), "{since} {bytes:?}");
        shown["channels"].as_array_mut().unwrap().sort_by_key(Value::to_string);
        shown["id"].take();
        let address = member.http().address().to_string();
        let expected = json!({ "id": null, "kind": name, "address": address, "route": "chat", "user": "456",
            "since": null, "bytes": null, "queue": 0, "channels": [format!("room-{name}"), "user456"] });
        assert_eq!(shown, expected, "{kind:?}");
    }
    let _anonymous = Kind::Stream.held(&gripd, "lobby");
    assert_eq!(only(&gripd, "lobby")["user"], Value::Null);
}

#[test]
fn connections_are_found_by_channel_and_by_user() {
    let gripd = with_users();
    let mut members = Vec::new();
    for kind in KINDS {
        for user in ["7", "8 &9"] {
            members.push(kind.held(&gripd, &format!("room,{}&token={}", kind.name(), token(user))));
        }
        members.push(kind.held(&gripd, &format!("room,{}", kind.name())));
    }
    let count = |query: &str| all(&gripd, query).len();
    assert_eq!((count(""), count("channel=room"), count("channel=stream"), count("channel=never")), (9, 9, 3, 0));
    assert_eq!((count("user=7"), count("user=8%20%269"), count("user=9"), count("user=8+%269")), (3, 3, 0, 3));
    let one = all(&gripd, "channel=websocket&user=7");
    assert_eq!((one.len(), &one[0]["kind"], &one[0]["user"]), (1, &json!("websocket"), &json!("7")));
    assert_eq!(count("channel=room&user=never"), 0);
    members.truncate(3);
    eventually("the other connections are gone", || count("") == 3);
}

#[test]
fn pages_show_each_connection_of_all_shards_once() {
    let gripd = start();
    let members: Vec<Member> = (0..120).map(|n| KINDS[n % 3].held(&gripd, &format!("room,c{n}"))).collect();
    let page = gripd.json("/connections");
    assert_eq!((page["connections"].as_array().unwrap().len(), page["next"].is_string()), (100, true));
    let expected: BTreeSet<String> = (0..120).map(|n| id(&only(&gripd, &format!("c{n}")))).collect();
    assert_eq!(expected.len(), 120);
    let shards: BTreeSet<&str> = expected.iter().map(|id| id.split('-').next().unwrap()).collect();
    assert_eq!(shards.len(), 2, "{shards:?}");
    for limit in [1, 7, 60, 119, 120, 121, 1000] {
        let found = ids(&all(&gripd, &format!("channel=room&limit={limit}")));
        assert_eq!(found.len(), 120, "limit={limit}");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected, "limit={limit}");
    }
    assert_eq!(gripd.json("/connections?limit=121")["next"], Value::Null);
    drop(members);
}

#[test]
fn connections_that_stay_are_listed_once_while_others_come_and_go() {
    let gripd = start();
    let mut others: Vec<Member> = (0..30).map(|_| Kind::Stream.held(&gripd, "others")).collect();
    let _stay: Vec<Member> = (0..30).map(|n| KINDS[n % 3].held(&gripd, "stay")).collect();
    let stay: BTreeSet<String> = ids(&all(&gripd, "channel=stay")).into_iter().collect();
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let mut page = gripd.json(&format!("/connections?limit=5{after}"));
        found.extend(ids(page["connections"].as_array().unwrap()).into_iter().filter(|id| stay.contains(id)));
        let Value::String(next) = page["next"].take() else { break };
        after = format!("&after={next}");
        drop(others.drain(..others.len().min(3)));
        if found.len() < 20 {
            others.push(Kind::WebSocket.held(&gripd, "others"));
        }
    }
    assert_eq!(found.len(), 30, "{found:?}");
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), stay);
}

#[test]
fn one_connection_can_be_kicked_and_no_other_ends() {
    let gripd = start();
    for kind in KINDS {
        let mut kicked = kind.held(&gripd, "room,kicked");
        let mut other = kind.held(&gripd, "room,other");
        let of = format!("/connections/{}", id(&only(&gripd, "kicked")));
        let (status, reply) = gripd.control("DELETE", &of);
        assert_eq!(status, 200, "{reply}");
        assert_eq!(serde_json::from_str::<Value>(&reply).unwrap(), json!({ "closed": 1, "cut": 0 }), "{kind:?}");
        let answered = if kind == Kind::Poll { vec!["hello\n".to_owned()] } else { Vec::new() };
        assert_eq!(kicked.ends(), answered);
        assert_eq!((gripd.connections("kicked"), gripd.connections("room")), (0, 1));
        // A new connection has another id, even if gripd stores it where the closed one was.
        let _next = kind.held(&gripd, "next");
        for method in ["GET", "DELETE"] {
            assert_eq!(gripd.control(method, &of).0, 404, "{method} {kind:?}");
        }
        assert_eq!((gripd.connections("next"), all(&gripd, "channel=next").len()), (1, 1));
        assert_eq!(gripd.publish(&json!([item("room", "on")]))[0]["delivered"], 1);
        assert_eq!(other.hears(), "on");
        gripd.close("room");
        gripd.close("next");
    }
    let _client = Kind::Stream.held(&gripd, "room");
    let request = format!(
        "DELETE /connections/{} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
        id(&only(&gripd, "room"))
    );
    assert_eq!(gripd.ask(request).1, "Closed\n");
}

#[test]
fn items_published_before_a_kick_arrive() {
    let gripd = start();
    for kind in [Kind::Stream, Kind::WebSocket] {
        for _ in 0..20 {
            let mut kicked = kind.held(&gripd, "room,kicked");
            let of = format!("/connections/{}", id(&only(&gripd, "kicked")));
            gripd.publish_body("", &json!({ "items": [item("room", "bye")] }).to_string());
            assert_eq!(gripd.control("DELETE", &of).0, 200);
            assert_eq!(gripd.publish(&json!([item("room", "late")]))[0]["delivered"], 0);
            assert_eq!(kicked.ends(), ["bye"], "{kind:?}");
        }
    }
}

#[test]
fn invalid_ids_and_queries_are_refused() {
    let gripd = start();
    let _client = Kind::Stream.held(&gripd, "room");
    for wrong in [
        "x",
        "0",
        "0-1",
        "0-0-0-0",
        "-1-0-0",
        "0-0-x",
        "0-0-0@",
        "0-0-0@b",
        "9-0-0",
        "0-99999999999999999999-0",
        "%20",
        "0-0-0%00",
    ] {
        for method in ["GET", "DELETE"] {
            let (status, reply) = gripd.control(method, &format!("/connections/{wrong}"));
            assert!(status == 400 || status == 404, "{method} {wrong}: {status} {reply}");
        }
    }
    for wrong in ["limit=0", "limit=1001", "limit=x", "limit=-1", "after=x", "after=0-0-0@b", "color=red", "user=%ff"] {
        assert_eq!(gripd.control("GET", &format!("/connections?{wrong}")).0, 400, "{wrong}");
    }
    for method in ["POST", "PUT"] {
        assert_eq!(gripd.control(method, "/connections").0, 405, "{method}");
    }
    assert_eq!(gripd.connections("room"), 1);
}

#[test]
fn changes_of_a_connections_channels_are_listed() {
    let gripd = start();
    let mut socket = Kind::WebSocket.held(&gripd, "a,user7");
    let shown = |gripd: &Gripd| {
        let mut channels: Vec<String> = serde_json::from_value(only(gripd, "user7")["channels"].clone()).unwrap();
        channels.sort();
        channels
    };
    socket.tell(&json!({ "type": "subscribe", "channel": "b" }));
    assert_eq!(shown(&gripd), ["a", "b", "user7"]);
    gripd.publish(&json!([
        { "channel": "user7", "action": "subscribe", "channels": ["c"] },
        { "channel": "user7", "action": "unsubscribe", "channels": ["a", "b"] },
    ]));
    assert_eq!(shown(&gripd), ["c", "user7"]);
    assert_eq!((all(&gripd, "channel=c").len(), all(&gripd, "channel=a").len()), (1, 0));
}

#[test]
fn the_field_bytes_counts_the_sent_bytes() {
    let gripd = start();
    for kind in [Kind::Stream, Kind::WebSocket] {
        let mut member = kind.held(&gripd, "room");
        let bytes = || only(&gripd, "room")["bytes"].as_u64().unwrap();
        let before = bytes();
        gripd.publish(&json!([item("room", &"x".repeat(10_000))]));
        assert_eq!(member.hears().len(), 10_000);
        // The limit leaves room for the bytes that frame the item.
        eventually("the sent bytes are counted", || (10_000..10_020).contains(&(bytes() - before)));
        assert_eq!(only(&gripd, "room")["queue"], 0);
        gripd.close("room");
    }
}

#[test]
fn the_field_queue_counts_the_bytes_that_wait_for_a_client() {
    let config = "[delivery]\nclient_buffer = 100000000\noutlets_total = 1000000000\n";
    let gripd = Gripd::configured(&format!("{}{config}", origin().route("")));
    let stream = Client::with_small_buffer(gripd.clients, "GET /stream?room,stream HTTP/1.1\r\nHost: h\r\n\r\n");
    let socket = Socket::ask_with_small_buffer(gripd.clients, "/ws?room,websocket");
    eventually("both connections are held", || gripd.connections("room") == 2);
    for _ in 0..60 {
        gripd.publish(&json!([item("room", &"x".repeat(300_000))]));
    }
    for kind in ["stream", "websocket"] {
        let shown = only(&gripd, kind);
        let (bytes, queue) = (shown["bytes"].as_u64().unwrap(), shown["queue"].as_u64().unwrap());
        assert!(queue > 5_000_000, "{shown}");
        assert!((18_000_000..18_100_000).contains(&(bytes + queue)), "{shown}");
    }
    let of = format!("/connections/{}", id(&only(&gripd, "stream")));
    let (status, reply) = gripd.control("DELETE", &of);
    assert_eq!((status, reply.trim_end()), (200, "{\"closed\":1,\"cut\":1}"));
    drop((stream, socket));
}
