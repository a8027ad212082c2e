//! The demo's origin, asked as gripd asks it about WebSockets.

use crate::support::{Client, Gripd, Origin};
use std::net::SocketAddr;

const BOB: &str = "/events?name=bob&conversation=123";

/// The demo before `gripd`, which is where it publishes.
fn demo(gripd: &Gripd) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let (addr, control) = (listener.local_addr().unwrap(), gripd.control);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            gripd::demo::serve(listener, control).await.unwrap();
        });
    });
    addr
}

fn post(to: SocketAddr, path: &str, content_type: &str, body: &str) -> (String, String) {
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nHost: d\r\nContent-Type: {content_type}\r\nContent-Length: {length}");
    Client::send(to, format!("{head}\r\n\r\n{body}")).answer()
}

fn events(to: SocketAddr, body: &str) -> (String, String) {
    post(to, BOB, "application/websocket-events", body)
}

fn text(content: &str) -> String {
    format!("TEXT {:x}\r\n{content}\r\n", content.len())
}

#[test]
fn the_demo_opens_a_websocket_on_its_channels() {
    let gripd = Gripd::start(&Origin::holding());
    let (head, body) = events(demo(&gripd), "OPEN\r\n");
    assert!(head.starts_with("http/1.1 200") && head.contains("content-type: application/websocket-events\r\n"));
    assert!(head.contains("sec-websocket-extensions: grip; message-prefix=\"\"\r\n"), "{head}");
    assert!(body.starts_with("OPEN\r\nTEXT "), "{body}");
    for channel in ["conversation123", "user-bob", "conversation123-user-bob"] {
        assert!(body.contains(&text(&format!(r#"c:{{"channel":"{channel}","type":"subscribe"}}"#))), "{body}");
    }
    assert!(body.contains(r#""type":"keep-alive""#) && body.contains(r#""event":"hello""#), "{body}");
}

#[test]
fn the_demo_publishes_what_a_websocket_says() {
    let gripd = Gripd::start(&Origin::holding());
    let mut stream = gripd.stream("conversation123");
    let (head, body) = events(demo(&gripd), &(text("hi") + "PING 1\r\nx\r\n" + &text(" ") + "CLOSE 2\r\n\x01\x02\r\n"));
    assert!(head.starts_with("http/1.1 200") && !head.contains("sec-websocket-extensions"), "{head}");
    let refused = text(r#"{"data":{"reason":"text must not be empty","text":" "},"event":"refused"}"#);
    assert_eq!(body, format!("PONG 1\r\nx\r\n{refused}CLOSE 2\r\n\x01\x02\r\n"));
    stream.read_until("event: message\ndata: {\"from\":\"bob\",\"text\":\"hi\"");
}

#[test]
fn the_demo_keeps_whom_it_removed_off_its_websocket() {
    let gripd = Gripd::start(&Origin::holding());
    let demo = demo(&gripd);
    let kick = r#"{"name": "bob", "by": "amy", "conversation": "123"}"#;
    assert!(post(demo, "/kick", "application/json", kick).0.starts_with("http/1.1 200"));
    let (head, body) = events(demo, "OPEN\r\n");
    assert!(head.starts_with("http/1.1 403") && head.contains("text/plain"), "{head}");
    assert_eq!(body, "amy removed you from the conversation\n");
    let elsewhere = "/events?name=bob&conversation=7";
    assert!(post(demo, elsewhere, "application/websocket-events", "OPEN\r\n").1.starts_with("OPEN\r\n"));
    let stream = Client::send(demo, format!("GET {BOB} HTTP/1.1\r\nHost: d\r\n\r\n")).head();
    assert!(stream.starts_with("http/1.1 403"), "{stream}");
}

#[test]
fn the_demo_answers_only_what_is_meant() {
    let gripd = Gripd::start(&Origin::holding());
    let demo = demo(&gripd);
    for quiet in ["", "DISCONNECT\r\n", "PONG 1\r\n:\r\n"] {
        assert_eq!(events(demo, quiet).1, "", "{quiet:?}");
    }
    assert!(events(demo, "TEXT 5\r\nhi\r\n").0.starts_with("http/1.1 400"));
    assert!(post(demo, BOB, "text/plain", "OPEN\r\n").0.starts_with("http/1.1 405"));
}
