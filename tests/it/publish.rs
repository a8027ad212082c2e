//! Publishing with the control API: the replies that publishers of Pushpin expect, and the checks of gripd.

use crate::support::{Answer, Client, Gripd, Origin, chunk, get, run};
use serde_json::json;

fn gripd() -> Gripd {
    Gripd::start(&Origin::holding())
}

#[test]
fn replies_are_those_of_pushpin() {
    let gripd = gripd();
    let body = r#"{"items":[{"channel":"a","http-stream":{"content":"x"}}]}"#;
    assert_eq!(gripd.publish_body("", body), (200, "Published\n".into()));
    assert_eq!(gripd.publish_body("", r#"{"items":[]}"#), (200, "Published\n".into()));
    let syntax = "{\"items\": [{\"channel\": \"a\"},\n{\"channel\" \"b\"}]}";
    let place = "Body is not valid JSON: expected `:` at line 2 column 12, in items[1].\n";
    assert_eq!(gripd.publish_body("", syntax), (400, place.into()));
    let second = json!({ "items": [{ "channel": "a", "http-stream": { "content": "x" } }, { "channel": "b" }] });
    let place = "Invalid format: items[1]: no formats specified\n";
    assert_eq!(gripd.publish_body("", &second.to_string()), (400, place.into()));
    let wrong = "Invalid format: object does not contain 'items'\n";
    assert_eq!(gripd.publish_body("", "{}"), (400, wrong.into()));
    let none = "Not Acceptable. Supported formats are text/plain and application/json.\n";
    assert_eq!(gripd.publish_body("Accept: image/png\r\n", body), (406, none.into()));
    assert_eq!(gripd.ask(get("/")).1, "Pushpin API\n");
    let (head, body) = gripd.ask(get("/publish"));
    assert!(head.starts_with("http/1.1 405") && head.contains("allow: post"), "{head}");
    assert_eq!(body, "Method not allowed: GET.\n");
    let (head, body) = gripd.ask(get("/nothing"));
    assert!(head.starts_with("http/1.1 404"), "{head}");
    assert_eq!(body, "Not Found\n");
}

#[test]
fn one_bad_item_publishes_nothing() {
    let gripd = gripd();
    let mut client = gripd.stream("a");
    let items = json!({ "items": [{ "channel": "a", "http-stream": { "content": "no\n" } }, { "channel": "a" }] });
    assert_eq!(gripd.publish_body("", &items.to_string()).0, 400);
    gripd.say("a", "yes\n");
    assert_eq!(client.read_until("\n\r\n"), chunk("yes\n"));
}

#[test]
fn a_connection_serves_many_publishes_in_either_framing() {
    let gripd = gripd();
    let mut client = gripd.stream("a");
    let body = r#"{"items":[{"channel":"a","http-stream":{"content":"x\n"}}]}"#;
    let sized = format!("POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let chunked = format!(
        "POST /publish HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
        chunk(body)
    );
    let mut publisher = Client::send(gripd.control, &sized);
    assert_eq!(publisher.answer().1, "Published\n");
    publisher.write(chunked);
    assert_eq!(publisher.answer().1, "Published\n");
    assert_eq!(client.read_exact(14), chunk("x\n").repeat(2).as_bytes());
}

#[test]
fn a_body_over_the_limit_is_413() {
    let gripd = Gripd::with(&Origin::holding(), "", |config| config.control.max_body = 1000);
    let (status, body) = gripd.publish_body("", &"x".repeat(1001));
    assert_eq!(status, 413);
    assert!(body.contains("1000 bytes"), "{body}");
}

#[test]
fn web_pages_may_not_publish() {
    let gripd = gripd();
    let body = r#"{"items":[{"channel":"a","action":"close"}]}"#;
    let _client = gripd.stream("a");
    for header in ["Origin: http://evil.example\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
        assert_eq!(gripd.publish_body(header, body).0, 403, "{header}");
    }
    let rebound =
        format!("POST /publish HTTP/1.1\r\nHost: evil.example:5561\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    assert!(gripd.ask(rebound).0.starts_with("http/1.1 403"));
    assert_eq!(gripd.connections("a"), 1);
}

#[test]
fn websocket_formats_are_checked_even_if_nobody_holds_the_channel() {
    let gripd = gripd();
    let receipt = gripd.publish(&json!([{ "channel": "a", "formats": { "ws-message": { "content": "x" } } }]));
    assert_eq!(receipt[0]["delivered"], 0);
    let wrong =
        json!({ "items": [{ "channel": "a", "formats": { "ws-message": { "type": "smoke", "content": "" } } }] });
    let (status, body) = gripd.publish_body("", &wrong.to_string());
    assert_eq!((status, body.as_str()), (400, "Invalid format: 'ws-message' contains 'type' with unknown value\n"));
}

#[test]
fn health_and_readiness_are_200() {
    let gripd = gripd();
    assert!(gripd.ask(get("/healthz")).0.starts_with("http/1.1 200"));
    assert!(gripd.ask(get("/readyz")).0.starts_with("http/1.1 200"));
}

#[test]
fn a_publisher_cannot_set_headers_that_concern_the_connection() {
    let gripd = Gripd::start(&Origin::holding());
    let mut client = gripd.poll("a");
    let headers =
        json!({ "Upgrade": "h2c", "Trailer": "x-a", "TE": "trailers", "Proxy-Connection": "close", "X-Own": "1" });
    gripd.publish(&json!([{ "channel": "a", "http-response": { "headers": headers, "body": "x" } }]));
    let (head, _) = client.answer();
    assert!(head.contains("\r\nx-own: 1\r\n"), "{head}");
    for name in ["upgrade", "trailer", "te", "proxy-connection"] {
        assert!(!head.contains(&format!("\r\n{name}: ")), "{name}: {head}");
    }
    let reason = json!({ "items": [{ "channel": "a", "http-response": { "reason": "\u{9b}31m", "body": "x" } }] });
    assert_eq!(gripd.publish_body("", &reason.to_string()).0, 400);
}

#[test]
fn a_receipt_warns_of_what_is_probably_a_mistake() {
    let gripd = gripd();
    let post = |formats: &str, headers: &str| {
        let body = json!({ "items": [{ "channel": "a", "formats": { formats: { "content": "x" } } }] });
        gripd.publish_body(headers, &body.to_string())
    };
    let receipt = |formats: &str| {
        let (status, reply) = post(formats, "Accept: application/json\r\n");
        let reply: serde_json::Value = serde_json::from_str(&reply).unwrap();
        assert_eq!((status, &reply["message"], &reply["items"][0]["channel"]), (200, &json!("Published"), &json!("a")));
        reply.get("warnings").cloned()
    };
    assert_eq!(receipt("http-stream"), None);
    let warnings = json!(["items[0]: unknown format 'http_stream': did you mean 'http-stream'?"]);
    assert_eq!(receipt("http_stream"), Some(warnings));
    assert_eq!(post("http_stream", ""), (200, "Published\n".into()));
}

#[test]
fn the_command_publish_prints_the_warnings_of_a_reply() {
    let reply = json!({ "message": "Published", "items": [], "warnings": ["items[0]: odd\u{1b}"] }).to_string();
    let server = Origin::start(move |_| Answer::with("", &reply));
    let (code, out, err) = run(&["publish", "--spec", &format!("http://{}", server.address), "a", "x"]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "Published\n", "Warning: items[0]: odd\n"));
}
