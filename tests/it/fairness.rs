//! Bounds that keep one client, or one publisher, from holding up everybody else.

use crate::support::{Answer, Client, Gripd, Origin, eventually, get};
use serde_json::json;
use std::sync::{Mutex, mpsc};

/// A gate at which an origin waits, and the sender that opens it once for each message.
fn gate() -> (mpsc::Sender<()>, Mutex<mpsc::Receiver<()>>) {
    let (open, wait) = mpsc::channel();
    (open, Mutex::new(wait))
}

#[test]
fn clients_that_leave_do_not_keep_the_others_from_being_served() {
    let (open, wait) = gate();
    let origin = Origin::start(move |asked| match asked.target() {
        "/gone" => {
            let _ = wait.lock().unwrap().recv();
            Answer::ok("")
        }
        "/leaves" => Answer::with("Grip-Hold: stream\r\nGrip-Channel: a\r\nGrip-Link: </gone>; rel=gone\r\n", "hello "),
        _ => Answer::hold("response", "b"),
    });
    let gripd = Gripd::with(&origin, "", |config| config.own_requests = 1);
    let leaving: Vec<Client> = (0..3).map(|_| gripd.get("/leaves")).collect();
    let _stays = gripd.get("/stays");
    eventually("they are held", || gripd.connections("a") == 3 && gripd.connections("b") == 1);
    drop(leaving);
    eventually("the origin hears of one and hangs", || origin.asked_for("/gone").len() == 1);
    gripd.publish(&json!([{ "channel": "b", "action": "hint" }]));
    eventually("the one who stays is served", || origin.asked_for("/stays").len() == 2);
    assert_eq!(origin.asked_for("/gone").len(), 1);
    drop(open);
}

#[test]
fn clients_take_turns_when_gripd_asks_for_them() {
    let (open, wait) = gate();
    let origin = Origin::start(move |asked| {
        if asked.header("grip-last").is_some() {
            let _ = wait.lock().unwrap().recv();
            return Answer::ok("again");
        }
        Answer::hold("response", &format!("{}; prev-id=1", &asked.target()[1..]))
    });
    let more = "[client]\nproxies = [\"127.0.0.1\"]\n[origin]\nown_requests = 1\n";
    let gripd = Gripd::configured(&format!("{}\n{more}", origin.route("")));
    let ask = |channel: &str, client: &str| {
        let request = format!("GET /{channel} HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: {client}\r\n\r\n");
        Client::send(gripd.clients, request)
    };
    let crowd: Vec<Client> = (0..6).map(|_| ask("crowd", "10.0.0.1")).collect();
    let mut other = ask("other", "10.0.0.2");
    eventually("they are held", || gripd.connections("crowd") == 6 && gripd.connections("other") == 1);
    gripd.next("crowd", "3", "2");
    let again = |path: &str| origin.asked_for(path).len();
    eventually("one of the crowd is asked for", || again("/crowd") == 7);
    eventually("the rest of it waits", || gripd.metric("own_requests_waiting") == 5);
    gripd.next("other", "3", "2");
    eventually("the other waits as well", || gripd.metric("own_requests_waiting") == 6);
    // At most one of the crowd comes before the other.
    (0..3).for_each(|_| open.send(()).unwrap());
    assert_eq!(other.answer().1, "again");
    assert!(again("/crowd") <= 9, "{} of the crowd came first", again("/crowd"));
    drop((open, crowd));
}

#[test]
fn a_patch_that_costs_too_much_is_refused_with_the_bound() {
    let gripd = Gripd::start(&Origin::holding());
    let insert = json!({ "op": "add", "path": "/0", "value": 1 });
    let item = json!({ "items": [{ "channel": "a", "http-response": { "body-patch": vec![insert; 1000] } }] });
    let (status, why) = gripd.publish_body("", &item.to_string());
    assert_eq!(status, 400);
    assert!(why.contains("1000 operations, and at most 256 are allowed"), "{why}");
}

#[test]
fn a_connection_header_that_names_a_crowd_is_refused() {
    let gripd = Gripd::start(&Origin::start(|_| Answer::ok("hello")));
    let listing = |count: usize| {
        let names: Vec<String> = (0..count).map(|n| format!("x-{n}")).collect();
        let request = get("/").replace("\r\n\r\n", &format!("\r\nConnection: {}\r\n\r\n", names.join(",")));
        Client::send(gripd.clients, request).answer()
    };
    assert_eq!(listing(100).1, "hello");
    let (head, body) = listing(101);
    assert!(head.starts_with("http/1.1 400"), "{head}");
    assert!(body.contains("'Connection' names more than 100 headers"), "{body}");
}

#[test]
fn names_that_are_too_long_are_refused_with_the_bound_wherever_they_come_from() {
    let long = "x".repeat(2000);
    let named = long.clone();
    let origin = Origin::start(move |_| Answer::hold("stream", &named));
    let gripd = Gripd::with(&origin, ",debug", |_| ());
    let why = "has 2000 bytes, and at most 1024 are allowed";
    let (head, body) = gripd.get("/").answer();
    assert!(head.starts_with("http/1.1 502") && body.contains(why), "{head}{body}");
    let content = json!({ "content": "hello" });
    for item in [
        json!({ "channel": long, "http-stream": content }),
        json!({ "channel": "a", "id": long, "http-stream": content }),
        json!({ "channel": "a", "prev-id": long, "http-stream": content }),
        json!({ "channel": "a", "with": [long], "http-stream": content }),
        json!({ "channel": "a", "except": [long], "action": "close" }),
        json!({ "channel": "a", "action": "subscribe", "channels": [long] }),
    ] {
        let (status, body) = gripd.publish_body("", &json!({ "items": [item] }).to_string());
        assert!(status == 400 && body.contains(why), "{status} {body}");
    }
}
