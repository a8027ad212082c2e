//! Plain proxying.

use crate::support::paused::{ok, paused};
use crate::support::{Answer, Client, Gripd, Nobody, Origin, chunk, eventually, get};
use gripd::config::Config;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;
use tokio::time::sleep;

#[test]
fn requests_and_answers_pass_through() {
    let origin = Origin::start(|_| {
        let head = "HTTP/1.1 201 Very Created\r\nX-A: 1\r\nX-A: 2\r\nSet-Cookie: a=b\r\nKeep-Alive: 5\r\n\
                    Content-Encoding: gzip\r\nConnection: X-Hop\r\nX-Hop: 1\r\nContent-Length: 4\r\n\r\nbody";
        Answer::Bytes(head.into())
    });
    let gripd = Gripd::start(&origin);
    let request = "GET /a/../%2e//b?x=%20&y HTTP/1.1\r\nHost: Ex.com:80\r\nX-B: 1\r\nX-B: 2\r\nGrip-Sig: forged\r\n\
                   Connection: X-Mine\r\nX-Mine: 1\r\nTE: trailers\r\nAccept-Encoding: gzip\r\nCookie: c=d\r\n\r\n";
    let (head, body) = Client::send(gripd.clients, request).answer();
    assert!(head.starts_with("http/1.1 201 very created\r\n"), "{head}");
    for expected in ["x-a: 1\r\nx-a: 2", "set-cookie: a=b", "content-encoding: gzip"] {
        assert!(head.contains(expected), "{expected} is missing: {head}");
    }
    assert!(!head.contains("x-hop") && !head.contains("keep-alive"), "{head}");
    assert_eq!(body, "body");
    let asked = origin.asked_once();
    assert_eq!(asked.line, "GET /a/../%2e//b?x=%20&y HTTP/1.1");
    assert_eq!((asked.header("host"), asked.header("cookie")), (Some("Ex.com"), Some("c=d")));
    assert!(asked.headers.contains("x-b: 1\nx-b: 2\n"), "{}", asked.headers);
    for dropped in ["x-mine", "te", "accept-encoding", "connection"] {
        assert_eq!(asked.header(dropped), None, "{dropped}");
    }
    let features = "status, link:next, link:gone, filter:skip-self, filter:skip-users, filter:require-sub, \
                    filter:build-id, filter:var-subst, filter:http-check, filter:http-modify";
    assert_eq!(asked.header("grip-feature"), Some(features));
    let signature = asked.header("grip-sig").unwrap();
    assert_eq!(signature.split('.').count(), 3, "{signature}");
}

#[test]
fn bodies_stream_both_ways() {
    let (to_origin, from_test) = mpsc::channel::<()>();
    let from_test = Mutex::new(Some(from_test));
    let origin = Origin::start(move |_| {
        let from_test = from_test.lock().unwrap().take().unwrap();
        Answer::Write(Box::new(move |stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n").unwrap();
            from_test.recv().unwrap();
            stream.write_all(b"3\r\ntwo\r\n0\r\n\r\n").unwrap();
        }))
    });
    let gripd = Gripd::start(&origin);
    let mut client =
        Client::send(gripd.clients, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n");
    client.write("2\r\ncd\r\n0\r\n\r\n");
    client.read_until("3\r\none\r\n");
    to_origin.send(()).unwrap();
    client.read_until("3\r\ntwo\r\n0\r\n\r\n");
    assert_eq!(origin.asked_once().body, "abcd");
}

#[test]
fn trailers_pass_through() {
    let origin = Origin::start(|_| {
        let body =
            "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 7\r\n\r\n";
        Answer::Bytes(body.into())
    });
    let gripd = Gripd::start(&origin);
    let request = "POST / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nTrailer: X-Sent\r\nTransfer-Encoding: chunked\r\n\r\n\
                   1\r\nb\r\n0\r\nX-Sent: 8\r\n\r\n";
    let mut client = Client::send(gripd.clients, request);
    let rest =
        client.read_until("\r\n0\r\n").to_ascii_lowercase() + &client.read_until("\r\n\r\n").to_ascii_lowercase();
    assert!(rest.contains("x-sum: 7"), "{rest}");
    assert_eq!(origin.asked_once().body, "bx-sent: 8");
}

#[test]
fn answers_without_a_body_keep_the_connection() {
    let origin = Origin::start(|asked| match asked.line.split(' ').nth(1).unwrap() {
        "/head" => Answer::Bytes("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".into()),
        "/204" => Answer::Bytes("HTTP/1.1 204 No Content\r\n\r\n".into()),
        "/304" => Answer::Bytes("HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\nETag: \"x\"\r\n\r\n".into()),
        _ => Answer::ok("last"),
    });
    let gripd = Gripd::start(&origin);
    let mut client = Client::send(gripd.clients, "HEAD /head HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(client.head().contains("content-length: 1000"));
    client.write(get("/204"));
    assert!(client.head().starts_with("http/1.1 204"));
    client.write(get("/304"));
    let head = client.head();
    assert!(head.starts_with("http/1.1 304") && head.contains("etag: \"x\""), "{head}");
    client.write(get("/"));
    assert_eq!(client.answer().1, "last");
    assert!(origin.asked().iter().all(|asked| asked.connection == 0), "{:?}", origin.asked());
}

#[test]
fn informational_answers_are_not_taken_for_the_final_one() {
    let origin = Origin::start(|_| {
        let early = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
        Answer::Bytes(format!("{early}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast"))
    });
    let gripd = Gripd::start(&origin);
    let (head, body) = gripd.get("/").answer();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!((body.as_str(), gripd.metric("origin_informational_dropped_total")), ("last", 1));
}

#[test]
fn gripd_answers_expect_100_continue_itself() {
    let origin = Origin::start(|_| Answer::ok("thanks"));
    let gripd = Gripd::start(&origin);
    let request = "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    let mut client = Client::send(gripd.clients, request);
    assert!(client.head().starts_with("http/1.1 100"));
    client.write("body");
    assert_eq!(client.answer().1, "thanks");
    let asked = origin.asked_once();
    assert_eq!((asked.body.as_str(), asked.header("expect")), ("body", None));
}

#[test]
fn http_1_0_clients_get_no_chunked_body() {
    let origin = Origin::start(|_| {
        Answer::Bytes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n".into())
    });
    let gripd = Gripd::start(&origin);
    let mut client = Client::send(gripd.clients, "GET / HTTP/1.0\r\n\r\n");
    let head = client.head();
    assert!(head.starts_with("http/1.0 200") && !head.contains("chunked"), "{head}");
    assert_eq!(client.rest(), "one");
    assert_eq!(origin.asked_once().header("host"), Some("localhost"));
}

#[test]
fn a_chunked_body_overrides_a_length_and_ends_the_connection() {
    let origin = Origin::start(|_| Answer::ok("ok"));
    let gripd = Gripd::start(&origin);
    for headers in
        ["Content-Length: 3\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 30"]
    {
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
        let request =
            format!("POST /real HTTP/1.1\r\nHost: h\r\n{headers}\r\n\r\n{}0\r\n\r\n{smuggled}", chunk("body"));
        let mut client = Client::send(gripd.clients, request);
        let (head, body) = client.answer();
        assert!(head.contains("connection: close"), "{head}");
        assert_eq!((body.as_str(), client.rest_and_end().0.as_slice()), ("ok", &b""[..]));
    }
    for asked in origin.asked() {
        assert_eq!((asked.line.as_str(), asked.body.as_str()), ("POST /real HTTP/1.1", "body"));
        assert_eq!(asked.header("content-length"), None);
    }
}

#[test]
fn absolute_and_asterisk_targets_are_forwarded() {
    let origin = Origin::start(|_| Answer::ok("ok"));
    let gripd = Gripd::start(&origin);
    let absolute = "GET http://abs.example:8080/x?y HTTP/1.1\r\nHost: other\r\n\r\n";
    assert_eq!(Client::send(gripd.clients, absolute).answer().1, "ok");
    assert_eq!(Client::send(gripd.clients, "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").answer().1, "ok");
    let asked = origin.asked();
    assert_eq!((asked[0].line.as_str(), asked[0].header("host")), ("GET /x?y HTTP/1.1", Some("abs.example:8080")));
    assert_eq!(asked[1].line, "OPTIONS * HTTP/1.1");
}

#[test]
fn origin_failures_are_502_and_504() {
    let nobody = Nobody::new();
    let gripd = Gripd::to(&[format!("* {nobody}")], |_| {});
    let (head, body) = gripd.get("/").answer();
    assert!(head.starts_with("http/1.1 502"), "{head}");
    assert_eq!(body, "Error while proxying to origin.\n");

    for answer in ["", "HTTP/1.1 2000 What\r\n\r\n", "SMTP ready\r\n"] {
        let origin = Origin::start(move |_| Answer::Last(answer.into()));
        let (head, _) = Gripd::start(&origin).get("/").answer();
        assert!(head.starts_with("http/1.1 502"), "{answer:?}: {head}");
    }

    let hanging =
        Origin::start(|_| Answer::Write(Box::new(|stream| drop(std::io::copy(stream, &mut std::io::sink())))));
    let gripd = Gripd::with(&hanging, "", |config| config.origin.response_timeout = Duration::from_millis(300));
    let (head, body) = gripd.get("/").answer();
    assert!(head.starts_with("http/1.1 504"), "{head}");
    assert_eq!(body, "The origin did not answer in time.\n");
}

#[test]
fn an_incomplete_answer_is_incomplete_for_the_client_too() {
    let origin = Origin::start(|_| Answer::Last("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".into()));
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/");
    assert!(client.head().contains("content-length: 100"));
    assert_eq!(client.rest_and_end().0, b"half");
}

/// Starts an origin that answers its second request with the end of the connection, as if the connection had been
/// closed while it was idle.
fn dying_on_reuse() -> Origin {
    let requests = AtomicUsize::new(0);
    Origin::start(move |_| match requests.fetch_add(1, Ordering::SeqCst) {
        1 => Answer::Last(String::new()),
        _ => Answer::ok("ok"),
    })
}

#[test]
fn a_request_lost_on_an_idle_connection_is_sent_again_if_it_is_idempotent() {
    for (request, retried) in [
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", true),
        ("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody", true),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody", false),
    ] {
        let origin = dying_on_reuse();
        // With one shard, the second request uses the connection of the first.
        let gripd = Gripd::with(&origin, "", |config| config.shards = 1);
        let mut client = gripd.get("/");
        assert_eq!(client.answer().1, "ok");
        client.write(request);
        let (head, _) = client.answer();
        assert_eq!(head.starts_with("http/1.1 200"), retried, "{request}: {head}");
        let asked = origin.asked();
        assert_eq!(asked.len(), if retried { 3 } else { 2 });
        assert!(asked[1..].iter().all(|a| a.body == asked[1].body), "{asked:?}");
    }
}

/// Starts an origin that responds as soon as it has read the head of a request, and does not wait for the body.
fn early_answers(answer: &'static str) -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let accepting = listener.try_clone().unwrap();
    std::thread::spawn(move || {
        for stream in accepting.incoming() {
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut head = Vec::new();
                let mut byte = [0];
                while stream.read(&mut byte).is_ok_and(|count| count > 0) {
                    head.push(byte[0]);
                    if head.ends_with(b"\r\n\r\n") && stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    listener
}

#[test]
fn an_unfinished_upload_does_not_hold_up_other_requests() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nGrip-Hold: response\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nGrip-Status: 200\r\nContent-Length: 2\r\n\r\nok",
    ] {
        let origin = early_answers(answer);
        let route = format!("* {}", origin.local_addr().unwrap());
        let gripd = Gripd::to(&[route], |config| {
            config.shards = 1;
            config.front.body_buffer = 0;
        });
        let stalled = "POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nabc";
        let mut first = Client::send(gripd.clients, stalled);
        if !answer.contains("Grip-Hold") {
            assert_eq!(first.answer().1, "ok");
        }
        for _ in 0..3 {
            let mut next = gripd.get("/x");
            if answer.contains("Grip-Hold") {
                let held = gripd.metric("holds_total");
                eventually("the next request is held", || gripd.metric("holds_total") >= held.max(1));
            } else {
                assert_eq!(next.answer().1, "ok");
            }
        }
    }
}

#[test]
fn the_connection_is_not_kept_if_an_origin_answers_before_the_body_is_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let route = format!("* {}", listener.local_addr().unwrap());
    let gripd = Gripd::to(&[route], |config| config.front.body_buffer = 0);
    let mut client = Client::send(gripd.clients, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 50000\r\n\r\nabc");
    let (mut origin, _) = listener.accept().unwrap();
    origin.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let hold = "HTTP/1.1 200 OK\r\nGrip-Hold: response\r\nContent-Length: 2\r\n\r\nok";
    origin.write_all(hold.as_bytes()).unwrap();
    client.write("x".repeat(20_000));
    drop(client);
    // After the bytes that gripd has sent comes the end, because gripd does not keep the connection.
    let end = std::io::copy(&mut origin, &mut std::io::sink()).map_err(|e| e.kind());
    assert!(matches!(end, Ok(_) | Err(ErrorKind::ConnectionReset)), "{end:?}");
}

#[test]
fn a_connection_is_used_again_after_chunks_too() {
    let origin = Origin::start(|_| {
        Answer::Bytes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n".into())
    });
    let gripd = Gripd::with(&origin, "", |config| config.shards = 1);
    let mut client = gripd.get("/");
    for _ in 0..5 {
        client.read_until("0\r\n\r\n");
        client.write(get("/"));
    }
    client.read_until("0\r\n\r\n");
    assert!(origin.asked().iter().all(|asked| asked.connection == 0), "{:?}", origin.asked());
}

#[test]
fn a_long_upload_is_not_a_slow_origin() {
    let timeout = |config: &mut Config| config.origin.response_timeout = Duration::from_millis(300);
    paused("* origin:80", timeout, async |gripd| {
        gripd.origin_answers(|_| ok("", "thanks"));
        let mut client = gripd.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\n").await;
        for _ in 0..8 {
            sleep(Duration::from_millis(100)).await;
            client.write("x").await;
        }
        assert_eq!(client.answer().await.1, "thanks");
    });
}

#[test]
fn answers_that_cannot_be_forwarded_are_502() {
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: smoke\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    ] {
        let origin = Origin::start(move |_| Answer::Last(answer.into()));
        let (head, _) = Gripd::start(&origin).get("/").answer();
        assert!(head.starts_with("http/1.1 502"), "{answer}: {head}");
    }
}

#[test]
fn requests_that_could_be_read_in_two_ways_are_refused() {
    let origin = Origin::start(|_| Answer::ok("ok"));
    let gripd = Gripd::start(&origin);
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET http://user:pw@a/x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 501),
    ] {
        let (head, _) = Client::send(gripd.clients, request).answer();
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{request}: {head}");
    }
    assert!(origin.asked().is_empty());
}

#[test]
fn requests_without_a_route_and_connect_requests_are_refused() {
    let origin = Origin::start(|_| Answer::ok("ok"));
    let gripd = Gripd::to(&[format!("known.example,path_beg=/api {}", origin.address)], |_| {});
    for (request, status, text) in [
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", 502, "Route not found\n"),
        ("GET / HTTP/1.1\r\nHost: known.example\r\n\r\n", 502, "Route not found\n"),
        ("CONNECT known.example:443 HTTP/1.1\r\nHost: known.example\r\n\r\n", 501, "CONNECT is not supported.\n"),
    ] {
        let (head, body) = Client::send(gripd.clients, request).answer();
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{request}: {head}");
        assert_eq!(body, text);
    }
    assert_eq!(Client::send(gripd.clients, "GET /api/x HTTP/1.1\r\nHost: KNOWN.example:81\r\n\r\n").answer().1, "ok");
    assert_eq!(origin.asked_once().line, "GET /api/x HTTP/1.1");
}

#[test]
fn the_connection_to_the_origin_ends_when_the_client_leaves() {
    let (left, leaves) = mpsc::channel();
    let left = Mutex::new(left);
    let origin = Origin::start(move |_| {
        let left = left.lock().unwrap().clone();
        Answer::Write(Box::new(move |stream| left.send(std::io::copy(stream, &mut std::io::sink()).is_ok()).unwrap()))
    });
    let gripd = Gripd::start(&origin);
    let client = gripd.get("/");
    eventually("the origin is asked", || !origin.asked().is_empty());
    drop(client);
    leaves.recv_timeout(Duration::from_secs(20)).expect("the origin's connection did not end");
}

#[test]
fn many_connections_at_once_are_all_served() {
    let origin = Origin::start(|_| Answer::ok("ok"));
    let gripd = Gripd::start(&origin);
    let mut clients: Vec<Client> = (0..300).map(|_| gripd.get("/")).collect();
    assert!(clients.iter_mut().all(|client| client.answer().1 == "ok"));
}
