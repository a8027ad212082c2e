//! Responses of origins with the type `application/grip-instruct`.

use crate::support::{Answer, Gripd, Origin, eventually};
use serde_json::{Value, json};

fn instructing(instruct: &Value) -> Origin {
    let body = instruct.to_string();
    Origin::start(move |_| {
        Answer::with("Content-Type: application/grip-instruct; charset=utf-8\r\nX-Lost: 1\r\n", &body)
    })
}

#[test]
fn an_instruct_holds_a_long_poll_unless_it_says_otherwise() {
    let origin = instructing(&json!({
        "hold": { "channels": [{ "name": "a" }] },
        "response": { "code": 201, "headers": { "Content-Type": "text/x" }, "body": "nothing" } }));
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/");
    eventually("the long-poll is held", || gripd.connections("a") == 1);
    gripd.close("a");
    let (head, body) = client.answer();
    assert!(head.starts_with("http/1.1 201") && head.contains("content-type: text/x"), "{head}");
    assert!(!head.contains("x-lost") && !head.contains("grip"), "{head}");
    assert_eq!(body, "nothing");
}

#[test]
fn an_instruct_holds_a_stream_and_keeps_it_alive() {
    let origin = instructing(&json!({
        "hold": { "mode": "stream", "channels": [{ "name": "a" }], "keep-alive": { "content": "beat", "timeout": 1 } },
        "response": { "body-bin": "aGVsbG8K" } }));
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/");
    client.head();
    assert_eq!(client.chunk(), "hello\n");
    gripd.say("a", "item");
    assert_eq!([client.chunk(), client.chunk()], ["item", "beat"]);
}

#[test]
fn an_instruct_without_a_hold_is_an_answer() {
    let gripd = Gripd::start(&instructing(&json!({ "response": { "code": 404, "reason": "Not Here", "body": "x" } })));
    let (head, body) = gripd.get("/").answer();
    assert!(head.starts_with("http/1.1 404 not here"), "{head}");
    assert_eq!(body, "x");
}
