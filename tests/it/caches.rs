//! Headers that describe the origin's body are not sent with another body, and caches do not store held responses.

use crate::support::{Answer, Client, Gripd, Origin, eventually, get};
use serde_json::json;

/// Headers that describe the body with which the origin sends them.
const OF_BODY: [(&str, &str); 8] = [
    ("etag", "\"one\""),
    ("last-modified", "Mon, 30 Nov 2026 00:00:00 GMT"),
    ("digest", "sha-256=x"),
    ("content-digest", "sha-256=:x:"),
    ("repr-digest", "sha-256=:x:"),
    ("content-md5", "x"),
    ("content-range", "bytes 0-4/9"),
    ("age", "60"),
];

fn origin(more: &'static str) -> Origin {
    Origin::start(move |asked| {
        let fields: String = OF_BODY.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let hold = match asked.target() {
            "/plain" => "",
            "/stream" => "Grip-Hold: stream\r\nGrip-Channel: a\r\n",
            "/filtered" => "Grip-Channel: a; filter=build-id\r\nGrip-Set-Meta: id_format=7\r\n",
            _ => "Grip-Hold: response\r\nGrip-Channel: a\r\nGrip-Timeout: 600\r\n",
        };
        Answer::with(&format!("{hold}{fields}X-Own: 1\r\n{more}"), "[\"%I\"]")
    })
}

fn held(gripd: &Gripd, path: &str) -> Client {
    let client = gripd.get(path);
    eventually("the connection is held", || gripd.connections("a") == 1);
    client
}

/// Asserts that the head contains all headers of [`OF_BODY`], or that it contains none of them.
fn assert_fields(head: &str, there: bool) {
    for (name, value) in OF_BODY {
        assert_eq!(head.contains(&format!("\r\n{name}: {}\r\n", value.to_ascii_lowercase())), there, "{name}: {head}");
    }
    assert!(head.contains("\r\nx-own: 1\r\n"), "{head}");
}

#[test]
fn headers_about_the_origins_body_are_not_sent_with_another_body() {
    let gripd = Gripd::start(&origin(""));
    let patch = json!([{ "op": "add", "path": "/0", "value": 1 }]);
    for content in [json!({ "body": "new" }), json!({ "body-patch": patch })] {
        let mut client = held(&gripd, "/poll");
        gripd.publish(&json!([{ "channel": "a", "http-response": content }]));
        assert_fields(&client.answer().0, false);
    }
    let mut client = held(&gripd, "/stream");
    assert_fields(&client.head(), false);
    drop(client);
    let head = Client::send(gripd.clients, get("/stream").replace("GET", "HEAD")).head();
    assert_fields(&head, false);
    assert!(head.contains("\r\ncache-control: no-store\r\n"), "{head}");
    assert_fields(&gripd.get("/filtered").answer().0, false);
    // A response that is not held keeps all of them, and so does a long-poll that gets the origin's own body.
    assert_fields(&gripd.get("/plain").answer().0, true);
    eventually("no connection is held", || gripd.connections("a") == 0);
    let mut client = held(&gripd, "/poll");
    assert_eq!(gripd.close("a").0, 1);
    assert_fields(&client.answer().0, true);
}

/// Returns the head of the response to a long-poll that is answered by an item with this header.
fn head_of_item(name: &str, value: &str) -> String {
    let gripd = Gripd::start(&origin(""));
    let mut client = held(&gripd, "/poll");
    let response = json!({ "headers": { name: value }, "body": "new" });
    gripd.publish(&json!([{ "channel": "a", "http-response": response }]));
    client.answer().0
}

#[test]
fn an_item_may_bring_validators_of_its_own() {
    let head = head_of_item("ETag", "\"two\"");
    assert!(head.contains("\r\netag: \"two\"\r\n") && !head.contains("\"one\""), "{head}");
}

#[test]
fn held_responses_are_not_cached_unless_the_origin_allows_it() {
    for (more, expected) in [("", "no-store"), ("Cache-Control: max-age=5\r\n", "max-age=5")] {
        let gripd = Gripd::start(&origin(more));
        let says = |head: &str| {
            let found: Vec<_> = head.lines().filter_map(|line| line.strip_prefix("cache-control: ")).collect();
            assert_eq!(found, [expected], "{head}");
        };
        let mut client = held(&gripd, "/poll");
        gripd.publish(&json!([{ "channel": "a", "http-response": { "body": "new" } }]));
        says(&client.answer().0);
        let mut client = held(&gripd, "/poll");
        gripd.close("a");
        says(&client.answer().0);
        let mut client = held(&gripd, "/stream");
        says(&client.head());
        // gripd adds no `Cache-Control` to a response that is not held.
        let (head, _) = Client::send(gripd.clients, get("/plain")).answer();
        assert!(!head.contains("no-store"), "{head}");
    }
}

#[test]
fn an_item_may_set_cache_control() {
    let head = head_of_item("Cache-Control", "max-age=9");
    assert!(head.contains("\r\ncache-control: max-age=9\r\n") && !head.contains("no-store"), "{head}");
}
