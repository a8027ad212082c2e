//! Limits and turns that keep one client or one publisher from delaying all others.

use crate::support::events::subscribe;
use crate::support::websocket::{BINARY, CLOSE, CONTINUATION, frame};
use crate::support::{Answer, Client, Events, Gripd, Origin, Socket, SocketOrigin, eventually, gate, get};
use serde_json::json;
use std::sync::{Mutex, mpsc};

#[test]
fn clients_that_leave_do_not_keep_the_others_from_being_served() {
    let (open, wait) = gate();
    let origin = Origin::start(move |asked| match asked.target() {
        "/gone" => {
            wait();
            Answer::ok("")
        }
        "/leaves" => Answer::with("Grip-Hold: stream\r\nGrip-Channel: a\r\nGrip-Link: </gone>; rel=gone\r\n", "hello "),
        _ => Answer::hold("response", "b"),
    });
    let gripd = Gripd::with(&origin, "", |config| config.own_requests = 1);
    let leaving: Vec<Client> = (0..3).map(|_| gripd.get("/leaves")).collect();
    let _stays = gripd.get("/stays");
    eventually("the clients are held", || gripd.connections("a") == 3 && gripd.connections("b") == 1);
    drop(leaving);
    eventually("the origin is told that one client is gone, and hangs", || origin.asked_for("/gone").len() == 1);
    gripd.publish(&json!([{ "channel": "b", "action": "hint" }]));
    eventually("the origin is asked again for the client that stays", || origin.asked_for("/stays").len() == 2);
    assert_eq!(origin.asked_for("/gone").len(), 1);
    drop(open);
}

#[test]
fn clients_take_turns_when_gripd_asks_the_origin_again() {
    let (open, wait) = gate();
    let origin = Origin::start(move |asked| {
        if asked.header("grip-last").is_some() {
            wait();
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
    eventually("the clients are held", || gripd.connections("crowd") == 6 && gripd.connections("other") == 1);
    gripd.next("crowd", "3", "2");
    let again = |path: &str| origin.asked_for(path).len();
    eventually("the origin is asked again for one client of the crowd", || again("/crowd") == 7);
    eventually("the other five of the crowd wait", || gripd.metric("own_requests_waiting") == 5);
    gripd.next("other", "3", "2");
    eventually("the client with another address waits as well", || gripd.metric("own_requests_waiting") == 6);
    // One request of the crowd is in progress. At most one more of them comes before the client with another address.
    (0..3).for_each(|_| open.send(()).unwrap());
    assert_eq!(other.answer().1, "again");
    assert!(again("/crowd") <= 9, "the origin was asked {} times for the crowd", again("/crowd"));
    drop((open, crowd));
}

#[test]
fn a_patch_with_too_many_operations_is_refused() {
    let gripd = Gripd::start(&Origin::holding());
    let insert = json!({ "op": "add", "path": "/0", "value": 1 });
    let item = json!({ "items": [{ "channel": "a", "http-response": { "body-patch": vec![insert; 1000] } }] });
    let (status, why) = gripd.publish_body("", &item.to_string());
    assert_eq!(status, 400);
    assert!(why.contains("1000 operations, and at most 256 are allowed"), "{why}");
}

#[test]
fn a_connection_header_with_too_many_names_is_refused() {
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
fn names_that_are_too_long_are_refused_from_origins_and_publishers() {
    let (name, long) = ("x".repeat(1025), "x".repeat(2049));
    let named = name.clone();
    let origin = Origin::start(move |_| Answer::hold("stream", &named));
    let gripd = Gripd::with(&origin, ",debug", |_| ());
    let (head, body) = gripd.get("/").answer();
    let why = "has 1025 bytes, and at most 1024 are allowed";
    assert!(head.starts_with("http/1.1 502") && body.contains(why), "{head}{body}");
    let content = json!({ "content": "hello" });
    for (item, why) in [
        (json!({ "channel": "a", "id": name, "http-stream": content }), why),
        (json!({ "channel": "a", "prev-id": name, "http-stream": content }), why),
        // The names that publishers use include the prefix of the route, so they may be longer than those of origins.
        (json!({ "channel": long, "http-stream": content }), "has 2049 bytes, and at most 2048 are allowed"),
        (json!({ "channel": "a", "with": [long], "http-stream": content }), "at most 2048 are allowed"),
        (json!({ "channel": "a", "except": [long], "action": "close" }), "at most 2048 are allowed"),
        (json!({ "channel": "a", "action": "subscribe", "channels": [long] }), "at most 2048 are allowed"),
    ] {
        let (status, body) = gripd.publish_body("", &json!({ "items": [item] }).to_string());
        assert!(status == 400 && body.contains(why), "{status} {body}");
    }
}

#[test]
fn a_channel_with_the_longest_prefix_and_name_can_be_used() {
    let (prefix, name) = ("p".repeat(1024), "x".repeat(1024));
    let held = name.clone();
    let origin = Origin::start(move |_| Answer::hold("stream", &held));
    let gripd = Gripd::with(&origin, &format!(",prefix={prefix}"), |_| ());
    let mut client = gripd.get("/");
    client.head();
    assert_eq!(gripd.say(&format!("{prefix}{name}"), "hello"), 1);
    assert_eq!(gripd.close(&format!("{prefix}{name}")), (1, 0));
}

/// Starts an origin that holds long-polls with a large document as their body. Long-polls for `/filtered` have an HTTP
/// filter that drops all items.
fn documents() -> Origin {
    let document = json!(vec!["x".repeat(20); 3500]).to_string();
    Origin::start(move |asked| match asked.target() {
        "/drop" => Answer::with("Action: drop\r\n", ""),
        "/filtered" => Answer::with(
            "Grip-Hold: response\r\nGrip-Channel: busy; filter=http-check, user\r\nGrip-Set-Meta: url=/drop\r\n",
            &document,
        ),
        _ => Answer::with("Grip-Hold: response\r\nGrip-Channel: busy\r\n", &document),
    })
}

#[test]
fn polls_that_wait_to_be_patched_are_counted_and_closed_like_others() {
    let gripd = Gripd::start(&documents());
    let mut crowd: Vec<Client> = (0..40).map(|_| gripd.get("/busy")).collect();
    let mut filtered = gripd.get("/filtered");
    eventually("the clients are held", || gripd.connections("busy") == 41);
    let patch = json!({ "body-patch": vec![json!({ "op": "add", "path": "/0", "value": 7 }); 200] });
    // A receipt that is sent before all outcomes are known counts the unknown ones as `pending`.
    let receipt = gripd.publish(&json!([{ "channel": "busy", "http-response": patch }]));
    let known = |name: &str| receipt[0][name].as_u64().unwrap_or_default();
    assert_eq!(known("delivered") + known("filtered") + known("pending"), 41, "{receipt}");
    assert_eq!(gripd.close("user"), (1, 0));
    assert!(filtered.answer().1.starts_with("[\"x"));
    for client in &mut crowd {
        assert!(client.answer().1.starts_with("[7,7,7"));
    }
}

#[test]
fn a_patch_that_comes_before_a_close_is_delivered() {
    let gripd = Gripd::start(&documents());
    let mut crowd: Vec<Client> = (0..20).map(|_| gripd.get("/busy")).collect();
    eventually("the clients are held", || gripd.connections("busy") == 20);
    let patch = json!({ "body-patch": [{ "op": "add", "path": "/0", "value": 7 }] });
    gripd.publish(&json!([{ "channel": "busy", "http-response": patch }, { "channel": "busy", "action": "close" }]));
    for client in &mut crowd {
        assert!(client.answer().1.starts_with("[7,"));
        assert_eq!(client.rest(), "");
    }
}

#[test]
fn the_limit_of_a_relayed_message_applies_to_its_decompressed_size() {
    let origin = SocketOrigin::start();
    let gripd = origin.gripd("", "", |config| {
        config.session.compression = true;
        config.session.max_relayed_message = 200_000;
    });
    let deflated = {
        let mut out = Vec::with_capacity(10_000);
        let mut stream = flate2::Compress::new(flate2::Compression::default(), false);
        stream.compress_vec(&vec![b'x'; 1_000_000], &mut out, flate2::FlushCompress::Sync).unwrap();
        out.truncate(out.len() - 4);
        out
    };
    let large = "x".repeat(120_000);
    for way in ["whole", "fragments", "compressed"] {
        let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
        let mut client = Socket::ask(gripd.clients, "/", offer);
        let mut end = origin.next().accept("");
        client.accepted();
        client.send(BINARY, "x".repeat(200_000));
        assert_eq!(end.message(), (BINARY, vec![b'x'; 200_000]), "{way}");
        match way {
            "whole" => client.send(BINARY, "x".repeat(200_001)),
            "fragments" => {
                client.fragment(BINARY, false, &large);
                client.fragment(CONTINUATION, true, &large);
            }
            _ => client.write(frame(0xc0 | BINARY, true, &deflated)),
        }
        let mut relayed = 0;
        let closed = loop {
            let heard = end.read();
            if heard.opcode == CLOSE {
                break heard.content;
            }
            relayed += heard.content.len();
        };
        assert_eq!(closed, b"\x03\xf1message is too large", "{way}");
        assert!(relayed <= 200_000, "{way}: {relayed} bytes were relayed");
        end.close(1009, "");
        assert_eq!(client.closed().0, 1009, "{way}");
    }
}

#[test]
fn the_number_of_relayed_websockets_of_an_origin_is_limited() {
    let origin = SocketOrigin::start();
    let gripd = origin.gripd("", "", |config| {
        config.shards = 1;
        config.origin.websockets = 2;
    });
    let (first, second) = (origin.open(&gripd, ""), origin.open(&gripd, ""));
    let (head, _) = Socket::ask(gripd.clients, "/", "").http().answer();
    assert!(head.starts_with("http/1.1 503"), "{head}");
    drop(first);
    eventually("the first WebSocket is gone", || gripd.metric("parked") == 1);
    drop((origin.open(&gripd, ""), second));
}

#[test]
fn the_bytes_that_wait_for_origins_over_http_are_limited_for_all_clients_together() {
    let origin = Events::start();
    let gripd = origin.gripd("", ",over_http", |config| {
        config.shards = 1;
        config.session.unsent_total = 100_000;
    });
    let (mut first, mut second) = (origin.open(&gripd, b""), origin.open(&gripd, b""));
    // The origin does not answer yet, so the messages of the clients wait.
    first.send(BINARY, "x".repeat(90_000));
    let heard = origin.next();
    assert!(heard.events().starts_with("BINARY"));
    // This message waits until the origin has answered. It is dropped when the client is closed.
    first.send(BINARY, "never sent");
    // The client with the most waiting bytes is closed, although the other one has exceeded the limit.
    second.send(BINARY, "y".repeat(20_000));
    assert!(origin.next().events().starts_with("BINARY"));
    assert_eq!(first.closed(), (1013, "too many messages are waiting".into()));
    assert_eq!(gripd.metric("websockets_crowded_total"), 1);
    // The origin is told of the close once it has answered the request in progress.
    heard.say("");
    assert_eq!(origin.next().events(), "CLOSE 1f|\\x03\\xf5too many messages are waiting|");
    let mut third = origin.open(&gripd, b"");
    third.send(BINARY, "z".repeat(70_000));
    assert!(origin.next().events().starts_with("BINARY"));
    assert_eq!(gripd.metric("websockets_crowded_total"), 1);
    drop((second, third));
}

#[test]
fn a_client_that_does_not_read_gives_way_as_well_if_too_many_bytes_wait_for_its_origin() {
    let origin = Events::start();
    let gripd = origin.gripd("", ",over_http", |config| {
        config.shards = 1;
        config.session.unsent_total = 100_000;
        config.shard.client_buffer = 100 << 20;
    });
    let mut first = Socket::ask_with_small_buffer(gripd.clients, "/chat");
    origin.next().accept("", &subscribe("a"));
    first.accepted();
    first.send(BINARY, "x".repeat(90_000));
    let _heard = origin.next();
    // The messages for the first client are more than the kernel takes, so most of their bytes wait in gripd.
    let large = json!({ "channel": "a", "formats": { "ws-message": { "content": "z".repeat(900_000) } } });
    (0..12).for_each(|_| assert_eq!(gripd.publish(&json!([large]))[0]["slow"], 0));
    let mut second = origin.open(&gripd, b"");
    second.send(BINARY, "y".repeat(20_000));
    let _other = origin.next();
    eventually("the first client has given way", || gripd.metric("websockets_crowded_total") == 1);
}

#[test]
fn a_client_that_floods_during_its_response_delays_nobody() {
    let (go_on, over) = mpsc::channel::<()>();
    let over = Mutex::new(Some(over));
    let origin = Origin::start(move |asked| {
        if asked.target() != "/slow" {
            return Answer::ok("plain\n");
        }
        let over = over.lock().unwrap().take().unwrap();
        Answer::Write(Box::new(move |stream| {
            use std::io::Write;
            let head = "HTTP/1.1 200 OK\r\nGrip-Hold: stream\r\nGrip-Channel: a\r\nContent-Length: 1000000\r\n\r\n";
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&[b'x'; 200_000]).unwrap();
            // The body is larger than what gripd reads before the stream begins, and its end is missing. The stream
            // therefore waits for more.
            let _ = over.recv();
        }))
    });
    let gripd = Gripd::with(&origin, "", |config| config.shards = 1);
    let mut client = gripd.get("/slow");
    client.head();
    client.read_exact(150_000);
    // These are more bytes than a held client may send. gripd is to end the connection, but only after the rest of the
    // origin's body, which does not come yet.
    client.write([b'y'; 100_000]);
    for _ in 0..10 {
        assert_eq!(gripd.get("/plain").answer().1, "plain\n");
    }
    drop(go_on);
    let _ = client.rest_and_end();
    eventually("the client is gone", || gripd.metric("parked") == 0);
}
