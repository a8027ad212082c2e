//! Gone links: how an origin is told that a client is gone.

use crate::support::{Answer, Client, Gripd, HOLD_STREAM, Origin, eventually, gate};
use serde_json::json;
use std::time::Duration;

#[test]
fn an_origin_that_hangs_does_not_delay_the_gone_links_of_others() {
    let (go, wait) = gate();
    let hangs = Origin::start(move |asked| {
        if asked.target() == "/gone" {
            wait();
        }
        Answer::linked(HOLD_STREAM, "</gone>; rel=gone", "hello ")
    });
    let well = Origin::start(|_| Answer::linked(HOLD_STREAM, "</gone>; rel=gone", "hello "));
    let routes = [format!("bad {}", hangs.address), format!("good {}", well.address)];
    let gripd = Gripd::to(&routes, |config| config.own_requests = 1);
    let held = |host: &str| {
        let mut client = Client::send(gripd.clients, format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        client.head();
        client.chunk();
        client
    };
    let (bad, good) = ((held("bad"), held("bad")), held("good"));
    drop(bad);
    eventually("the first origin hangs", || !hangs.asked_for("/gone").is_empty());
    drop(good);
    eventually("the second origin is told that its client is gone", || well.asked_for("/gone").len() == 1);
    drop(go);
}

#[test]
fn the_origin_is_told_once_when_the_client_is_gone() {
    let origin = Origin::start(|asked| match asked.target() {
        "/gone?user=7" => Answer::ok(""),
        "/poll" => Answer::linked("Grip-Hold: response\r\nGrip-Channel: a\r\n", "</gone?user=7>; rel=gone", ""),
        "/next" => Answer::linked(HOLD_STREAM, "</other>; rel=gone, </next>; rel=next", ""),
        _ => Answer::linked(HOLD_STREAM, "</gone?user=7>; rel=gone, </next>; rel=next", "hello "),
    });
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/");
    client.head();
    client.chunk();
    gripd.publish(&json!([{ "channel": "a", "action": "hint" }]));
    eventually("the next link is requested", || !origin.asked_for("/next").is_empty());
    drop(client);
    eventually("the origin is told that the client is gone", || origin.asked_for("/gone").len() == 1);
    let told = &origin.asked_for("/gone")[0];
    assert_eq!((told.line.split(' ').next(), told.body.as_str()), (Some("POST"), ""));
    // A long-poll whose request is served again does not count as gone.
    let mut client = gripd.get("/poll");
    eventually("the long-poll is held", || gripd.connections("a") == 1);
    gripd.publish(&json!([{ "channel": "a", "action": "hint" }]));
    eventually("the request is served again", || origin.asked_for("/poll").len() == 2);
    let item = json!([{ "channel": "a", "http-response": { "body": "item" } }]);
    eventually("the long-poll is held again", || gripd.publish(&item)[0]["delivered"] == 1);
    assert_eq!(client.answer().1, "item");
    eventually("the origin is told that the client is gone", || origin.asked_for("/gone").len() == 2);
}

#[test]
fn the_origin_is_told_of_a_long_poll_that_a_refresh_has_answered() {
    let origin = Origin::start(|asked| match asked.header("grip-last") {
        _ if asked.target() == "/gone" => Answer::ok(""),
        None => Answer::linked("Grip-Hold: response\r\nGrip-Channel: a; prev-id=1\r\n", "</gone>; rel=gone", ""),
        Some(_) => Answer::ok("answer"),
    });
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/");
    eventually("the long-poll is held", || gripd.connections("a") == 1);
    gripd.next("a", "3", "2");
    assert_eq!(client.answer().1, "answer");
    eventually("the origin is told that the client is gone", || origin.asked_for("/gone").len() == 1);
}

#[test]
fn the_origin_is_told_of_all_clients_that_a_drain_ends() {
    let (go, wait) = gate();
    let origin = Origin::start(move |asked| {
        if asked.target() == "/gone" {
            wait();
            return Answer::ok("");
        }
        Answer::linked(HOLD_STREAM, "</gone>; rel=gone", "hello ")
    });
    let gripd = Gripd::with(&origin, "", |config| {
        config.own_requests = 4;
        // The drain is long enough even for a busy machine.
        config.drain = Duration::from_secs(3);
    });
    let mut clients: Vec<_> = (0..20).map(|_| gripd.get("/")).collect();
    clients.iter_mut().for_each(|client| {
        client.head();
        client.chunk();
    });
    std::thread::scope(|scope| {
        scope.spawn(|| {
            eventually("the origin has as many requests as allowed", || origin.asked_for("/gone").len() == 4);
            (0..20).for_each(|_| go.send(()).unwrap());
        });
        drop(gripd);
    });
    assert_eq!(origin.asked_for("/gone").len(), 20);
}
