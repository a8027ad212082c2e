//! Webhooks: the events that gripd sends when clients come and go.

use crate::support::events::{close, events};
use crate::support::kinds::{self, item};
use crate::support::tokens::{SECRET, claims, now, token};
use crate::support::{Answer, Asked, Client, Gripd, KINDS, Kind, Origin, eventually, gate};
use gripd::grip::signature::{Key, ProxyVerifier};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

const OK: &str = "HTTP/1.1 204 No Content\r\n\r\n";

/// A server that receives the events of webhooks.
struct Receiver(Origin);

impl Receiver {
    fn start() -> Self {
        Self::by(|_| Answer::Bytes(OK.into()))
    }

    fn by(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        Self(Origin::start(script))
    }

    /// Returns the TOML table of a webhook to this receiver. `more` is further lines of the table.
    fn table(&self, more: &str) -> String {
        format!("[[webhook]]\nurl = \"http://{}/events?x=1\"\nbatch_wait = 0.01\n{more}\n", self.0.address)
    }

    /// Returns the events so far, request by request.
    fn batches(&self) -> Vec<Vec<Value>> {
        let events = |asked: Asked| {
            let mut body: Value = serde_json::from_str(&asked.body).unwrap();
            serde_json::from_value(body["events"].take()).unwrap()
        };
        self.0.asked().into_iter().map(events).collect()
    }

    fn events(&self) -> Vec<Value> {
        self.batches().concat()
    }

    /// Returns the events so far that have this name and all these fields.
    fn all(&self, name: &str, fields: &Value) -> Vec<Value> {
        let fits = |event: &Value| {
            let mut fields = fields.as_object().unwrap().iter();
            event["event"] == name && fields.all(|(field, value)| &event[field] == value)
        };
        self.events().into_iter().filter(fits).collect()
    }

    /// Waits for an event that has this name and all these fields, and returns it.
    fn one(&self, name: &str, fields: &Value) -> Value {
        let what = format!("the receiver gets {name} with {fields}");
        eventually(&what, || !self.all(name, fields).is_empty());
        self.all(name, fields)[0].clone()
    }

    /// Returns the names of the events about a channel or a user, in their order and without `ended`. `field` is
    /// "channel" or "user".
    fn story(&self, field: &str, name: &str) -> Vec<String> {
        let of = |event: &Value| event["event"] != "ended" && event[field] == name;
        self.events().iter().filter(|event| of(event)).map(|e| e["event"].as_str().unwrap().to_owned()).collect()
    }
}

fn with_users(origin: &Origin, more: &str) -> String {
    origin.route(&format!("user_jwt = [\"query:token\"]\nuser_key = \"{SECRET}\"\n{more}"))
}

fn start(receiver: &Receiver, more: &str) -> Gripd {
    let route = with_users(&kinds::origin(), "close_at_expiry = true");
    Gripd::configured(&format!("{route}{}", receiver.table(more)))
}

fn of(user: &str) -> String {
    format!("room&token={}", token(user))
}

fn secret(text: &str) -> ProxyVerifier {
    ProxyVerifier::new(&Key::parse(text, |_| Err("no files".into())).unwrap()).unwrap().unwrap()
}

#[test]
fn joined_is_sent_for_the_first_connection_and_left_for_the_last() {
    let receiver = Receiver::start();
    let gripd = start(&receiver, "grace = 0.01");
    for kind in KINDS {
        let begin = receiver.events().len();
        let (one, other) = (kind.held(&gripd, &of("456")), kind.held(&gripd, &of("456")));
        let left = || receiver.all("left", &json!({ "channel": "room" })).len();
        let before = left();
        drop(one);
        eventually("the first connection has ended", || gripd.connections("room") == 1);
        drop(other);
        eventually("`left` is sent for the channel", || left() > before);
        eventually("all events are sent", || receiver.events().len() >= begin + 6);
        let told = &receiver.events()[begin..];
        let count =
            |name: &str, field: &str| told.iter().filter(|e| e["event"] == name && e[field].is_string()).count();
        assert_eq!((count("joined", "channel"), count("left", "channel")), (1, 1), "{kind:?}: {told:?}");
        assert_eq!(
            (count("joined", "user"), count("left", "user"), count("ended", "connection")),
            (1, 1, 2),
            "{told:?}"
        );
        assert!(told.iter().all(|event| event["channel"].is_null() || event["channel"] == "room"), "{told:?}");
        assert!(told.iter().all(|event| event["user"].is_null() || event["user"] == "456"), "{told:?}");
    }
    let events = receiver.events();
    let ids: BTreeSet<&str> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), events.len(), "two events have the same id");
    let boots: BTreeSet<&str> = ids.iter().map(|id| id.rsplit_once('-').unwrap().0).collect();
    assert_eq!(boots.len(), 1, "{boots:?}");
    let time = events[0]["time"].as_f64().unwrap();
    assert!((now() as f64 - time).abs() < 20.0, "{time}");
}

#[test]
fn requests_are_signed_posts() {
    for (more, good, other, issuer) in
        [("", "changeme", "my own", "pushpin"), ("sig_iss = \"me\"\nsig_key = \"my own\"", "my own", "changeme", "me")]
    {
        let receiver = Receiver::start();
        let gripd = start(&receiver, more);
        let _member = Kind::Stream.held(&gripd, "room");
        receiver.one("joined", &json!({ "channel": "room" }));
        let asked = receiver.0.asked()[0].clone();
        assert_eq!(asked.line, "POST /events?x=1 HTTP/1.1");
        assert_eq!(asked.header("content-type"), Some("application/json"));
        assert_eq!(asked.header("host"), Some(receiver.0.address.to_string().as_str()));
        let signature = asked.header("grip-sig").unwrap();
        let claims: Value = secret(good).claims(signature).unwrap();
        assert!(secret(other).claims::<Value>(signature).is_err(), "{more}");
        assert_eq!((&claims["iss"], &claims["aud"]), (&json!(issuer), &json!("webhook")));
        assert!(claims["exp"].as_u64().unwrap() > now());
        // The token names an audience. Therefore gripd does not accept it as the signature of a trusted proxy.
        assert!(!secret(good).trusts(signature, now()));
    }
}

#[test]
fn ended_describes_the_connection() {
    let receiver = Receiver::start();
    let gripd = start(&receiver, "");
    for kind in KINDS {
        let mut member = kind.held(&gripd, &of("456"));
        let shown = gripd.json("/connections?channel=room")["connections"][0].clone();
        gripd.close("room");
        member.ends();
        let ended = receiver.one("ended", &json!({ "connection": shown["id"], "kind": kind.name() }));
        let (duration, bytes) = (ended["duration"].as_f64().unwrap(), ended["bytes"].as_u64());
        assert!((0.0..20.0).contains(&duration) && bytes.is_some(), "{ended}");
        assert_eq!(
            (&ended["route"], &ended["user"], &ended["reason"]),
            (&json!("chat"), &json!("456"), &json!("kicked"))
        );
    }
    let member = Kind::Stream.held(&gripd, "lobby");
    gripd.publish(&json!([item("lobby", &"x".repeat(5000))]));
    eventually("the item is sent", || {
        gripd.json("/connections?channel=lobby")["connections"][0]["bytes"].as_u64() >= Some(5000)
    });
    drop(member);
    let ended = receiver.one("ended", &json!({ "reason": "client" }));
    assert!(ended["user"].is_null() && ended["bytes"].as_u64() >= Some(5000), "{ended}");
}

#[test]
fn a_long_poll_that_is_served_again_is_the_same_connection() {
    let receiver = Receiver::start();
    let (go, wait) = gate();
    let count = AtomicUsize::new(0);
    let origin = Origin::start(move |asked| {
        if count.fetch_add(1, SeqCst) > 0 {
            wait();
        }
        kinds::answer(asked)
    });
    let gripd = Gripd::configured(&format!("{}{}", origin.route(""), receiver.table("grace = 0")));
    let mut member = Kind::Poll.held(&gripd, "room");
    let id = gripd.json("/connections")["connections"][0]["id"].clone();
    let hint = json!({ "items": [{ "channel": "room", "action": "hint" }] }).to_string();
    gripd.publish_body("", &hint);
    eventually("the request is served again", || origin.asked().len() == 2);
    go.send(()).unwrap();
    eventually("the long-poll is held again", || gripd.json("/connections")["connections"][0]["address"].is_string());
    assert_eq!(gripd.json("/connections")["connections"][0]["id"], id);
    gripd.publish_body("", &hint);
    eventually("the request is served again", || origin.asked().len() == 3);
    // The origin has not answered yet, so it is the close that ends the connection.
    assert_eq!(gripd.close("room"), (1, 0));
    member.ends();
    assert_eq!(receiver.one("ended", &json!({ "connection": id }))["reason"], "kicked");
    drop(go);
}

#[test]
fn each_end_has_its_reason() {
    let receiver = Receiver::start();
    let origin = Origin::start(|asked| {
        let said = asked.body.split_once("\r\n").map_or("", |(_, rest)| rest.trim_end());
        match (asked.target().split('&').next().unwrap(), said) {
            ("/poll?patient", _) => {
                Answer::with("Grip-Hold: response\r\nGrip-Channel: patient\r\nGrip-Timeout: 5\r\n", "")
            }
            (_, "bye") => events("", &close(4000, "bye")),
            (_, "nonsense") => Answer::ok("nonsense"),
            _ => kinds::answer(asked),
        }
    });
    let route = with_users(&origin, "close_at_expiry = true\ndebug = true");
    let buffer = "[delivery]\nclient_buffer = 10000\n";
    let gripd = Gripd::configured(&format!("drain = 5\n{route}{}{buffer}", receiver.table("grace = 0")));
    let ended =
        |kind: Kind, reason: &str| drop(receiver.one("ended", &json!({ "kind": kind.name(), "reason": reason })));
    let patient = Kind::Poll.held(&gripd, "patient");
    for kind in KINDS {
        drop(kind.held(&gripd, "room"));
        ended(kind, "client");
        let expires = claims(&json!({ "sub": "456", "exp": now() + 2 }));
        kind.held(&gripd, &format!("short&token={expires}")).ends();
        ended(kind, "expired");
        let mut kicked = kind.held(&gripd, "kicked");
        let id = gripd.json("/connections?channel=kicked")["connections"][0]["id"].as_str().unwrap().to_owned();
        assert_eq!(gripd.control("DELETE", &format!("/connections/{id}")).0, 200);
        kicked.ends();
        ended(kind, "kicked");
    }
    let mut answered = Kind::Poll.held(&gripd, "answered");
    gripd.publish(&json!([item("answered", "it is")]));
    assert_eq!(answered.hears(), "it is");
    ended(Kind::Poll, "answered");
    for said in ["bye", "nonsense"] {
        let mut socket = Kind::WebSocket.held(&gripd, "room");
        let id = gripd.json("/connections?channel=room")["connections"][0]["id"].clone();
        socket.write(said);
        socket.ends();
        assert_eq!(receiver.one("ended", &json!({ "connection": id }))["reason"], "origin", "{said}");
    }
    let mut slow = Client::with_small_buffer(gripd.clients, "GET /stream?slow HTTP/1.1\r\nHost: h\r\n\r\n");
    eventually("the slow client is held", || gripd.connections("slow") == 1);
    eventually("the slow client is cut", || {
        gripd.publish(&json!([item("slow", &"x".repeat(300_000))]));
        gripd.connections("slow") == 0
    });
    ended(Kind::Stream, "slow");
    let _ = slow.rest_and_end();
    drop(patient.begun(|| receiver.all("ended", &json!({ "reason": "timeout" })).len() == 1));
    let mut drained = KINDS.map(|kind| kind.held(&gripd, "drained"));
    drop(gripd);
    drained.iter_mut().for_each(|member| drop(member.ends()));
    KINDS.iter().for_each(|kind| ended(*kind, "drain"));
}

#[test]
fn a_client_that_is_back_within_the_grace_has_not_left() {
    let receiver = Receiver::start();
    let gripd = start(&receiver, "grace = 60");
    for n in 1..=5 {
        drop(KINDS[n % 3].held(&gripd, &of("456")));
        let ends = || receiver.all("ended", &json!({})).len();
        eventually("the end of the connection is sent", || ends() == n);
    }
    assert_eq!(
        (receiver.story("channel", "room"), receiver.story("user", "456")),
        (vec!["joined".into()], vec!["joined".into()])
    );
    // A drain sends `left` at once.
    drop(gripd);
    assert_eq!((receiver.story("channel", "room"), receiver.story("user", "456")), (story(), story()));
}

fn story() -> Vec<String> {
    vec!["joined".into(), "left".into()]
}

#[test]
fn a_batch_is_sent_again_until_it_is_accepted() {
    let tries = AtomicUsize::new(0);
    let receiver = Receiver::by(move |_| match tries.fetch_add(1, SeqCst) {
        0 | 1 => Answer::Bytes("HTTP/1.1 500 No\r\nContent-Length: 3\r\n\r\nno\n".into()),
        _ => Answer::Bytes(OK.into()),
    });
    let gripd = start(&receiver, "grace = 0");
    let members: Vec<_> = (0..20).map(|n| Kind::Stream.held(&gripd, &format!("c{n}"))).collect();
    eventually("the batch is sent three times", || receiver.0.asked().len() >= 3);
    let batches = receiver.batches();
    assert!(!batches[0].is_empty() && batches[0] == batches[1] && batches[0] == batches[2], "{batches:?}");
    assert_eq!(gripd.metric("webhook_failures_total"), 2);
    drop(members);
    eventually("all `left` are sent", || receiver.all("left", &json!({})).len() == 20);
    eventually("no event waits", || gripd.metric("webhook_queue") == 0);
    let numbers: Vec<u64> = receiver.batches()[2..].concat().iter().map(number).collect();
    eventually("all events are counted", || gripd.metric("webhook_events_total") == numbers.len() as u64);
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
}

fn number(event: &Value) -> u64 {
    event["id"].as_str().unwrap().rsplit_once('-').unwrap().1.parse().unwrap()
}

#[test]
fn events_that_do_not_fit_the_queue_are_dropped_and_counted() {
    let (go, wait) = gate();
    // The receiver takes nothing until `go` is dropped, and everything from then on.
    let receiver = Receiver::by(move |_| {
        wait();
        Answer::Bytes(OK.into())
    });
    let gripd = start(&receiver, "queue = 10\nbatch = 3\nevents = [\"joined\"]\ntimeout = 20");
    let members: Vec<_> = (0..50).map(|n| Kind::Stream.held(&gripd, &format!("c{n}"))).collect();
    eventually("some events are dropped", || gripd.metric("webhook_dropped_total") > 0);
    drop(go);
    let told = || receiver.all("joined", &json!({})).len() as u64;
    let counted = || receiver.all("dropped", &json!({})).iter().map(|e| e["count"].as_u64().unwrap()).sum::<u64>();
    eventually("all events are sent or counted as dropped", || told() + counted() == 50);
    assert!(counted() >= 30 && counted() == gripd.metric("webhook_dropped_total"), "{}", counted());
    assert!(receiver.batches().iter().all(|batch| (1..=3).contains(&batch.len())));
    drop(members);
}

#[test]
fn a_webhook_is_for_one_route_or_for_all() {
    let (of_chat, of_all) = (Receiver::start(), Receiver::start());
    let origin = kinds::origin();
    let other = format!("[[route]]\nhost = \"other.example\"\ntarget = \"{}\"\n", origin.address);
    let hooks = of_chat.table("route = \"chat\"") + &of_all.table("");
    let gripd = Gripd::configured(&format!("{}{other}{hooks}", origin.route("")));
    let mut client = Client::send(gripd.clients, "GET /stream?elsewhere HTTP/1.1\r\nHost: other.example\r\n\r\n");
    client.read_until("hello\n");
    let _member = Kind::Stream.held(&gripd, "here");
    for channel in ["here", "elsewhere"] {
        of_all.one("joined", &json!({ "channel": channel }));
    }
    of_chat.one("joined", &json!({ "channel": "here" }));
    gripd.close("elsewhere");
    gripd.close("here");
    assert_eq!(of_all.one("ended", &json!({ "route": "chat" }))["kind"], "stream");
    assert_eq!(of_all.one("ended", &json!({ "route": "other.example" }))["reason"], "kicked");
    of_chat.one("ended", &json!({}));
    assert_eq!((of_chat.all("ended", &json!({})).len(), of_chat.story("channel", "elsewhere").len()), (1, 0));
}

#[test]
fn a_webhook_gets_only_the_events_that_are_configured() {
    let [ends, joins, chats] = [Receiver::start(), Receiver::start(), Receiver::start()];
    let hooks = ends.table("events = [\"ended\"]")
        + &joins.table("events = [\"joined\"]\nusers = false")
        + &chats.table("grace = 0\nchannels = [\"conversation*\", \"news\"]");
    let gripd = Gripd::configured(&format!("{}{hooks}", with_users(&kinds::origin(), "")));
    for channels in ["conversation1", "room", "news"] {
        let mut member = Kind::Stream.held(&gripd, &format!("{channels}&token={}", token("456")));
        gripd.close(channels);
        member.ends();
    }
    eventually("all events are sent", || ends.events().len() == 3 && joins.events().len() == 3);
    for channel in ["conversation1", "news"] {
        chats.one("left", &json!({ "channel": channel }));
    }
    drop(gripd);
    let names = |receiver: &Receiver| -> BTreeSet<String> {
        receiver.events().iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((names(&ends), names(&joins)), (["ended".into()].into(), ["joined".into()].into()));
    assert_eq!((ends.events().len(), joins.events().len(), chats.story("channel", "room").len()), (3, 3, 0));
    assert!(joins.events().iter().all(|event| event["user"].is_null()));
    assert!(!chats.story("user", "456").is_empty());
}

#[test]
fn a_drain_sends_all_events_that_wait() {
    let receiver = Receiver::start();
    let hook = receiver.table("grace = 60").replace("batch_wait = 0.01", "batch_wait = 60");
    let gripd = Gripd::configured(&format!("drain = 2\n{}{hook}", kinds::origin().route("")));
    let members: Vec<_> = (0..30).map(|n| KINDS[n % 3].held(&gripd, &format!("room,c{n}"))).collect();
    drop(gripd);
    assert_eq!(receiver.story("channel", "room"), story());
    (0..30).for_each(|n| assert_eq!(receiver.story("channel", &format!("c{n}")), story(), "c{n}"));
    assert_eq!(receiver.all("ended", &json!({ "reason": "drain" })).len(), 30);
    drop(members);
}

#[test]
fn a_drain_does_not_wait_for_a_receiver_that_takes_nothing() {
    let receiver = Receiver::by(|_| Answer::Bytes("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".into()));
    let gripd = Gripd::configured(&format!("drain = 1\n{}{}", kinds::origin().route(""), receiver.table("")));
    let _member = Kind::Stream.held(&gripd, "room");
    eventually("a batch is sent", || !receiver.0.asked().is_empty());
    let begin = std::time::Instant::now();
    drop(gripd);
    assert!(begin.elapsed().as_secs() < 8, "{:?}", begin.elapsed());
}
