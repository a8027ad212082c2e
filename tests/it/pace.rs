//! Clients that send or read slowly, and the clients beside them.

use crate::support::paused::{ok, paused};
use crate::support::{Answer, Client, DEADLINE, Gripd, Nobody, Origin, eventually, get};
use gripd::config::Config;
use gripd::net::Limits;
use gripd::wire::{Network, Proxies, ProxyHeader};
use std::time::Duration;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};

/// A pace that a test can wait for.
const HASTY: Limits = Limits { grace: Duration::from_millis(400), rate: 1000, total: None };

/// An answer that fits into no buffer.
const LARGE: usize = 8_000_000;

/// An origin with `/large`, streams whose beginning is as large, and plain answers.
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

/// A gripd with so many connections to its origin.
fn narrow(origin: &Origin, connections: usize) -> Gripd {
    Gripd::with(origin, "", |config| {
        config.shards = 1;
        config.origin.connections = connections;
    })
}

/// The head of an upload, and the beginning of its body.
fn upload(length: usize, sent: usize) -> String {
    format!("POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(sent))
}

#[test]
fn an_origin_is_not_asked_before_a_small_body_is_there() {
    let origin = origin();
    let gripd = Gripd::start(&origin);
    let mut client = Client::send(gripd.clients, upload(8, 3));
    // Whoever comes later is served before it.
    assert_eq!(gripd.get("/").answer().1, "ok");
    assert_eq!((origin.asked().len(), gripd.metric("origin_requests_total")), (1, 1));
    client.write("12345");
    assert_eq!(client.answer().1, "ok");
    assert_eq!(origin.asked().pop().unwrap().body, "xxx12345");
}

#[test]
fn a_large_body_is_passed_on_once_its_beginning_is_there() {
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
fn chunks_and_trailers_are_read_ahead_as_well() {
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
fn what_is_read_ahead_for_all_is_bounded() {
    let origin = origin();
    let gripd = Gripd::with(&origin, "", |config| {
        config.shards = 1;
        config.front.body_buffers = 10;
    });
    // The room is taken by the first; the second is passed on as it comes.
    let _first = Client::send(gripd.clients, upload(100, 10));
    let mut second = Client::send(gripd.clients, upload(100, 50));
    eventually("an origin is asked", || gripd.metric("origin_requests_total") >= 1);
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
fn a_drip_is_too_slow() {
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
fn a_bad_line_is_good_enough() {
    let pace = |config: &mut Config| {
        config.front.body_pace = Limits { grace: Duration::from_millis(400), rate: 100, total: None };
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
            eventually("it is held", || gripd.connections("b") == 1);
            gripd.publish(&serde_json::json!([{ "channel": "b", "action": "hint" }]));
        }
        let asked = if path == "/linked" { 2 } else { 1 };
        eventually("the origin is asked", || gripd.metric("origin_requests_total") >= asked);
        // It keeps the only connection to the origin until it is cut.
        assert_eq!(gripd.get("/").answer().1, "ok", "{path}");
        let (came, end) = slow.rest_and_end();
        assert!(end.is_err() && came.len() < LARGE, "{path}: {} bytes, {end:?}", came.len());
        match path {
            "/large" => assert_eq!(gripd.metric("slow_readers_total"), 1),
            "/stream" => assert_eq!(gripd.metric("slow_total"), 1),
            // What a link answers may give way before that.
            _ => {}
        }
    }
}

#[test]
fn a_client_that_reads_slowly_gets_all_of_it() {
    let pace = |config: &mut Config| {
        config.front.answer_pace = Limits { grace: Duration::from_secs(1), rate: 1000, total: None };
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
fn slow_bodies_give_way_to_requests_that_wait() {
    let origin = origin();
    let gripd = narrow(&origin, 2);
    let mut slow = [0; 2].map(|_| Client::send(gripd.clients, upload(1_000_000, 70_000)));
    eventually("both are passed on", || gripd.metric("origin_requests_total") == 2);
    let begin = Instant::now();
    assert_eq!(gripd.get("/").answer().1, "ok");
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    // One was enough, and the other goes on.
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
fn slow_readers_give_way_to_requests_that_wait() {
    for path in ["/large", "/stream"] {
        let origin = origin();
        let gripd = narrow(&origin, 2);
        let _slow = [0; 2].map(|_| Client::with_small_buffer(gripd.clients, get(path)));
        eventually("both are asked for", || gripd.metric("origin_requests_total") == 2);
        for _ in 0..3 {
            assert_eq!(gripd.get("/").answer().1, "ok", "{path}");
        }
    }
}

#[test]
fn requests_that_wait_are_served_in_turn_by_their_address() {
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
            Some(Proxies::new(vec![Network::parse("127.0.0.1").unwrap()], ProxyHeader::Either));
    });
    let ask = |path: &str, client: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: {client}\r\n\r\n");
        let before = gripd.metric("requests_total");
        let client = Client::send(gripd.clients, request);
        eventually("it has come", || gripd.metric("requests_total") > before);
        client
    };
    let mut waiting = vec![ask("/first", "9.9.9.1")];
    eventually("the connection is taken", || gripd.metric("origin_requests_total") == 1);
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

/// Nothing of a request that gave way is left for the next one on the origin's connection.
#[test]
fn what_gave_way_is_not_used_again() {
    let origin = origin();
    let gripd = narrow(&origin, 1);
    for _ in 0..3 {
        let _slow = Client::send(gripd.clients, upload(1_000_000, 70_000));
        assert_eq!(gripd.get("/").answer().1, "ok");
    }
    assert!(origin.asked().iter().all(|asked| asked.line == "GET / HTTP/1.1"), "{:?}", origin.asked());
}

#[test]
fn a_drip_gives_way_like_silence() {
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
                .eventually("both are passed on", async |gripd| gripd.metric("origin_requests_total").await == 2)
                .await;
            assert_eq!(gripd.send(get("/")).await.answer().await.1, "ok");
            assert!(gripd.metric("origin_gave_way_total").await >= 1);
        },
    );
}

#[test]
fn a_fast_upload_does_not_give_way() {
    paused(
        "* origin:80",
        |config| config.origin.connections = 2,
        async |gripd| {
            gripd.origin_answers(|_| ok("", "ok"));
            let _drip = gripd.send(upload(1_000_000, 70_000)).await;
            let mut fast = gripd.send(upload(100_000_000, 70_000)).await;
            let fast = spawn_local(async move {
                // 500 kB a second, of which gripd waits for most.
                while fast.try_write("x".repeat(10_000)).await {
                    sleep(Duration::from_millis(20)).await;
                }
            });
            gripd
                .eventually("both are passed on", async |gripd| gripd.metric("origin_requests_total").await == 2)
                .await;
            assert_eq!(gripd.send(get("/")).await.answer().await.1, "ok");
            sleep(Duration::from_millis(500)).await;
            assert!(!fast.is_finished(), "the fast one had to give way");
        },
    );
}

#[test]
fn an_upload_that_nobody_has_seen_goes_to_the_next_target() {
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
fn a_body_may_rest_while_its_answer_runs() {
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
