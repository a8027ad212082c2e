//! Requests that are not valid HTTP, and clients that do not finish their requests.

use crate::support::paused::{ok, paused};
use crate::support::{Answer, Client, Gripd, Origin, eventually, get};
use gripd::config::Config;
use std::time::Duration;
use tokio::time::sleep;

fn start(change: impl FnOnce(&mut Config)) -> (Gripd, Origin) {
    let origin = Origin::start(|asked| Answer::ok(asked.target()));
    (Gripd::with(&origin, "", change), origin)
}

#[test]
fn requests_that_are_not_valid_http_get_a_text_and_are_counted() {
    let (gripd, origin) = start(|_| {});
    let large = format!("GET / HTTP/1.1\r\nHost: h\r\nX-Large: {}\r\n\r\n", "x".repeat(70_000));
    let many = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "a: b\r\n".repeat(200));
    let long = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(65_535));
    let cases = [
        ("garbage\r\n\r\n", 400, "not valid HTTP/1.1"),
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n", 400, "not valid HTTP/1.1"),
        ("GET / HTTP/9.9\r\nHost: h\r\n\r\n", 400, "not valid HTTP/1.1"),
        (&large, 431, "larger than 65,536 bytes"),
        (&many, 431, "more than 128 headers"),
        (&long, 431, "larger than 65,536 bytes"),
    ];
    for (request, status, text) in cases {
        let mut client = Client::send(gripd.clients, request);
        let (head, body) = client.answer();
        let shown = &request[..request.len().min(30)];
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{shown}: {head}");
        assert!(head.contains("\r\nconnection: close\r\n") && body.contains(text), "{shown}: {head}{body}");
    }
    assert_eq!((gripd.metric("requests_malformed_total"), gripd.metric("requests_large_head_total")), (3, 3));
    assert!(origin.asked().is_empty());
    let (head, _) = Client::send(gripd.control, "garbage\r\n\r\n").answer();
    assert!(head.starts_with("http/1.1 400 "), "{head}");
    eventually("the request to the control port is counted as well", || gripd.metric("control_malformed_total") == 1);
}

#[test]
fn an_invalid_request_after_a_valid_one_is_refused() {
    let (gripd, _origin) = start(|_| {});
    let mut client = Client::send(gripd.clients, get("/first"));
    assert_eq!(client.answer().1, "/first");
    client.write("garbage\r\n\r\n");
    let (head, body) = client.answer();
    assert!(head.starts_with("http/1.1 400 ") && body.contains("not valid HTTP/1.1"), "{head}{body}");
    assert_eq!(client.rest(), "");
}

#[test]
fn an_answer_that_looks_like_a_refusal_of_hyper_is_not_changed() {
    let head = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    let origin = Origin::start(move |asked| match asked.target() {
        "/empty" => Answer::Bytes(head.into()),
        _ => Answer::ok(head),
    });
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/empty");
    let (answer, body) = client.answer();
    assert!(answer.starts_with("http/1.1 400 ") && body.is_empty(), "{answer}{body}");
    client.write(get("/body"));
    assert_eq!(client.answer().1, head);
    assert_eq!(gripd.metric("requests_malformed_total"), 0);
}

#[test]
fn a_head_that_takes_too_long_ends_its_connection_and_an_idle_one_stays() {
    let (gripd, _origin) = start(|config| {
        config.front.header_timeout = Duration::from_millis(300);
        config.front.idle_timeout = Duration::from_secs(600);
    });
    let mut idle = gripd.get("/");
    assert_eq!(idle.answer().1, "/");
    let mut slow = gripd.get("/");
    assert_eq!(slow.answer().1, "/");
    for mut slow in [Client::send(gripd.clients, "GET / HT"), {
        slow.write("GET / HT");
        slow
    }] {
        assert_eq!(slow.rest(), "");
    }
    assert_eq!(gripd.metric("slow_heads_total"), 2);
    idle.write(get("/again"));
    assert_eq!(idle.answer().1, "/again");
}

#[test]
fn an_idle_connection_is_closed_after_the_idle_timeout() {
    let (gripd, _origin) = start(|config| config.front.idle_timeout = Duration::from_millis(300));
    let mut client = gripd.get("/");
    assert_eq!(client.answer().1, "/");
    assert_eq!(client.rest(), "");
    eventually("the idle connection is closed", || gripd.metric("connections") == 0);
    assert_eq!(gripd.metric("slow_heads_total"), 0);
}

#[test]
fn an_answer_that_is_still_being_sent_is_not_cut_as_idle() {
    const LENGTH: usize = 3_000_000;
    let idle = |config: &mut Config| config.front.idle_timeout = Duration::from_millis(200);
    paused("* origin:80", idle, async |gripd| {
        gripd.origin_answers(|_| ok("", vec![b'x'; LENGTH]));
        let mut client = gripd.send(get("/")).await;
        client.read_until("\r\n\r\n").await;
        let mut read = 0;
        while read < LENGTH {
            // The client reads slowly, but steadily.
            sleep(Duration::from_millis(20)).await;
            read += client.read_exact((LENGTH - read).min(60_000)).await.len();
        }
        assert_eq!(client.rest().await, 0);
    });
}

#[test]
fn an_invalid_request_after_one_of_http_1_0_gets_a_text_as_well() {
    let (gripd, _origin) = start(|_| {});
    let mut client = Client::send(gripd.clients, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(client.answer().1, "/");
    client.write("garbage\r\n\r\n");
    assert!(client.answer().1.contains("not valid HTTP/1.1"));
}
