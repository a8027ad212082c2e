//! Response holds: long-polls.

use crate::support::paused::{ok, paused};
use crate::support::{Answer, Client, Gripd, Origin, eventually, get};
use gripd::config::Config;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::time::sleep;

fn item(body: &str) -> serde_json::Value {
    json!([{ "channel": "a", "formats": { "http-response": { "body": body } } }])
}

#[test]
fn the_status_and_headers_of_an_item_replace_those_of_the_instruct() {
    let origin = Origin::start(|_| {
        Answer::with("Grip-Hold: response\r\nGrip-Channel: a\r\nX-Kept: 1\r\nX-Replaced: old\r\n", "nothing\n")
    });
    let gripd = Gripd::start(&origin);
    let mut client = gripd.poll("a");
    let response = json!({ "code": 418, "reason": "Short And Stout", "body": "item\n",
        "headers": [["X-Replaced", "new"], ["X-Twice", "1"], ["X-Twice", "2"], ["Content-Length", "9"]] });
    let receipt = gripd.publish(&json!([{ "channel": "a", "formats": { "http-response": response } }]));
    assert_eq!(receipt, json!([{ "channel": "a", "delivered": 1, "filtered": 0, "slow": 0 }]));
    let (head, body) = client.answer();
    assert!(head.starts_with("http/1.1 418 short and stout\r\n"), "{head}");
    for expected in ["x-kept: 1", "x-replaced: new", "x-twice: 1\r\nx-twice: 2", "content-length: 5"] {
        assert!(head.contains(expected), "{expected} is missing: {head}");
    }
    assert!(!head.contains("old"), "{head}");
    assert_eq!(body, "item\n");
}

#[test]
fn one_item_reaches_both_kinds_of_hold() {
    let gripd = Gripd::start(&Origin::holding());
    let (mut poll, mut stream) = (gripd.poll("a"), gripd.stream("a"));
    let formats = json!({ "http-response": { "body": "answer\n" }, "http-stream": { "content": "append\n" } });
    assert_eq!(gripd.publish(&json!([{ "channel": "a", "formats": formats }]))[0]["delivered"], 2);
    assert_eq!(poll.answer().1, "answer\n");
    stream.read_until("append\n");
    // An item without content for streams does not reach a stream.
    assert_eq!(gripd.publish(&item("only polls"))[0]["delivered"], 0);
}

#[test]
fn the_timeout_answers_with_the_instructs_body() {
    let origin = Origin::start(|_| Answer::with("Grip-Hold: response\r\nGrip-Timeout: 1\r\n", "nothing\n"));
    let gripd = Gripd::start(&origin);
    let begin = Instant::now();
    let (head, body) = gripd.get("/").answer();
    // Less than 5 seconds count as 5, as in Pushpin.
    assert!(begin.elapsed().as_secs_f32() > 4.9);
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(body, "nothing\n");
}

#[test]
fn the_connection_serves_the_next_poll() {
    let gripd = Gripd::start(&Origin::holding());
    let mut client = gripd.poll("a");
    for round in 0..5 {
        gripd.publish(&item(&format!("{round}\n")));
        let (head, body) = client.answer();
        assert!(!head.contains("connection: close"), "{head}");
        assert_eq!(body, format!("{round}\n"));
        client.write(get("/poll?a"));
        eventually("the next request is held", || gripd.connections("a") == 1);
    }
}

#[test]
fn a_request_that_is_sent_during_a_hold_is_served_next() {
    let gripd = Gripd::start(&Origin::holding());
    let mut client = gripd.poll("a");
    client.write("GET /plain HTTP/1.1\r\nHost: loc");
    gripd.publish(&item("item\n"));
    assert_eq!(client.answer().1, "item\n");
    client.write("alhost\r\n\r\n");
    assert_eq!(client.answer().1, "plain\n");
}

#[test]
fn pipelined_requests_are_served_in_order() {
    let gripd = Gripd::start(&Origin::holding());
    let mut client = Client::send(gripd.clients, get("/plain") + &get("/poll?a") + &get("/plain"));
    assert_eq!(client.answer().1, "plain\n");
    eventually("the request is held", || gripd.connections("a") == 1);
    gripd.publish(&item("item\n"));
    assert_eq!(client.answer().1, "item\n");
    assert_eq!(client.answer().1, "plain\n");
}

#[test]
fn a_client_that_sends_too_much_during_a_hold_loses_its_connection() {
    let gripd = Gripd::start(&Origin::holding());
    let mut client = gripd.poll("a");
    client.write("x".repeat(20_000));
    // Before gripd has read these bytes, the connection may still serve another request. The stream gives gripd some
    // time to read them.
    let mut stream = gripd.stream("a");
    gripd.say("a", "on");
    stream.read_until("on");
    gripd.publish(&item("item\n"));
    let (head, body) = client.answer();
    assert_eq!(body, "item\n");
    if !head.contains("connection: close") {
        // gripd has kept the connection, and has read the bytes as a request, which they are not.
        assert!(client.head().starts_with("http/1.1 400"));
    }
}

#[test]
fn requests_with_a_body_are_held_and_then_end_their_connection() {
    let gripd = Gripd::start(&Origin::holding());
    let request = "POST /poll?a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n12345";
    let mut client = Client::send(gripd.clients, request);
    eventually("the request is held", || gripd.connections("a") == 1);
    gripd.publish(&item("item\n"));
    let (head, body) = client.answer();
    assert!(head.contains("connection: close"), "{head}");
    assert_eq!((body.as_str(), client.rest().as_str()), ("item\n", ""));
}

#[test]
fn a_body_that_is_still_coming_is_awaited_before_the_hold() {
    let origin = Origin::start(|_| Answer::hold("response", "a"));
    let gripd = Gripd::start(&origin);
    let mut client = Client::send(
        gripd.clients,
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    );
    client.write("0\r\n\r\n");
    eventually("the request is held", || gripd.connections("a") == 1);
    assert_eq!(origin.asked_once().body, "abc");
    gripd.publish(&item("item\n"));
    assert_eq!(client.answer().1, "item\n");
}

#[test]
fn a_body_too_large_to_keep_is_refused() {
    let gripd = Gripd::start(&Origin::holding());
    let body = "x".repeat(100_001);
    let request = format!("POST /poll?a HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let (head, body) = Client::send(gripd.clients, request).answer();
    assert!(head.starts_with("http/1.1 400"), "{head}");
    assert_eq!(body, "Request too large to accept GRIP instruct.\n");
    assert_eq!(gripd.connections("a"), 0);
}

#[test]
fn a_held_head_request_gets_no_body() {
    let origin = Origin::start(|asked| {
        let body = if asked.line.starts_with("HEAD") { "" } else { "hello" };
        let head = "HTTP/1.1 200 OK\r\nGrip-Hold: response\r\nGrip-Channel: a\r\nContent-Length: 5\r\n\r\n";
        Answer::Bytes(head.to_owned() + body)
    });
    let gripd = Gripd::start(&origin);
    let mut client = Client::send(gripd.clients, "HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    eventually("the request is held", || gripd.connections("a") == 1);
    gripd.publish(&item("item\n"));
    assert!(client.head().contains("content-length: 5"));
    client.write(get("/"));
    eventually("the next request on the connection is held", || gripd.connections("a") == 1);
}

#[test]
fn an_http_1_0_client_gets_its_answer_and_then_the_end() {
    let gripd = Gripd::start(&Origin::holding());
    let mut client = Client::send(gripd.clients, "GET /poll?a HTTP/1.0\r\n\r\n");
    eventually("the request is held", || gripd.connections("a") == 1);
    gripd.publish(&item("item\n"));
    let (head, body) = client.answer();
    assert!(head.starts_with("http/1.0 200"), "{head}");
    assert_eq!((body.as_str(), client.rest().as_str()), ("item\n", ""));
}

#[test]
fn a_client_that_reads_slowly_gets_its_whole_answer() {
    let body = "x".repeat(900_000);
    for request in ["GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"] {
        let grace = |config: &mut Config| config.shard.close_grace = Duration::from_millis(100);
        paused("* origin:80", grace, async |gripd| {
            gripd.origin_answers(|_| ok("Grip-Hold: response\r\nGrip-Channel: a\r\n", ""));
            let mut client = gripd.send(request).await;
            gripd.eventually("the request is held", async |gripd| gripd.connections("a").await == 1).await;
            gripd.publish(&item(&body)).await;
            client.read_until("\r\n\r\n").await;
            // This is much longer than the grace.
            sleep(Duration::from_millis(500)).await;
            assert_eq!(client.rest().await, body.len());
            assert_eq!(gripd.metric("slow_total").await, 0);
        });
    }
}
