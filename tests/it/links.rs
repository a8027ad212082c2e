//! Next links, which gripd requests to continue a stream.

use crate::support::get;
use crate::support::paused::{ok, paused};
use crate::support::{Answer, Client, Gripd, HOLD_STREAM, Origin, eventually, gate};
use gripd::config::Config;
use gripd::origin::AcceptProto;
use serde_json::json;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::time::sleep;

#[test]
fn a_link_without_a_hold_makes_one_answer_of_several() {
    let origin = Origin::start(|asked| match asked.target() {
        "/pages/1" => Answer::linked("", "<2?x=a,b;c>; rel=next", "one "),
        "/pages/2?x=a,b;c" => Answer::linked("Grip-Channel: \r\n", "</pages/3>; rel=next", "two "),
        _ => Answer::ok("three"),
    });
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/pages/1");
    assert!(client.head().starts_with("http/1.1 200"));
    assert_eq!((client.chunks().as_str(), client.rest().as_str()), ("one two three", ""));
}

#[test]
fn a_chain_that_stays_at_one_link_asks_it_each_time() {
    let count = AtomicUsize::new(0);
    let origin = Origin::start(move |asked| match asked.target() {
        "/" => Answer::linked("", "</next>; rel=next", "0 "),
        _ => match count.fetch_add(1, SeqCst) + 1 {
            5 => Answer::ok("5"),
            n => Answer::linked("", "</next>; rel=next", &format!("{n} ")),
        },
    });
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/");
    client.head();
    assert_eq!(client.chunks(), "0 1 2 3 4 5");
}

#[test]
fn routes_do_not_share_links() {
    let answer = |name: &'static str| {
        Origin::start(move |asked| match asked.target() {
            "/next" => Answer::linked(HOLD_STREAM, "</next>; rel=next; timeout=600", name),
            _ => Answer::linked(HOLD_STREAM, "</next>; rel=next; timeout=600", "hello "),
        })
    };
    let (plain, secure) = (answer("plain"), answer("secure"));
    let routes = [format!("*,ssl=no {}", plain.address), format!("*,ssl=yes {}", secure.address)];
    let gripd = Gripd::to(&routes, |config| config.origin.forwarding.accept_proto = AcceptProto::OfAll);
    let ask = |header: &str| Client::send(gripd.clients, format!("GET / HTTP/1.1\r\nHost: h\r\n{header}\r\n"));
    let (mut one, mut other) = (ask(""), ask("X-Forwarded-Proto: https\r\n"));
    for client in [&mut one, &mut other] {
        client.head();
        client.chunk();
    }
    gripd.publish(&json!([{ "channel": "a", "action": "hint" }]));
    assert_eq!([one.chunk(), other.chunk()], ["plain", "secure"]);
}

#[test]
fn relative_links_of_another_host_are_requested_there() {
    let other = Origin::start(|asked| match asked.target() {
        "/b1" => Answer::linked("", "</b2>; rel=next", "b1 "),
        _ => Answer::ok("b2"),
    });
    let there = format!("<http://{}/b1>; rel=next", other.address);
    let origin = Origin::start(move |_| Answer::linked("", &there, "a "));
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/");
    client.head();
    assert_eq!(client.chunks(), "a b1 b2");
    assert_eq!((origin.asked().len(), other.asked().len()), (1, 2));
}

#[test]
fn a_chain_ends_in_a_hold() {
    let origin = Origin::start(|asked| match asked.target() {
        "/" => Answer::linked("", "</more>; rel=next", "history "),
        _ => Answer::linked(HOLD_STREAM, "</more>; rel=next; timeout=600", "now "),
    });
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/");
    client.head();
    assert_eq!([client.chunk(), client.chunk()], ["history ", "now "]);
    assert_eq!(gripd.say("a", "item"), 1);
    assert_eq!(client.chunk(), "item");
}

#[test]
fn a_link_is_requested_after_its_timeout_and_its_response_replaces_the_hold() {
    let origin = Origin::start(|asked| match asked.target() {
        "/dir/" => Answer::linked(HOLD_STREAM, "<poll>; rel=next; timeout=1", "hello "),
        "/dir/poll" => {
            let hold = "Grip-Hold: stream\r\nGrip-Channel: b\r\nGrip-Keep-Alive: beat; timeout=1\r\n";
            Answer::linked(hold, "<other>; rel=next; timeout=600", "polled ")
        }
        other => panic!("no link names {other}"),
    });
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/dir/");
    client.head();
    assert_eq!([client.chunk(), client.chunk()], ["hello ", "polled "]);
    // The stream has the channels and the keep-alive of the last response.
    assert_eq!((gripd.connections("a"), gripd.connections("b")), (0, 1));
    assert_eq!((gripd.say("a", "x"), gripd.say("b", "y")), (0, 1));
    assert_eq!([client.chunk(), client.chunk()], ["y", "beat"]);
}

#[test]
fn a_hint_makes_gripd_request_the_link_at_once() {
    let origin = Origin::start(|asked| match asked.target() {
        "/" => Answer::linked(HOLD_STREAM, "</next>; rel=next; timeout=600", "hello "),
        _ => Answer::linked(HOLD_STREAM, "</next>; rel=next; timeout=600", "hinted "),
    });
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/");
    client.head();
    client.chunk();
    gripd.publish(&json!([{ "channel": "a", "formats": { "http-response": { "action": "hint" } } }]));
    gripd.publish(&json!([{ "channel": "a", "formats": { "http-stream": { "action": "hint" } } }]));
    assert_eq!(client.chunk(), "hinted ");
    assert_eq!(origin.asked_for("/next").len(), 1);
}

#[test]
fn a_link_that_fails_is_asked_again_and_then_given_up() {
    let failures = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&failures);
    let origin = Origin::start(move |asked| match asked.target() {
        "/" => Answer::linked("", "</next>; rel=next", "hello "),
        "/next" if count.fetch_add(1, SeqCst) < 2 => {
            Answer::Last("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".into())
        }
        "/next" => Answer::ok("at last"),
        "/never" => Answer::linked("", "</gone>; rel=next", "hello "),
        _ => Answer::Bytes("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n".into()),
    });
    let quick = |config: &mut Config| config.hold.link_retry = Duration::from_millis(5);
    let gripd = Gripd::with(&origin, ",debug", quick);
    let mut client = gripd.get("/");
    client.head();
    assert_eq!(client.chunks(), "hello at last");
    let mut client = gripd.get("/never");
    client.head();
    assert_eq!(client.chunks(), "hello \n\nFailed to retrieve next link.\n");
    assert_eq!(origin.asked_for("/gone").len(), 6);
}

#[test]
fn a_link_that_answers_with_a_long_poll_ends_the_stream() {
    let origin = Origin::start(|asked| match asked.target() {
        "/" => Answer::linked("", "</next>; rel=next", "hello "),
        _ => Answer::hold("response", "a"),
    });
    let gripd = Gripd::with(&origin, ",debug", |_| {});
    let mut client = gripd.get("/");
    client.head();
    assert_eq!(client.chunks(), "hello \n\nNext link returned non-stream hold.\n");
}

#[test]
fn a_body_that_is_too_large_to_be_kept_is_streamed() {
    let large = "x".repeat(300_000);
    let body = large.clone();
    let origin = Origin::start(move |asked| match asked.target() {
        "/" => Answer::with(
            "Grip-Hold: stream\r\nGrip-Channel: a\r\nGrip-Status: 201\r\nGrip-Expose-Headers: x-a\r\nX-A: 1\r\nX-B: 2\r\n",
            &body,
        ),
        "/chain" => Answer::linked("", "</>; rel=next", &body),
        _ => Answer::hold("response", "a"),
    });
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/");
    let head = client.head();
    assert!(head.starts_with("http/1.1 201") && head.contains("x-a: 1") && !head.contains("x-b"), "{head}");
    let mut got = String::new();
    while got.len() < large.len() {
        got.push_str(&client.chunk());
    }
    assert!(got == large);
    gripd.say("a", "item");
    assert_eq!(client.chunk(), "item");
    let mut client = gripd.get("/chain");
    client.head();
    let mut got = String::new();
    while got.len() < 2 * large.len() {
        got.push_str(&client.chunk());
    }
    assert!(got == large.repeat(2));
}

#[test]
fn streams_with_the_same_link_share_one_request() {
    let origin = Origin::start(|asked| match asked.target() {
        "/next" => Answer::linked(HOLD_STREAM, "</next>; rel=next; timeout=600", "shared "),
        "/" => Answer::linked(HOLD_STREAM, "</next>; rel=next; timeout=600", "hello "),
        target => {
            let body = if asked.header("grip-last").is_none() { target } else { "" };
            Answer::linked(HOLD_STREAM, &format!("<{target}>; rel=next; timeout=600"), body)
        }
    });
    let gripd = Gripd::start(&origin);
    let mut same: Vec<_> = (0..20).map(|_| gripd.get("/")).collect();
    let mut distinct: Vec<_> = (0..5).map(|n| gripd.get(&format!("/own?user={n}"))).collect();
    for client in same.iter_mut().chain(&mut distinct) {
        client.head();
        client.chunk();
    }
    gripd.publish(&json!([{ "channel": "a", "action": "hint" }]));
    same.iter_mut().for_each(|client| assert_eq!(client.chunk(), "shared "));
    for (n, client) in distinct.iter_mut().enumerate() {
        assert_eq!(client.chunk(), format!("/own?user={n}"));
    }
    // The 20 streams cause only a few requests. Links that differ in their query are never shared.
    let asked = origin.asked_for("/next").len();
    assert!((1..=4).contains(&asked), "{asked}");
    assert_eq!(origin.asked_for("/own").len(), 10);
    assert_eq!(gripd.metric("links_shared_total"), 20 - asked as u64);
}

#[test]
fn the_number_of_concurrent_link_requests_to_an_origin_is_limited() {
    let (busy, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, peak) = (Arc::clone(&busy), Arc::clone(&most));
    let (go, wait) = gate();
    let origin = Origin::start(move |asked| {
        let target = asked.target();
        if !target.starts_with("/link") {
            return Answer::linked(HOLD_STREAM, &format!("</link{target}>; rel=next; timeout=600"), "hello ");
        }
        peak.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
        wait();
        now.fetch_sub(1, SeqCst);
        Answer::linked(HOLD_STREAM, &format!("<{target}>; rel=next; timeout=600"), "asked ")
    });
    let gripd = Gripd::with(&origin, "", |config| config.own_requests = 2);
    let mut clients: Vec<_> = (0..12).map(|n| gripd.get(&format!("/{n}"))).collect();
    clients.iter_mut().for_each(|client| {
        client.head();
        client.chunk();
    });
    gripd.publish(&json!([{ "channel": "a", "action": "hint" }]));
    let waiting = || gripd.metric("own_requests_waiting");
    eventually("two requests are in progress and ten wait", || (busy.load(SeqCst), waiting()) == (2, 10));
    (0..12).for_each(|_| go.send(()).unwrap());
    clients.iter_mut().for_each(|client| assert_eq!(client.chunk(), "asked "));
    assert_eq!(most.load(SeqCst), 2);
}

#[test]
fn a_close_does_not_wait_for_a_link_longer_than_the_grace() {
    let (go, wait) = gate();
    let origin = Origin::start(move |asked| {
        if asked.target() == "/next" {
            // This returns only when the test is over.
            wait();
        }
        Answer::linked(HOLD_STREAM, "</next>; rel=next; timeout=600", "hello ")
    });
    let gripd = Gripd::with(&origin, "", |config| config.shard.close_grace = Duration::from_millis(200));
    let mut client = gripd.get("/");
    client.head();
    client.chunk();
    gripd.publish(&json!([{ "channel": "a", "action": "hint" }]));
    eventually("the link is requested", || !origin.asked_for("/next").is_empty());
    assert_eq!(gripd.close("a"), (1, 0));
    assert_eq!((client.chunks().as_str(), client.rest().as_str()), ("", ""));
    drop(go);
}

#[test]
fn a_close_ends_a_stream_that_begins_with_a_link_request() {
    let (go, wait) = gate();
    let hold = "Grip-Hold: stream\r\nGrip-Channel: a; prev-id=1, user7\r\n";
    let origin = Origin::start(move |asked| {
        if asked.target() == "/next" {
            // This returns only when the test is over.
            wait();
        }
        Answer::linked(hold, "</next>; rel=next; timeout=600", "hello ")
    });
    let gripd = Gripd::start(&origin);
    let mut other = gripd.get("/");
    other.head();
    other.chunk();
    gripd.next("a", "2", "1");
    // The origin's response names an older id than the hub knows, so the stream requests its link at once.
    let mut client = gripd.get("/");
    client.head();
    client.chunk();
    eventually("the link is requested", || !origin.asked_for("/next").is_empty());
    assert_eq!(gripd.close("user7"), (2, 0));
    assert_eq!((client.chunks().as_str(), client.rest().as_str()), ("", ""));
    assert_eq!(gripd.connections("user7"), 0);
    drop(go);
}

#[test]
fn a_hint_during_a_link_request_causes_another_request() {
    let (go, wait) = gate();
    let origin = Origin::start(move |asked| {
        if asked.target() == "/next" {
            wait();
        }
        Answer::linked(HOLD_STREAM, "</next>; rel=next; timeout=600", "told ")
    });
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/");
    client.head();
    client.chunk();
    let hint = json!({ "items": [{ "channel": "a", "action": "hint" }] }).to_string();
    gripd.publish_body("", &hint);
    eventually("the link is requested", || origin.asked_for("/next").len() == 1);
    gripd.publish_body("", &hint);
    gripd.publish_body("", &json!({ "items": [{ "channel": "a", "http-stream": { "content": "item" } }] }).to_string());
    go.send(()).unwrap();
    go.send(()).unwrap();
    assert_eq!([client.chunk(), client.chunk(), client.chunk()], ["told ", "told ", "item"]);
}

#[test]
fn items_without_ids_wait_until_all_link_requests_are_answered() {
    let (go, wait) = gate();
    let hold = "Grip-Hold: stream\r\nGrip-Channel: a, b; prev-id=1\r\n";
    let origin = Origin::start(move |asked| {
        if asked.target() == "/next" {
            wait();
        }
        Answer::linked(hold, "</next>; rel=next; timeout=600", "told ")
    });
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/");
    client.head();
    client.chunk();
    gripd.next("b", "3", "2");
    eventually("the link is requested", || origin.asked_for("/next").len() == 1);
    for (channel, id) in [("a", "x"), ("b", "9"), ("a", "y")] {
        let item = json!({ "channel": channel, "id": id, "prev-id": id, "http-stream": { "content": id } });
        let item = if channel == "a" { json!({ "channel": "a", "http-stream": { "content": id } }) } else { item };
        gripd.publish_body("", &json!({ "items": [item] }).to_string());
    }
    // The receipt comes after the stream has noted the hint.
    gripd.publish(&json!([{ "channel": "a", "action": "hint" }]));
    go.send(()).unwrap();
    go.send(()).unwrap();
    assert_eq!([client.chunk(), client.chunk(), client.chunk(), client.chunk()], ["told ", "told ", "x", "y"]);
}

#[test]
fn no_link_is_requested_after_a_close() {
    let (go, wait) = gate();
    let wait = Arc::new(wait);
    let part = "x".repeat(150_000);
    let origin = Origin::start(move |asked| match asked.target() {
        "/next" => Answer::ok("after the close"),
        "/other" => Answer::hold("stream", "a"),
        _ => {
            let (wait, part) = (Arc::clone(&wait), part.clone());
            Answer::Write(Box::new(move |stream| {
                let head = format!(
                    "HTTP/1.1 200 OK\r\nGrip-Hold: stream\r\nGrip-Channel: a; prev-id=1\r\n\
                     Grip-Link: </next>; rel=next; timeout=600\r\nContent-Length: {}\r\n\r\n{part}",
                    2 * part.len()
                );
                stream.write_all(head.as_bytes()).unwrap();
                // This fails only if the test is over.
                wait();
                let _ = stream.write_all(part.as_bytes());
            }))
        }
    });
    let gripd = Gripd::start(&origin);
    let mut other = gripd.get("/other");
    other.head();
    gripd.next("a", "2", "1");
    // The stream has missed an item, so it would request its link as soon as its first body is complete.
    let mut client = gripd.get("/");
    client.head();
    eventually("the stream is held", || gripd.connections("a") == 2);
    let closed = std::thread::scope(|scope| {
        let closing = scope.spawn(|| gripd.close("a").0);
        eventually("the close has begun", || gripd.connections("a") == 0);
        go.send(()).unwrap();
        assert_eq!(client.chunks().len(), 300_000);
        closing.join().unwrap()
    });
    assert_eq!((closed, client.rest().as_str()), (2, ""));
    assert!(origin.asked_for("/next").is_empty());
}

#[test]
fn a_chain_waits_for_a_client_that_does_not_read() {
    paused(
        "* origin:80",
        |_| {},
        async |gripd| {
            gripd.origin_answers(|heard| {
                let page: usize = heard.target[1..].parse().unwrap();
                ok(&format!("Grip-Link: </{}>; rel=next\r\n", page + 1), "x".repeat(10_000))
            });
            let client = gripd.send(get("/0")).await;
            // Long before this time is over, all buffers are full, and gripd waits for the client.
            sleep(Duration::from_secs(60)).await;
            let before = gripd.asked();
            assert!((3..500).contains(&before), "{before}");
            sleep(Duration::from_secs(60)).await;
            assert_eq!(gripd.asked(), before);
            drop(client);
        },
    );
}

#[test]
fn a_link_response_without_a_body_does_not_delay_the_keep_alive() {
    let hold = "Grip-Hold: stream\r\nGrip-Channel: a\r\nGrip-Keep-Alive: beat; timeout=2\r\n";
    let origin = Origin::start(move |asked| {
        Answer::linked(hold, "</next>; rel=next; timeout=1", if asked.target() == "/" { "hello " } else { "" })
    });
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/");
    client.head();
    assert_eq!(client.chunk(), "hello ");
    eventually("the link is requested twice", || origin.asked_for("/next").len() == 2);
    assert_eq!(client.chunk(), "beat");
}

#[test]
fn a_closed_client_has_the_whole_grace_to_read_a_large_link_response() {
    let grace = |config: &mut Config| {
        config.shard.close_grace = Duration::from_secs(5);
        config.control.receipt_wait = Duration::from_secs(6);
    };
    paused("* origin:80", grace, async |gripd| {
        gripd.origin_answers(|heard| match &*heard.target {
            "/next" => ok("", "x".repeat(2_000_000)),
            _ => ok(&format!("{HOLD_STREAM}Grip-Link: </next>; rel=next; timeout=600\r\n"), "begin "),
        });
        let mut client = gripd.send(get("/")).await;
        client.read_until("begin \r\n").await;
        gripd.publish(&json!([{ "channel": "a", "action": "hint" }])).await;
        // Long before this time is over, all buffers are full, and gripd waits for the client.
        sleep(Duration::from_secs(1)).await;
        let reading = async {
            sleep(Duration::from_secs(3)).await;
            client.rest().await
        };
        let close = json!([{ "channel": "a", "action": "close" }]);
        let (receipt, read) = tokio::join!(gripd.publish(&close), reading);
        assert_eq!((&receipt[0]["closed"], &receipt[0]["cut"]), (&json!(1), &json!(0)), "{receipt}");
        assert!(read > 2_000_000, "{read} bytes were read");
    });
}

#[test]
fn a_hint_for_websockets_does_not_remove_the_content_for_streams() {
    let (go, wait) = gate();
    let origin = Origin::start(move |asked| {
        if asked.target() != "/next" {
            return Answer::linked(HOLD_STREAM, "</next>; rel=next; timeout=600", "hello ");
        }
        wait();
        Answer::linked(HOLD_STREAM, "</next>; rel=next; timeout=600", "asked ")
    });
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/");
    client.head();
    assert_eq!(client.chunk(), "hello ");
    let hint = json!([{ "channel": "a", "action": "hint" }]);
    gripd.publish(&hint);
    eventually("the link is requested", || origin.asked_for("/next").len() == 1);
    // The item waits until the origin has responded, and a second hint comes before that.
    let formats = json!({ "http-stream": { "content": "news " }, "ws-message": { "action": "refresh" } });
    gripd.publish(&json!([{ "channel": "a", "formats": formats }]));
    gripd.publish(&hint);
    (0..2).for_each(|_| go.send(()).unwrap());
    assert_eq!([client.chunk(), client.chunk()], ["asked ", "asked "]);
    gripd.say("a", "end");
    assert_eq!(client.chunk(), "news ");
}
