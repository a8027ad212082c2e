//! WebSockets that are never idle, or on which several things happen at once.

use crate::support::events::{control, event, say, subscribe};
use crate::support::websocket::{BINARY, CLOSE, CONTINUATION, TEXT, frame};
use crate::support::{Answer, Events, Gripd, SocketOrigin};
use serde_json::{Value, json};
use std::thread;
use std::time::Duration;

const GRIP: &str = "Sec-WebSocket-Extensions: grip\r\n";

fn message(channel: &str, text: &str) -> Value {
    json!({ "channel": channel, "ws-message": { "content": text } })
}

#[test]
fn an_origin_that_never_pauses_prevents_neither_a_kick_nor_a_timer() {
    let origin = SocketOrigin::start();
    let gripd = origin.gripd("", "", |config| {
        config.session.close_timeout = Duration::from_millis(300);
        // On a busy machine the close may take long, and the receipt must wait for it.
        config.control.receipt_wait = Duration::from_secs(10);
    });
    for kicked in [true, false] {
        let (mut client, mut end) = origin.open(&gripd, GRIP);
        end.send(TEXT, r#"c:{"type":"subscribe","channel":"a"}"#);
        end.send(TEXT, "m:hello");
        assert_eq!(client.text(), "hello");
        // The origin sends one endless message, or messages without end, in small frames, so that gripd always has more
        // to read.
        let first = if kicked { frame(BINARY, false, b"m:begun") } else { Vec::new() };
        let lead = if kicked { CONTINUATION } else { 0x80 | BINARY };
        let flood = frame(lead, false, b"m:more").repeat(4000);
        thread::scope(|scope| {
            scope.spawn(move || {
                end.write(first);
                while end.http().write_until_blocked(&flood) == flood.len() {}
            });
            assert!(client.read().content.len() > 1);
            if kicked {
                let kick = scope.spawn(|| gripd.publish(&json!([{ "channel": "a", "action": "close" }]))[0].take());
                // A client that has not read everything when the grace is over is cut.
                let _ = client.rest_and_end();
                assert_eq!(kick.join().unwrap()["closed"], 1);
            } else {
                client.close(1000, "");
                while client.read().opcode != CLOSE {}
            }
        });
    }
}

#[test]
fn the_order_of_a_channel_outlives_a_change_of_its_terms() {
    let origin = Events::start();
    let gripd = origin.gripd("", "", |_| {});
    let url = control(&json!({ "type": "set-meta", "name": "url", "value": "/filter" }));
    let asked = control(&json!({ "type": "subscribe", "channel": "a", "filters": ["http-check"] }));
    let mut client = origin.open(&gripd, &[url, asked].concat());
    let publish = |text| gripd.publish_body("", &json!({ "items": [message("a", text)] }).to_string());
    publish("one");
    let question = origin.next();
    assert_eq!(question.asked.line, "POST /filter HTTP/1.1");
    client.send(TEXT, "?");
    origin.next().say([subscribe("a"), say("plain now")].concat());
    assert_eq!(client.text(), "plain now");
    publish("two");
    publish("three");
    question.answer(Answer::ok(""));
    assert_eq!([client.text(), client.text(), client.text()], ["one", "two", "three"]);
    // No item waits any more, so the next one is delivered at once.
    assert_eq!(gripd.publish(&json!([message("a", "four")]))[0]["delivered"], 1);
    assert_eq!(client.text(), "four");
}

#[test]
fn a_hint_with_content_is_delivered_after_a_message_of_the_origin() {
    let origin = SocketOrigin::start();
    let gripd: Gripd = origin.gripd("", "", |_| {});
    let (mut client, mut end) = origin.open(&gripd, GRIP);
    end.send(TEXT, r#"c:{"type":"subscribe","channel":"a"}"#);
    let whole = frame(0x80 | BINARY, false, &[b"m:", &vec![7; 300_000][..]].concat());
    let (begin, rest) = whole.split_at(150_000);
    end.write(begin);
    let mut length = client.read().content.len();
    let hint = json!([{ "channel": "a", "action": "hint", "formats": { "ws-message": { "content": "said" } } }]);
    gripd.publish(&hint);
    end.write(rest);
    let said = loop {
        let frame = client.read();
        if frame.opcode != CONTINUATION {
            break frame;
        }
        length += frame.content.len();
    };
    assert_eq!((length, said.opcode, &said.content[..]), (300_000, TEXT, &b"said"[..]));
}

#[test]
fn an_origin_that_has_closed_gets_no_further_request_if_the_client_leaves_early() {
    let origin = Events::start();
    let gripd = origin.gripd("", "", |_| {});
    let large = "x".repeat(900_000);
    let said: Vec<u8> = (0..6).flat_map(|_| event("TEXT", ["m:", &large[..150_000]].concat())).collect();
    let client = origin.open(&gripd, &[&subscribe("a")[..], &said, &event("CLOSE", "")].concat());
    crate::support::eventually("held or already ended", || gripd.connections("a") == 1 || gripd.metric("parked") == 0);
    drop(client);
    crate::support::eventually("the client has left", || gripd.metric("parked") == 0);
    assert_eq!(origin.bodies(), ["OPEN\r\n"]);
}

#[test]
fn an_origin_that_does_not_accept_a_close_is_not_waited_for() {
    let origin = Events::start();
    let gripd = origin.gripd("", "", |_| {});
    let mut client = origin.open(&gripd, &subscribe("a"));
    client.send(TEXT, "first");
    let question = origin.next();
    // Both wait for the response to the first request. A client that has closed holds no channel any more.
    client.send(TEXT, "hello");
    client.close(4000, "bye");
    crate::support::eventually("the close is read", || gripd.connections("a") == 0);
    question.say("");
    let question = origin.next();
    assert!(question.events().starts_with("TEXT 5|hello|CLOSE 5|"), "{}", question.events());
    question.say_with("Content-Bytes-Accepted: 2\r\n", "");
    assert_eq!(client.ended(), (4000, "bye".into()));
}
