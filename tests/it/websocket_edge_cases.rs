//! WebSockets in rare circumstances: origins that do not answer, clients or origins that do not read, trusted proxies,
//! drains.

use crate::support::events::{control, say, subscribe};
use crate::support::websocket::{BINARY, CLOSE, CONTINUATION, Frame, PING, PONG, TEXT, frame};
use crate::support::{Answer, Events, Gripd, Origin, Socket, SocketOrigin, eventually};
use gripd::config::Config;
use gripd::grip::signature::{Key, ProxyVerifier, Signer};
use serde_json::{Value, json};
use std::thread;
use std::time::Duration;

const GRIP: &str = "Sec-WebSocket-Extensions: grip\r\n";

fn relayed(change: impl FnOnce(&mut Config)) -> (Gripd, SocketOrigin) {
    let origin = SocketOrigin::start();
    (origin.gripd("", "", change), origin)
}

fn over_http(options: &str, change: impl FnOnce(&mut Config)) -> (Gripd, Events) {
    let origin = Events::start();
    (origin.gripd(options, "", change), origin)
}

fn publish(gripd: &Gripd, channel: &str, text: &str) -> Value {
    gripd.publish(&json!([{ "channel": channel, "ws-message": { "content": text } }]))[0].take()
}

fn trusting(config: &mut Config) -> String {
    let key = Key::parse("between us", |_| Err("no files".into())).unwrap();
    config.front.trusted = ProxyVerifier::new(&key).unwrap();
    Signer::new("edge", &key).unwrap().unwrap().sign(gripd::origin::now()).unwrap()
}

#[test]
fn an_origin_over_http_that_does_not_answer_in_time_is_lost() {
    let (gripd, origin) = over_http("", |config| config.origin.response_timeout = Duration::from_millis(300));
    let mut client = Socket::ask(gripd.clients, "/", "");
    let hangs = origin.next();
    assert!(client.http().answer().0.starts_with("http/1.1 504"));
    assert_eq!(origin.next().events(), "DISCONNECT|");
    let mut client = origin.open(&gripd, &subscribe("a"));
    client.send(TEXT, "?");
    let hangs_too = origin.next();
    assert_eq!(client.ended(), (1011, "the connection to the origin was lost".into()));
    assert_eq!(origin.next().events(), "DISCONNECT|");
    drop((hangs, hangs_too));
}

#[test]
fn an_origin_may_end_its_connection_after_each_answer() {
    let origin = Origin::start(|asked| {
        let body = if asked.body == "OPEN\r\n" { "OPEN\r\n" } else { "TEXT 3\r\nyes\r\n" };
        let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/websocket-events\r\n";
        Answer::Last(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()))
    });
    let gripd = Gripd::to(&[format!("* {},over_http", origin.address)], |_| {});
    let mut client = Socket::ask(gripd.clients, "/", "");
    client.accepted();
    for _ in 0..50 {
        client.send(TEXT, "?");
        assert_eq!(client.text(), "yes");
    }
}

#[test]
fn each_request_obeys_the_options_of_its_route() {
    let (gripd, origin) = over_http(",path_beg=/chat,replace_beg=/events,header=X-Own:1", |_| {});
    let mut client = Socket::ask(gripd.clients, "/chat/1?x", "X-Own: 2\r\n");
    let question = origin.next();
    let (line, own) = (question.asked.line.clone(), question.asked.all("x-own"));
    question.accept("", b"");
    client.accepted();
    client.send(TEXT, "?");
    let second = origin.next().asked;
    assert_eq!((line.as_str(), own), ("POST /events/1?x HTTP/1.1", vec!["1".to_owned()]));
    assert_eq!((second.line.as_str(), second.all("x-own")), ("POST /events/1?x HTTP/1.1", vec!["1".to_owned()]));
}

#[test]
fn a_trusted_proxy_gets_every_message_unchanged_over_http_as_well() {
    let mut token = String::new();
    let (gripd, origin) = over_http("", |config| token = trusting(config));
    let mut client = Socket::ask(gripd.clients, "/", &format!("Grip-Sig: {token}\r\n{GRIP}"));
    let question = origin.next();
    assert_eq!(question.asked.all("grip-sig").len(), 1);
    question.accept("", &[subscribe("a"), say("hello")].concat());
    assert!(client.accepted().contains("sec-websocket-extensions: grip\r\n"));
    assert!(client.text().starts_with("c:{"));
    assert_eq!((client.text().as_str(), gripd.connections("a")), ("m:hello", 0));
}

#[test]
fn a_route_without_grip_only_relays() {
    let origin = SocketOrigin::start();
    let gripd = origin.gripd(",no_grip", "", |_| {});
    let mut client = Socket::ask(gripd.clients, "/", "");
    let knock = origin.next();
    assert!(!knock.head.contains("\r\ngrip-"), "{}", knock.head);
    let mut end = knock.accept(GRIP);
    assert!(!client.accepted().contains("extensions"));
    end.send(TEXT, r#"c:{"type":"detach"}"#);
    assert!(client.text().starts_with("c:"));
    let (gripd, origin) = over_http(",no_grip", |_| {});
    let mut client = Socket::ask(gripd.clients, "/", "");
    let question = origin.next();
    assert_eq!((question.asked.header("grip-sig"), question.asked.header("grip-feature")), (None, None));
    question.accept("", &say("hello"));
    client.accepted();
    assert_eq!(client.text(), "m:hello");
    client.send(TEXT, "?");
    assert!(!origin.next().asked.headers.contains("\r\ngrip-"));
}

#[test]
fn a_client_waits_for_an_origin_that_does_not_read() {
    let (gripd, origin) = relayed(|_| {});
    let (mut client, mut end) = origin.open(&gripd, GRIP);
    end.send(TEXT, r#"c:{"type":"subscribe","channel":"a"}"#);
    eventually("the client is subscribed", || gripd.connections("a") == 1);
    let message = frame(0x82, true, &[7; 1_000_000]);
    let sent = client.http().write_until_blocked(&message.repeat(40));
    assert!(sent < 39_000_000, "gripd took everything although the origin does not read");
    // The client still gets items, and can be kicked at once.
    assert_eq!(publish(&gripd, "a", "news")["delivered"], 1);
    assert_eq!(client.text(), "news");
    assert_eq!(gripd.close("a"), (1, 0));
    assert_eq!(client.closed(), (1000, String::new()));
    (0..1).for_each(|_| assert_eq!(end.message(), (BINARY, vec![7; 1_000_000])));
}

#[test]
fn a_client_that_does_not_read_its_pongs_is_not_read_either() {
    let (gripd, origin) = relayed(|config| config.session.auto_pong = true);
    let mut client = Socket::ask_with_small_buffer(gripd.clients, "/");
    let _end = origin.next().accept("");
    client.accepted();
    let ping = frame(0x89, true, &[b'x'; 125]);
    let sent = client.http().write_until_blocked(&ping.repeat(300_000));
    assert!(sent < 38_000_000, "gripd took everything although the client does not read");
    (0..sent / ping.len()).for_each(|_| assert_eq!(client.read().opcode, PONG));
}

#[test]
fn pings_may_be_answered_before_a_relaying_origin_hears_them() {
    let (gripd, origin) = relayed(|config| config.session.auto_pong = true);
    let (mut client, mut end) = origin.open(&gripd, "");
    client.send(PING, "there?");
    assert_eq!(client.read(), Frame::whole(PONG, "there?"));
    client.send(PONG, "unasked");
    assert_eq!(end.read(), Frame::whole(PONG, "unasked"));
}

#[test]
fn a_client_that_closes_and_leaves_causes_no_disconnect() {
    let (gripd, origin) = over_http("", |_| {});
    let mut client = origin.open(&gripd, b"");
    client.close(1001, "bye");
    drop(client);
    let question = origin.next();
    assert_eq!(question.events(), "CLOSE 5|\\x03\\xe9bye|");
    question.say("");
    drop(gripd);
    assert_eq!(origin.count(), 2);
}

/// Opens a WebSocket whose origin sends these control messages and then a part of a message, which the client begins to
/// read. Returns the client's end, the origin's end and the rest of the message.
fn half_told(gripd: &Gripd, origin: &SocketOrigin, controls: &[Value]) -> (Socket, Socket, Vec<u8>) {
    let (mut client, mut end) = origin.open(gripd, GRIP);
    controls.iter().for_each(|message| end.send(TEXT, format!("c:{message}")));
    let mut message = frame(0x82, false, &[b"m:", &[7; 300_000][..]].concat());
    let rest = message.split_off(150_000);
    end.write(message);
    assert!(!client.read().last);
    (client, end, rest)
}

#[test]
fn a_client_is_too_slow_if_too_much_waits_for_the_end_of_a_message() {
    let (gripd, origin) = relayed(|config| config.shard.client_buffer = 1000);
    let subscribe = json!({ "type": "subscribe", "channel": "a" });
    let (mut client, _end, _rest) = half_told(&gripd, &origin, &[subscribe]);
    let large = "x".repeat(100_000);
    assert_eq!(publish(&gripd, "a", &large)["slow"], 0);
    assert_eq!(publish(&gripd, "a", &large)["slow"], 1);
    let mut frame = client.read();
    while frame.opcode == CONTINUATION {
        frame = client.read();
    }
    assert_eq!(frame.content[..2], 1013_u16.to_be_bytes());
    assert_eq!(client.http().rest(), "");
}

#[test]
fn items_that_wait_for_the_end_of_a_message_are_filtered_afterwards() {
    let (gripd, origin) = relayed(|_| {});
    let controls = [
        json!({ "type": "set-meta", "name": "url", "value": "/filter" }),
        json!({ "type": "set-meta", "name": "user", "value": "ann" }),
        json!({ "type": "subscribe", "channel": "a", "filters": ["http-modify"] }),
        json!({ "type": "subscribe", "channel": "b", "filters": ["skip-self", "var-subst"] }),
    ];
    let (mut client, mut end, rest) = half_told(&gripd, &origin, &controls);
    let items = json!({ "items": [
        { "channel": "a", "ws-message": { "content": "one" } },
        { "channel": "b", "meta": { "sender": "ann" }, "ws-message": { "content": "two" } },
        { "channel": "b", "ws-message": { "content": "for %(user)s" } },
    ] });
    gripd.publish_body("", &items.to_string());
    end.write(rest);
    while !client.read().last {}
    let knock = origin.next();
    assert!(knock.head.starts_with("post /filter "), "{}", knock.head);
    knock.answer("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nchanged");
    assert_eq!([client.text(), client.text()], ["changed", "for ann"]);
}

#[test]
fn a_close_waits_within_the_grace_for_items_that_a_filter_has_not_decided() {
    let (gripd, origin) = over_http("", |config| config.shard.close_grace = Duration::from_millis(400));
    let said = [
        control(&json!({ "type": "set-meta", "name": "url", "value": "/filter" })),
        control(&json!({ "type": "subscribe", "channel": "a", "filters": ["http-check"] })),
    ];
    let item = r#"{"items":[{"channel":"a","ws-message":{"content":"item"}}]}"#;
    for decided in [true, false] {
        let mut client = origin.open(&gripd, &said.concat());
        gripd.publish_body("", item);
        let question = origin.next();
        assert!(question.asked.line.contains("/filter"));
        thread::scope(|scope| {
            let closing = scope.spawn(|| gripd.close("a"));
            eventually("the client has left the channel", || gripd.connections("a") == 0);
            if decided {
                question.answer(Answer::Bytes("HTTP/1.1 204 No\r\n\r\n".into()));
                assert_eq!(client.text(), "item");
            }
            assert_eq!(closing.join().unwrap(), (1, 0));
        });
        assert_eq!(client.ended(), (1000, String::new()));
        origin.next().say("");
    }
}

#[test]
fn a_websocket_that_begins_during_a_drain_ends_too() {
    let (gripd, origin) = over_http("", |config| config.drain = Duration::from_secs(5));
    let mut client = Socket::ask(gripd.clients, "/", "");
    let question = origin.next();
    gripd.drain();
    question.accept("", &say("hello"));
    client.accepted();
    assert_eq!((client.text().as_str(), client.ended()), ("hello", (1001, String::new())));
    assert!(origin.next().events().starts_with("CLOSE"));
}

#[test]
fn a_drain_sends_a_close_frame_to_relayed_origins() {
    let (gripd, origin) = relayed(|config| config.drain = Duration::from_secs(1));
    let (mut client, mut end) = origin.open(&gripd, "");
    gripd.drain();
    assert_eq!(client.ended(), (1001, String::new()));
    assert_eq!(end.read().opcode, CLOSE);
}
