//! WebSockets whose origin speaks WebSocket itself.

use crate::support::websocket::{ACCEPT, BINARY, CLOSE, CONTINUATION, Frame, KEY, PING, PONG, TEXT, frame};
use crate::support::{Gripd, Nobody, Socket, SocketOrigin};
use gripd::grip::signature::{Key, ProxyVerifier, Signer};
use serde_json::{Value, json};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const GRIP: &str = "Sec-WebSocket-Extensions: grip\r\n";
const SUBSCRIBE: &str = r#"c:{"type":"subscribe","channel":"a"}"#;

fn start() -> (Gripd, SocketOrigin) {
    let origin = SocketOrigin::start();
    (origin.gripd("", "", |_| {}), origin)
}

fn publish(gripd: &Gripd, text: &str) -> Value {
    gripd.publish(&json!([{ "channel": "a", "ws-message": { "content": text } }]))[0].take()
}

/// Opens a WebSocket that holds the channel `a`. Returns the client's end and the origin's end.
fn subscribed(gripd: &Gripd, origin: &SocketOrigin) -> (Socket, Socket) {
    let (mut client, mut end) = origin.open(gripd, GRIP);
    end.send(TEXT, SUBSCRIBE);
    end.send(TEXT, "m:hello");
    assert_eq!(client.text(), "hello");
    (client, end)
}

#[test]
fn a_handshake_reaches_the_origin_and_the_answer_reaches_the_client() {
    let (gripd, origin) = start();
    let headers = "Cookie: a=1\r\nSec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\
                   Grip-Sig: forged\r\nGrip-Last: forged\r\n";
    let mut client = Socket::ask(gripd.clients, "/chat?room=1", headers);
    let knock = origin.next();
    let head = knock.head.clone();
    assert!(head.starts_with("get /chat?room=1 http/1.1\r\n"), "{head}");
    let key = KEY.to_ascii_lowercase();
    for line in [
        "host: localhost",
        "cookie: a=1",
        "upgrade: websocket",
        "connection: upgrade",
        "sec-websocket-version: 13",
        "sec-websocket-protocol: chat",
        "sec-websocket-extensions: grip",
        &format!("sec-websocket-key: {key}"),
    ] {
        assert_eq!(head.matches(&format!("\r\n{line}\r\n")).count(), 1, "{line} in {head}");
    }
    assert!(head.contains("\r\ngrip-sig: ey") && head.contains("\r\ngrip-feature: "), "{head}");
    assert!(!head.contains("forged") && !head.contains("deflate"), "{head}");
    let _end = knock
        .accept("Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: grip\r\nX-Own: 1\r\nGrip-Status: 7\r\n");
    let head = client.accepted();
    assert!(head.starts_with("http/1.1 101 welcome\r\n"), "{head}");
    assert!(head.contains("\r\nsec-websocket-protocol: chat\r\n") && head.contains("\r\nx-own: 1\r\n"), "{head}");
    assert!(!head.contains("extensions") && !head.contains("grip"), "{head}");
    assert_eq!((head.matches("\r\nupgrade:").count(), head.matches("-accept:").count()), (1, 1), "{head}");
}

#[test]
fn an_invalid_answer_to_a_handshake_is_502() {
    let (gripd, origin) = start();
    for accept in [KEY, "", &ACCEPT.to_ascii_lowercase()] {
        let mut client = Socket::ask(gripd.clients, "/", "");
        drop(origin.next().accept_by(accept, ""));
        let (head, body) = client.http().answer();
        assert!(head.starts_with("http/1.1 502"), "{head}");
        assert_eq!(body, "Error while proxying to origin.\n");
    }
    let mut client = Socket::ask(gripd.clients, "/", "");
    origin.next().answer("");
    assert!(client.http().answer().0.starts_with("http/1.1 502"));
    assert_eq!(gripd.metric("websockets_total"), 0);
}

#[test]
fn the_client_gets_the_refusal_of_the_origin() {
    let (gripd, origin) = start();
    let body = "x".repeat(100_000);
    for status in ["403 No", "200 OK", "426 Upgrade Required"] {
        let mut client = Socket::ask(gripd.clients, "/", "");
        let length = body.len();
        origin.next().answer(&format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/x\r\nX-Why: not\r\nSec-WebSocket-Accept: x\r\n{GRIP}Content-Length: {length}\r\n\r\n{body}"
        ));
        let (head, got) = client.http().answer();
        assert!(head.starts_with(&format!("http/1.1 {status}\r\n").to_lowercase()), "{head}");
        assert!(head.contains("x-why: not") && head.contains("content-type: text/x"), "{head}");
        assert!(!head.contains("sec-websocket-accept") && !head.contains("grip"), "{head}");
        assert!(got == body);
    }
}

#[test]
fn the_next_target_gets_the_websocket_if_the_first_cannot_be_reached() {
    let origin = SocketOrigin::start();
    let dead = Nobody::new();
    let gripd = Gripd::to(&[format!("* {dead} {}", origin.address)], |_| {});
    let (mut client, mut end) = origin.open(&gripd, "");
    client.send(TEXT, "hi");
    assert_eq!(end.text(), "hi");
}

#[test]
fn without_the_grip_extension_every_message_passes() {
    let (gripd, origin) = start();
    let (mut client, mut end) = origin.open(&gripd, "Sec-WebSocket-Extensions: other\r\n");
    for text in [SUBSCRIBE, "m:hello", "bare", ""] {
        end.send(TEXT, text);
        assert_eq!(client.text(), text);
        client.send(TEXT, text);
        assert_eq!(end.text(), text);
    }
    assert_eq!(gripd.connections("a"), 0);
}

#[test]
fn a_target_may_subscribe_a_websocket_without_the_grip_extension() {
    let origin = SocketOrigin::start();
    let gripd = origin.gripd("", ",sub=a", |_| {});
    let (mut client, mut end) = origin.open(&gripd, "");
    assert_eq!(publish(&gripd, "news")["delivered"], 1);
    assert_eq!(client.text(), "news");
    end.send(TEXT, "m:bare");
    assert_eq!(client.text(), "m:bare");
}

#[test]
fn only_messages_with_the_prefix_reach_the_client() {
    let (gripd, origin) = start();
    for (answer, prefix) in [
        ("grip", "m:"),
        ("x, grip; message-prefix=\"for you, \"", "for you, "),
        ("grip; message-prefix=z", "z"),
        ("grip; message-prefix=\"\"", ""),
    ] {
        let (mut client, mut end) = origin.open(&gripd, &format!("Sec-WebSocket-Extensions: {answer}\r\n"));
        end.send(TEXT, SUBSCRIBE);
        if !prefix.is_empty() {
            end.send(TEXT, "bare");
            end.send(BINARY, "bare");
            end.send(TEXT, "");
            end.fragment(TEXT, false, "bare, ");
            end.fragment(CONTINUATION, false, format!("{prefix}and "));
            end.send(PING, "between");
            end.fragment(CONTINUATION, true, format!("{prefix}a tail"));
            assert_eq!(client.read(), Frame::whole(PING, "between"));
        }
        end.send(TEXT, format!("{prefix}text"));
        assert_eq!(client.read(), Frame::whole(TEXT, "text"));
        end.send(BINARY, format!("{prefix}c:\0"));
        assert_eq!(client.read(), Frame::whole(BINARY, "c:\0"));
        end.fragment(TEXT, false, format!("{prefix}one, "));
        end.fragment(CONTINUATION, true, "two");
        assert_eq!(client.text(), "one, two");
        publish(&gripd, "news");
        assert_eq!(client.text(), "news", "{answer}");
        // Messages of the client have no prefix.
        client.send(TEXT, "c:plain");
        assert_eq!(end.text(), "c:plain");
        drop(client);
        crate::support::eventually("the client has left the channel", || gripd.connections("a") == 0);
    }
}

#[test]
fn no_piece_of_a_long_message_without_the_prefix_reaches_the_client() {
    let (gripd, origin) = start();
    let (mut client, mut end) = origin.open(&gripd, GRIP);
    // gripd reads the message in pieces. Most of them begin with the prefix, but the message itself does not.
    end.fragment(BINARY, false, "x".repeat(70_000));
    (0..30).for_each(|_| end.fragment(CONTINUATION, false, format!("m:{}", "y".repeat(70_000))));
    end.fragment(CONTINUATION, true, "m:tail");
    end.send(TEXT, "m:next");
    assert_eq!(client.read(), Frame::whole(TEXT, "next"));
}

#[test]
fn control_frames_pass_between_the_fragments_of_either_side() {
    let (gripd, origin) = start();
    let (mut client, mut end) = origin.open(&gripd, "");
    client.fragment(TEXT, false, "one, ");
    client.send(PING, "you?");
    // The ping does not wait for the rest of the message, whose fragments gripd joins because it is short.
    assert_eq!(end.read(), Frame::whole(PING, "you?"));
    end.fragment(BINARY, false, "first, ");
    end.send(PONG, "me");
    assert_eq!(client.read(), Frame::whole(PONG, "me"));
    end.send(PING, "");
    assert_eq!(client.read(), Frame::whole(PING, ""));
    client.send(PONG, "");
    assert_eq!(end.read(), Frame::whole(PONG, ""));
    end.fragment(CONTINUATION, true, "second");
    assert_eq!(client.message(), (BINARY, b"first, second".to_vec()));
    client.fragment(CONTINUATION, true, "two");
    assert_eq!(end.read(), Frame::whole(TEXT, "one, two"));
}

#[test]
fn close_frames_pass_with_their_codes_and_reasons() {
    let (gripd, origin) = start();
    let (mut client, mut end) = origin.open(&gripd, "");
    client.close(4001, "mine");
    assert_eq!(end.closed(), (4001, "mine".into()));
    end.close(4002, "yours");
    assert_eq!(client.ended(), (4002, "yours".into()));
    let (mut client, mut end) = origin.open(&gripd, "");
    end.close(4003, "out");
    assert_eq!(client.closed(), (4003, "out".into()));
    client.close(4003, "out");
    assert_eq!(client.http().rest(), "");
    assert_eq!(end.ended(), (4003, "out".into()));
    // These Close frames have no code.
    let (mut client, mut end) = origin.open(&gripd, "");
    end.send(CLOSE, "");
    assert_eq!((client.ended(), end.ended().0), ((1000, String::new()), 1000));
    let (mut client, mut end) = origin.open(&gripd, "");
    client.send(CLOSE, "");
    assert!([0, 1000].contains(&end.closed().0));
    end.send(CLOSE, "");
    assert_eq!(client.ended(), (1000, String::new()));
    assert_eq!(gripd.metric("websocket_origins_lost_total"), 0);
}

#[test]
fn an_origin_that_does_not_answer_a_close_is_not_waited_for() {
    let origin = SocketOrigin::start();
    let gripd = origin.gripd("", "", |config| config.session.close_timeout = Duration::from_millis(200));
    let (mut client, mut end) = origin.open(&gripd, "");
    client.close(4001, "mine");
    assert_eq!(client.ended(), (4001, "mine".into()));
    assert_eq!(end.ended(), (4001, "mine".into()));
}

#[test]
fn a_lost_origin_closes_the_client_with_1011() {
    let (gripd, origin) = start();
    let (mut client, end) = subscribed(&gripd, &origin);
    drop(end);
    assert_eq!(client.ended(), (1011, "the connection to the origin was lost".into()));
    assert_eq!(gripd.connections("a"), 0);
    // The second origin is lost in the middle of a message.
    let (mut client, mut end) = origin.open(&gripd, "");
    end.write(&frame(0x82, false, &[0; 500_000])[..300_000]);
    assert!(!client.read().last);
    drop(end);
    let mut frame = client.read();
    while frame.opcode == CONTINUATION {
        assert!(!frame.last);
        frame = client.read();
    }
    assert_eq!((frame.opcode, &frame.content[..2]), (CLOSE, &1011_u16.to_be_bytes()[..]));
    assert_eq!(gripd.metric("websocket_origins_lost_total"), 2);
}

#[test]
fn an_origin_that_breaks_the_protocol_gets_the_close_code() {
    let (gripd, origin) = start();
    for (bytes, code) in [
        (frame(0x81, true, b"masked"), 1002),
        (frame(0xc1, false, b"compressed"), 1002),
        (frame(0x80, false, b"of nothing"), 1002),
        (frame(0x81, false, &[0xff]), 1007),
        (frame(0x88, false, &[3, 237]), 1002),
    ] {
        let (mut client, mut end) = origin.open(&gripd, "");
        end.send(TEXT, "before");
        end.write(bytes);
        assert_eq!(client.text(), "before");
        assert_eq!(client.ended(), (1011, "the connection to the origin was lost".into()));
        assert_eq!(end.ended().0, code);
    }
}

#[test]
fn the_connection_to_the_origin_ends_when_a_client_leaves_without_a_close() {
    let (gripd, origin) = start();
    let (client, mut end) = subscribed(&gripd, &origin);
    drop(client);
    assert_eq!(end.http().rest(), "");
    assert_eq!(gripd.connections("a"), 0);
}

#[test]
fn messages_that_a_client_sent_before_it_left_reach_the_origin() {
    let (gripd, origin) = start();
    let (mut client, mut end) = origin.open(&gripd, "");
    let text = "x".repeat(1_000_000);
    thread::scope(|scope| {
        scope.spawn(|| {
            (0..20).for_each(|_| client.send(TEXT, &text));
            client.send(TEXT, "the end");
            drop(client);
        });
        (0..20).for_each(|_| assert!(end.text() == text));
        assert_eq!(end.text(), "the end");
    });
    assert_eq!(end.http().rest(), "");
}

#[test]
fn large_messages_pass_both_ways() {
    let (gripd, origin) = start();
    let (mut client, mut end) = origin.open(&gripd, GRIP);
    let text: String = (0..1_000_000).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
    thread::scope(|scope| {
        scope.spawn(|| (0..3).for_each(|_| client.send(TEXT, &text)));
        (0..3).for_each(|_| assert!(end.text() == text));
    });
    thread::scope(|scope| {
        scope.spawn(|| (0..3).for_each(|_| end.send(TEXT, format!("m:{text}"))));
        (0..3).for_each(|_| assert!(client.text() == text));
    });
}

#[test]
fn an_origin_waits_for_a_client_that_does_not_read() {
    let (gripd, origin) = start();
    let mut client = Socket::ask_with_small_buffer(gripd.clients, "/");
    let mut end = origin.next().accept("");
    client.accepted();
    let message = frame(0x82, false, &[7; 1_000_000]);
    let sent = end.http().write_until_blocked(&message.repeat(40));
    assert!(sent < 39_000_000, "gripd took everything although the client does not read");
    (0..sent / message.len()).for_each(|_| assert_eq!(client.message(), (BINARY, vec![7; 1_000_000])));
    assert_eq!(gripd.metric("slow_total"), 0);
}

#[test]
fn an_item_is_not_sent_within_a_message_of_the_origin() {
    let (gripd, origin) = start();
    let (mut client, mut end) = subscribed(&gripd, &origin);
    let message = frame(0x81, false, format!("m:{}", "x".repeat(1_000_000)).as_bytes());
    let (begin, rest) = message.split_at(400_000);
    end.write(begin);
    let first = client.read();
    assert_eq!((first.opcode, first.last), (TEXT, false));
    let receipts = [publish(&gripd, "one"), publish(&gripd, "two")];
    end.write(rest);
    let mut length = first.content.len();
    loop {
        let next = client.read();
        assert_eq!(next.opcode, CONTINUATION, "{}", next.content.len());
        length += next.content.len();
        if next.last {
            break;
        }
    }
    assert_eq!(length, 1_000_000, "{receipts:?}");
    assert_eq!([client.text(), client.text()], ["one", "two"]);
    // After the message, items are delivered at once again.
    assert_eq!(publish(&gripd, "three")["delivered"], 1);
    assert_eq!(client.text(), "three");
}

#[test]
fn a_kick_waits_within_the_grace_for_the_end_of_a_message() {
    let (gripd, origin) = start();
    let message = frame(0x81, false, format!("m:{}", "x".repeat(1_000_000)).as_bytes());
    let (begin, rest) = message.split_at(400_000);
    for finishes in [true, false] {
        let (mut client, mut end) = subscribed(&gripd, &origin);
        end.write(begin);
        let mut length = client.read().content.len();
        publish(&gripd, "before");
        let close = thread::scope(|scope| {
            let closing = scope.spawn(|| gripd.close("a"));
            crate::support::eventually("the client has left the channel", || gripd.connections("a") == 0);
            publish(&gripd, "after");
            if finishes {
                end.write(rest);
            }
            let mut frame = client.read();
            while frame.opcode == CONTINUATION {
                length += frame.content.len();
                frame = client.read();
            }
            if finishes {
                assert_eq!((length, &frame), (1_000_000, &Frame::whole(TEXT, "before")));
                frame = client.read();
            }
            assert_eq!(closing.join().unwrap(), (1, 0));
            frame
        });
        assert_eq!(close, Frame::whole(CLOSE, 1000_u16.to_be_bytes()));
        assert_eq!(client.http().rest(), "");
        assert_eq!(end.read().opcode, CLOSE);
    }
}

#[test]
fn a_kick_and_a_detach_are_a_close_for_the_origin() {
    let (gripd, origin) = start();
    let (mut client, mut end) = subscribed(&gripd, &origin);
    assert_eq!(gripd.close("a"), (1, 0));
    assert_eq!(client.ended(), (1000, String::new()));
    assert!([0, 1000].contains(&end.ended().0));
    let (mut client, mut end) = subscribed(&gripd, &origin);
    end.send(TEXT, r#"c:{"type":"detach"}"#);
    assert!([0, 1000].contains(&end.ended().0));
    client.send(TEXT, "for nobody");
    publish(&gripd, "news");
    assert_eq!(client.text(), "news");
}

fn secret(text: &str) -> Key {
    Key::parse(text, |_| Err("no files".into())).unwrap()
}

fn trusting(config: &mut gripd::config::Config) {
    config.front.trusted = ProxyVerifier::new(&secret("between us")).unwrap();
}

#[test]
fn a_trusted_proxy_gets_every_message_unchanged() {
    let origin = SocketOrigin::start();
    let gripd = origin.gripd("", "", trusting);
    let token = Signer::new("edge", &secret("between us")).unwrap().unwrap().sign(gripd::origin::now()).unwrap();
    let signed = format!("Grip-Sig: {token}\r\nGrip-Last: a; last-id=1\r\n");
    let open = |headers: &str| {
        let mut client = Socket::ask(gripd.clients, "/", headers);
        let knock = origin.next();
        let head = knock.head.clone();
        let end = knock.accept("Sec-WebSocket-Extensions: grip; message-prefix=\"z:\"\r\nGrip-Own: 1\r\n");
        let answer = client.accepted();
        (client, end, head, answer)
    };
    let (mut client, mut end, head, answer) = open(&format!("{signed}{GRIP}"));
    assert!(head.contains(&format!("grip-sig: {}\r\n", token.to_lowercase())) && head.contains("last-id=1"), "{head}");
    assert!(answer.contains("sec-websocket-extensions: grip; message-prefix=\"z:\"\r\n"), "{answer}");
    assert!(answer.contains("grip-own: 1"), "{answer}");
    for text in [SUBSCRIBE, "z:hello", "bare"] {
        end.send(TEXT, text);
        assert_eq!(client.text(), text);
    }
    assert_eq!(gripd.connections("a"), 0);
    // The extension is not accepted if the proxy did not ask for it. For a proxy that is not trusted, gripd itself
    // carries out the control messages.
    assert!(!open(&signed).3.contains("extensions"));
    let (mut client, mut end, _, answer) = open(&format!("Grip-Sig: {token}x\r\n{GRIP}"));
    assert!(!answer.contains("grip"), "{answer}");
    end.send(TEXT, SUBSCRIBE);
    end.send(TEXT, "z:hello");
    assert_eq!((client.text().as_str(), gripd.connections("a")), ("hello", 1));
}

#[test]
fn one_gripd_may_stand_in_front_of_another() {
    let origin = SocketOrigin::start();
    let inner = origin.gripd("", "", trusting);
    let edge = Gripd::to(&[format!("* {}", inner.clients)], |config| {
        config.origin.signer = Signer::new("edge", &secret("between us")).unwrap().map(Arc::new);
    });
    let (mut client, mut end) = subscribed(&edge, &origin);
    assert_eq!((edge.connections("a"), inner.connections("a")), (1, 0));
    assert_eq!(publish(&edge, "news")["delivered"], 1);
    assert_eq!(client.text(), "news");
    client.send(TEXT, "up");
    assert_eq!(end.text(), "up");
    assert_eq!(edge.close("a"), (1, 0));
    assert_eq!(client.ended(), (1000, String::new()));
    assert!([0, 1000].contains(&end.closed().0));
}
