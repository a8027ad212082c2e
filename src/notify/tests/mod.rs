//! Tests of webhooks over sockets.

mod server;

use super::*;
use crate::grip::signature::{Key, ProxyVerifier};
use serde_json::{Value, json};
use server::Server;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_millis(1);

/// Returns a webhook whose events do not wait for a full batch, and whose grace is longer than any test.
fn hook(address: SocketAddr) -> Webhook {
    let url = WebhookUrl::parse(&format!("http://{address}/events?a=b")).unwrap();
    Webhook { batch_wait: Duration::ZERO, grace: LONG, ..Webhook::new(url) }
}

fn notifier(hooks: impl Into<Vec<Webhook>>) -> (Arc<Notifier>, Arc<Metrics>) {
    let metrics = Arc::default();
    (Notifier::with_pause(Settings { hooks: hooks.into() }, &metrics, SOON), metrics)
}

/// Runs the notifier until `f` is ready, and returns the output of `f`.
async fn running<T>(notifier: &Notifier, f: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        done = timeout(DEADLINE, f) => done.expect("it takes too long"),
        () = notifier.run() => unreachable!(),
    }
}

async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::task::yield_now().await;
    }
}

fn channels(names: &[&str]) -> Vec<Channel> {
    names.iter().map(|name| Channel::from(*name)).collect()
}

fn joined(id: u64, channel: &str) -> Value {
    json!({ "id": id, "event": "joined", "channel": channel })
}

fn left(id: u64, channel: &str) -> Value {
    json!({ "id": id, "event": "left", "channel": channel })
}

fn ended(route: &str) -> EndedConnection {
    EndedConnection {
        connection: "0-17-3".into(),
        kind: "stream",
        route: route.into(),
        user: None,
        reason: "kicked",
        duration: Duration::from_millis(1500),
        bytes: 1234,
    }
}

fn counts(metrics: &Metrics) -> [u64; 4] {
    let Metrics { delivered, failures, dropped, queued } = metrics;
    [delivered.get(), failures.get(), dropped.get(), queued.get().try_into().unwrap()]
}

#[tokio::test(flavor = "local")]
async fn events_go_out_in_signed_batches_on_one_connection() {
    let mut server = Server::start(&[]).await;
    let key = Key::Secret(b"changeme".to_vec());
    let signer = Signer::new("gripd", &key).unwrap().map(Arc::new);
    let (notifier, metrics) = notifier([Webhook { signer, batch: 2, batch_wait: LONG, ..server.hook() }]);
    notifier.joined("r", &channels(&["a", "b", "c"]));
    running(&notifier, async {
        let first = server.next().await;
        assert_eq!(first.events(), [joined(1, "a"), joined(2, "b")]);
        assert_eq!(first.path, "/events?a=b");
        assert_eq!(first.headers["host"], server.address.to_string());
        assert_eq!(first.headers["content-type"], "application/json");
        assert!(first.headers["user-agent"].to_str().unwrap().starts_with("gripd/"));
        let token = first.headers["grip-sig"].to_str().unwrap();
        // The requests of clients are signed with the same key, but have no `aud`.
        let claims: Value = ProxyVerifier::new(&key).unwrap().unwrap().claims(token).unwrap();
        assert_eq!((&claims["iss"], &claims["aud"]), (&json!("gripd"), &json!("webhook")));
        assert!(claims["exp"].as_u64().unwrap() > UnixMillis::now().as_secs());
        until(|| counts(&metrics) == [2, 0, 0, 1]).await;
        // Another thread fills the batch for which the runtime waits.
        std::thread::scope(|scope| scope.spawn(|| notifier.user_joined("r", "7")).join()).unwrap();
        let second = server.next().await;
        assert_eq!(second.events(), [joined(3, "c"), json!({ "id": 4, "event": "joined", "user": "7" })]);
        assert_eq!((first.connection, second.connection), (0, 0));
        until(|| counts(&metrics) == [4, 0, 0, 0]).await;
    })
    .await;
}

#[tokio::test(flavor = "local")]
async fn a_batch_that_is_not_taken_is_told_again_with_the_same_ids() {
    let mut server = Server::start(&[500, 302, 404]).await;
    let (notifier, metrics) = notifier([server.hook()]);
    notifier.joined("r", &channels(&["a"]));
    running(&notifier, async {
        let first = server.next().await;
        // An event that comes while a batch is being sent does not become part of that batch.
        notifier.joined("r", &channels(&["b"]));
        for _ in 0..3 {
            let again = server.next().await;
            assert_eq!((again.body, again.path), (first.body.clone(), first.path.clone()));
        }
        assert_eq!(server.next().await.events(), [joined(2, "b")]);
        until(|| counts(&metrics) == [2, 3, 0, 0]).await;
    })
    .await;
}

#[tokio::test(flavor = "local")]
async fn what_is_dropped_is_told_and_counts_stay_true() {
    let mut server = Server::start(&[]).await;
    let (notifier, metrics) = notifier([Webhook { queue: 2, grace: Duration::ZERO, ..server.hook() }]);
    notifier.joined("r", &channels(&["a", "b", "c", "c", "d"]));
    assert_eq!(counts(&metrics), [0, 0, 2, 2]);
    running(&notifier, async {
        assert_eq!(server.next().await.events(), [joined(1, "a"), joined(2, "b")]);
        assert_eq!(server.next().await.events(), [json!({ "id": 3, "event": "dropped", "count": 2 })]);
        notifier.left("r", &channels(&["c"]));
        notifier.left("r", &channels(&["c"]));
        assert_eq!(server.next().await.events(), [left(4, "c")]);
        until(|| counts(&metrics) == [4, 0, 2, 0]).await;
    })
    .await;
}

#[tokio::test(flavor = "local")]
async fn a_webhook_is_told_what_it_wants_to_know() {
    let mut server = Server::start(&[]).await;
    let base = Webhook { batch_wait: LONG, grace: Duration::ZERO, ..server.hook() };
    let of_channels = Webhook { channels: vec![Glob::from("a*"), Glob::from("*z")], ..base.clone() };
    let cases = [
        (base.clone(), vec!["a", "b", "z", "7", "a", "b", "7", "ended"]),
        (Webhook { route: Some("r".into()), ..base.clone() }, vec!["a", "b", "7", "a", "b", "7", "ended"]),
        (Webhook { route: Some("none".into()), ..base.clone() }, vec![]),
        (Webhook { users: false, ..base.clone() }, vec!["a", "b", "z", "a", "b", "ended"]),
        (Webhook { users: false, ..of_channels }, vec!["a", "z", "a", "ended"]),
        (Webhook { events: EventKinds::parse(["left"]).unwrap(), ..base.clone() }, vec!["a", "b", "7"]),
        (
            Webhook { events: EventKinds::parse(["joined", "joined"]).unwrap(), ..base.clone() },
            vec!["a", "b", "z", "7"],
        ),
        (Webhook { events: EventKinds::parse(["ended"]).unwrap(), ..base }, vec!["ended"]),
    ];
    for (hook, expected) in cases {
        let told = format!("{hook:?}");
        let (notifier, _) = notifier([hook]);
        notifier.joined("r", &channels(&["a", "b"]));
        notifier.joined("s", &channels(&["b", "z"]));
        notifier.user_joined("r", "7");
        notifier.left("r", &channels(&["a"]));
        for route in ["r", "s"] {
            // If the webhook names no route, the connections of both routes count.
            notifier.left(route, &channels(&["b"]));
        }
        notifier.user_left("r", "7");
        notifier.ended(&ended("r"));
        timeout(DEADLINE, notifier.drain(DEADLINE)).await.unwrap();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let subject = |e: &Value| text(&e["channel"]).or_else(|| text(&e["user"])).or_else(|| text(&e["event"]));
        let subjects: Vec<String> = server.rest().iter().filter_map(subject).collect();
        assert_eq!(subjects, expected, "{told}");
    }
    assert!(EventKinds::parse([]).is_err() && EventKinds::parse(["close"]).is_err());
}

#[tokio::test(flavor = "local")]
async fn a_leave_is_told_when_its_grace_is_over() {
    let mut server = Server::start(&[]).await;
    let grace = Duration::from_millis(20);
    let (notifier, _) = notifier([Webhook { grace, ..server.hook() }]);
    running(&notifier, async {
        notifier.joined("r", &channels(&["a"]));
        let joined = server.next().await.body["events"][0]["time"].as_f64().unwrap();
        let since = tokio::time::Instant::now();
        notifier.left("r", &channels(&["a"]));
        let told = server.next().await;
        assert!(since.elapsed() >= grace);
        assert_eq!(told.events(), [left(2, "a")]);
        // The time of the leave is not earlier than that of the join.
        assert!(told.body["events"][0]["time"].as_f64().unwrap() >= joined);
    })
    .await;
}

#[tokio::test(flavor = "local")]
async fn two_webhooks_have_ids_of_their_own() {
    let mut server = Server::start(&[]).await;
    let (notifier, metrics) = notifier([server.hook(), server.hook()]);
    assert!(!notifier.is_idle());
    notifier.ended(&ended("r"));
    running(&notifier, async {
        let [first, second] = [server.next().await, server.next().await];
        assert_ne!(first.body["events"][0]["id"], second.body["events"][0]["id"]);
        assert_eq!(first.events(), second.events());
        assert_eq!(first.events()[0]["duration"], 1.5);
        until(|| counts(&metrics) == [2, 0, 0, 0]).await;
    })
    .await;
}

#[tokio::test(flavor = "local")]
async fn a_connection_that_the_server_closes_is_replaced_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (notifier, metrics) = notifier([hook(listener.local_addr().unwrap())]);
    notifier.joined("r", &channels(&["a"]));
    let mut buffer = [0; 4096];
    running(&notifier, async {
        let (mut first, _) = listener.accept().await.unwrap();
        assert!(first.read(&mut buffer).await.unwrap() > 0);
        first.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK").await.unwrap();
        until(|| counts(&metrics) == [1, 0, 0, 0]).await;
        notifier.joined("r", &channels(&["b"]));
        assert!(first.read(&mut buffer).await.unwrap() > 0);
        drop(first);
        let (mut second, _) = listener.accept().await.unwrap();
        assert!(second.read(&mut buffer).await.unwrap() > 0);
        second.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await.unwrap();
        drop(second);
        until(|| counts(&metrics) == [2, 0, 0, 0]).await;
        // A connection that is known to be closed is not used again.
        notifier.joined("r", &channels(&["c"]));
        let (mut third, _) = listener.accept().await.unwrap();
        assert!(third.read(&mut buffer).await.unwrap() > 0);
        third.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        until(|| counts(&metrics) == [3, 0, 0, 0]).await;
    })
    .await;
}

#[tokio::test(flavor = "local")]
async fn a_long_reply_is_not_read() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (notifier, metrics) = notifier([hook(listener.local_addr().unwrap())]);
    notifier.joined("r", &channels(&["a"]));
    running(&notifier, async {
        let (mut first, _) = listener.accept().await.unwrap();
        assert!(first.read(&mut [0; 4096]).await.unwrap() > 0);
        let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{}", "x".repeat(100_000));
        // The notifier may close the connection before the whole response is written.
        let _ = first.write_all(reply.as_bytes()).await;
        until(|| counts(&metrics) == [1, 0, 0, 0]).await;
        notifier.joined("r", &channels(&["b"]));
        assert!(listener.accept().await.is_ok());
    })
    .await;
}

#[tokio::test(flavor = "local")]
async fn a_server_that_does_not_answer_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (notifier, metrics) = notifier([Webhook { timeout: SOON, ..hook(listener.local_addr().unwrap()) }]);
    notifier.joined("r", &channels(&["a"]));
    running(&notifier, until(|| metrics.failures.get() >= 2)).await;
    assert_eq!(counts(&metrics)[3], 1);
}

#[tokio::test(flavor = "local")]
async fn a_drain_sends_all_there_is_and_then_takes_nothing() {
    let mut server = Server::start(&[]).await;
    let (notifier, metrics) = notifier([Webhook { batch_wait: LONG, queue: 3, batch: 2, ..server.hook() }]);
    running(&notifier, async {
        for name in ["a", "b", "c", "d"] {
            notifier.joined("r", &channels(&[name]));
            notifier.left("r", &channels(&[name]));
            until(|| metrics.queued.get() < 2).await;
        }
        notifier.drain(DEADLINE).await;
        // Leaves in their grace are sent as soon as the queue has room for them.
        assert_eq!(counts(&metrics), [8, 0, 0, 0]);
        notifier.joined("r", &channels(&["e"]));
        assert_eq!(counts(&metrics), [8, 0, 1, 0]);
    })
    .await;
    let told = server.rest();
    let leaves: Vec<&Value> = told.iter().filter(|event| event["event"] == "left").collect();
    assert_eq!(leaves, [&left(5, "a"), &left(6, "b"), &left(7, "c"), &left(8, "d")]);
}

#[tokio::test(flavor = "local")]
async fn a_drain_tries_each_batch_once() {
    let mut server = Server::start(&[500]).await;
    let (notifier, metrics) = notifier([Webhook { batch: 2, ..server.hook() }]);
    notifier.joined("r", &channels(&["a", "b", "c"]));
    timeout(DEADLINE, notifier.drain(DEADLINE)).await.unwrap();
    assert_eq!(server.rest(), [joined(1, "a"), joined(2, "b"), joined(3, "c")]);
    assert_eq!(counts(&metrics), [1, 1, 2, 0]);
}

#[tokio::test(flavor = "local")]
async fn a_drain_is_over_in_its_time_whatever_the_server_does() {
    for runs in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (notifier, metrics) = notifier([Webhook { timeout: LONG, ..hook(listener.local_addr().unwrap()) }]);
        notifier.joined("r", &channels(&["a", "b"]));
        notifier.left("r", &channels(&["a"]));
        let within = Duration::from_millis(50);
        if runs {
            running(&notifier, async {
                // A request is in progress when the drain begins.
                let (mut stream, _) = listener.accept().await.unwrap();
                assert!(stream.read(&mut [0; 16]).await.unwrap() > 0);
                notifier.drain(within).await;
            })
            .await;
        } else {
            timeout(DEADLINE, notifier.drain(within)).await.unwrap();
        }
        assert_eq!(counts(&metrics), [0, 0, 3, 0]);
    }
}

#[tokio::test(flavor = "local")]
async fn what_was_on_its_way_when_it_was_dropped_is_sent_again() {
    let mut server = Server::start(&[]).await;
    let (notifier, metrics) = notifier([server.hook()]);
    notifier.joined("r", &channels(&["a"]));
    let first = running(&notifier, server.next()).await;
    timeout(DEADLINE, notifier.drain(DEADLINE)).await.unwrap();
    // The event may have been sent a second time, but no other event was sent.
    assert!(server.rest().iter().all(|event| *event == first.events()[0]));
    assert_eq!(counts(&metrics), [1, 0, 0, 0]);
}

#[tokio::test(flavor = "local")]
async fn a_notifier_without_webhooks_runs_on() {
    let (notifier, metrics) = notifier([]);
    assert!(notifier.is_idle());
    notifier.joined("r", &channels(&["a"]));
    running(&notifier, notifier.drain(DEADLINE)).await;
    assert_eq!(counts(&metrics), [0; 4]);
}
