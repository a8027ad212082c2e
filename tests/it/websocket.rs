//! WebSockets of clients: handshakes, frames, and the target `test`, which sends every message back.

use crate::support::websocket::{BINARY, CONTINUATION, Frame, KEY, PING, PONG, TEXT, frame, handshake};
use crate::support::{Client, Gripd, Origin, Socket, SocketOrigin, eventually};
use serde_json::json;

/// Starts a gripd that needs no origin, because its target `test` sends every message back.
fn echoing() -> Gripd {
    Gripd::to(&["* test".into()], |_| {})
}

fn open(gripd: &Gripd, path: &str) -> Socket {
    let mut client = Socket::ask(gripd.clients, path, "");
    client.accepted();
    client
}

#[test]
fn a_handshake_is_answered_as_rfc_6455_says() {
    let gripd = echoing();
    let mut client =
        Socket::ask(gripd.clients, "/ws", "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: x\r\n");
    let head = client.accepted();
    assert!(head.contains("\r\nupgrade: websocket\r\n") && head.contains("\r\nconnection: upgrade\r\n"), "{head}");
    for absent in ["sec-websocket-extensions", "content-length", "transfer-encoding", "grip-"] {
        assert!(!head.contains(absent), "{head}");
    }
    client.send(TEXT, "hello");
    assert_eq!(client.text(), "hello");
}

#[test]
fn an_invalid_handshake_is_refused_with_an_explanation() {
    let gripd = echoing();
    let whole = handshake("/ws", "");
    let key = format!("Sec-WebSocket-Key: {KEY}\r\n");
    let wrong = [
        whole.replace("Version: 13", "Version: 8"),
        whole.replace("Sec-WebSocket-Version: 13\r\n", ""),
        whole.replace(&key, ""),
        whole.replace(&key, "Sec-WebSocket-Key:\r\n"),
        whole.replace("GET", "POST"),
        whole.replace("\r\n\r\n", "\r\nContent-Length: 2\r\n\r\nhi"),
        whole.replace("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        whole.replace("HTTP/1.1", "HTTP/1.0"),
    ];
    for request in wrong {
        let (head, body) = Client::send(gripd.clients, &request).answer();
        assert!(head.contains(" 400 ") && head.contains("sec-websocket-version: 13"), "{request}{head}");
        assert!(body.starts_with("Upgrade header present, but"), "{request}{body}");
    }
    assert_eq!(gripd.metric("websockets_total"), 0);
}

#[test]
fn a_handshake_may_have_upgrade_in_any_case_and_a_length_of_0() {
    let gripd = echoing();
    let request = handshake("/ws", "Content-Length: 0\r\n").replace("Upgrade: websocket", "UPGRADE: WebSocket");
    let mut client = Client::send(gripd.clients, request);
    assert!(client.head().starts_with("http/1.1 101"));
}

#[test]
fn a_handshake_without_a_route_is_refused() {
    let origin = Origin::holding();
    let gripd = Gripd::to(&[format!("h,proto=http {}", origin.address)], |_| {});
    let (head, body) = Socket::ask(gripd.clients, "/", "").http().answer();
    assert!(head.starts_with("http/1.1 502"), "{head}");
    assert_eq!(body, "Route not found\n");
}

#[test]
fn the_test_target_echoes_and_subscribes() {
    let gripd = echoing();
    let mut client = open(&gripd, "/ws?channel=a+1&channel=b%2f");
    assert_eq!((gripd.connections("a%201"), gripd.connections("b%2F"), gripd.connections("test")), (1, 1, 0));
    client.send(BINARY, [0, 255]);
    assert_eq!(client.read(), Frame::whole(BINARY, [0, 255]));
    gripd.publish(&json!([{ "channel": "a 1", "ws-message": { "content": "news" } }]));
    assert_eq!(client.text(), "news");
    // gripd answers pings to the target `test` itself, because there is no origin that could.
    client.send(PING, "you?");
    assert_eq!(client.read(), Frame::whole(PONG, "you?"));
    client.close(4000, "enough");
    assert_eq!(client.ended(), (4000, "enough".into()));
    let (head, body) = Socket::ask(gripd.clients, "/other", "").http().answer();
    assert!(head.starts_with("http/1.1 404"), "{head}");
    assert_eq!(body, "no such test resource\n");
    let _usual = open(&gripd, "/ws");
    assert_eq!((gripd.connections("test"), gripd.metric("websockets_total")), (1, 2));
}

#[test]
fn frames_that_come_right_after_a_handshake_are_read() {
    let gripd = echoing();
    let hello = frame(0x80 | TEXT, true, b"at once");
    let mut client = Socket::ask(gripd.clients, "/ws", "");
    client.write(&hello);
    let mut other = Socket::ask(gripd.clients, "/no", "");
    client.accepted();
    assert_eq!(client.text(), "at once");
    // The handshake and the frames may even arrive in one write.
    other.http().answer();
    other.write([handshake("/ws", "").as_bytes(), &hello, &hello[..3]].concat());
    other.accepted();
    assert_eq!(other.text(), "at once");
    other.write(&hello[3..]);
    assert_eq!(other.text(), "at once");
}

#[test]
fn fragments_are_one_message_with_control_frames_between_them() {
    let gripd = echoing();
    let mut client = open(&gripd, "/ws");
    // A fragment may end within a character.
    client.fragment(TEXT, false, [b'g', b'r', 0xc3]);
    client.send(PING, "1");
    client.fragment(CONTINUATION, false, [0xbc, 0xc3]);
    client.fragment(CONTINUATION, false, "");
    client.send(PING, "2");
    client.fragment(CONTINUATION, true, [0x9f, b'e']);
    let mut said = Vec::new();
    let mut pongs = Vec::new();
    loop {
        let frame = client.read();
        if frame.opcode == PONG {
            pongs.push(frame.content);
        } else {
            said.extend(frame.content);
            if frame.last {
                break;
            }
        }
    }
    assert_eq!((String::from_utf8(said).unwrap().as_str(), pongs), ("grüße", vec![b"1".to_vec(), b"2".to_vec()]));
}

#[test]
fn frames_of_any_length_arrive_byte_by_byte() {
    let gripd = echoing();
    let mut client = open(&gripd, "/ws");
    for length in [0, 1, 125, 126, 127, 65_535, 65_536, 300_000] {
        let content = vec![b'x'; length];
        let bytes = frame(0x80 | BINARY, true, &content);
        // The head is sent in single bytes, and the rest at once.
        let (head, rest) = bytes.split_at(bytes.len().min(14));
        head.iter().for_each(|byte| client.write([*byte]));
        client.write(rest);
        assert_eq!(client.message(), (BINARY, content), "{length}");
    }
}

/// Returns invalid frames, and the code and the reason of the Close frame with which gripd answers them. An empty
/// reason stands for any.
fn wrong() -> Vec<(Vec<u8>, u16, &'static str)> {
    let masked = |lead, content: &[u8]| frame(lead, true, content);
    let far = [&[0x82, 0xff], &[0x80, 0, 0, 0, 0, 0, 0, 1][..], &[0; 4]].concat();
    vec![
        (frame(0x81, false, b"hi"), 1002, "frame is not masked"),
        (masked(0xc1, b"hi"), 1002, "reserved bit is set"),
        (masked(0x91, b"hi"), 1002, "reserved bit is set"),
        (masked(0x83, b"hi"), 1002, "reserved opcode"),
        (masked(0x8b, b"hi"), 1002, ""),
        (masked(0x80, b"hi"), 1002, "continuation frame without a message"),
        ([masked(0x01, b"hi"), masked(0x81, b"hi")].concat(), 1002, "new message before the end of the previous one"),
        (masked(0x09, b"hi"), 1002, ""),
        (masked(0x89, &[0; 126]), 1002, ""),
        (vec![0x82, 0xfe, 0, 5, 0, 0, 0, 0], 1002, ""),
        (far, 1002, ""),
        (masked(0x88, &[3]), 1002, "invalid close code"),
        (masked(0x88, &999_u16.to_be_bytes()), 1002, "invalid close code"),
        (masked(0x88, &1005_u16.to_be_bytes()), 1002, "invalid close code"),
        (masked(0x88, &[0x0f, 0xa0, 0xff]), 1007, ""),
        (masked(0x81, &[0xff]), 1007, "text is not UTF-8"),
        (masked(0x81, &[0xc3]), 1007, "text is not UTF-8"),
        ([masked(0x01, &[0xc3]), masked(0x80, b"x")].concat(), 1007, "text is not UTF-8"),
        ([masked(0x01, &[0xed, 0xa0]), masked(0x80, &[0x80])].concat(), 1007, "text is not UTF-8"),
    ]
}

#[test]
fn a_client_that_breaks_the_protocol_gets_the_close_code() {
    let gripd = echoing();
    for (at, (bytes, code, words)) in wrong().into_iter().enumerate() {
        let mut client = open(&gripd, "/ws");
        client.write([frame(0x80 | TEXT, true, b"fine"), bytes].concat());
        assert_eq!(client.text(), "fine");
        let mut frame = client.read();
        while frame.opcode != 8 {
            // gripd has sent back the beginning of the message, which was valid.
            assert!(!frame.last, "{at}: {frame:?}");
            frame = client.read();
        }
        let (got, reason) = frame.content.split_first_chunk().unwrap();
        assert_eq!(u16::from_be_bytes(*got), code, "{at}: {}", reason.escape_ascii());
        assert!(words.is_empty() || reason == words.as_bytes(), "{at}: {}", reason.escape_ascii());
        assert_eq!(client.http().rest(), "", "{at}");
    }
    assert_eq!(gripd.metric("websocket_violations_total"), wrong().len() as u64);
}

#[test]
fn the_origin_gets_the_close_code_if_the_client_breaks_the_protocol() {
    let origin = SocketOrigin::start();
    let gripd = origin.gripd("", "", |_| {});
    for (bytes, code) in [(frame(0x81, true, &[0xff]), 1007), (frame(0x81, false, b"hi"), 1002)] {
        let (mut client, mut end) = origin.open(&gripd, "");
        client.write([frame(0x81, true, b"first"), bytes].concat());
        assert_eq!(end.text(), "first");
        let mut closed = end.read();
        if closed.opcode == TEXT {
            closed = end.read();
        }
        assert_eq!(closed.content[..2], u16::to_be_bytes(code));
        end.close(code, "");
        assert_eq!(client.ended().0, code);
    }
}

#[test]
fn a_close_is_answered_with_the_same_code_and_reason() {
    let gripd = echoing();
    for (code, reason) in [(1000, ""), (1001, "leaving"), (3000, ""), (4999, "späť")] {
        let mut client = open(&gripd, "/ws");
        client.close(code, reason);
        assert_eq!(client.ended(), (code, reason.into()));
    }
    let mut client = open(&gripd, "/ws");
    client.send(8, "");
    assert_eq!(client.ended(), (1000, String::new()));
}

#[test]
fn a_client_that_leaves_without_a_close_holds_nothing_any_more() {
    let gripd = echoing();
    let client = open(&gripd, "/ws?channel=a");
    assert_eq!(gripd.connections("a"), 1);
    drop(client);
    eventually("the client is gone", || gripd.connections("a") == 0 && gripd.metric("parked") == 0);
}
