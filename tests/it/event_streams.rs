//! Streams of server-sent events: the format `sse`, comments on idle streams, and the header for nginx.

use crate::support::paused::{PausedClient, paused};
use crate::support::{Answer, Client, Gripd, Origin, chunk, get};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Returns an origin that holds a stream on the channel `a`. The request's path is the media type of the stream.
fn origin() -> Origin {
    Origin::start(|asked| {
        let media_type = asked.line.split(' ').nth(1).unwrap().trim_start_matches('/').to_owned();
        Answer::with(&format!("Content-Type: {media_type}\r\nGrip-Hold: stream\r\nGrip-Channel: a\r\n"), ":hello\n")
    })
}

fn stream(gripd: &Gripd, media_type: &str) -> Client {
    let mut client = gripd.get(&format!("/{media_type}"));
    client.read_until(":hello\n\r\n");
    client
}

#[test]
fn an_event_stream_gets_the_event_and_others_the_content() {
    let gripd = Gripd::start(&origin());
    let types = ["text/event-stream", "Text/Event-Stream;charset=utf-8", "text/plain"];
    let [mut events, mut same, mut plain] = types.map(|media_type| stream(&gripd, media_type));
    let publish = |formats: Value| gripd.publish(&json!([{ "channel": "a", "formats": formats }]))[0].clone();
    let both =
        json!({ "sse": { "event": "chat", "id": "7", "data": "a\nb" }, "http-stream": { "content": "plain\n" } });
    assert_eq!(publish(both), json!({ "channel": "a", "delivered": 3, "filtered": 0, "slow": 0 }));
    // Without content for other streams, the format is as if it were absent for them.
    assert_eq!(publish(json!({ "sse": { "data": { "n": 1 } } }))["delivered"], 2);
    // Without an event, event streams get the content for streams.
    assert_eq!(publish(json!({ "http-stream": { "content": "data: last\n\n" } }))["delivered"], 3);
    let expected =
        chunk("event: chat\nid: 7\ndata: a\ndata: b\n\n") + &chunk("data: {\"n\":1}\n\n") + &chunk("data: last\n\n");
    for client in [&mut events, &mut same] {
        assert_eq!(client.read_until("last\n\n\r\n"), expected);
    }
    assert_eq!(plain.read_until("last\n\n\r\n"), chunk("plain\n") + &chunk("data: last\n\n"));
    let wrong = json!({ "items": [{ "channel": "a", "formats": { "sse": { "data": "x", "id": "1\n2" } } }] });
    let (status, body) = gripd.publish_body("", &wrong.to_string());
    assert_eq!((status, body.as_str()), (400, "Invalid format: 'sse' contains 'id' with invalid value\n"));
}

#[test]
fn an_event_for_a_client_of_http_1_0_is_bare() {
    let gripd = Gripd::start(&origin());
    let mut client = Client::send(gripd.clients, "GET /text/event-stream HTTP/1.0\r\n\r\n");
    client.read_until(":hello\n");
    gripd.publish(&json!([{ "channel": "a", "formats": { "sse": { "data": "x" } } }]));
    assert_eq!(client.read_until("x\n\n"), "data: x\n\n");
}

#[test]
fn the_filters_of_an_event_are_its_own() {
    let origin = Origin::start(|asked| {
        let filter = if asked.line.contains("/filtered") { "; filter=var-subst" } else { "" };
        let headers = format!(
            "Content-Type: text/event-stream\r\nGrip-Hold: stream\r\nGrip-Channel: a{filter}\r\nGrip-Set-Meta: n=7\r\n"
        );
        Answer::with(&headers, ":hello\n")
    });
    let gripd = Gripd::start(&origin);
    let [mut filtered, mut plain] = ["/filtered", "/plain"].map(|path| gripd.get(path));
    for client in [&mut filtered, &mut plain] {
        client.read_until(":hello\n\r\n");
    }
    let item = json!([{ "channel": "a", "formats": {
        "sse": { "data": "%(n)s", "content-filters": ["var-subst"] }, "http-stream": { "content": "other\n" },
    } }]);
    let outcome = gripd.publish(&item)[0].clone();
    assert_eq!((&outcome["delivered"], &outcome["filtered"]), (&json!(1), &json!(1)));
    assert_eq!(filtered.read_until("\n\n\r\n"), chunk("data: 7\n\n"));
    gripd.say("a", "end\n");
    assert_eq!(plain.read_until("end\n\r\n"), chunk("end\n"));
}

#[test]
fn nginx_is_told_not_to_buffer_a_stream_unless_the_origin_says_otherwise() {
    let origin = Origin::start(|asked| {
        let own = if asked.line.contains("/own") { "X-Accel-Buffering: yes\r\n" } else { "" };
        let hold = if asked.line.contains("/plain") { "" } else { "Grip-Hold: stream\r\nGrip-Channel: a\r\n" };
        Answer::with(&format!("{own}{hold}"), "hello\n")
    });
    let gripd = Gripd::start(&origin);
    let buffering = |path: &str| {
        let head = Client::send(gripd.clients, get(path)).head();
        head.lines().find_map(|line| line.strip_prefix("x-accel-buffering: ")).map(str::to_owned)
    };
    assert_eq!(buffering("/"), Some("no".to_owned()));
    assert_eq!(buffering("/own"), Some("yes".to_owned()));
    assert_eq!(buffering("/plain"), None);
}

/// Plays a scene with a stream that is held with these headers of the origin and begins with this body. Comments are
/// sent after 25 seconds of silence, the default.
fn held(
    headers: &'static str,
    body: &'static str,
    scene: impl AsyncFnOnce(&mut PausedClient, &crate::support::paused::Paused),
) {
    paused(
        "* origin:80",
        |_| {},
        async |gripd| {
            gripd.origin_answers(move |_| {
                let hold = "Grip-Hold: stream\r\nGrip-Channel: a\r\n";
                format!("HTTP/1.1 200 OK\r\n{hold}{headers}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
            });
            let mut client = gripd.send(get("/")).await;
            client.read_until("\r\n\r\n").await;
            if !body.is_empty() {
                client.read_until(&chunk(body)).await;
            }
            scene(&mut client, gripd).await;
            gripd.publish(&json!([{ "channel": "a", "action": "close" }])).await;
            assert_eq!(client.rest().await, "0\r\n\r\n".len());
        },
    );
}

const EVENTS: &str = "Content-Type: text/event-stream\r\n";

/// Waits for `time`, and publishes content for streams. Returns what the client has got since it last read.
async fn after(time: Duration, client: &mut PausedClient, gripd: &crate::support::paused::Paused) -> String {
    sleep(time).await;
    let end = "data: end\n\n";
    gripd.publish(&json!([{ "channel": "a", "http-stream": { "content": end } }])).await;
    let all = client.read_until(&chunk(end)).await;
    all.strip_suffix(&chunk(end)).unwrap().to_owned()
}

#[test]
fn an_idle_event_stream_gets_comments() {
    let minute = Duration::from_secs(60);
    held(EVENTS, "data: x\n\n", async |client, gripd| {
        let begin = Instant::now();
        for _ in 0..10 {
            let asked = Instant::now();
            assert_eq!(client.read_until("\n\r\n").await, chunk(":\n"));
            let silence = asked.elapsed();
            assert!(silence > Duration::from_secs(15) && silence <= Duration::from_secs(25), "{silence:?}");
        }
        assert!(begin.elapsed() > 3 * minute);
        // While items come, no comment is needed.
        for _ in 0..30 {
            assert_eq!(after(Duration::from_secs(10), client, gripd).await, "");
        }
    });
    // The body may be empty.
    held(EVENTS, "", async |client, _| {
        assert_eq!(client.read_until("\n\r\n").await, chunk(":\n"));
    });
}

#[test]
fn no_comment_is_sent_where_it_would_not_be_one() {
    let minutes = Duration::from_secs(300);
    for (headers, body) in [
        // The stream is not known to be an event stream, or its bytes are encoded.
        ("Content-Type: text/plain\r\n", "x\n"),
        ("Content-Type: text/event-stream\r\nContent-Encoding: br\r\n", "x\n"),
        // The last line is not complete.
        (EVENTS, "data: x"),
        (EVENTS, "data: x\r"),
    ] {
        held(headers, body, async |client, gripd| {
            assert_eq!(after(minutes, client, gripd).await, "", "{headers} {body:?}");
        });
    }
    // A hold with a keep-alive of its own gets only that.
    let own = "Content-Type: text/event-stream\r\nGrip-Keep-Alive: :mine\\n; format=cstring; timeout=100\r\n";
    held(own, ":\n", async |client, gripd| {
        let sent = after(minutes, client, gripd).await;
        assert!(sent.starts_with(&chunk(":mine\n")) && !sent.contains("\n:\n"), "{sent:?}");
    });
}

#[test]
fn an_item_may_end_within_a_line() {
    held(EVENTS, "", async |client, gripd| {
        gripd.publish(&json!([{ "channel": "a", "http-stream": { "content": "data: half" } }])).await;
        client.read_until(&chunk("data: half")).await;
        assert_eq!(after(Duration::from_secs(300), client, gripd).await, "");
        // The last item has ended the line.
        assert_eq!(client.read_until("\n\r\n").await, chunk(":\n"));
    });
}

#[test]
fn an_item_for_others_does_not_stop_the_comments() {
    held(EVENTS, "", async |client, gripd| {
        let item = json!({ "channel": "a", "except": ["a"], "http-stream": { "content": "data: half" } });
        gripd.publish(&json!([item])).await;
        let filtered = json!({ "content": "data: half", "content-filters": ["var-subst"] });
        gripd.publish(&json!([{ "channel": "a", "http-stream": filtered }])).await;
        assert_eq!(client.read_until("\n\r\n").await, chunk(":\n"));
    });
}

#[test]
fn comments_can_be_turned_off() {
    let off = |config: &mut gripd::config::Config| config.shard.event_keep_alive = Duration::ZERO;
    paused("* origin:80", off, async |gripd| {
        gripd.origin_answers(|_| {
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nGrip-Hold: stream\r\nGrip-Channel: a\r\n\
              Content-Length: 0\r\n\r\n"
                .to_vec()
        });
        let mut client = gripd.send(get("/")).await;
        client.read_until("\r\n\r\n").await;
        assert_eq!(after(Duration::from_secs(300), &mut client, gripd).await, "");
    });
}

#[test]
fn a_stream_with_links_gets_comments_until_a_link_has_a_keep_alive() {
    paused(
        "* origin:80",
        |_| {},
        async |gripd| {
            gripd.origin_answers(|heard| {
                let keep_alive =
                    if heard.target == "/" { "" } else { "Grip-Keep-Alive: :own\\n; format=cstring; timeout=20\r\n" };
                let head =
                    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nGrip-Hold: stream\r\nGrip-Channel: a\r\n";
                format!("{head}{keep_alive}Grip-Link: </next>; rel=next; timeout=0\r\nContent-Length: 0\r\n\r\n")
                    .into_bytes()
            });
            let mut client = gripd.send(get("/")).await;
            client.read_until("\r\n\r\n").await;
            assert_eq!(client.read_until("\n\r\n").await, chunk(":\n"));
            gripd.publish(&json!([{ "channel": "a", "action": "hint" }])).await;
            gripd.eventually("the link is asked", async |gripd| gripd.asked() == 2).await;
            let sent = after(Duration::from_secs(300), &mut client, gripd).await;
            assert_eq!(sent.replace(&chunk(":own\n"), ""), "", "{sent:?}");
            assert!(sent.len() > 10 * chunk(":own\n").len());
        },
    );
}
