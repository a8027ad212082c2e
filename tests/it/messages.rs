//! Items that are published to WebSockets, and the ends of WebSockets by a close, a drain or a full outlet.

use crate::support::events::subscribe;
use crate::support::websocket::{BINARY, CLOSE, Frame, PING, PONG, TEXT};
use crate::support::{Events, Gripd, Origin, Socket, eventually};
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

/// Starts a gripd whose WebSockets hold the channels that their query names.
fn start() -> Gripd {
    start_with(|_| {})
}

fn start_with(change: impl FnOnce(&mut gripd::config::Config)) -> Gripd {
    Gripd::to(&["* test".into()], change)
}

fn open(gripd: &Gripd, channels: &[&str]) -> Socket {
    let mut client = Socket::ask(gripd.clients, &path(channels), "");
    client.accepted();
    client
}

fn path(channels: &[&str]) -> String {
    let channels: Vec<String> = channels.iter().map(|channel| format!("channel={channel}")).collect();
    format!("/ws?{}", channels.join("&"))
}

fn item(channel: &str, message: Value) -> Value {
    json!({ "channel": channel, "formats": { "ws-message": message } })
}

fn text(channel: &str, text: &str) -> Value {
    item(channel, json!({ "content": text }))
}

fn close(channel: &str) -> Value {
    json!({ "channel": channel, "action": "close" })
}

#[test]
fn messages_of_every_kind_arrive() {
    let gripd = start();
    let mut client = open(&gripd, &["a"]);
    for (message, opcode, content) in [
        (json!({ "content": "grüße" }), TEXT, "grüße"),
        (json!({ "content": "" }), TEXT, ""),
        (json!({ "content-bin": "aGk=" }), BINARY, "hi"),
        (json!({ "content": "no", "content-bin": "aGk=" }), BINARY, "hi"),
        (json!({ "content-bin": "aGk=", "type": "text" }), TEXT, "hi"),
        (json!({ "content": "hi", "type": "binary" }), BINARY, "hi"),
        (json!({ "content": "hi", "type": "ping" }), PING, "hi"),
        (json!({ "content": "hi", "type": "pong" }), PONG, "hi"),
        (json!({ "type": "ping" }), PING, ""),
        (json!({ "type": "pong" }), PONG, ""),
    ] {
        assert_eq!(gripd.publish(&json!([item("a", message.clone())]))[0]["delivered"], 1, "{message}");
        assert_eq!(client.read(), Frame::whole(opcode, content), "{message}");
    }
    let legacy = json!([{ "channel": "a", "ws-message": { "content": "as before" } }]);
    gripd.publish(&legacy);
    assert_eq!(client.text(), "as before");
}

#[test]
fn items_with_invalid_messages_are_refused() {
    let gripd = start();
    let mut client = open(&gripd, &["a"]);
    for message in [
        json!({ "content-bin": "/w==", "type": "text" }),
        json!({ "content": "x".repeat(126), "type": "ping" }),
        json!({ "type": "text" }),
        json!({ "content": 1 }),
        json!({ "action": "close", "code": 1005 }),
        json!({ "action": "close", "code": 70_000 }),
    ] {
        let body = json!({ "items": [text("a", "no"), item("a", message.clone())] }).to_string();
        assert_eq!(gripd.publish_body("", &body).0, 400, "{message}");
    }
    gripd.publish(&json!([text("a", "yes")]));
    assert_eq!(client.text(), "yes");
}

#[test]
fn a_large_message_arrives_whole() {
    let gripd = start();
    let mut clients = [open(&gripd, &["a"]), open(&gripd, &["a"])];
    let content: String = (0..900_000).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
    assert_eq!(gripd.publish(&json!([text("a", &content)]))[0]["delivered"], 2);
    assert!(clients.iter_mut().all(|client| client.text() == content));
}

#[test]
fn a_connection_gets_each_item_of_its_channels_once() {
    let gripd = start();
    let mut both = open(&gripd, &["a", "b", "a"]);
    let mut one = open(&gripd, &["b"]);
    let receipt = gripd.publish(&json!([text("a", "1"), text("b", "2"), text("c", "3"), text("a", "4")]));
    let delivered: Vec<_> = receipt.as_array().unwrap().iter().map(|item| item["delivered"].clone()).collect();
    assert_eq!(delivered, [1, 2, 0, 1]);
    assert_eq!([both.text(), both.text(), both.text()], ["1", "2", "4"]);
    gripd.publish(&json!([text("b", "5")]));
    assert_eq!([one.text(), one.text()], ["2", "5"]);
}

#[test]
fn each_kind_of_connection_gets_its_format_of_an_item() {
    let http = Origin::holding();
    let gripd = Gripd::to(&["*,proto=ws test".into(), format!("* {}", http.address)], |_| {});
    let (mut stream, mut poll) = (gripd.stream("a"), gripd.poll("a"));
    let mut client = open(&gripd, &["a"]);
    let formats = json!({ "http-stream": { "content": "s\n" }, "http-response": { "body": "r" }, "ws-message": { "content": "m" } });
    assert_eq!(gripd.publish(&json!([{ "channel": "a", "formats": formats }]))[0]["delivered"], 3);
    assert_eq!((stream.chunk(), poll.answer().1, client.text()), ("s\n".into(), "r".into(), "m".into()));
    gripd.say("a", "only you\n");
    let of = |format: &str| json!([{ "channel": "a", "formats": { format: { "action": "close" } } }]);
    assert_eq!(gripd.publish(&of("http-stream"))[0]["closed"], 1);
    assert_eq!(stream.chunks(), "only you\n");
    gripd.publish(&json!([text("a", "still")]));
    assert_eq!(client.text(), "still");
    assert_eq!(gripd.publish(&of("ws-message"))[0]["closed"], 1);
    assert_eq!(client.ended(), (1000, String::new()));
}

#[test]
fn both_forms_of_a_close_send_their_code_and_reason() {
    let gripd = start();
    let reason = json!({ "action": "close", "code": 4001, "reason": "späť" });
    let mut whole = reason.clone();
    whole["channel"] = json!("user456");
    for action in [whole, item("user456", reason)] {
        let (mut kicked, mut other) = (open(&gripd, &["user456", "room"]), open(&gripd, &["user7", "room"]));
        let receipt = gripd.publish(&json!([action]));
        assert_eq!(receipt, json!([{ "channel": "user456", "closed": 1, "cut": 0 }]));
        assert_eq!(kicked.closed(), (4001, "späť".into()));
        // A message of the client after the Close frame is dropped, and does not disturb the end.
        kicked.send(TEXT, "x".repeat(50_000));
        kicked.close(4001, "");
        assert_eq!(kicked.http().rest(), "");
        assert_eq!(gripd.publish(&json!([text("room", "on")]))[0]["delivered"], 1);
        assert_eq!(other.text(), "on");
    }
}

#[test]
fn a_close_without_a_code_is_sent_as_1000() {
    let gripd = start();
    for action in [close("a"), item("a", json!({ "action": "close" }))] {
        let mut client = open(&gripd, &["a"]);
        assert_eq!(gripd.publish(&json!([action]))[0]["closed"], 1);
        assert_eq!(client.ended(), (1000, String::new()));
    }
}

#[test]
fn items_before_a_close_arrive_and_later_ones_do_not() {
    let gripd = start();
    for _ in 0..50 {
        let (mut kicked, mut other) = (open(&gripd, &["room", "user456"]), open(&gripd, &["room", "user7"]));
        let items = json!({ "items": [text("room", "before"), close("user456"), text("room", "after")] });
        gripd.publish_body("", &items.to_string());
        assert_eq!((kicked.text().as_str(), kicked.ended()), ("before", (1000, String::new())));
        assert_eq!([other.text(), other.text()], ["before", "after"]);
        drop(other);
        eventually("the other client is gone", || gripd.connections("room") == 0);
    }
    let mut client = open(&gripd, &["a"]);
    let goodbye =
        json!([{ "channel": "a", "action": "close", "code": 4000, "formats": { "ws-message": { "content": "bye" } } }]);
    assert_eq!(gripd.publish(&goodbye)[0]["closed"], 1);
    assert_eq!((client.text().as_str(), client.ended()), ("bye", (4000, String::new())));
}

#[test]
fn a_client_that_does_not_read_is_cut_by_a_close() {
    let gripd = start_with(|config| config.shard.client_buffer = 64 << 20);
    let mut stalled = open(&gripd, &["a"]);
    let large = "x".repeat(900_000);
    (0..8).for_each(|_| assert_eq!(gripd.publish(&json!([text("a", &large)]))[0]["delivered"], 1));
    let begin = Instant::now();
    assert_eq!(gripd.close("a"), (1, 1));
    assert!(begin.elapsed() >= Duration::from_millis(900), "the client was cut before the grace was over");
    let (got, end) = stalled.rest_and_end();
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(got.len() < 8 * 900_000);
}

#[test]
fn a_thousand_kicks_in_one_batch() {
    rlimit::increase_nofile_limit(20_000).unwrap();
    let gripd = start();
    let mut clients: Vec<Socket> = (0..1000).map(|n| open(&gripd, &["room", &format!("user{n}")])).collect();
    let mut stays = open(&gripd, &["room"]);
    let items: Vec<Value> = (0..1000).map(|n| close(&format!("user{n}"))).collect();
    let receipt = gripd.publish(&json!(items));
    assert!(receipt.as_array().unwrap().iter().all(|item| item["closed"] == 1 && item["cut"] == 0));
    assert!(clients.iter_mut().all(|client| client.ended() == (1000, String::new())));
    assert_eq!(gripd.publish(&json!([text("room", "who")]))[0]["delivered"], 1);
    assert_eq!(stays.text(), "who");
}

#[test]
fn a_slow_client_is_closed_with_1013_and_no_other_is() {
    let gripd = start_with(|config| {
        config.shard.client_buffer = 16 << 10;
        config.shard.close_grace = Duration::from_secs(10);
    });
    let mut stalled = Socket::ask_with_small_buffer(gripd.clients, &path(&["a"]));
    stalled.accepted();
    let mut reader = open(&gripd, &["a"]);
    let large = "x".repeat(500_000);
    let (mut slow, mut sent) = (0, 0);
    while slow == 0 && sent < 100 {
        let receipt = gripd.publish(&json!([text("a", &large)]));
        sent += 1;
        slow = receipt[0]["slow"].as_u64().unwrap();
        assert_eq!(receipt[0]["delivered"], 2 - slow);
        assert!(reader.text() == large);
    }
    assert_eq!((slow, gripd.metric("slow_total"), gripd.connections("a")), (1, 1, 1));
    // The client gets the messages that gripd has begun to send, and then a Close frame with the reason.
    let mut whole = 0;
    let close = loop {
        let frame = stalled.read();
        if frame.opcode == CLOSE {
            break frame;
        }
        assert_eq!((frame.last, frame.content.len()), (true, 500_000));
        whole += 1;
    };
    assert!(whole >= 1 && whole < sent);
    assert_eq!(close.content, [&1013_u16.to_be_bytes()[..], b"too slow"].concat());
    assert_eq!(stalled.http().rest(), "");
}

#[test]
fn a_slow_client_that_still_does_not_read_is_cut() {
    let gripd = start_with(|config| {
        config.shard.client_buffer = 16 << 10;
        config.shard.close_grace = Duration::from_millis(300);
    });
    let mut stalled = Socket::ask_with_small_buffer(gripd.clients, &path(&["a"]));
    stalled.accepted();
    let large = json!([text("a", &"x".repeat(900_000))]);
    eventually("the client is counted as slow", || gripd.publish(&large)[0]["slow"] == 1);
    eventually("the client is gone", || gripd.metric("parked") == 0);
    assert_eq!(stalled.rest_and_end().1.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_burst_of_messages_arrives_whole_and_in_order() {
    let gripd = start_with(|config| config.shard.client_buffer = 16 << 10);
    let mut clients: Vec<Socket> = (0..10).map(|_| open(&gripd, &["a"])).collect();
    let items: Vec<Value> = (0..2500).map(|n| text("a", &format!("{n}"))).collect();
    thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(|| (0..2500).for_each(|n| assert_eq!(client.text(), n.to_string())));
        }
        let receipt = gripd.publish(&json!(items));
        assert!(receipt.as_array().unwrap().iter().all(|item| item["delivered"] == 10));
    });
}

#[test]
fn a_refresh_makes_gripd_ask_an_origin_over_http() {
    let origin = Events::start();
    let gripd = origin.gripd("", "", |_| {});
    let mut client = origin.open(&gripd, &subscribe("a"));
    for action in ["refresh", "hint"] {
        for item in [json!({ "channel": "a", "action": action }), item("a", json!({ "action": action }))] {
            gripd.publish(&json!([item]));
            let question = origin.next();
            assert_eq!((question.events().as_str(), question.asked.line.as_str()), ("", "POST /chat HTTP/1.1"));
            // gripd asks once more, because the response to the request in progress may be too old.
            gripd.publish(&json!([item]));
            question.say(crate::support::events::say("old"));
            assert_eq!(client.text(), "old");
            origin.next().say(crate::support::events::say("new"));
            assert_eq!(client.text(), "new");
        }
    }
    let stream_only = json!([{ "channel": "a", "formats": { "http-stream": { "action": "hint" } } }]);
    gripd.publish(&stream_only);
    gripd.publish(&json!([text("a", "a message")]));
    assert_eq!((client.text().as_str(), origin.count()), ("a message", 9));
}

#[test]
fn a_drain_closes_all_websockets_with_1001() {
    let gripd = start_with(|config| config.drain = Duration::from_secs(1));
    let mut clients: Vec<Socket> = (0..20).map(|_| open(&gripd, &["a"])).collect();
    gripd.drain();
    assert!(clients.iter_mut().all(|client| client.ended() == (1001, String::new())));
}

#[test]
fn a_client_with_much_to_read_is_heard_once_it_has_read() {
    let origin = Events::start();
    let gripd = origin.gripd("", "", |config| config.shard.client_buffer = 64 << 20);
    let mut client = origin.open(&gripd, &subscribe("a"));
    let large = "x".repeat(900_000);
    (0..8).for_each(|_| drop(gripd.publish(&json!([text("a", &large)]))));
    client.send(TEXT, "still here");
    (0..8).for_each(|_| assert!(client.text() == large));
    assert_eq!(origin.next().events(), "TEXT a|still here|");
}
