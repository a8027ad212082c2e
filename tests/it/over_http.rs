//! WebSockets whose origin speaks HTTP: the requests that it gets, and the effects of its responses.

use crate::support::events::{control, event, say};
use crate::support::websocket::{BINARY, CONTINUATION, Frame, PING, PONG, TEXT};
use crate::support::{Answer, Client, Events, Gripd, Nobody, Socket, get};
use serde_json::json;
use std::net::TcpListener;
use std::time::{Duration, Instant};

fn start() -> (Gripd, Events) {
    start_with("", |_| {})
}

/// Starts a gripd that answers pings itself. Its pong shows that it has read everything that came before the ping.
fn start_ponging() -> (Gripd, Events) {
    start_with("", |config| config.session.auto_pong = true)
}

fn start_with(target: &str, change: impl FnOnce(&mut gripd::config::Config)) -> (Gripd, Events) {
    let origin = Events::start();
    let gripd = origin.gripd("", target, |config| {
        config.origin.shortest_interval = Duration::from_millis(1);
        change(config);
    });
    (gripd, origin)
}

/// Waits until gripd has read everything that the client has sent. gripd must answer pings itself.
fn settle(client: &mut Socket) {
    client.send(PING, "settle");
    assert_eq!(client.read(), Frame::whole(PONG, "settle"));
}

#[test]
fn a_handshake_becomes_a_request_with_an_open_event() {
    let (gripd, origin) = start();
    let headers = "Cookie: a=1\r\nSec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\
                   Accept: text/html\r\nContent-Type: text/html\r\nConnection-Id: forged\r\nMeta-User: forged\r\n\
                   Grip-Sig: forged\r\nGrip-Last: forged\r\nContent-Bytes-Replayed: 7\r\n";
    let mut client = Socket::ask(gripd.clients, "/chat?room=1", headers);
    let question = origin.next();
    let first = question.asked.clone();
    assert_eq!((first.line.as_str(), question.events().as_str()), ("POST /chat?room=1 HTTP/1.1", "OPEN|"));
    let media = "application/websocket-events";
    assert_eq!((first.all("accept"), first.all("content-type")), (vec![media.into()], vec![media.into()]));
    assert_eq!((first.header("host"), first.header("cookie")), (Some("localhost"), Some("a=1")));
    assert_eq!(first.header("sec-websocket-protocol"), Some("chat"));
    assert_eq!(first.header("sec-websocket-extensions"), Some("grip"));
    let feature = first.header("grip-feature").unwrap();
    assert!(feature.contains("filter:var-subst"), "{feature}");
    for absent in ["connection", "upgrade", "meta-user", "grip-last", "content-bytes-replayed"] {
        assert_eq!(first.header(absent), None, "{absent}");
    }
    let id = first.header("connection-id").unwrap();
    assert_eq!(id.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
    assert!(id.bytes().all(|b| b == b'-' || matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{id}");
    question.accept("", b"");
    client.accepted();
    // The next request belongs to the same WebSocket, and has the same Connection-Id.
    client.send(TEXT, "hi");
    let second = origin.next();
    assert_eq!((second.asked.line.as_str(), second.events().as_str()), ("POST /chat?room=1 HTTP/1.1", "TEXT 2|hi|"));
    assert_eq!((second.asked.all("connection-id"), second.asked.header("cookie")), (vec![id.into()], Some("a=1")));
    let signature = |sig: &str| sig.split('.').count() == 3;
    assert!(first.header("grip-sig").is_some_and(signature) && second.asked.header("grip-sig").is_some_and(signature));
    assert_eq!((first.all("grip-sig").len(), second.asked.all("grip-sig").len()), (1, 1));
    let _other = Socket::ask(gripd.clients, "/chat", "");
    assert_ne!(origin.next().asked.header("connection-id"), Some(id));
}

#[test]
fn the_client_gets_only_the_headers_that_are_for_it() {
    let (gripd, origin) = start();
    let mut client = Socket::ask(gripd.clients, "/", "Sec-WebSocket-Protocol: chat\r\n");
    let headers = "Sec-WebSocket-Protocol: chat\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nSet-Meta-User: ann\r\n\
                   Keep-Alive-Interval: 60\r\nContent-Bytes-Accepted: 0\r\nGrip-Status: 200\r\nX-Own: 1\r\n";
    origin.next().accept(headers, &say("hello"));
    let head = client.accepted();
    for present in ["sec-websocket-protocol: chat", "set-cookie: a=1", "set-cookie: b=2", "x-own: 1"] {
        assert!(head.contains(&format!("\r\n{present}\r\n")), "{head}");
    }
    for absent in ["set-meta", "keep-alive", "content-", "grip", "extensions", "transfer-encoding"] {
        assert!(!head.contains(absent), "{head}");
    }
    assert_eq!(client.text(), "hello");
}

#[test]
fn the_client_gets_the_refusal_of_the_origin() {
    let (gripd, origin) = start();
    let refused = |status: &str, media: &str, body: &str| {
        let mut client = Socket::ask(gripd.clients, "/", "");
        let length = body.len();
        origin.next().answer(Answer::Bytes(format!(
            "HTTP/1.1 {status}\r\nContent-Type: {media}\r\nX-Why: not\r\nSec-WebSocket-Extensions: grip\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )));
        let (head, got) = client.http().answer();
        assert!(head.starts_with(&format!("http/1.1 {status}\r\n").to_lowercase()), "{head}");
        assert!(head.contains("x-why: not") && head.contains(&format!("content-type: {media}")), "{head}");
        assert!(!head.contains("grip"), "{head}");
        assert_eq!(got, body);
    };
    let events = "application/websocket-events";
    refused("403 Forbidden", "text/plain", "you may not\n");
    refused("200 OK", "text/plain", "a page\n");
    refused("404 Nothing", "text/html", &"x".repeat(200_000));
    refused("202 Accepted", events, "OPEN\r\n");
    refused("200 OK", "application/websocket-events2", "OPEN\r\n");
    // The origin gets no DISCONNECT for a client that it has refused.
    drop(gripd);
    assert_eq!(origin.count(), 5);
}

#[test]
fn a_content_type_may_have_parameters() {
    let (gripd, origin) = start();
    let mut client = Socket::ask(gripd.clients, "/", "");
    origin.next().answer(Answer::Bytes(
        "HTTP/1.1 200 OK\r\nContent-Type: Application/WebSocket-Events ; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n\
         6\r\nOPEN\r\n\r\n0\r\n\r\n"
            .into(),
    ));
    client.accepted();
}

#[test]
fn an_invalid_answer_to_a_handshake_is_502() {
    for answer in
        ["TEXT 2\r\nhi\r\n", "TEXT 2\r\nhi\r\nOPEN\r\n", "", "OPEN\r\nTEXT 5\r\nhi\r\n", "OPEN", "DISCONNECT\r\n"]
    {
        let (gripd, origin) = start();
        let mut client = Socket::ask(gripd.clients, "/", "");
        origin.next().say(answer);
        let (head, body) = client.http().answer();
        assert!(head.starts_with("http/1.1 502"), "{answer}: {head}");
        assert_eq!(body, "Error while proxying to origin.\n", "{answer}");
    }
}

#[test]
fn an_origin_may_postpone_its_answer_to_a_handshake() {
    let (gripd, origin) = start();
    let mut client = Socket::ask(gripd.clients, "/", "");
    let first = origin.next();
    let id = first.asked.header("connection-id").map(str::to_owned);
    let begin = Instant::now();
    first.say_with("Keep-Alive-Interval: 1\r\nSet-Meta-Turn: 2\r\n", "");
    let second = origin.next();
    assert!(begin.elapsed() >= Duration::from_secs(1), "the origin was asked again at once");
    assert_eq!((second.asked.header("connection-id"), second.asked.header("meta-turn")), (id.as_deref(), Some("2")));
    second.accept("", &say("well then"));
    client.accepted();
    assert_eq!(client.text(), "well then");
}

#[test]
fn messages_of_every_kind_go_both_ways() {
    let (gripd, origin) = start();
    let mut client = origin.open(&gripd, b"");
    let large = "x".repeat(100_000);
    for (opcode, name, content) in [
        (TEXT, "TEXT", "grüße"),
        (TEXT, "TEXT", ""),
        (BINARY, "BINARY", "\0\r\nOPEN\r\n"),
        (BINARY, "BINARY", ""),
        (TEXT, "TEXT", &large),
    ] {
        client.send(opcode, content);
        let question = origin.next();
        let expected = match content.len() {
            0 => format!("{name}\r\n"),
            length => format!("{name} {length:x}\r\n{content}\r\n"),
        };
        assert!(question.asked.raw == expected.as_bytes(), "{name} {}", question.events().len());
        question.say(event(name, format!("m:{content}")));
        assert_eq!(client.message(), (opcode, content.as_bytes().to_vec()));
    }
    client.fragment(TEXT, false, "one, ");
    client.fragment(CONTINUATION, false, "");
    client.fragment(CONTINUATION, true, "two");
    assert_eq!(origin.next().events(), "TEXT 8|one, two|");
}

#[test]
fn messages_without_the_prefix_do_not_reach_the_client() {
    let (gripd, origin) = start();
    let mut client = origin.open(&gripd, b"");
    client.send(TEXT, "?");
    let said = [event("TEXT", "bare"), event("BINARY", "c:bare"), b"TEXT\r\n".to_vec(), say(""), say("c:in")];
    origin.next().say(said.concat());
    assert_eq!((client.text().as_str(), client.text().as_str()), ("", "c:in"));
}

#[test]
fn without_the_grip_extension_every_message_is_for_the_client() {
    let (gripd, origin) = start();
    let mut client = Socket::ask(gripd.clients, "/", "");
    let subscribe = control(&json!({ "type": "subscribe", "channel": "a" }));
    origin.next().say([b"OPEN\r\n".to_vec(), say("hello"), subscribe].concat());
    client.accepted();
    assert_eq!(client.text(), "m:hello");
    assert!(client.text().starts_with("c:{"));
    assert_eq!(gripd.connections("a"), 0);
}

#[test]
fn a_message_that_is_too_large_closes_the_websocket() {
    for fragmented in [false, true] {
        let (gripd, origin) = start_with("", |config| config.session.max_message = 1000);
        let mut client = origin.open(&gripd, b"");
        client.send(TEXT, "x".repeat(999));
        origin.next().say("");
        if fragmented {
            client.fragment(BINARY, false, "x".repeat(500));
            client.fragment(CONTINUATION, true, "x".repeat(500));
        } else {
            client.send(BINARY, "x".repeat(1000));
        }
        assert_eq!(origin.next().events(), "CLOSE 16|\\x03\\xf1message is too large|");
        assert_eq!(client.ended(), (1009, "message is too large".into()));
        assert_eq!(gripd.metric("websocket_violations_total"), 1);
    }
}

#[test]
fn a_client_is_not_read_while_the_queue_for_its_origin_is_full() {
    let (gripd, origin) = start_with("", |config| config.session.max_message = 1000);
    let mut client = origin.open(&gripd, b"");
    let texts: Vec<String> = (0..100).map(|n| format!("{n:0900}")).collect();
    texts.iter().for_each(|text| client.send(TEXT, text));
    // A request carries at most the messages that fit the queue of 1000 bytes, and the one that exceeds it.
    let mut got = Vec::new();
    while got.len() < texts.len() * 900 {
        let question = origin.next();
        assert!(question.asked.raw.len() < 2000);
        got.extend(question.asked.body.split("\r\n").filter(|line| line.len() == 900).flat_map(str::bytes));
        question.say("");
    }
    assert!(got == texts.concat().as_bytes());
}

#[test]
fn one_request_at_a_time_carries_all_events_that_came_meanwhile() {
    let (gripd, origin) = start_ponging();
    let mut client = origin.open(&gripd, b"");
    client.send(TEXT, "1");
    let first = origin.next();
    assert_eq!(first.events(), "TEXT 1|1|");
    client.send(TEXT, "2");
    client.send(BINARY, "");
    client.fragment(TEXT, false, "3");
    settle(&mut client);
    client.fragment(CONTINUATION, true, "4");
    client.fragment(TEXT, false, "unfinished");
    settle(&mut client);
    assert_eq!(origin.count(), 2, "a request was sent while another was in progress");
    first.say(say("answered"));
    assert_eq!(origin.next().events(), "TEXT 1|2|BINARY|TEXT 2|34|");
    assert_eq!(client.text(), "answered");
}

#[test]
fn with_one_event_each_request_carries_one_event() {
    let (gripd, origin) = start_with(",one_event", |config| config.session.auto_pong = true);
    let mut client = origin.open(&gripd, b"");
    client.send(TEXT, "1");
    let first = origin.next();
    ["", "", "2", ""].iter().for_each(|text| client.send(TEXT, text));
    client.close(1000, "");
    first.say("");
    for expected in ["TEXT|", "TEXT|", "TEXT 1|2|", "TEXT|", "CLOSE 2|\\x03\\xe8|"] {
        let question = origin.next();
        assert_eq!(question.events(), expected);
        question.say("");
    }
    assert_eq!(client.ended(), (1000, String::new()));
}

#[test]
fn pings_and_pongs_are_passed_to_the_origin() {
    let (gripd, origin) = start();
    let mut client = origin.open(&gripd, b"");
    client.send(PING, "there?");
    let question = origin.next();
    assert_eq!(question.events(), "PING 6|there?|");
    question.say([event("PONG", "there?"), b"PING\r\n".to_vec()].concat());
    assert_eq!((client.read(), client.read()), (Frame::whole(PONG, "there?"), Frame::whole(PING, "")));
    client.send(PONG, "");
    assert_eq!(origin.next().events(), "PONG|");
}

#[test]
fn with_auto_pong_gripd_answers_pings_itself() {
    let (gripd, origin) = start_ponging();
    let mut client = origin.open(&gripd, b"");
    client.send(PING, "there?");
    assert_eq!(client.read(), Frame::whole(PONG, "there?"));
    client.send(PONG, "unasked");
    assert_eq!(origin.next().events(), "PONG 7|unasked|");
    assert_eq!(origin.count(), 2);
}

#[test]
fn each_request_carries_the_meta_that_the_origin_has_set() {
    let (gripd, origin) = start();
    let headers = "Set-Meta-User: ann\r\nSet-Meta-Room: 7\r\n";
    let mut client = origin.open_with(&gripd, headers, b"");
    let mut meta = |answer: &str| {
        client.send(TEXT, "");
        let question = origin.next();
        let asked = question.asked.clone();
        question.say_with(answer, "");
        [asked.all("meta-user").join("|"), asked.all("meta-room").join("|")]
    };
    assert_eq!(meta("Set-Meta-User: bob\r\n"), ["ann", "7"]);
    assert_eq!(meta("Set-Meta-Room:\r\nset-meta-user: c d\r\n"), ["bob", "7"]);
    assert_eq!(meta("Set-Meta-:\r\nSet-Meta-None:\r\n"), ["c d", ""]);
    assert_eq!(meta(""), ["c d", ""]);
}

#[test]
fn an_origin_is_asked_again_after_its_keep_alive_interval() {
    let (gripd, origin) = start();
    let mut client = origin.open_with(&gripd, "Keep-Alive-Interval: 1\r\n", b"");
    let begin = Instant::now();
    let question = origin.next();
    assert_eq!((question.events().as_str(), question.asked.header("content-length")), ("", Some("0")));
    assert!(begin.elapsed() >= Duration::from_millis(900));
    question.say("");
    // The interval stays in effect until a response changes it.
    let question = origin.next();
    assert_eq!(question.events(), "");
    question.say_with("Keep-Alive-Interval: 0\r\n", say("two"));
    assert_eq!(client.text(), "two");
    let mut other = origin.open_with(&gripd, "Keep-Alive-Interval: 2\r\n", b"");
    let question = origin.next();
    // This request is for the second client. The first one has no interval any more.
    question.say(say("three"));
    assert_eq!(other.text(), "three");
}

#[test]
fn no_keep_alive_interval_is_shorter_than_the_shortest_allowed() {
    let origin = Events::start();
    let gripd = origin.gripd("", "", |config| config.origin.shortest_interval = Duration::from_millis(2500));
    let _client = origin.open_with(&gripd, "Keep-Alive-Interval: 1\r\n", b"");
    let begin = Instant::now();
    assert_eq!(origin.next().events(), "");
    assert!(begin.elapsed() >= Duration::from_millis(2400));
}

#[test]
fn bytes_that_were_not_accepted_are_sent_again_with_the_next_event() {
    let (gripd, origin) = start();
    let mut client = origin.open(&gripd, b"");
    client.send(TEXT, "hello");
    let question = origin.next();
    assert_eq!(question.asked.header("content-bytes-replayed"), None);
    question.say_with("Content-Bytes-Accepted: 3\r\n", say("some"));
    assert_eq!(client.text(), "some");
    // The rest is not sent again before there is a new event.
    client.send(BINARY, "!");
    let question = origin.next();
    assert_eq!(question.events(), "TEXT 2|lo|BINARY 1|!|");
    assert_eq!(question.asked.header("content-bytes-replayed"), Some("2"));
    question.say_with("Content-Bytes-Accepted: 0\r\n", say("none"));
    assert_eq!(client.text(), "none");
    client.send(TEXT, "?");
    let question = origin.next();
    assert_eq!(question.events(), "TEXT 2|lo|BINARY 1|!|TEXT 1|?|");
    assert_eq!(question.asked.header("content-bytes-replayed"), Some("3"));
    question.say_with("Content-Bytes-Accepted: 4\r\n", "");
    client.send(TEXT, "new");
    let question = origin.next();
    assert_eq!(question.events(), "TEXT 3|new|");
    assert_eq!(question.asked.header("content-bytes-replayed"), None);
}

#[test]
fn a_keep_alive_request_sends_again_the_bytes_that_were_not_accepted() {
    let (gripd, origin) = start();
    let mut client = origin.open_with(&gripd, "Keep-Alive-Interval: 1\r\n", b"");
    client.send(TEXT, "hello");
    origin.next().say_with("Content-Bytes-Accepted: 1\r\n", "");
    let question = origin.next();
    assert_eq!(
        (question.events().as_str(), question.asked.header("content-bytes-replayed")),
        ("TEXT 4|ello|", Some("4"))
    );
}

#[test]
fn an_origin_that_cannot_be_reached_for_a_while_is_asked_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let gripd = Gripd::to(&[format!("* {address},over_http")], |config| config.shards = 1);
    let mut client = Socket::ask(gripd.clients, "/", "");
    let mut first = Client::over(listener.accept().unwrap().0);
    first.read_until("OPEN\r\n");
    drop(listener);
    first.write(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/websocket-events\r\nContent-Length: 6\r\n\r\nOPEN\r\n",
    );
    drop(first);
    client.accepted();
    client.send(TEXT, "patience");
    // Another request shows that the origin cannot be reached now.
    assert!(Client::send(gripd.clients, get("/")).answer().0.starts_with("http/1.1 502"));
    let origin = Events::start_at(address);
    let question = origin.next();
    assert_eq!(question.events(), "TEXT 8|patience|");
    question.say(b"TEXT 4\r\nback\r\n");
    assert_eq!(client.text(), "back");
    drop(origin);
}

#[test]
fn the_next_target_gets_the_websocket_if_the_first_cannot_be_reached() {
    let origin = Events::start();
    let dead = Nobody::new();
    let gripd = Gripd::to(&[format!("* {dead},over_http {},over_http", origin.address())], |_| {});
    let mut client = origin.open(&gripd, b"");
    client.send(TEXT, "hi");
    assert_eq!(origin.next().events(), "TEXT 2|hi|");
    assert_eq!(gripd.metric("origin_fail_overs_total"), 1);
    drop(origin);
    let gripd = Gripd::to(&[format!("* {dead},over_http {dead},over_http")], |_| {});
    let (head, _) = Socket::ask(gripd.clients, "/", "").http().answer();
    assert!(head.starts_with("http/1.1 502"), "{head}");
}
