//! The ends of WebSockets whose origin speaks HTTP, and the events that the origin gets at the end.

use crate::support::events::{close, event, say, subscribe};
use crate::support::websocket::{Frame, PING, PONG, TEXT};
use crate::support::{Answer, Events, Gripd, Socket};
use serde_json::json;
use std::time::{Duration, Instant};

fn start() -> (Gripd, Events) {
    start_with(|_| {})
}

fn start_with(change: impl FnOnce(&mut gripd::config::Config)) -> (Gripd, Events) {
    let origin = Events::start();
    let gripd = origin.gripd("", "", |config| {
        config.origin.shortest_interval = Duration::from_millis(1);
        config.session.auto_pong = true;
        change(config);
    });
    (gripd, origin)
}

/// Waits until gripd has read everything that the client has sent.
fn settle(client: &mut Socket) {
    client.send(PING, "settle");
    assert_eq!(client.read(), Frame::whole(PONG, "settle"));
}

/// Ends gripd, and checks the number of requests that the origin has got.
fn over(gripd: Gripd, origin: &Events, asked: usize) {
    drop(gripd);
    assert_eq!(origin.count(), asked, "{:?}", origin.bodies());
}

#[test]
fn the_origin_answers_a_close_as_it_likes() {
    let (gripd, origin) = start();
    let mut client = origin.open(&gripd, b"");
    client.close(4001, "mine");
    let question = origin.next();
    assert_eq!(question.events(), "CLOSE 6|\\x0f\\xa1mine|");
    question.say(close(4002, "yours"));
    assert_eq!(client.ended(), (4002, "yours".into()));
    over(gripd, &origin, 2);
}

#[test]
fn gripd_answers_a_close_that_the_origin_does_not_answer() {
    let (gripd, origin) = start();
    let mut client = origin.open(&gripd, b"");
    client.close(4001, "mine");
    // A message of the origin in the response to the close still reaches the client.
    origin.next().say(say("last"));
    assert_eq!((client.text().as_str(), client.ended()), ("last", (4001, "mine".into())));
    let mut client = origin.open(&gripd, b"");
    client.send(8, "");
    let question = origin.next();
    assert_eq!(question.events(), "CLOSE|");
    question.say("");
    assert_eq!(client.ended(), (1000, String::new()));
    over(gripd, &origin, 4);
}

#[test]
fn with_an_interval_the_origin_may_take_its_time_to_close() {
    let (gripd, origin) = start();
    let mut client = origin.open_with(&gripd, "Keep-Alive-Interval: 1\r\n", b"");
    client.close(4001, "");
    let question = origin.next();
    assert_eq!(question.events(), "CLOSE 2|\\x0f\\xa1|");
    question.say("");
    // Each further request carries the close again.
    let question = origin.next();
    assert_eq!(question.events(), "CLOSE 2|\\x0f\\xa1|");
    question.say(say("wait"));
    assert_eq!(client.text(), "wait");
    origin.next().say("CLOSE\r\n");
    assert_eq!(client.ended(), (1000, String::new()));
    over(gripd, &origin, 4);
}

#[test]
fn messages_before_a_close_reach_the_origin_before_it() {
    let (gripd, origin) = start();
    let mut client = origin.open(&gripd, b"");
    client.send(TEXT, "1");
    let question = origin.next();
    client.send(TEXT, "2");
    settle(&mut client);
    client.close(1000, "");
    question.say("");
    let question = origin.next();
    let events = question.events();
    assert!(events.starts_with("TEXT 1|2|"), "{events}");
    question.say("");
    if !events.contains("CLOSE") {
        origin.next().say("");
    }
    assert_eq!(client.ended(), (1000, String::new()));
}

#[test]
fn the_origin_may_close_first() {
    let (gripd, origin) = start();
    let mut client = origin.open(&gripd, &[say("bye"), close(4003, "out"), say("nothing more")].concat());
    assert_eq!(client.text(), "bye");
    assert_eq!(client.closed(), (4003, "out".into()));
    client.close(4003, "out");
    assert_eq!(client.http().rest(), "");
    let mut client = origin.open(&gripd, &subscribe("a"));
    client.send(TEXT, "?");
    origin.next().say([say("first"), b"CLOSE\r\n".to_vec()].concat());
    assert_eq!((client.text().as_str(), client.ended()), ("first", (1000, String::new())));
    assert_eq!(gripd.connections("a"), 0);
    over(gripd, &origin, 3);
}

#[test]
fn an_origin_whose_answers_are_invalid_is_lost() {
    let ok = |headers: &str, body: &str| {
        let length = body.len();
        Answer::Bytes(format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {length}\r\n\r\n{body}"))
    };
    let media = "Content-Type: application/websocket-events\r\n";
    let answers = [
        Answer::Bytes("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".into()),
        ok("Content-Type: text/plain\r\n", ""),
        ok("", ""),
        ok(media, "OPEN\r\n"),
        ok(media, "DISCONNECT\r\n"),
        ok(media, "TEXT 9\r\nm:cut\r\n"),
        Answer::Raw(
            [b"HTTP/1.1 200 OK\r\n", media.as_bytes(), b"Content-Length: 10\r\n\r\n", &event("TEXT", [0xff])].concat(),
        ),
        ok(&format!("{media}Content-Bytes-Accepted: 6\r\n"), ""),
        ok(media, &"X\r\n".repeat(400_000)),
        Answer::Last(String::new()),
    ];
    for (at, answer) in answers.into_iter().enumerate() {
        let (gripd, origin) = start();
        let mut client = origin.open(&gripd, &subscribe("a"));
        client.send(TEXT, "hello");
        origin.next().answer(answer);
        assert_eq!(client.ended(), (1011, "the connection to the origin was lost".into()), "{at}");
        assert_eq!((gripd.metric("websocket_origins_lost_total"), gripd.connections("a")), (1, 0), "{at}");
        // The events of the failed request are not sent again, because the origin may have received them. The origin
        // gets a DISCONNECT, unless it has sent one itself.
        match at {
            4 => {}
            _ => assert_eq!(origin.next().events(), "DISCONNECT|", "{at}"),
        }
        drop(client);
        over(gripd, &origin, if at == 4 { 2 } else { 3 });
    }
}

#[test]
fn a_close_must_be_accepted_together_with_the_events_before_it() {
    let (gripd, origin) = start();
    let mut client = origin.open(&gripd, b"");
    client.send(TEXT, "a");
    let question = origin.next();
    client.send(TEXT, "hello");
    client.close(4000, "");
    question.say("");
    let mut question = origin.next();
    if !question.events().contains("CLOSE") {
        question.say_with("Content-Bytes-Accepted: 0\r\n", "");
        question = origin.next();
    }
    assert_eq!(question.events(), "TEXT 5|hello|CLOSE 2|\\x0f\\xa0|");
    question.say_with("Content-Bytes-Accepted: 5\r\n", "");
    // The client has closed first, and gets its own code back. The origin, which got this close but did not accept it,
    // does not count as lost.
    assert_eq!(client.ended(), (4000, String::new()));
    assert_eq!(gripd.metric("websocket_origins_lost_total"), 0);
    assert_eq!(origin.next().events(), "DISCONNECT|");
}

#[test]
fn a_close_is_sent_again_with_the_bytes_before_it_that_were_not_accepted() {
    let (gripd, origin) = start();
    let mut client = origin.open_with(&gripd, "Keep-Alive-Interval: 1\r\n", b"");
    client.send(TEXT, "hello");
    let question = origin.next();
    client.close(4000, "");
    question.say_with("Content-Bytes-Accepted: 2\r\n", "");
    let question = origin.next();
    assert_eq!(question.events(), "TEXT 3|llo|CLOSE 2|\\x0f\\xa0|");
    assert_eq!(question.asked.header("content-bytes-replayed"), Some("3"));
    question.say_with("Content-Bytes-Accepted: 1\r\n", "");
    let question = origin.next();
    assert_eq!(question.events(), "TEXT 2|lo|CLOSE 2|\\x0f\\xa0|");
    question.say(close(4000, ""));
    assert_eq!(client.ended(), (4000, String::new()));
    over(gripd, &origin, 4);
}

#[test]
fn a_client_that_leaves_without_a_close_causes_one_disconnect() {
    let (gripd, origin) = start();
    let client = origin.open_with(&gripd, "Set-Meta-User: ann\r\n", &subscribe("a"));
    drop(client);
    let question = origin.next();
    assert_eq!((question.events().as_str(), question.asked.header("meta-user")), ("DISCONNECT|", Some("ann")));
    assert!(question.asked.header("connection-id").is_some() && question.asked.header("grip-sig").is_some());
    assert_eq!(gripd.connections("a"), 0);
    // The response of the origin to a DISCONNECT does not matter.
    question.answer(Answer::Bytes("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".into()));
    over(gripd, &origin, 2);
}

#[test]
fn a_client_that_leaves_before_the_101_causes_a_disconnect_too() {
    let (gripd, origin) = start();
    let client = Socket::ask(gripd.clients, "/", "");
    let question = origin.next();
    let id = question.asked.header("connection-id").map(str::to_owned);
    drop(client);
    let gone = origin.next();
    assert_eq!((gone.events().as_str(), gone.asked.header("connection-id")), ("DISCONNECT|", id.as_deref()));
    drop((question, gone));
    over(gripd, &origin, 2);
}

#[test]
fn messages_before_a_disconnect_reach_the_origin_before_it() {
    let (gripd, origin) = start();
    let mut client = origin.open(&gripd, b"");
    client.send(TEXT, "1");
    let question = origin.next();
    client.send(TEXT, "2");
    client.fragment(TEXT, false, "unfinished");
    settle(&mut client);
    drop(client);
    crate::support::eventually("the client is gone", || gripd.metric("parked") == 0);
    question.say_with("Set-Meta-Last: 1\r\n", "");
    let question = origin.next();
    assert_eq!(question.events(), "TEXT 1|2|");
    question.say("");
    let question = origin.next();
    assert_eq!((question.events().as_str(), question.asked.header("meta-last")), ("DISCONNECT|", Some("1")));
    question.say("");
    over(gripd, &origin, 4);
}

#[test]
fn a_kick_does_not_wait_for_the_origin() {
    let (gripd, origin) = start();
    let mut kicked = origin.open(&gripd, &subscribe("a"));
    kicked.send(TEXT, "?");
    let question = origin.next();
    let closing = json!([{ "channel": "a", "action": "close", "code": 4000, "reason": "out" }]);
    let begin = Instant::now();
    assert_eq!(gripd.publish(&closing), json!([{ "channel": "a", "closed": 1, "cut": 0 }]));
    assert_eq!(kicked.closed(), (4000, "out".into()));
    assert!(begin.elapsed() < Duration::from_millis(800), "it took {:?}", begin.elapsed());
    kicked.close(4000, "out");
    assert_eq!(kicked.http().rest(), "");
    // The response to the earlier request reaches nobody. After it, the origin gets the close.
    question.say(say("too late"));
    let question = origin.next();
    assert!(question.events().starts_with("CLOSE"), "{}", question.events());
    question.say("");
    over(gripd, &origin, 3);
}

#[test]
fn an_origin_that_closes_while_its_client_is_kicked_gets_no_further_request() {
    let (gripd, origin) = start();
    let mut kicked = origin.open(&gripd, &subscribe("a"));
    kicked.send(TEXT, "?");
    let question = origin.next();
    assert_eq!(gripd.close("a"), (1, 0));
    assert_eq!(kicked.ended(), (1000, String::new()));
    question.say(close(4000, ""));
    over(gripd, &origin, 2);
}

#[test]
fn a_drain_closes_the_client_with_1001_and_tells_the_origin() {
    let (gripd, origin) = start();
    let mut client = origin.open(&gripd, b"");
    gripd.drain();
    assert_eq!(client.ended(), (1001, String::new()));
    let question = origin.next();
    assert!(question.events().starts_with("CLOSE"), "{}", question.events());
    question.say("");
    over(gripd, &origin, 2);
}
