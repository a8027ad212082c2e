//! Inputs that violate a specification, but that common programs send and Pushpin accepts.

use crate::support::events::event;
use crate::support::websocket::TEXT;
use crate::support::{Answer, Client, Events, Gripd, Origin, SocketOrigin, chunk, eventually, gate};
use std::time::Duration;

#[test]
fn json_with_common_faults_is_published() {
    let gripd = Gripd::start(&Origin::holding());
    let mut client = gripd.stream("a");
    let faults = [
        ("\u{feff}{\"items\": [{\"channel\": \"a\", \"http-stream\": {\"content\": \"mark\"}}]}", "mark"),
        ("{\"items\": [{\"channel\": \"a\", \"http-stream\": {\"content\": \"raw\n\ttext\"}}]}", "raw\n\ttext"),
        ("{\"items\": [{\"channel\": \"a\", \"http-stream\": {\"content\": \"cut \\ud83d\"}}]}", "cut \u{fffd}"),
    ];
    for (body, content) in faults {
        assert_eq!(gripd.publish_body("", body).0, 200, "{body}");
        assert_eq!(client.read_exact(chunk(content).len()), chunk(content).as_bytes());
    }
}

#[test]
fn an_instruct_with_common_faults_holds() {
    let origin = Origin::start(|asked| {
        let body = match asked.target() {
            "/mark" => "\u{feff}{\"hold\": {\"mode\": \"stream\", \"channels\": [{\"name\": \"a\"}]}}",
            "/raw" => {
                "{\"hold\": {\"mode\": \"stream\", \"channels\": [{\"name\": \"a\"}]}, \"response\": {\"body\": \"x\n\ty\"}}"
            }
            _ => {
                "{\"hold\": {\"mode\": \"stream\", \"channels\": [{\"name\": \"a\"}]}, \"response\": {\"body\": \"\\ud83d\"}}"
            }
        };
        Answer::with("Content-Type: application/grip-instruct\r\n", body)
    });
    let gripd = Gripd::start(&origin);
    for path in ["/mark", "/raw", "/half"] {
        let mut client = gripd.get(path);
        let head = client.head();
        assert!(head.starts_with("http/1.1 200"), "{path}: {head}");
        assert_eq!(gripd.connections("a"), 1, "{path}");
        drop(client);
        eventually("the client is gone", || gripd.connections("a") == 0);
    }
}

#[test]
fn a_control_message_with_common_faults_is_carried_out() {
    let origin = SocketOrigin::start();
    let gripd = origin.gripd("", "", |_| {});
    let (_client, mut end) = origin.open(&gripd, "Sec-WebSocket-Extensions: grip\r\n");
    end.send(TEXT, "c:\u{feff}{\"type\": \"subscribe\", \"channel\": \"a\"}");
    eventually("the relayed client is subscribed", || gripd.connections("a") == 1);
    let origin = Events::start();
    let gripd = origin.gripd("", ",over_http", |_| {});
    let subscribe = event("TEXT", "c:{\"type\": \"subscribe\", \"channel\": \"b\",\"x\": \"\\ud83d\n\"}");
    let _client = origin.open(&gripd, &subscribe);
    eventually("the client of the origin over HTTP is subscribed", || gripd.connections("b") == 1);
}

#[test]
fn targets_that_hyper_would_refuse_are_forwarded_encoded() {
    let origin = Origin::start(|asked| Answer::ok(asked.target()));
    let gripd = Gripd::start(&origin);
    let mut client =
        Client::send(gripd.clients, "GET /a\"b<c>`d?e=\"<{|}^\\ HTTP/1.1\r\nHost: h\r\nX-Kept: \"<\r\n\r\n");
    // Characters that hyper accepts are forwarded as they are.
    assert_eq!(client.answer().1, "/a\"b%3Cc%3E%60d?e=%22%3C{|}^\\");
    client.write(b"GET /gr\xfc\xdfe HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.answer().1, "/gr%FC%DFe");
    client.write("\r\nGET /<grüße HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.answer().1, "/%3Cgrüße");
    assert_eq!(origin.asked()[0].header("x-kept"), Some("\"<"));
    // Blanks and control characters in a target are refused, and so are invalid characters in a method.
    for line in [
        "GET /a b HTTP/1.1",
        "GET /a\u{1}b HTTP/1.1",
        "GET /a\u{7f}b HTTP/1.1",
        "G<T /a HTTP/1.1",
        "\"GET\" /a HTTP/1.1",
    ] {
        let mut client = Client::send(gripd.clients, format!("{line}\r\nHost: h\r\n\r\n"));
        assert!(client.answer().0.starts_with("http/1.1 400"), "{line:?}");
    }
}

#[test]
fn a_body_is_never_taken_for_a_request_line() {
    let (open, wait) = gate();
    let origin = Origin::start(move |asked| {
        if asked.target() == "/slow" {
            wait();
        }
        Answer::ok(&asked.body)
    });
    let gripd = Gripd::start(&origin);
    let body = "GET /\"<x> HTTP/1.1\r\n\r\n";
    let head = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut client = Client::send(gripd.clients, &head);
    eventually("the head is read", || gripd.metric("requests_total") == 1);
    client.write(body);
    assert_eq!(client.answer().1, body);
    client.write(format!("{head}{body}{head}"));
    assert_eq!(client.answer().1, body);
    client.write(body);
    assert_eq!(client.answer().1, body);
    // Two heads arrive together. The body of the second request arrives while the first request is being answered.
    let mut client = Client::send(gripd.clients, format!("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n{head}"));
    eventually("the origin is asked for the first request", || !origin.asked_for("/slow").is_empty());
    client.write(body);
    open.send(()).unwrap();
    assert_eq!(client.answer().1, "");
    assert_eq!(client.answer().1, body);
    assert!(origin.asked().iter().all(|asked| ["/", "/slow"].contains(&asked.target())), "{:?}", origin.asked());
}

#[test]
fn links_with_characters_that_uris_must_not_have_are_followed_encoded() {
    let origin = Origin::start(|asked| match asked.target() {
        "/" => Answer::with("Grip-Link: </next page?q=\"ü\">; rel=next\r\n", "one "),
        target => Answer::ok(target),
    });
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/");
    client.head();
    assert_eq!(client.chunks(), "one /next%20page?q=%22%C3%BC%22");
}

#[test]
fn a_blank_before_a_colon_of_an_origins_header_is_removed() {
    let origin = Origin::start(|_| {
        Answer::Bytes("HTTP/1.1 200 OK\r\nX-Blank : 1\r\nContent-Length : 2\r\nX-Tab\t: 2\r\n\r\nok".into())
    });
    let gripd = Gripd::start(&origin);
    let (head, body) = gripd.get("/").answer();
    assert!(head.contains("\r\nx-blank: 1\r\n") && head.contains("\r\nx-tab: 2\r\n"), "{head}");
    assert_eq!(body, "ok");
    // In a client's request it is refused, because another server could take it for a different header (RFC 9112 5.1).
    let mut client = Client::send(gripd.clients, "GET / HTTP/1.1\r\nHost: h\r\nX-Blank : 1\r\n\r\n");
    assert!(client.answer().0.starts_with("http/1.1 400"));
}

#[test]
fn a_route_sets_the_timeout_of_its_origin_and_a_response_names_the_timeout() {
    let hanging =
        Origin::start(|_| Answer::Write(Box::new(|stream| drop(std::io::copy(stream, &mut std::io::sink())))));
    let gripd = Gripd::with(&hanging, ",debug,response_timeout=0.3", |_| {});
    let (head, body) = gripd.get("/").answer();
    assert!(head.starts_with("http/1.1 504"), "{head}");
    assert!(body.contains("response_timeout (0.3 s) has expired"), "{body}");
    let gripd = Gripd::configured(&hanging.route("debug = true\nresponse_timeout = 0.2"));
    assert!(gripd.get("/").answer().1.contains("response_timeout (0.2 s) has expired"));
    let gripd = Gripd::with(&hanging, ",debug", |config| {
        config.shards = 1;
        config.origin.connections = 1;
        config.origin.connection_wait = Duration::from_millis(300);
    });
    let _first = gripd.get("/first");
    eventually("the origin is asked for the first request", || !hanging.asked_for("/first").is_empty());
    let (head, body) = gripd.get("/second").answer();
    assert!(head.starts_with("http/1.1 503"), "{head}");
    assert!(body.contains("connection_wait (0.3 s) has expired"), "{body}");
}

#[test]
fn links_of_an_origin_are_followed_although_the_route_rewrites_paths() {
    let origin = Origin::start(|asked| match asked.target() {
        "/stream" => Answer::with("Grip-Link: </next?page=2>; rel=next\r\n", "one "),
        "/next?page=2" => Answer::with("Grip-Link: <last>; rel=next\r\n", "two "),
        target => Answer::ok(target),
    });
    for (options, path) in [(",path_beg=/api,replace_beg=", "/api/stream"), (",path_rem=3", "/v1/stream")] {
        let gripd = Gripd::with(&origin, options, |_| {});
        let mut client = gripd.get(path);
        client.head();
        assert_eq!(client.chunks(), "one two /last", "{options}");
    }
}
