//! Items with ids: their order, duplicates, and missing items.

use crate::support::{Answer, Client, Gripd, Origin, eventually, get};
use serde_json::json;

/// Starts an origin that holds streams of `a`, whose clients have had item 1. A request for the next link gets the
/// response that `history` returns for the values of its `Grip-Last`.
fn reliable(history: impl Fn(&[String]) -> Answer + Send + Sync + 'static) -> Origin {
    Origin::start(move |asked| match asked.target() {
        "/next" => history(&asked.all("grip-last")),
        _ => held("a; prev-id=1", "hello\n"),
    })
}

fn held(channel: &str, body: &str) -> Answer {
    let headers =
        format!("Grip-Hold: stream\r\nGrip-Channel: {channel}\r\nGrip-Link: </next>; rel=next; timeout=600\r\n");
    Answer::with(&headers, body)
}

/// Publishes this content to channels, again and again, until the outlet of a client overflows. The clients have had
/// item 1 of the first channel, and item 0 of the second.
fn overflow(gripd: &Gripd, content: &str, channels: &[&str]) {
    for published in 2.. {
        assert!(published < 500, "no outlet overflows");
        let item = |(at, channel): (usize, &&str)| {
            let id = published - at;
            json!({ "channel": channel, "id": id.to_string(), "prev-id": (id - 1).to_string(),
                "http-stream": { "content": content } })
        };
        gripd.publish(&channels.iter().enumerate().map(item).collect());
        if gripd.metric("overflowed_total") > 0 {
            return;
        }
    }
}

/// Reads chunks with this content, and the first chunk with another. Returns the number of the former, and the content
/// of the latter.
fn skip(client: &mut Client, content: &str) -> (usize, String) {
    let mut count = 0;
    loop {
        let chunk = client.chunk();
        if chunk != content {
            return (count, chunk);
        }
        count += 1;
    }
}

#[test]
fn items_wait_for_the_one_before_them() {
    let gripd = Gripd::start(&Origin::holding());
    let mut client = gripd.stream("a");
    assert_eq!(gripd.next("a", "1", "0")["delivered"], 1);
    let receipt = gripd.next("a", "3", "2");
    assert_eq!((&receipt["waiting"], &receipt["delivered"]), (&json!(1), &json!(0)));
    gripd.next("a", "2", "1");
    assert_eq!([client.chunk(), client.chunk(), client.chunk()], ["1", "2", "3"]);
}

#[test]
fn items_wait_for_a_missing_one_only_for_a_limited_time() {
    let wait = std::time::Duration::from_millis(100);
    let gripd = Gripd::with(&Origin::holding(), "", |config| config.hub.message_wait = wait);
    let mut client = gripd.stream("a");
    gripd.next("a", "1", "0");
    gripd.next("a", "3", "2");
    assert_eq!([client.chunk(), client.chunk()], ["1", "3"]);
    // Item 2 comes although gripd no longer waits for it, and is delivered at once. Item 4 follows item 3, which was
    // delivered before.
    gripd.next("a", "2", "1");
    gripd.next("a", "4", "3");
    assert_eq!([client.chunk(), client.chunk()], ["2", "4"]);
}

#[test]
fn an_item_that_comes_twice_is_delivered_once() {
    let gripd = Gripd::start(&Origin::holding());
    let mut client = gripd.stream("a");
    gripd.next("a", "1", "0");
    assert_eq!(gripd.next("a", "1", "0")["duplicate"], 1);
    assert_eq!(gripd.next("b", "1", "0")["duplicate"], json!(null));
    // A close is never a duplicate, and it does not wait for the item before it.
    for _ in 0..2 {
        let close = json!([{ "channel": "b", "id": "x", "prev-id": "y", "action": "close" }]);
        assert_eq!(gripd.publish(&close)[0]["duplicate"], json!(null));
    }
    gripd.say("a", "end");
    assert_eq!([client.chunk(), client.chunk()], ["1", "end"]);
}

#[test]
fn an_item_that_also_closes_has_its_place_in_the_order() {
    let gripd = Gripd::start(&Origin::holding());
    let mut client = gripd.stream("a");
    let mut poll = gripd.poll("a");
    gripd.publish(&json!([
        { "channel": "a", "id": "1", "prev-id": "0", "http-stream": { "content": "1" } },
        { "channel": "a", "id": "2", "prev-id": "1",
            "formats": { "http-stream": { "content": "2" }, "http-response": { "action": "close" } } },
        { "channel": "a", "id": "3", "prev-id": "2", "http-stream": { "content": "3" } },
    ]));
    assert_eq!([client.chunk(), client.chunk(), client.chunk()], ["1", "2", "3"]);
    assert_eq!(poll.answer().1, "hello\n");
}

#[test]
fn the_content_of_a_close_is_sent_even_if_an_item_is_missing() {
    let gripd = Gripd::start(&Origin::holding());
    let mut client = gripd.stream("a");
    gripd.next("a", "1", "0");
    gripd.publish(&json!([{ "channel": "a", "id": "3", "prev-id": "2", "action": "close",
        "http-stream": { "content": "bye" } }]));
    assert_eq!((client.chunk().as_str(), client.chunks().as_str()), ("1", "bye"));
}

#[test]
fn an_item_with_no_seq_does_not_wait() {
    let gripd = Gripd::start(&Origin::holding());
    let mut client = gripd.stream("a");
    gripd.next("a", "1", "0");
    gripd.publish(&json!([{ "channel": "a", "id": "9", "prev-id": "8", "no-seq": true,
        "http-stream": { "content": "9" } }]));
    gripd.next("a", "2", "1");
    assert_eq!([client.chunk(), client.chunk(), client.chunk()], ["1", "9", "2"]);
}

#[test]
fn a_stream_that_misses_an_item_requests_its_link() {
    let origin = reliable(|last| {
        assert_eq!(last, ["a; last-id=1"]);
        held("a; prev-id=3", "2, 3\n")
    });
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/");
    client.head();
    assert_eq!(client.chunk(), "hello\n");
    // Item 2 was lost on its way to gripd.
    let receipt = gripd.next("a", "3", "2");
    assert_eq!(receipt["delivered"], 0, "{receipt}");
    assert_eq!(client.chunk(), "2, 3\n");
    assert_eq!(gripd.next("a", "4", "3")["delivered"], 1);
    assert_eq!(client.chunk(), "4");
    let link = &origin.asked_for("/next")[0];
    assert!(link.line.starts_with("GET ") && link.header("grip-sig").is_some(), "{link:?}");
    assert_eq!((link.header("host"), link.header("cookie")), (Some("localhost"), None));
}

#[test]
fn items_that_come_during_a_request_for_the_link_follow_its_answer() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = reliable(move |_| {
        wait.lock().unwrap().recv().unwrap();
        held("a; prev-id=4", "2, 3, 4\n")
    });
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/");
    client.head();
    assert_eq!(client.chunk(), "hello\n");
    gripd.next("a", "3", "2");
    eventually("the link is asked", || !origin.asked_for("/next").is_empty());
    for (id, prev) in [("4", "3"), ("5", "4"), ("6", "5")] {
        gripd.publish_body(
            "",
            &json!({ "items": [{ "channel": "a", "id": id, "prev-id": prev,
            "http-stream": { "content": id } }] })
            .to_string(),
        );
    }
    go.send(()).unwrap();
    assert_eq!([client.chunk(), client.chunk(), client.chunk()], ["2, 3, 4\n", "5", "6"]);
}

#[test]
fn an_item_that_the_origin_has_sent_already_is_no_gap() {
    let origin = reliable(|_| panic!("nothing is missing"));
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/");
    client.head();
    assert_eq!(client.chunk(), "hello\n");
    // Item 1 was a part of the response, and is published only now.
    gripd.next("a", "1", "0");
    gripd.next("a", "2", "1");
    assert_eq!(client.chunk(), "2");
}

#[test]
fn a_stream_that_misses_items_from_the_beginning_requests_its_link_at_once() {
    let origin = reliable(|_| held("a; prev-id=2", "2\n"));
    let gripd = Gripd::start(&origin);
    // Another client holds the channel, so that gripd knows the last id.
    let mut other = gripd.get("/");
    other.head();
    gripd.next("a", "2", "1");
    let mut client = gripd.get("/");
    client.head();
    assert_eq!([client.chunk(), client.chunk()], ["hello\n", "2\n"]);
    gripd.next("a", "3", "2");
    assert_eq!(client.chunk(), "3");
    assert_eq!([other.chunk(), other.chunk(), other.chunk()], ["hello\n", "2", "3"]);
}

#[test]
fn ids_without_a_link_end_the_stream() {
    let origin = Origin::start(|_| Answer::hold("stream", "a; prev-id=1"));
    let mut client = Gripd::start(&origin).get("/");
    client.head();
    assert_eq!(client.chunks(), "hello\n");
    let gripd = Gripd::with(&origin, ",debug", |_| {});
    let mut client = gripd.get("/");
    client.head();
    assert_eq!(client.chunks(), "hello\n\n\nchannel 'a' specifies prev-id, but no next link found\n");
}

#[test]
fn recover_makes_streams_request_their_links() {
    let origin = reliable(|last| held("a; prev-id=5", &format!("again behind {}\n", last.join(","))));
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/");
    client.head();
    client.chunk();
    let (head, body) = gripd.ask("POST /recover HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(body, "Updated\n");
    assert_eq!(client.chunk(), "again behind a; last-id=1\n");
    assert!(gripd.ask(get("/recover")).0.starts_with("http/1.1 405"));
}

#[test]
fn with_update_on_first_subscription_the_first_stream_requests_its_link() {
    let origin = reliable(|_| held("a; prev-id=1", "again\n"));
    let gripd = Gripd::with(&origin, "", |config| config.hub.update_on_first_subscription = true);
    let mut client = gripd.get("/");
    client.head();
    assert_eq!([client.chunk(), client.chunk()], ["hello\n", "again\n"]);
    // The channel is not new when the second client subscribes.
    gripd.get("/").head();
    gripd.next("a", "2", "1");
    assert_eq!(client.chunk(), "2");
    assert_eq!(origin.asked_for("/next").len(), 1);
}

#[test]
fn an_item_that_does_not_fit_the_outlet_does_not_count_as_sent() {
    let origin = Origin::start(|asked| {
        if asked.target() == "/next" {
            return held("a; prev-id=z, b; prev-id=z", &format!("<{}>", asked.all("grip-last").join(", ")));
        }
        held("a; prev-id=1, b; prev-id=0", "hello\n")
    });
    let gripd = Gripd::with(&origin, "", |config| config.shard.client_buffer = 64 << 10);
    let mut client = gripd.get("/");
    client.head();
    client.chunk();
    let content = "x".repeat(200_000);
    // Items of the two channels fill the outlet in turn, so that the first one that no longer fits may be of either.
    overflow(&gripd, &content, &["a", "b"]);
    let (had, told) = skip(&mut client, &content);
    let (a, b) = (1 + had.div_ceil(2), had / 2);
    assert_eq!(told, format!("<a; last-id={a}, b; last-id={b}>"));
}

#[test]
fn a_client_that_does_not_read_gets_what_it_missed_from_its_link() {
    let origin = reliable(|last| held("a; prev-id=end", &format!("<{}>", last.join(","))));
    let gripd = Gripd::with(&origin, "", |config| config.shard.client_buffer = 64 << 10);
    let mut client = gripd.get("/");
    client.head();
    client.chunk();
    let content = "x".repeat(200_000);
    overflow(&gripd, &content, &["a"]);
    let (had, told) = skip(&mut client, &content);
    // The request for the link names the last item that the client has had.
    assert_eq!(told, format!("<a; last-id={}>", 1 + had));
    gripd.publish(&json!([{ "channel": "a", "id": "on", "prev-id": "end", "http-stream": { "content": "on" } }]));
    assert_eq!((client.chunk().as_str(), gripd.metric("slow_total")), ("on", 0));
}
