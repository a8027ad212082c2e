//! The contract of a close (see ARCHITECTURE.md), point by point.

use crate::support::{Client, Gripd, Origin, chunk, eventually};
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

const LAST: &str = "0\r\n\r\n";

fn content(channel: &str, text: &str) -> Value {
    json!({ "channel": channel, "formats": { "http-stream": { "content": text } } })
}

fn close(channel: &str) -> Value {
    json!({ "channel": channel, "action": "close" })
}

/// Starts a gripd that keeps many bytes for a client that does not read, so that no client is cut as slow.
fn patient(origin: &Origin) -> Gripd {
    Gripd::with(origin, "", |config| config.shard.client_buffer = 64 << 20)
}

#[test]
fn both_forms_of_a_close_end_exactly_the_connections_of_the_channel() {
    let gripd = Gripd::start(&Origin::holding());
    for action in [close("user456"), json!({"channel": "user456", "formats": {"http-stream": {"action": "close"}}})] {
        let mut kicked = [gripd.stream("conversation123,user456"), gripd.stream("conversation7,user456")];
        let mut other = gripd.stream("conversation123,user7");
        let receipt = gripd.publish(&json!([action]));
        assert_eq!(receipt, json!([{ "channel": "user456", "closed": 2, "cut": 0 }]));
        assert!(kicked.iter_mut().all(|client| client.rest() == LAST));
        assert_eq!(gripd.say("conversation123", "on\n"), 1);
        assert_eq!(other.read_until("on\n\r\n"), chunk("on\n"));
    }
}

#[test]
fn a_close_of_an_empty_channel_reports_no_connections() {
    let gripd = Gripd::start(&Origin::holding());
    assert_eq!(gripd.close("user456"), (0, 0));
    let kicked = gripd.stream("user456");
    assert_eq!(gripd.close("user456"), (1, 0));
    assert_eq!(gripd.close("user456"), (0, 0));
    drop(kicked);
}

#[test]
fn a_goodbye_in_an_earlier_post_arrives() {
    let gripd = Gripd::start(&Origin::holding());
    for round in 0..50 {
        let mut client = gripd.stream("user456");
        let bye = format!("bye {round}\n");
        gripd.publish_body("", &json!({ "items": [content("user456", &bye)] }).to_string());
        assert_eq!(gripd.close("user456"), (1, 0));
        assert_eq!(client.rest(), chunk(&bye) + LAST);
    }
}

#[test]
fn a_goodbye_in_the_same_post_arrives() {
    let gripd = Gripd::start(&Origin::holding());
    let in_one_item =
        json!([{ "channel": "user456", "action": "close", "formats": { "http-stream": { "content": "bye\n" } } }]);
    let in_two_items = json!([content("user456", "bye\n"), close("user456")]);
    for items in [in_one_item, in_two_items] {
        let mut client = gripd.stream("user456");
        let receipt = gripd.publish(&items);
        let sum = |field: &str| receipt.as_array().unwrap().iter().filter_map(|i| i[field].as_u64()).sum::<u64>();
        assert_eq!((sum("delivered"), sum("closed"), sum("cut")), (1, 1, 0), "{receipt}");
        assert_eq!(client.rest(), chunk("bye\n") + LAST);
    }
}

#[test]
fn nothing_accepted_after_the_close_is_sent() {
    let gripd = Gripd::start(&Origin::holding());
    for _ in 0..50 {
        let mut kicked = gripd.stream("room,user456");
        let mut other = gripd.stream("room,user7");
        let items = json!({ "items": [content("room", "before\n"), close("user456"), content("room", "after\n")] });
        gripd.publish_body("", &items.to_string());
        assert_eq!(kicked.rest(), chunk("before\n") + LAST);
        assert_eq!(other.read_until("after\n\r\n"), chunk("before\n") + &chunk("after\n"));
        drop(other);
        eventually("the other client is gone", || gripd.connections("room") == 0);
    }
}

#[test]
fn a_client_that_does_not_read_is_cut() {
    let gripd = patient(&Origin::holding());
    let mut stalled = gripd.stream("user456");
    let item = "x".repeat(900_000);
    for _ in 0..8 {
        assert_eq!(gripd.say("user456", &item), 1);
    }
    let begin = Instant::now();
    assert_eq!(gripd.close("user456"), (1, 1));
    assert!(begin.elapsed() >= Duration::from_millis(900), "the client was cut before the grace was over");
    let (got, end) = stalled.rest_and_end();
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(got.len() < 8 * 900_000 && !got.ends_with(LAST.as_bytes()));
}

#[test]
fn a_client_that_is_cut_in_the_middle_of_a_chunk_gets_no_end_mark() {
    let gripd = patient(&Origin::holding());
    let mut stalled = gripd.stream("user456");
    // These are more bytes than the socket buffers take, so the connection stalls in the middle of a chunk.
    let items: Vec<Value> = (0..9).map(|_| content("user456", &"x".repeat(900_000))).collect();
    for item in items {
        gripd.publish(&json!([item]));
    }
    assert_eq!(stalled.read_exact(100_000)[..8], *b"dbba0\r\nx");
    assert_eq!(gripd.close("user456"), (1, 1));
    let (got, end) = stalled.rest_and_end();
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(!got.windows(LAST.len()).any(|w| w == LAST.as_bytes()));
}

#[test]
fn a_client_that_reads_late_but_within_the_grace_gets_everything() {
    let gripd = Gripd::with(&Origin::holding(), "", |config| {
        config.shard.client_buffer = 64 << 20;
        config.shard.close_grace = Duration::from_secs(10);
        config.control.receipt_wait = Duration::from_secs(10);
    });
    let mut slow = gripd.stream("user456");
    for _ in 0..8 {
        gripd.say("user456", &"x".repeat(900_000));
    }
    let reader = thread::spawn(move || slow.rest());
    assert_eq!(gripd.close("user456"), (1, 0));
    let got = reader.join().unwrap();
    assert_eq!(got.bytes().filter(|b| *b == b'x').count(), 8 * 900_000);
    assert!(got.ends_with(LAST));
}

#[test]
fn a_long_goodbye_reaches_a_client_that_has_sent_unread_bytes() {
    let gripd = Gripd::start(&Origin::holding());
    for _ in 0..20 {
        let mut client = gripd.stream("user456");
        client.write("x".repeat(3000));
        let bye = "y".repeat(200_000);
        let item = json!({ "channel": "user456", "action": "close", "formats": { "http-stream": { "content": bye } } });
        gripd.publish_body("", &json!({ "items": [item] }).to_string());
        client.write("x".repeat(3000));
        assert_eq!(client.rest(), chunk(&bye) + LAST);
    }
}

#[test]
fn a_closed_long_poll_gets_its_timeout_answer_and_its_connection_ends() {
    let gripd = Gripd::start(&Origin::holding());
    for action in [close("user456"), json!({"channel": "user456", "formats": {"http-response": {"action": "close"}}})] {
        let mut client = gripd.poll("user456");
        assert_eq!(gripd.publish(&json!([action])), json!([{ "channel": "user456", "closed": 1, "cut": 0 }]));
        let (head, body) = client.answer();
        assert!(head.starts_with("http/1.1 200") && head.contains("connection: close"), "{head}");
        assert_eq!((body.as_str(), client.rest().as_str()), ("hello\n", ""));
    }
}

#[test]
fn a_long_poll_gets_the_goodbye_of_the_same_item() {
    let gripd = Gripd::start(&Origin::holding());
    let mut client = gripd.poll("user456");
    let item =
        json!([{ "channel": "user456", "action": "close", "formats": { "http-response": { "body": "bye\n" } } }]);
    assert_eq!(gripd.publish(&item)[0]["closed"], 1);
    assert_eq!(client.answer().1, "bye\n");
    assert_eq!(client.rest(), "");
}

#[test]
fn a_close_in_one_format_ends_only_connections_of_that_format() {
    let gripd = Gripd::start(&Origin::holding());
    let mut stream = gripd.stream("user456");
    let mut poll = gripd.poll("user456");
    let of = |format: &str| json!([{ "channel": "user456", "formats": { format: { "action": "close" } } }]);
    assert_eq!(gripd.publish(&of("ws-message"))[0]["closed"], 0);
    assert_eq!(gripd.publish(&of("http-response"))[0]["closed"], 1);
    assert_eq!(poll.answer().1, "hello\n");
    assert_eq!(gripd.say("user456", "still\n"), 1);
    assert_eq!(gripd.publish(&of("http-stream"))[0]["closed"], 1);
    assert_eq!(stream.rest(), chunk("still\n") + LAST);
}

#[test]
fn a_thousand_kicks_in_one_batch() {
    rlimit::increase_nofile_limit(20_000).unwrap();
    let gripd = Gripd::start(&Origin::holding());
    let mut clients: Vec<Client> = (0..1000).map(|n| gripd.stream(&format!("room,user{n}"))).collect();
    let mut stays = gripd.stream("room,other");
    let items: Vec<Value> = (0..1000).map(|n| close(&format!("user{n}"))).collect();
    let receipt = gripd.publish(&json!(items));
    let receipt = receipt.as_array().unwrap();
    assert_eq!(receipt.len(), 1000);
    assert!(receipt.iter().all(|item| item["closed"] == 1 && item["cut"] == 0), "{receipt:?}");
    assert!(clients.iter_mut().all(|client| client.rest() == LAST));
    assert_eq!(gripd.say("room", "who\n"), 1);
    stays.read_until("who\n");
}

#[test]
fn a_kick_in_the_middle_of_a_burst_is_not_delayed_and_touches_nobody_else() {
    const OTHERS: usize = 2000;
    const ITEMS: usize = 60;
    rlimit::increase_nofile_limit(20_000).unwrap();
    let gripd = Gripd::with(&Origin::holding(), "", |config| config.origin.connections = 64);
    let mut others: Vec<Client> = (0..OTHERS).map(|_| gripd.stream("room")).collect();
    let mut kicked = gripd.stream("room,user456");
    let control = gripd.control;
    let burst = thread::spawn(move || (0..ITEMS).for_each(|n| say_numbered(control, n)));
    // The first items of the burst have arrived, and the others are still being published.
    kicked.read_until("item 5\n");
    assert_eq!(gripd.close("user456"), (1, 0));
    let rest = kicked.rest();
    burst.join().unwrap();
    // The client gets the items before the close, whole and in order, and then the end mark.
    let mut expected = String::from("\r\n");
    let last = (6..ITEMS).find(|n| !rest.contains(&format!("item {n}\n"))).unwrap_or(ITEMS);
    (6..last).for_each(|n| expected.push_str(&chunk(&format!("item {n}\n"))));
    assert_eq!(rest, expected + LAST);
    let all: String = (0..ITEMS).map(|n| chunk(&format!("item {n}\n"))).collect();
    for other in &mut others {
        assert_eq!(other.read_exact(all.len()), all.as_bytes());
    }
    assert_eq!(gripd.metric("slow_total"), 0);
}

fn say_numbered(control: SocketAddr, n: usize) {
    let body = json!({ "items": [content("room", &format!("item {n}\n"))] }).to_string();
    let request = format!("POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let (head, _) = Client::send(control, request).answer();
    assert!(head.starts_with("http/1.1 200"), "{head}");
}

#[test]
fn a_kicked_http_1_0_stream_ends_without_an_end_mark() {
    let gripd = Gripd::start(&Origin::holding());
    let mut client = Client::send(gripd.clients, "GET /stream?user456 HTTP/1.0\r\n\r\n");
    let head = client.head();
    assert!(head.starts_with("http/1.0 200") && !head.contains("chunked"), "{head}");
    client.read_until("hello\n");
    gripd.say("user456", "bare\n");
    assert_eq!(gripd.close("user456"), (1, 0));
    assert_eq!(client.rest(), "bare\n");
}

#[test]
fn a_closed_channel_is_empty_at_once() {
    let gripd = Gripd::start(&Origin::holding());
    let _client = gripd.stream("user456,room");
    assert_eq!((gripd.connections("user456"), gripd.connections("room")), (1, 1));
    gripd.close("user456");
    assert_eq!((gripd.connections("user456"), gripd.connections("room")), (0, 0));
}

#[test]
fn many_closes_that_end_no_connection_do_not_delay_items() {
    let gripd = Gripd::start(&Origin::holding());
    let mut streams: Vec<Client> = (0..50).map(|_| gripd.stream("s")).collect();
    let close = json!({ "channel": "s", "http-response": { "action": "close" } });
    let receipt = gripd.publish(&json!(vec![close; 5000]));
    assert!(receipt.as_array().unwrap().iter().all(|item| item["closed"] == 0));
    assert_eq!(gripd.say("s", "on\n"), 50);
    streams.iter_mut().for_each(|client| drop(client.read_until("on\n")));
}
