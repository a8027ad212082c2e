//! WebSockets whose messages are compressed.

use crate::support::events::{say, subscribe};
use crate::support::websocket::{BINARY, CLOSE, CONTINUATION, Frame, PING, PONG, TEXT, frame};
use crate::support::{Events, Gripd, Socket};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use serde_json::json;

const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
const WORDS: &str = "what is said again and again is said again and again in fewer words";

fn start(takeover: bool) -> Gripd {
    Gripd::to(&["* test".into()], |config| {
        config.session.compression = true;
        config.session.context_takeover = takeover;
    })
}

/// Opens a WebSocket with this offer. Returns it with the value of `Sec-WebSocket-Extensions` in the response, or with
/// an empty text if the response does not have this header.
fn open(gripd: &Gripd, offer: &str) -> (Socket, String) {
    let mut client = Socket::ask(gripd.clients, "/ws?channel=a", offer);
    let head = client.accepted();
    let answer = head.lines().find_map(|line| line.strip_prefix("sec-websocket-extensions: "));
    (client, answer.unwrap_or_default().to_owned())
}

/// Returns a function that compresses messages, each of which may refer to the earlier ones.
fn compressor() -> impl FnMut(&[u8]) -> Vec<u8> {
    let mut stream = Compress::new(Compression::default(), false);
    move |content| {
        let mut out = Vec::with_capacity(content.len() + 100);
        stream.compress_vec(content, &mut out, FlushCompress::Sync).unwrap();
        assert!(out.ends_with(&[0, 0, 255, 255]));
        out.truncate(out.len() - 4);
        out
    }
}

fn compressed(content: &[u8]) -> Vec<u8> {
    compressor()(content)
}

fn inflated(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(2_000_000);
    let whole = [content, &[0, 0, 255, 255]].concat();
    Decompress::new(false).decompress_vec(&whole, &mut out, FlushDecompress::Sync).unwrap();
    out
}

fn publish(gripd: &Gripd, content: &str) {
    let receipt = gripd.publish(&json!([{ "channel": "a", "ws-message": { "content": content } }]));
    assert_eq!(receipt[0]["slow"], 0);
}

/// Sends a message whose content is compressed already.
fn send(client: &mut Socket, opcode: u8, content: &[u8]) {
    client.write(frame(0xc0 | opcode, true, content));
}

#[test]
fn compression_is_agreed_on_if_it_is_offered_and_allowed() {
    let usual = "permessage-deflate; server_no_context_takeover";
    let alone = format!("{usual}; client_no_context_takeover");
    let gripd = start(false);
    assert_eq!(open(&gripd, OFFER).1, alone);
    assert_eq!(open(&gripd, "").1, "");
    assert_eq!(open(&gripd, "Sec-WebSocket-Extensions: x\r\nSec-WebSocket-Extensions: permessage-deflate; unknown, permessage-deflate\r\n").1, alone);
    assert_eq!(open(&gripd, "Sec-WebSocket-Extensions: permessage-deflate; unknown\r\n").1, "");
    let bits = open(&gripd, "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10\r\n").1;
    assert_eq!(bits, format!("{alone}; server_max_window_bits=10"));
    assert_eq!(open(&start(true), OFFER).1, usual);
    let gripd = Gripd::to(&["* test".into()], |_| {});
    let (mut client, answer) = open(&gripd, OFFER);
    assert_eq!(answer, "");
    send(&mut client, TEXT, &compressed(b"hi"));
    assert_eq!(client.ended().0, 1002);
}

#[test]
fn messages_are_compressed_for_clients_that_agreed_to_it() {
    let gripd = start(false);
    let (mut agreed, mut plain) = (open(&gripd, OFFER).0, open(&gripd, "").0);
    let mut small = open(&gripd, "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10\r\n").0;
    for content in [WORDS.to_owned(), WORDS.repeat(10_000)] {
        publish(&gripd, &content);
        let frame = agreed.read();
        assert_eq!((frame.opcode, frame.last, frame.compressed), (TEXT, true, true));
        assert!(frame.content.len() < content.len() && inflated(&frame.content) == content.as_bytes());
        assert!(plain.read() == Frame::whole(TEXT, &content) && small.read() == Frame::whole(TEXT, &content));
    }
    // Short messages and control frames are not compressed.
    publish(&gripd, "short");
    assert_eq!([agreed.read(), plain.read()], [(); 2].map(|()| Frame::whole(TEXT, "short")));
    let ping = "x".repeat(100);
    gripd.publish(&json!([{ "channel": "a", "ws-message": { "type": "ping", "content": ping } }]));
    assert_eq!(agreed.read(), Frame::whole(PING, &ping));
    let close = json!([{ "channel": "a", "action": "close", "code": 4000, "reason": "x".repeat(100) }]);
    assert_eq!(gripd.publish(&close)[0]["closed"], 3);
    assert_eq!(agreed.closed(), (4000, "x".repeat(100)));
}

#[test]
fn compressed_messages_from_a_client_are_decompressed() {
    let gripd = start(false);
    let mut client = open(&gripd, OFFER).0;
    for content in [WORDS.to_owned(), String::new(), "x".repeat(1_000_000)] {
        send(&mut client, TEXT, &compressed(content.as_bytes()));
        let mut frame = client.read();
        let (mut got, is_compressed) = (frame.content, frame.compressed);
        while !frame.last {
            frame = client.read();
            assert!(!frame.compressed);
            got.extend(frame.content);
        }
        assert!(if is_compressed { inflated(&got) } else { got } == content.as_bytes());
    }
    // The message comes in two fragments, with a ping between them. The next message is not compressed.
    let content = compressed(WORDS.as_bytes());
    let (begin, end) = content.split_at(content.len() / 2);
    client.write(frame(0x40 | TEXT, true, begin));
    client.send(PING, "there?");
    client.fragment(CONTINUATION, true, end);
    let (mut got, mut pong) = (Vec::new(), false);
    while inflated_or_plain(&got) != WORDS.as_bytes() {
        let frame = client.read();
        if frame.opcode == PONG {
            pong = true;
        } else {
            got.push(frame);
        }
    }
    assert!(pong);
    client.send(BINARY, "plain");
    assert_eq!(client.read(), Frame::whole(BINARY, "plain"));
}

/// Returns the content of a message from its frames, and decompresses it if necessary.
fn inflated_or_plain(frames: &[Frame]) -> Vec<u8> {
    let content: Vec<u8> = frames.iter().flat_map(|frame| frame.content.clone()).collect();
    if frames.first().is_some_and(|frame| frame.compressed) { inflated(&content) } else { content }
}

#[test]
fn a_client_may_refer_to_earlier_messages_if_that_was_agreed() {
    for takeover in [true, false] {
        let gripd = start(takeover);
        let mut client = open(&gripd, OFFER).0;
        let mut compress = compressor();
        send(&mut client, TEXT, &compress(WORDS.as_bytes()));
        assert_eq!(inflated_or_plain(&[client.read()]), WORDS.as_bytes());
        let second = compress(WORDS.as_bytes());
        assert!(second.len() < 20, "the second message does not refer to the first one");
        send(&mut client, TEXT, &second);
        if takeover {
            assert_eq!(inflated_or_plain(&[client.read()]), WORDS.as_bytes());
        } else {
            assert_eq!(client.ended(), (1007, "corrupt compressed message".into()));
        }
    }
}

#[test]
fn messages_that_cannot_be_decompressed_are_refused() {
    let gripd = start(false);
    let mut not_text = compressed(&[b'x', 0xff]);
    for content in [vec![0xff; 20], std::mem::take(&mut not_text), compressed(WORDS.as_bytes())[..20].to_vec()] {
        let mut client = open(&gripd, OFFER).0;
        send(&mut client, TEXT, &content);
        let mut frame = client.read();
        while frame.opcode != CLOSE {
            assert!(!frame.last);
            frame = client.read();
        }
        assert_eq!(frame.content[..2], 1007_u16.to_be_bytes());
    }
    let mut client = open(&gripd, OFFER).0;
    client.write(frame(0xc0 | PING, true, &compressed(b"hi")));
    assert_eq!(client.ended().0, 1002);
}

#[test]
fn messages_from_and_to_origins_are_not_compressed() {
    let origin = Events::start();
    let gripd = origin.gripd("", "", |config| config.session.compression = true);
    let mut client = Socket::ask(gripd.clients, "/", OFFER);
    let question = origin.next();
    assert_eq!(question.asked.header("sec-websocket-extensions"), Some("grip"));
    question.accept("", &subscribe("a"));
    assert!(client.accepted().contains("permessage-deflate"));
    send(&mut client, TEXT, &compressed(WORDS.as_bytes()));
    let question = origin.next();
    assert_eq!(question.events(), format!("TEXT {:x}|{WORDS}|", WORDS.len()));
    question.say(say(WORDS));
    let frame = client.read();
    assert!(frame.compressed && inflated(&frame.content) == WORDS.as_bytes());
    // A message that would be too large is not decompressed in full.
    send(&mut client, BINARY, &compressed(&vec![0; 50_000_000]));
    let question = origin.next();
    assert!(question.events().starts_with("CLOSE"), "{}", question.events().len());
    question.say("");
    assert_eq!(client.ended().0, 1009);
}
