//! Drains, by which gripd ends.

use crate::support::{Answer, Client, Gripd, Origin, eventually, get};
use serde_json::json;
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

#[test]
fn a_drain_ends_holds_cleanly_and_items_arrive_meanwhile() {
    let gripd = Gripd::with(&Origin::holding(), "", |config| config.drain = Duration::from_secs(2));
    let mut poll = gripd.poll("a");
    let mut streams: Vec<Client> = (0..20).map(|_| gripd.stream("a")).collect();
    gripd.drain();
    // A long-poll is answered at once, and its connection ends.
    let (head, body) = poll.answer();
    assert!(head.contains("connection: close"), "{head}");
    assert_eq!((body.as_str(), poll.rest().as_str()), ("hello\n", ""));
    // Streams end one by one while the drain lasts, so some of them still get an item that is published now.
    assert!(gripd.ask(get("/readyz")).0.starts_with("http/1.1 503"));
    assert!(gripd.ask(get("/healthz")).0.starts_with("http/1.1 200"));
    assert!(gripd.say("a", "going\n") > 0);
    let ends = streams.iter_mut().map(Client::rest).collect::<Vec<_>>();
    assert!(ends.iter().all(|end| end.ends_with("0\r\n\r\n")), "{ends:?}");
    assert!(ends.iter().any(|end| end.contains("going\n")), "{ends:?}");
}

#[test]
fn a_drain_finishes_requests_in_progress_and_takes_no_new_ones() {
    let (to_origin, from_test) = mpsc::channel::<()>();
    let from_test = Mutex::new(Some(from_test));
    let origin = Origin::start(move |_| {
        let from_test = from_test.lock().unwrap().take().unwrap();
        from_test.recv().unwrap();
        Answer::ok("done")
    });
    let gripd = Gripd::with(&origin, "", |config| config.drain = Duration::from_secs(10));
    let mut idle = Client::send(gripd.clients, "");
    let mut client = gripd.get("/");
    eventually("the origin was asked", || !origin.asked().is_empty());
    gripd.drain();
    assert_eq!(idle.rest(), "");
    to_origin.send(()).unwrap();
    assert_eq!(client.answer().1, "done");
    assert_eq!(client.rest(), "");
    eventually("the listener is closed", || std::net::TcpStream::connect(gripd.clients).is_err());
}

#[test]
fn half_a_request_does_not_hold_up_a_drain() {
    let gripd = Gripd::with(&Origin::holding(), "", |config| config.drain = Duration::from_secs(15));
    let mut half = Client::send(gripd.clients, "GET / HT");
    let mut whole = gripd.get("/plain");
    assert_eq!(whole.answer().1, "plain\n");
    let begin = Instant::now();
    gripd.drain();
    let _ = half.rest_and_end();
    drop(gripd);
    assert!(begin.elapsed() < Duration::from_secs(10), "the drain took {:?}", begin.elapsed());
}

#[test]
fn a_hold_that_begins_during_a_drain_ends_too() {
    let (to_origin, from_test) = mpsc::channel::<()>();
    let from_test = Mutex::new(Some(from_test));
    let origin = Origin::start(move |_| {
        from_test.lock().unwrap().take().unwrap().recv().unwrap();
        Answer::hold("stream", "a")
    });
    let gripd = Gripd::with(&origin, "", |config| config.drain = Duration::from_secs(5));
    let mut client = gripd.get("/");
    eventually("the origin was asked", || !origin.asked().is_empty());
    gripd.drain();
    to_origin.send(()).unwrap();
    assert!(client.rest().ends_with("6\r\nhello\n\r\n0\r\n\r\n"));
    assert_eq!(gripd.publish(&json!([{ "channel": "a", "action": "close" }]))[0]["closed"], 0);
}

#[test]
fn clients_that_connected_before_the_drain_are_served() {
    rlimit::increase_nofile_limit(20_000).unwrap();
    let origin = Origin::holding();
    let gripd = Gripd::with(&origin, "", |config| config.drain = Duration::from_secs(10));
    let mut clients: Vec<Client> = (0..600).map(|_| gripd.get("/plain")).collect();
    gripd.drain();
    assert!(clients.iter_mut().all(|client| client.answer().1 == "plain\n"));
}
