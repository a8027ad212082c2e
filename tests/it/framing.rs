//! Responses of origins whose framing is redundant, missing or wrong. The tests compare the raw bytes of the origin
//! with those that the client gets.

use crate::support::{Answer, Client, DEADLINE, Gripd, Origin, Socket, SocketOrigin, get, gripd};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

/// Returns the head and the body that a client gets if the origin answers with these bytes. Asserts that the same
/// connection then serves another request, unless its head says that it is closed.
fn answered(answer: &'static str) -> (String, String) {
    let origin = Origin::start(move |asked| match asked.target() {
        "/after" => Answer::ok("after"),
        _ => Answer::Bytes(answer.into()),
    });
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/");
    let head = client.head();
    let body = if head.contains("transfer-encoding: chunked") {
        client.chunks()
    } else {
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        String::from_utf8(client.read_exact(length.parse().unwrap())).unwrap()
    };
    if !head.contains("connection: close") {
        client.write(get("/after"));
        assert_eq!(client.answer().1, "after", "{answer:?}: the connection contains more than this response");
    }
    (head, body)
}

#[test]
fn the_content_length_of_a_chunked_response_does_not_reach_the_client() {
    for headers in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "Transfer-Encoding: chunked\r\nContent-Length: 100",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: 3\r\nContent-Length: 4\r\nTransfer-Encoding: chunked",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        let (head, body) = answered(answer.leak());
        assert!(!head.contains("content-length"), "{headers}: {head}");
        assert_eq!(body, "hello", "{headers}");
    }
}

#[test]
fn the_content_length_of_a_chunked_response_does_not_limit_a_hold() {
    let answer = |hold: &str| {
        format!(
            "HTTP/1.1 200 OK\r\nGrip-Hold: {hold}\r\nGrip-Channel: a\r\nContent-Length: 3\r\n\
             Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        )
    };
    let origin = Origin::start(move |asked| Answer::Bytes(answer(&asked.target()[1..])));
    let gripd = Gripd::start(&origin);
    let mut stream = gripd.get("/stream");
    let head = stream.head();
    assert!(!head.contains("content-length"), "{head}");
    stream.read_until("5\r\nhello\r\n");
    gripd.say("a", "more");
    stream.read_until("4\r\nmore\r\n");
    let mut poll = gripd.get("/response");
    crate::support::eventually("the long-poll is held", || gripd.connections("a") == 2);
    gripd.publish(&serde_json::json!([{ "channel": "a", "formats": { "http-response": { "body": "12345678" } } }]));
    assert_eq!(poll.answer().1, "12345678");
}

#[test]
fn a_repeated_content_length_is_sent_once() {
    for headers in ["Content-Length: 2, 2", "Content-Length: 2\r\nContent-Length: 2", "Content-Length: 2,2,  02"] {
        let (head, body) = answered(format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\nok").leak());
        assert_eq!(head.matches("content-length: 2\r\n").count(), 1, "{headers}: {head}");
        assert_eq!((head.matches("content-length").count(), body.as_str()), (1, "ok"), "{headers}: {head}");
    }
}

#[test]
fn invalid_or_contradictory_content_lengths_are_answered_with_502() {
    for (method, headers) in [
        ("GET", "Content-Length: 2, 3"),
        ("GET", "Content-Length: 2\r\nContent-Length: 3"),
        ("GET", "Content-Length: 2,"),
        ("GET", "Content-Length: +2"),
        ("GET", "Content-Length: -2"),
        ("GET", "Content-Length: two"),
        ("HEAD", "Content-Length: 2, 3"),
        ("HEAD", "Content-Length: two"),
        ("HEAD", "Content-Length: 2\r\nContent-Length: 3"),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\nok");
        let origin = Origin::start(move |_| Answer::Last(answer.clone()));
        let gripd = Gripd::start(&origin);
        let head = Client::send(gripd.clients, get("/").replace("GET", method)).head();
        assert!(head.starts_with("http/1.1 502"), "{method} {headers}: {head}");
    }
}

#[test]
fn the_response_to_a_head_request_keeps_its_content_length() {
    let origin = Origin::start(|_| Answer::Bytes("HTTP/1.1 200 OK\r\nContent-Length: 70, 70\r\n\r\n".into()));
    let gripd = Gripd::start(&origin);
    let mut client = Client::send(gripd.clients, get("/").replace("GET", "HEAD"));
    let head = client.head();
    assert!(head.contains("content-length: 70\r\n"), "{head}");
}

#[test]
fn a_response_has_the_http_version_of_gripd_and_not_of_the_origin() {
    let origin = Origin::start(|asked| match asked.target() {
        "/stream" => Answer::Last(
            "HTTP/1.0 200 OK\r\nGrip-Hold: stream\r\nGrip-Channel: a\r\nContent-Length: 2\r\n\r\nok".into(),
        ),
        "/end" => Answer::Last("HTTP/1.0 200 OK\r\n\r\nuntil the end".into()),
        _ => Answer::Last("HTTP/1.0 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok".into()),
    });
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/");
    for _ in 0..3 {
        let (head, body) = client.answer();
        assert!(head.starts_with("http/1.1 200") && !head.contains("connection"), "{head}");
        assert_eq!(body, "ok");
        client.write(get("/"));
    }
    client.answer();
    client.write(get("/end"));
    let head = client.head();
    assert!(head.starts_with("http/1.1 200") && head.contains("transfer-encoding: chunked"), "{head}");
    assert_eq!(client.chunks(), "until the end");
    assert!(gripd.get("/stream").head().starts_with("http/1.1 200"));
}

#[test]
fn an_http_1_0_client_gets_connection_close_with_a_body_without_length() {
    let origin = Origin::start(|asked| match asked.target() {
        "/chunks" => Answer::Bytes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n".into()),
        "/end" => Answer::Last("HTTP/1.1 200 OK\r\n\r\none".into()),
        _ => Answer::ok("one"),
    });
    let gripd = Gripd::start(&origin);
    let old = |path: &str| format!("GET {path} HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n");
    for path in ["/chunks", "/end"] {
        let mut client = Client::send(gripd.clients, old(path));
        let head = client.head();
        assert!(head.contains("connection: close") && !head.contains("keep-alive"), "{path}: {head}");
        assert_eq!(client.rest(), "one", "{path}");
    }
    // The connection is kept if the response has a length.
    let mut client = Client::send(gripd.clients, old("/"));
    for _ in 0..3 {
        let (head, body) = client.answer();
        assert!(head.contains("connection: keep-alive"), "{head}");
        assert_eq!(body, "one");
        client.write(old("/"));
    }
}

#[test]
fn a_body_with_an_invalid_first_chunk_is_answered_with_502() {
    for body in [
        "Transfer-Encoding: chunked\r\n\r\nxyz\r\nhello\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{body}");
        let origin = Origin::start(move |_| Answer::Bytes(answer.clone()));
        let gripd = Gripd::start(&origin);
        let (head, text) = gripd.get("/").answer();
        assert!(head.starts_with("http/1.1 502"), "{body:?}: {head}");
        assert_eq!(text, "Error while proxying to origin.\n");
    }
}

/// Starts an origin that answers as soon as it has read the head of a request, and closes the connection without
/// reading the body.
fn refusing(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || refuse(stream.unwrap(), answer));
        }
    });
    address
}

fn refuse(mut stream: TcpStream, answer: &str) {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count > 0) {
        head.push(byte[0]);
    }
    let _ = stream.write_all(answer.as_bytes());
    // The body was not read, so the kernel resets the connection when it is dropped here.
}

#[test]
fn an_early_refusal_of_an_upload_reaches_the_client() {
    let refusal = "HTTP/1.1 413 Too Much\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo much";
    let gripd = Gripd::to(&[format!("* {}", refusing(refusal))], |_| {});
    let upload = vec![b'x'; 2_000_000];
    for round in 0..40 {
        let request = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", upload.len());
        let mut client = Client::send(gripd.clients, request);
        // gripd stops reading the upload once it has the response, so only a part of it may be written.
        client.write_until_blocked(&upload);
        let (head, body) = client.answer();
        assert!(head.starts_with("http/1.1 413"), "round {round}: {head}");
        assert_eq!(body, "too much");
    }
}

#[test]
fn an_early_refusal_of_a_publish_is_shown() {
    let address = refusing("HTTP/1.1 413 Too Much\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo much");
    for _ in 0..10 {
        let large = "x".repeat(100_000);
        let output = gripd(&["publish", "--spec", &format!("http://{address}"), "room", &large]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("413") && said.contains("too much"), "{said}");
    }
}

#[test]
fn a_websocket_origin_must_agree_in_all_three_headers() {
    let origin = SocketOrigin::start();
    let gripd = origin.gripd("", "", |_| {});
    let accept = format!("Sec-WebSocket-Accept: {}\r\n", crate::support::websocket::ACCEPT);
    for headers in ["Connection: Upgrade\r\n", "Upgrade: websocket\r\n", "Upgrade: h2c\r\nConnection: Upgrade\r\n"] {
        let mut client = Socket::ask(gripd.clients, "/", "");
        origin.next().answer(&format!("HTTP/1.1 101 Welcome\r\n{headers}{accept}\r\n"));
        let head = client.http().head();
        assert!(head.starts_with("http/1.1 502"), "{headers:?}: {head}");
    }
    let mut client = Socket::ask(gripd.clients, "/", "");
    origin.next().answer(&format!("HTTP/1.1 101 W\r\nUpgrade: WebSocket\r\nConnection: x, upgrade\r\n{accept}\r\n"));
    client.accepted();
}

#[test]
fn the_content_length_of_a_chunked_handshake_refusal_does_not_reach_the_client() {
    let origin = SocketOrigin::start();
    let gripd = origin.gripd("", "", |_| {});
    let mut client = Socket::ask(gripd.clients, "/", "");
    let chunks = "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n";
    origin.next().answer(&format!("HTTP/1.1 403 No\r\n{chunks}"));
    let head = client.http().head();
    assert!(head.starts_with("http/1.1 403") && !head.contains("content-length"), "{head}");
    assert_eq!(client.http().chunks(), "no");
}
