//! Stream holds.

use crate::support::{Answer, Client, Gripd, Origin, chunk, eventually, get};
use serde_json::json;

#[test]
fn a_stream_begins_with_the_origins_answer_and_goes_on_with_items() {
    let origin = Origin::start(|_| {
        let headers = "Content-Type: text/event-stream\r\nX-Mine: 1\r\nGrip-Hold: stream\r\nGrip-Channel: a\r\n\
                       Grip-Channel: b, c\r\nGrip-Set-Meta: user=7\r\nConnection: X-Hop\r\nX-Hop: 1\r\n";
        Answer::with(headers, "hello\n")
    });
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/");
    let head = client.head();
    assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
    for expected in
        ["content-type: text/event-stream", "x-mine: 1", "transfer-encoding: chunked", "connection: close", "date: "]
    {
        assert!(head.contains(expected), "{expected} is missing: {head}");
    }
    for hidden in ["grip-", "x-hop", "content-length"] {
        assert!(!head.contains(hidden), "{hidden} is in {head}");
    }
    client.read_until("hello\n\r\n");
    for channel in ["a", "b", "c"] {
        assert_eq!(gripd.say(channel, channel), 1);
    }
    assert_eq!(client.read_until("c\r\n"), chunk("a") + &chunk("b") + &chunk("c"));
}

#[test]
fn items_keep_their_order_within_and_across_batches() {
    let gripd = Gripd::start(&Origin::holding());
    let mut client = gripd.stream("a,b");
    let mut expected = String::new();
    for batch in 0..20 {
        let text = |n: usize| format!("{batch}.{n}\n");
        let channel = |n: usize| if n.is_multiple_of(2) { "a" } else { "b" };
        let item = |n| json!({ "channel": channel(n), "formats": { "http-stream": { "content": text(n) } } });
        gripd.publish_body("", &json!({ "items": (0..10).map(item).collect::<Vec<_>>() }).to_string());
        (0..10).for_each(|n| expected.push_str(&chunk(&text(n))));
    }
    assert_eq!(String::from_utf8(client.read_exact(expected.len())).unwrap(), expected);
}

#[test]
fn binary_and_empty_content_is_delivered() {
    let gripd = Gripd::start(&Origin::holding());
    let mut client = gripd.stream("a");
    gripd.publish(&json!([{ "channel": "a", "formats": { "http-stream": { "content-bin": "AP8K" } } }]));
    assert_eq!(client.read_exact(8), b"3\r\n\x00\xff\n\r\n");
    // Empty content is delivered, and must not look like the end of the body.
    assert_eq!(gripd.say("a", ""), 1);
    gripd.say("a", "on\n");
    assert_eq!(client.read_until("on\n\r\n"), chunk("on\n"));
}

#[test]
fn a_channel_is_prefixed_by_its_route() {
    let gripd = Gripd::with(&Origin::holding(), ",prefix=app-", |_| {});
    let mut client = gripd.stream("room");
    assert_eq!(gripd.say("room", "no\n"), 0);
    assert_eq!(gripd.say("app-room", "yes\n"), 1);
    client.read_until("yes\n");
}

#[test]
fn a_stream_of_http_1_0_is_bare_and_ends_with_its_connection() {
    let gripd = Gripd::start(&Origin::holding());
    let mut client = Client::send(gripd.clients, "GET /stream?a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let head = client.head();
    assert!(head.starts_with("http/1.0 200") && !head.contains("transfer-encoding"), "{head}");
    gripd.say("a", "item\n");
    assert_eq!(client.read_until("item\n"), "hello\nitem\n");
}

#[test]
fn a_response_without_a_body_is_never_held_as_a_stream() {
    let origin = Origin::start(|asked| match asked.line.as_str() {
        "GET /none HTTP/1.1" => {
            Answer::Bytes("HTTP/1.1 204 No Content\r\nGrip-Hold: stream\r\nGrip-Channel: a\r\n\r\n".into())
        }
        line if line.starts_with("HEAD") => {
            Answer::Bytes("HTTP/1.1 200 OK\r\nContent-Length: 6\r\nGrip-Hold: stream\r\nGrip-Channel: a\r\n\r\n".into())
        }
        _ => Answer::ok("next"),
    });
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/none");
    assert!(client.head().starts_with("http/1.1 204"));
    client.write("HEAD /head HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(client.head().starts_with("http/1.1 200"));
    client.write(get("/"));
    assert_eq!(client.answer().1, "next");
    assert_eq!(gripd.connections("a"), 0);
}

#[test]
fn the_subscriptions_of_a_client_end_when_it_leaves() {
    let gripd = Gripd::start(&Origin::holding());
    let (one, two) = (gripd.stream("a,b"), gripd.stream("a"));
    assert_eq!(gripd.connections("a"), 2);
    drop(one);
    eventually("the first client has left", || gripd.connections("a") == 1 && gripd.connections("b") == 0);
    two.shut_down();
    eventually("the second client has left", || gripd.connections("a") == 0 && gripd.metric("parked") == 0);
}

#[test]
fn bytes_that_a_held_client_sends_are_discarded_up_to_a_limit() {
    let gripd = Gripd::start(&Origin::holding());
    let mut client = gripd.stream("a");
    client.write("x".repeat(60_000));
    gripd.say("a", "on\n");
    assert_eq!(client.read_until("on\n\r\n"), chunk("on\n"));
    client.write("x".repeat(10_000));
    assert_eq!(client.rest(), "0\r\n\r\n");
}

#[test]
fn keep_alives_are_sent_when_nothing_else_is_sent() {
    let origin = Origin::start(|_| {
        Answer::with("Grip-Hold: stream\r\nGrip-Keep-Alive: :\\n; format=cstring; timeout=1\r\n", "hello\n")
    });
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/");
    client.read_until("hello\n\r\n");
    for _ in 0..2 {
        assert_eq!(client.read_until(":\n\r\n"), chunk(":\n"));
    }
}

#[test]
fn a_keep_alive_in_the_mode_interval_is_sent_despite_other_traffic() {
    let origin = Origin::start(|_| {
        let keep_alive = "Grip-Keep-Alive: ping; timeout=2; mode=interval\r\n";
        Answer::with(&format!("Grip-Hold: stream\r\nGrip-Channel: a\r\n{keep_alive}"), "hello\n")
    });
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/");
    client.read_until("hello\n\r\n");
    let mut got = String::new();
    // A keep-alive in the mode `idle` would never come between these items.
    while !got.contains("ping") {
        gripd.say("a", "x");
        got += &client.read_until("\r\nx\r\n");
    }
}

#[test]
fn grip_status_and_grip_expose_headers_are_obeyed() {
    let origin = Origin::start(|_| {
        let headers = "Grip-Status: 401 Not You\r\nGrip-Expose-Headers: X-Shown\r\nX-Shown: 1\r\nX-Hidden: 1\r\n";
        Answer::with(headers, "body")
    });
    let gripd = Gripd::start(&origin);
    let (head, body) = gripd.get("/").answer();
    assert!(head.starts_with("http/1.1 401 not you\r\n") && head.contains("x-shown: 1"), "{head}");
    assert!(!head.contains("x-hidden") && !head.contains("grip"), "{head}");
    assert_eq!(body, "body");
}

#[test]
fn wrong_instructs_are_502_and_explained_only_in_debug_mode() {
    let cases = [
        ("Grip-Hold: forever\r\n", "Grip-Hold must be set to either 'response' or 'stream'"),
        ("Grip-Link: /next; rel=next\r\n", "failed to parse Grip-Link value"),
        ("Content-Type: application/grip-instruct\r\n", "instruct must be an object"),
    ];
    for (headers, why) in cases {
        let origin = Origin::start(move |_| Answer::with(headers, "[]"));
        let (head, body) = Gripd::start(&origin).get("/").answer();
        assert!(head.starts_with("http/1.1 502") && head.contains("content-type: text/plain"), "{head}");
        assert_eq!(body, "Error while proxying to origin.\n");
        let (_, body) = Gripd::with(&origin, ",debug", |_| {}).get("/").answer();
        assert!(body.contains(why), "{body}");
    }
}

#[test]
fn too_many_channels_are_refused_and_named() {
    let gripd = Gripd::with(&Origin::holding(), ",debug", |config| config.shard.max_channels = 3);
    gripd.stream("a,b,c");
    let (head, body) = gripd.get("/stream?a,b,c,d").answer();
    assert!(head.starts_with("http/1.1 502"), "{head}");
    assert!(body.contains("names 4 channels, but max_channels is 3"), "{body}");
}
