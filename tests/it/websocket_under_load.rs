//! WebSockets that begin, change and end while much is published.

use crate::support::events::{control, say, subscribe};
use crate::support::websocket::{CLOSE, Frame, TEXT};
use crate::support::{Answer, Events, Gripd, Origin, Socket};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

/// Publishes the numbers from 0 to a channel, in their order, until `stop` is set.
fn count_on(gripd: &Gripd, channel: &str, stop: &AtomicBool) {
    let mut n = 0;
    while !stop.load(Relaxed) {
        let items: Vec<_> =
            (n..n + 10).map(|n| json!({ "channel": channel, "ws-message": { "content": n.to_string() } })).collect();
        gripd.publish_body("", &json!({ "items": items }).to_string());
        n += 10;
    }
}

/// Starts an origin that accepts every WebSocket and subscribes it to this many channels, one after the other. Each
/// subscription is followed by the message "in".
fn subscribing(channels: usize) -> Origin {
    let said: Vec<u8> = (0..channels).flat_map(|n| [subscribe(&format!("c{n}")), say("in")].concat()).collect();
    Origin::start(move |asked| {
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: application/websocket-events\r\nSec-WebSocket-Extensions: grip\r\n";
        let opens = asked.body == "OPEN\r\n";
        let body = if opens { [b"OPEN\r\n", &said[..]].concat() } else { Vec::new() };
        Answer::Raw([format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat())
    })
}

#[test]
fn nothing_is_sent_before_the_101() {
    let origin = subscribing(100);
    let gripd = Gripd::to(&[format!("* {},over_http", origin.address)], |_| {});
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _publisher = scope.spawn(|| count_on(&gripd, "c0", &stop));
        let stops = Stops(&stop);
        for _ in 0..300 {
            let mut client = Socket::ask(gripd.clients, "/", "");
            client.accepted();
            while client.text() == "in" {}
        }
        drop(stops);
    });
}

#[test]
fn a_close_frame_comes_after_the_101_and_nothing_comes_after_it() {
    let origin = subscribing(100);
    let gripd = Gripd::to(&[format!("* {},over_http", origin.address)], |_| {});
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _publisher = scope.spawn(|| {
            while !stop.load(Relaxed) {
                gripd.publish_body("", r#"{"items":[{"channel":"c0","action":"close"}]}"#);
            }
        });
        let stops = Stops(&stop);
        for _ in 0..300 {
            let mut client = Socket::ask(gripd.clients, "/", "");
            client.accepted();
            let mut frame = client.read();
            while frame.opcode == TEXT {
                frame = client.read();
            }
            assert_eq!(frame, Frame::whole(CLOSE, 1000_u16.to_be_bytes()));
            let (rest, _) = client.rest_and_end();
            assert!(rest.is_empty(), "{}", rest.escape_ascii());
        }
        drop(stops);
    });
}

/// A guard that stops the publisher when it is dropped, so that a test that fails ends as well.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn a_client_that_has_subscribed_misses_nothing_from_then_on() {
    let origin = Events::start();
    let gripd = origin.gripd("", "", |_| {});
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _publisher = scope.spawn(|| count_on(&gripd, "a", &stop));
        let _stops = Stops(&stop);
        let mut client = origin.open(&gripd, &subscribe("other"));
        for _ in 0..100 {
            client.send(TEXT, "in");
            origin.next().say(subscribe("a"));
            let first: u64 = client.text().parse().unwrap();
            for n in 1..50 {
                assert_eq!(client.text(), (first + n).to_string());
            }
            client.send(TEXT, "out");
            origin.next().say([control(&json!({ "type": "unsubscribe", "channel": "a" })), say("out")].concat());
            let mut next = first + 50;
            loop {
                let text = client.text();
                if text == "out" {
                    break;
                }
                assert_eq!(text, next.to_string());
                next += 1;
            }
        }
    });
}
