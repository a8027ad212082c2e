//! Long-polls whose request is served again.

use crate::support::{Answer, Client, Gripd, Origin, eventually, gate, get};
use serde_json::json;

/// Starts an origin that holds a request on `channel`. When gripd asks again with `Grip-Last`, the origin answers with
/// the request line, the value of that header and the body of the request. A request for a target that ends with
/// `again` is not held.
fn once(channel: &'static str) -> Origin {
    Origin::start(move |asked| match asked.header("grip-last") {
        None if asked.target().ends_with("again") => Answer::ok("asked again"),
        None => Answer::with(&format!("Grip-Hold: response\r\nGrip-Channel: {channel}\r\nX-A: 1\r\n"), "nothing"),
        Some(last) => Answer::ok(&format!("{} {last} {}", asked.line, asked.body)),
    })
}

#[test]
fn a_long_poll_that_misses_an_item_is_served_again() {
    let origin = once("a; prev-id=1");
    let gripd = Gripd::start(&origin);
    let request =
        "POST /x?y HTTP/1.1\r\nHost: localhost\r\nCookie: c=1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody";
    let mut client = Client::send(gripd.clients, request);
    eventually("the long-poll is held", || gripd.connections("a") == 1);
    assert_eq!(gripd.next("a", "3", "2")["delivered"], 0);
    assert!(client.head().starts_with("http/1.1 100"));
    assert_eq!(client.answer().1, "POST /x?y HTTP/1.1 a; last-id=1 body");
    let again = &origin.asked()[1];
    assert_eq!((again.header("cookie"), again.header("content-length")), (Some("c=1"), Some("4")));
    assert!(again.header("grip-sig").is_some());
}

#[test]
fn a_long_poll_that_misses_nothing_is_answered() {
    let gripd = Gripd::start(&once("a; prev-id=1"));
    let mut client = gripd.get("/");
    eventually("the long-poll is held", || gripd.connections("a") == 1);
    assert_eq!(gripd.next("a", "2", "1")["delivered"], 1);
    let (head, body) = client.answer();
    assert!(head.contains("x-a: 1"), "{head}");
    assert_eq!(body, "2");
}

#[test]
fn a_long_poll_that_misses_an_item_from_the_beginning_is_served_again_at_once() {
    let origin = once("a; prev-id=1");
    let gripd = Gripd::start(&origin);
    let _other = gripd.get("/");
    eventually("the long-poll is held", || gripd.connections("a") == 1);
    gripd.next("a", "2", "1");
    let mut client = gripd.get("/z");
    assert_eq!(client.answer().1, "GET /z HTTP/1.1 a; last-id=1 ");
    // The connection serves the next request.
    client.write(get("/?again"));
    assert_eq!(client.answer().1, "asked again");
}

#[test]
fn an_item_that_is_published_while_the_origin_answers_is_not_missed() {
    let (go, wait) = gate();
    let origin = Origin::start(move |asked| match asked.header("grip-last") {
        None => {
            wait();
            Answer::hold("response", "a; prev-id=1")
        }
        Some(last) => Answer::ok(&format!("behind {last}")),
    });
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/");
    eventually("the origin is asked", || origin.asked().len() == 1);
    // Nobody holds the channel yet.
    assert_eq!(gripd.next("a", "2", "1")["delivered"], 0);
    go.send(()).unwrap();
    assert_eq!(client.answer().1, "behind a; last-id=1");
}

#[test]
fn an_origin_that_names_the_same_last_id_again_is_believed() {
    let origin = Origin::start(|_| Answer::hold("response", "a; prev-id=1"));
    let gripd = Gripd::start(&origin);
    let mut first = gripd.get("/");
    eventually("the long-poll is held", || gripd.connections("a") == 1);
    gripd.next("a", "2", "1");
    assert_eq!(first.answer().1, "2");
    let mut client = gripd.get("/");
    eventually("the origin is asked twice for the second client", || origin.asked().len() == 3);
    eventually("the long-poll is held", || gripd.connections("a") == 1);
    // From now on gripd takes the last id that the origin has named for the right one.
    let mut third = gripd.get("/");
    eventually("the long-poll is held", || gripd.connections("a") == 2);
    assert_eq!(gripd.next("a", "x", "1")["delivered"], 2);
    assert_eq!((client.answer().1.as_str(), third.answer().1.as_str()), ("x", "x"));
    assert_eq!(origin.asked().len(), 4);
}

#[test]
fn a_hint_has_the_request_served_again_and_the_hold_goes_on() {
    let origin = Origin::holding();
    let gripd = Gripd::start(&origin);
    let mut client = gripd.poll("a");
    gripd.publish(&json!([{ "channel": "a", "formats": { "http-response": { "action": "hint" } } }]));
    eventually("the origin is asked again", || origin.asked().len() == 2);
    let item = json!([{ "channel": "a", "http-response": { "body": "item" } }]);
    eventually("the long-poll is held again", || gripd.publish(&item)[0]["delivered"] == 1);
    assert_eq!(client.answer().1, "item");
    client.write(get("/"));
    assert_eq!(client.answer().1, "plain\n");
}

#[test]
fn a_request_in_chunks_is_served_again_with_a_length() {
    let origin = once("a; prev-id=1");
    let gripd = Gripd::start(&origin);
    let request = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let mut client = Client::send(gripd.clients, request);
    eventually("the long-poll is held", || gripd.connections("a") == 1);
    gripd.next("a", "3", "2");
    let (head, body) = client.answer();
    assert!(head.contains("connection: close"), "{head}");
    assert_eq!(body, "POST / HTTP/1.1 a; last-id=1 abcde");
}

#[test]
fn bytes_after_an_ambiguous_request_are_not_served_after_a_retry() {
    let origin = once("a; prev-id=1");
    let gripd = Gripd::start(&origin);
    let request = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
                   GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut client = Client::send(gripd.clients, request);
    eventually("the long-poll is held", || gripd.connections("a") == 1);
    gripd.next("a", "3", "2");
    let (_, end) = client.rest_and_end();
    assert!(end.is_ok(), "{end:?}");
    assert_eq!(origin.asked_for("/smuggled").len(), 0);
}

#[test]
fn an_http_1_0_request_is_served_again_and_gets_an_http_1_0_answer() {
    let gripd = Gripd::start(&once("a; prev-id=1"));
    let mut client = Client::send(gripd.clients, "GET /old HTTP/1.0\r\n\r\n");
    eventually("the long-poll is held", || gripd.connections("a") == 1);
    gripd.next("a", "3", "2");
    let (head, body) = client.answer();
    assert!(head.starts_with("http/1.0 200"), "{head}");
    assert_eq!((body.as_str(), client.rest().as_str()), ("GET /old HTTP/1.1 a; last-id=1 ", ""));
}

#[test]
fn a_patch_changes_the_held_answer_and_one_that_does_not_fit_asks_the_origin() {
    let origin = Origin::start(|asked| {
        if asked.target() == "/list" {
            Answer::with(
                "Grip-Hold: response\r\nGrip-Channel: a\r\nContent-Type: application/json\r\n",
                "{\"n\":[1,2]}\n",
            )
        } else {
            Answer::with("Grip-Hold: response\r\nGrip-Channel: a\r\n", "no json")
        }
    });
    let gripd = Gripd::start(&origin);
    let (mut fits, _other) = (gripd.get("/list"), gripd.get("/other"));
    eventually("all long-polls are held", || gripd.connections("a") == 2);
    let patch = json!([{ "op": "add", "path": "/n/0", "value": 0 }]);
    gripd.publish(&json!([{ "channel": "a", "http-response": { "body-patch": patch } }]));
    assert_eq!(fits.answer().1, "{\"n\":[0,1,2]}\n");
    eventually("the origin is asked again for the other long-poll", || origin.asked_for("/other").len() == 2);
}

#[test]
fn a_close_ends_a_long_poll_whose_request_is_being_served_again() {
    let origin = Origin::start(|asked| {
        if asked.header("cookie") == Some("slow=1") && asked.header("grip-last").is_some() {
            // The origin does not answer before the client is gone.
            return Answer::Write(Box::new(|stream| drop(std::io::Read::read(stream, &mut [0; 9]))));
        }
        Answer::with("Grip-Hold: response\r\nGrip-Channel: a; prev-id=1, user7\r\n", "nothing")
    });
    let gripd = Gripd::start(&origin);
    let mut client = Client::send(gripd.clients, "GET / HTTP/1.1\r\nHost: h\r\nCookie: slow=1\r\n\r\n");
    eventually("the long-poll is held", || gripd.connections("a") == 1);
    gripd.next("a", "3", "2");
    eventually("the origin is asked again", || origin.asked().len() == 2);
    assert_eq!(gripd.connections("user7"), 1);
    assert_eq!(gripd.close("user7"), (1, 0));
    let (head, body) = client.answer();
    assert!(head.contains("connection: close"), "{head}");
    assert_eq!((body.as_str(), client.rest().as_str()), ("nothing", ""));
    assert_eq!((gripd.connections("a"), gripd.connections("user7")), (0, 0));
}

#[test]
fn a_close_ends_a_long_poll_whose_patch_did_not_fit() {
    let origin = Origin::start(|_| Answer::with("Grip-Hold: response\r\nGrip-Channel: a, user7\r\n", "no json"));
    let long = std::time::Duration::from_secs(600);
    let gripd = Gripd::with(&origin, "", |config| config.hold.refresh_pause = long);
    let mut client = gripd.get("/");
    eventually("the long-poll is held", || gripd.connections("a") == 1);
    let patch = json!([{ "op": "remove", "path": "/n" }]);
    gripd.publish(&json!([{ "channel": "a", "http-response": { "body-patch": patch } }]));
    assert_eq!(gripd.close("user7"), (1, 0));
    assert_eq!((client.answer().1.as_str(), client.rest().as_str()), ("no json", ""));
}

#[test]
fn a_client_that_does_not_read_is_cut_while_its_request_is_served_again() {
    let large = "x".repeat(99_000);
    let origin = Origin::start(move |asked| {
        if asked.header("cookie").is_some() && asked.header("grip-last").is_some() {
            return Answer::Write(Box::new(|stream| drop(std::io::Read::read(stream, &mut [0; 9]))));
        }
        Answer::with("Grip-Hold: response\r\nGrip-Channel: a; prev-id=1, user7\r\n", &large)
    });
    let grace = std::time::Duration::from_millis(300);
    let gripd = Gripd::with(&origin, "", |config| config.shard.close_grace = grace);
    let client = Client::with_small_buffer(gripd.clients, "GET / HTTP/1.1\r\nHost: h\r\nCookie: c\r\n\r\n");
    eventually("the long-poll is held", || gripd.connections("a") == 1);
    gripd.next("a", "3", "2");
    eventually("the origin is asked again", || origin.asked().len() == 2);
    assert_eq!(gripd.close("user7"), (1, 1));
    drop(client);
}

#[test]
fn a_patch_that_does_not_fit_does_not_count_as_received() {
    let origin = once("a; prev-id=1");
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/");
    eventually("the long-poll is held", || gripd.connections("a") == 1);
    let patch = json!([{ "op": "remove", "path": "/n" }]);
    let item = json!([{ "channel": "a", "id": "2", "prev-id": "1", "http-response": { "body-patch": patch } }]);
    assert_eq!(gripd.publish(&item)[0]["delivered"], 0);
    assert_eq!(client.answer().1, "GET / HTTP/1.1 a; last-id=1 ");
}

#[test]
fn a_hint_while_the_request_is_served_again_has_it_served_once_more() {
    let (go, wait) = gate();
    let count = std::sync::atomic::AtomicUsize::new(0);
    let origin = Origin::start(move |_| match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        2 => Answer::ok("the third time"),
        n => {
            if n == 1 {
                wait();
            }
            Answer::hold("response", "a")
        }
    });
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/");
    eventually("the long-poll is held", || gripd.connections("a") == 1);
    let hint = json!([{ "channel": "a", "action": "hint" }]);
    gripd.publish(&hint);
    eventually("the origin is asked again", || origin.asked().len() == 2);
    gripd.publish(&hint);
    go.send(()).unwrap();
    assert_eq!(client.answer().1, "the third time");
}

#[test]
fn a_close_during_retries_ends_every_long_poll() {
    let origin = Origin::start(|_| Answer::hold("response", "a, all"));
    let gripd = Gripd::with(&origin, "", |config| config.hold.refresh_pause = std::time::Duration::from_millis(1));
    for _ in 0..5 {
        let polls: Vec<_> = (0..200).map(|_| gripd.get("/")).collect();
        eventually("all long-polls are held", || gripd.connections("all") == 200);
        gripd.publish_body("", &json!({ "items": [{ "channel": "a", "action": "hint" }] }).to_string());
        assert_eq!(gripd.close("all").0, 200);
        assert_eq!(gripd.connections("all"), 0);
        drop(polls);
    }
}

#[test]
fn items_and_retries_at_the_same_moment_lose_nothing() {
    let origin = Origin::holding();
    let gripd = Gripd::with(&origin, "", |config| config.hold.refresh_pause = std::time::Duration::from_millis(2));
    for _ in 0..20 {
        let mut polls: Vec<_> = (0..20).map(|_| gripd.get("/poll?a")).collect();
        eventually("all long-polls are held", || gripd.connections("a") == 20);
        gripd.publish_body("", &json!({ "items": [{ "channel": "a", "action": "hint" }] }).to_string());
        let item = json!([{ "channel": "a", "http-response": { "body": "item" } }]);
        let mut delivered = gripd.publish(&item)[0]["delivered"].as_u64().unwrap();
        // A long-poll whose request was being served again at that moment gets the next item.
        while delivered < 20 {
            delivered += gripd.publish(&item)[0]["delivered"].as_u64().unwrap();
        }
        polls.iter_mut().for_each(|poll| assert_eq!(poll.answer().1, "item"));
    }
}

#[test]
fn a_close_or_an_item_ends_a_long_poll_that_waits_to_be_served_again() {
    let origin = Origin::holding();
    let long = std::time::Duration::from_secs(600);
    let gripd = Gripd::with(&origin, "", |config| config.hold.refresh_pause = long);
    let (mut closed, mut answered) = (gripd.poll("a,x"), gripd.poll("a,y"));
    gripd.publish(&json!([{ "channel": "a", "action": "hint" }]));
    assert_eq!(gripd.close("x"), (1, 0));
    assert_eq!((closed.answer().1.as_str(), closed.rest().as_str()), ("hello\n", ""));
    gripd.publish(&json!([{ "channel": "y", "http-response": { "body": "item" } }]));
    assert_eq!(answered.answer().1, "item");
    assert_eq!(origin.asked().len(), 2);
}
