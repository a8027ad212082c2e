//! Clients that send or read slowly, and other clients of the same origin.

use crate::support::paused::{ok, paused};
use crate::support::{Answer, Client, DEADLINE, Gripd, Nobody, Origin, eventually, get};
use gripd::config::Config;
use gripd::net::PaceLimits;
use gripd::wire::{Network, ProxyHeader, TrustedProxies};
use std::time::Duration;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};

/// Limits that are so short that a test can wait for them.
const HASTY: PaceLimits = PaceLimits { grace: Duration::from_millis(400), rate: 1000, total: None };

/// The length in bytes of a response that fits into no buffer.
const LARGE: usize = 8_000_000;

/// Starts an origin with a large response (`/large`), a stream whose beginning is as large (`/stream`), a stream whose
/// next link leads to the large response (`/linked`), and small responses for all other targets.
fn origin() -> Origin {
    Origin::start(|asked| match asked.target() {
        "/large" => Answer::Bytes(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n{}", "x".repeat(LARGE))),
        "/stream" => Answer::with("Grip-Hold: stream\r\nGrip-Channel: a\r\n", &"x".repeat(LARGE)),
        "/linked" => Answer::with("Grip-Link: </large>; rel=next\r\nGrip-Hold: stream\r\nGrip-Channel: b\r\n", "hello"),
        _ => Answer::ok("ok"),
    })
}

fn hasty(config: &mut Config) {
    config.front.body_pace = HASTY;
    config.front.answer_pace = HASTY;
    config.hold.answer_pace = HASTY;
}

/// Starts a gripd with one shard and at most this many connections to its origin.
fn narrow(origin: &Origin, connections: usize) -> Gripd {
    Gripd::with(origin, "", |config| {
        config.shards = 1;
        config.origin.connections = connections;
    })
}

/// Returns the head of an upload of `length` bytes, and the first `sent` bytes of its body.
fn upload(length: usize, sent: usize) -> String {
    format!("POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(sent))
}

#[test]
fn an_origin_is_not_asked_before_a_small_body_is_complete() {
    let origin = origin();
    let gripd = Gripd::start(&origin);
    let mut client = Client::send(gripd.clients, upload(8, 3));
    // A request that comes later is served first.
    assert_eq!(gripd.get("/").answer().1, "ok");
    assert_eq!((origin.asked().len(), gripd.metric("origin_requests_total")), (1, 1));
    client.write("12345");
    assert_eq!(client.answer().1, "ok");
    assert_eq!(origin.asked().pop().unwrap().body, "xxx12345");
}

#[test]
fn a_large_body_is_forwarded_once_its_beginning_has_arrived() {
    let origin = origin();
    let gripd = Gripd::start(&origin);
    let mut client = Client::send(gripd.clients, upload(300_000, 70_000));
    eventually("the origin is asked", || gripd.metric("origin_requests_total") == 1);
    client.write("y".repeat(230_000));
    assert_eq!(client.answer().1, "ok");
    let body = origin.asked().pop().unwrap().body;
    assert_eq!((body.len(), body.matches('y').count()), (300_000, 230_000));
}

#[test]
fn a_chunked_body_with_trailers_is_read_ahead_as_well() {
    let origin = origin();
    let gripd = Gripd::start(&origin);
    let head = "POST / HTTP/1.1\r\nHost: h\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = Client::send(gripd.clients, format!("{head}2\r\nab\r\n"));
    client.write("2\r\ncd\r\n");
    assert_eq!(gripd.get("/").answer().1, "ok");
    assert_eq!(origin.asked().len(), 1);
    client.write("0\r\nX-Sum: 7\r\n\r\n");
    assert_eq!(client.answer().1, "ok");
    assert_eq!(origin.asked().pop().unwrap().body, "abcdx-sum: 7");
}

#[test]
fn the_bytes_that_are_read_ahead_of_all_bodies_are_bounded() {
    let origin = origin();
    let gripd = Gripd::with(&origin, "", |config| {
        config.shards = 1;
        config.front.body_buffers = 10;
    });
    // The first body uses up the buffers of all bodies. The second body is forwarded as it arrives.
    let _first = Client::send(gripd.clients, upload(100, 10));
    let mut second = Client::send(gripd.clients, upload(100, 50));
    eventually("the origin gets a request", || gripd.metric("origin_requests_total") >= 1);
    second.write("x".repeat(50));
    assert_eq!(second.answer().1, "ok");
}

#[test]
fn a_body_that_comes_too_slowly_is_refused() {
    let origin = origin();
    for (sent, more) in [(3, ""), (3, "1\r\na\r\n"), (70_000, "")] {
        let gripd = Gripd::with(&origin, "", hasty);
        let request = match more {
            "" => upload(1_000_000, sent),
            chunk => format!("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"),
        };
        let mut client = Client::send(gripd.clients, request);
        let (head, body) = client.answer();
        assert!(head.starts_with("http/1.1 408") && head.contains("connection: close"), "{sent}{more}: {head}");
        assert_eq!(body, "The request body came too slowly.\n");
        assert_eq!(gripd.metric("slow_bodies_total"), 1);
    }
}

#[test]
fn an_upload_of_single_bytes_is_too_slow() {
    paused("* origin:80", hasty, async |gripd| {
        gripd.origin_answers(|_| ok("", "ok"));
        let mut client = gripd.send(upload(1000, 1)).await;
        let begin = Instant::now();
        while client.try_write("x").await && begin.elapsed() < DEADLINE {
            sleep(Duration::from_millis(50)).await;
        }
        assert!(begin.elapsed() < DEADLINE);
        assert_eq!(gripd.metric("slow_bodies_total").await, 1);
        assert_eq!(gripd.asked(), 0);
    });
}

#[test]
fn an_upload_on_a_bad_line_is_not_too_slow() {
    let pace = |config: &mut Config| {
        config.front.body_pace = PaceLimits { grace: Duration::from_millis(400), rate: 100, total: None };
    };
    paused("* origin:80", pace, async |gripd| {
        gripd.origin_answers(|_| ok("", "ok"));
        let mut client = gripd.send(upload(400, 0)).await;
        for _ in 0..10 {
            sleep(Duration::from_millis(100)).await;
            client.write("x".repeat(40)).await;
        }
        assert_eq!(client.answer().await.1, "ok");
    });
}

#[test]
fn a_client_that_does_not_read_its_answer_is_cut() {
    for path in ["/large", "/stream", "/linked"] {
        let origin = origin();
        let gripd = Gripd::with(&origin, "", |config| {
            hasty(config);
            config.shards = 1;
            config.origin.connections = 1;
        });
        let mut slow = Client::with_small_buffer(gripd.clients, get(path));
        if path == "/linked" {
            eventually("the stream is held", || gripd.connections("b") == 1);
            gripd.publish(&serde_json::json!([{ "channel": "b", "action": "hint" }]));
        }
        let asked = if path == "/linked" { 2 } else { 1 };
        eventually("the origin is asked", || gripd.metric("origin_requests_total") >= asked);
        // The slow client occupies the only connection to the origin until it is cut.
        assert_eq!(gripd.get("/").answer().1, "ok", "{path}");
        let (came, end) = slow.rest_and_end();
        assert!(end.is_err() && came.len() < LARGE, "{path}: {} bytes, {end:?}", came.len());
        match path {
            "/large" => assert_eq!(gripd.metric("slow_readers_total"), 1),
            "/stream" => assert_eq!(gripd.metric("slow_total"), 1),
            // The request for the link may be ended earlier than that, because another request waits.
            _ => {}
        }
    }
}

#[test]
fn a_client_that_reads_slowly_gets_the_whole_answer() {
    let pace = |config: &mut Config| {
        config.front.answer_pace = PaceLimits { grace: Duration::from_secs(1), rate: 1000, total: None };
    };
    paused("* origin:80", pace, async |gripd| {
        gripd.origin_answers(|heard| if heard.target == "/large" { ok("", vec![b'x'; LARGE]) } else { ok("", "ok") });
        let mut client = gripd.send(get("/large")).await;
        client.read_until("\r\n\r\n").await;
        for _ in 0..10 {
            client.read_exact(LARGE / 10).await;
            sleep(Duration::from_millis(150)).await;
        }
        client.write(get("/")).await;
        assert_eq!(client.answer().await.1, "ok");
    });
}

#[test]
fn a_slow_upload_is_ended_if_a_request_waits_for_a_connection() {
    let origin = origin();
    let gripd = narrow(&origin, 2);
    let mut slow = [0; 2].map(|_| Client::send(gripd.clients, upload(1_000_000, 70_000)));
    eventually("both are forwarded", || gripd.metric("origin_requests_total") == 2);
    let begin = Instant::now();
    assert_eq!(gripd.get("/").answer().1, "ok");
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    // Only one of the uploads had to be ended, and the other goes on.
    let ended: Vec<bool> = slow.iter_mut().map(|client| client.is_answered()).collect();
    assert_eq!(ended.iter().filter(|ended| **ended).count(), 1, "{ended:?}");
    for (client, ended) in slow.iter_mut().zip(ended) {
        if ended {
            let (head, body) = client.answer();
            assert!(head.starts_with("http/1.1 503"), "{head}");
            assert_eq!(body, "The origin is busy, and the request was too slow.\n");
        } else {
            client.write("x".repeat(930_000));
            assert_eq!(client.answer().1, "ok");
        }
    }
}

#[test]
fn a_slow_reader_is_cut_if_a_request_waits_for_a_connection() {
    for path in ["/large", "/stream"] {
        let origin = origin();
        let gripd = narrow(&origin, 2);
        let _slow = [0; 2].map(|_| Client::with_small_buffer(gripd.clients, get(path)));
        eventually("both requests are forwarded", || gripd.metric("origin_requests_total") == 2);
        for _ in 0..3 {
            assert_eq!(gripd.get("/").answer().1, "ok", "{path}");
        }
    }
}

#[test]
fn clients_of_different_addresses_get_connections_in_turn() {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let origin = Origin::start(move |asked| {
        if asked.target() == "/first" {
            held.lock().unwrap().recv().unwrap();
        }
        Answer::ok("ok")
    });
    let gripd = Gripd::with(&origin, "", |config| {
        config.shards = 1;
        config.origin.connections = 1;
        config.origin.forwarding.proxies =
            Some(TrustedProxies::new(vec![Network::parse("127.0.0.1").unwrap()], ProxyHeader::Either));
    });
    let ask = |path: &str, client: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: {client}\r\n\r\n");
        let before = gripd.metric("requests_total");
        let client = Client::send(gripd.clients, request);
        eventually("gripd has read the request", || gripd.metric("requests_total") > before);
        client
    };
    let mut waiting = vec![ask("/first", "9.9.9.1")];
    eventually("the first request uses the connection", || gripd.metric("origin_requests_total") == 1);
    for n in 0..3 {
        waiting.push(ask(&format!("/crowd{n}"), "9.9.9.1"));
    }
    waiting.push(ask("/other", "9.9.9.2"));
    release.send(()).unwrap();
    for mut client in waiting {
        assert_eq!(client.answer().1, "ok");
    }
    let order: Vec<String> = origin.asked().iter().map(|asked| asked.target().to_owned()).collect();
    assert_eq!(order, ["/first", "/crowd0", "/other", "/crowd1", "/crowd2"]);
}

/// Checks that the connection of an upload that was ended early serves no other request: the origin would take the
/// next request for a part of the body.
#[test]
fn the_connection_of_an_upload_that_was_ended_is_not_used_again() {
    let origin = origin();
    let gripd = narrow(&origin, 1);
    for _ in 0..3 {
        let _slow = Client::send(gripd.clients, upload(1_000_000, 70_000));
        assert_eq!(gripd.get("/").answer().1, "ok");
    }
    assert!(origin.asked().iter().all(|asked| asked.line == "GET / HTTP/1.1"), "{:?}", origin.asked());
}

#[test]
fn an_upload_of_single_bytes_is_ended_like_a_silent_one() {
    paused(
        "* origin:80",
        |config| config.origin.connections = 2,
        async |gripd| {
            gripd.origin_answers(|_| ok("", "ok"));
            for _ in 0..2 {
                let mut drip = gripd.send(upload(1_000_000, 70_000)).await;
                spawn_local(async move {
                    while drip.try_write("xx").await {
                        sleep(Duration::from_millis(20)).await;
                    }
                });
            }
            gripd
                .eventually("both are forwarded", async |gripd| gripd.metric("origin_requests_total").await == 2)
                .await;
            assert_eq!(gripd.send(get("/")).await.answer().await.1, "ok");
            assert!(gripd.metric("origin_gave_way_total").await >= 1);
        },
    );
}

#[test]
fn a_fast_upload_is_not_ended_if_a_request_waits() {
    paused(
        "* origin:80",
        |config| config.origin.connections = 2,
        async |gripd| {
            gripd.origin_answers(|_| ok("", "ok"));
            let _drip = gripd.send(upload(1_000_000, 70_000)).await;
            let mut fast = gripd.send(upload(100_000_000, 70_000)).await;
            let fast = spawn_local(async move {
                // gripd waits for this client most of the time, but 500 kB per second are fast enough.
                while fast.try_write("x".repeat(10_000)).await {
                    sleep(Duration::from_millis(20)).await;
                }
            });
            gripd
                .eventually("both are forwarded", async |gripd| gripd.metric("origin_requests_total").await == 2)
                .await;
            assert_eq!(gripd.send(get("/")).await.answer().await.1, "ok");
            sleep(Duration::from_millis(500)).await;
            assert!(!fast.is_finished(), "the fast upload was ended");
        },
    );
}

#[test]
fn an_upload_goes_to_the_next_target_if_the_first_cannot_be_reached() {
    let origin = origin();
    let nobody = Nobody::new();
    let gripd = Gripd::to(&[format!("* {nobody} {}", origin.address)], |_| {});
    for length in [1000, 70_000, 150_000, 300_000] {
        let mut client = Client::send(gripd.clients, upload(length, length));
        let (head, _) = client.answer();
        assert!(head.starts_with("http/1.1 200"), "{length}: {head}");
        assert_eq!(origin.asked().pop().unwrap().body.len(), length);
    }
}

#[test]
fn an_upload_may_pause_while_its_answer_is_being_sent() {
    let configure = |config: &mut Config| {
        hasty(config);
        config.front.body_buffer = 0;
    };
    paused("* origin:80", configure, async |gripd| {
        let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n";
        let mut client = gripd.send(head).await;
        let mut origin = gripd.at_origin().await;
        origin.read_until("1\r\na\r\n").await;
        origin.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n").await;
        client.read_until("one\r\n").await;
        sleep(3 * HASTY.grace).await;
        client.write("1\r\nb\r\n").await;
        origin.read_until("1\r\nb\r\n").await;
        origin.write("3\r\ntwo\r\n").await;
        client.read_until("two\r\n").await;
        assert_eq!(gripd.metric("slow_bodies_total").await, 0);
    });
}
