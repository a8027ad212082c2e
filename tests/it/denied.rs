//! Denials: closes with `deny-for`, which also keep clients out of a channel for a time.

use crate::support::events::{event, events};
use crate::support::kinds::{item, origin, with};
use crate::support::tokens::{SECRET, token};
use crate::support::{Answer, Client, Gripd, KINDS, Kind, Origin, Program, eventually, folder, get};
use serde_json::{Value, json};
use std::path::Path;

fn start() -> Gripd {
    Gripd::configured(&origin().route(""))
}

/// Closes a channel and denies it for five minutes. Returns the number of connections that were closed.
fn deny(gripd: &Gripd, channel: &str, more: Value) -> u64 {
    let close = with(json!({ "channel": channel, "action": "close", "deny-for": 300 }), more);
    gripd.publish(&json!([close]))[0]["closed"].as_u64().unwrap()
}

/// Asserts that each kind of connection is refused if it asks for the channels at the beginning of `rest`.
fn refused(gripd: &Gripd, rest: &str) {
    for kind in KINDS {
        let before = gripd.metric("denied_total");
        let (status, head, body) = kind.ask(gripd, rest).refused();
        assert_eq!(status, 403, "{kind:?} of {rest}: {head}{body}");
        assert!(!body.is_empty() && !body.contains("hello"), "{body}");
        assert_eq!(gripd.metric("denied_total"), before + 1, "{kind:?} of {rest}");
    }
    for channel in rest.split('&').next().unwrap().split(',') {
        assert_eq!(gripd.connections(channel), 0, "{channel}");
    }
}

/// Asserts that each kind of connection may hold these channels.
fn held(gripd: &Gripd, channels: &str) {
    for kind in KINDS {
        let mut member = kind.held(gripd, channels);
        let first = channels.split(',').next().unwrap();
        assert_eq!(gripd.publish(&json!([item(first, "held")]))[0]["delivered"], 1, "{kind:?} of {channels}");
        assert_eq!(member.hears(), "held");
        gripd.close(first);
    }
}

fn channels(page: &Value) -> Vec<&str> {
    page["denied"].as_array().unwrap().iter().map(|denied| denied["channel"].as_str().unwrap()).collect()
}

#[test]
fn a_denied_channel_is_refused_and_others_are_not() {
    let gripd = start();
    let mut kicked = KINDS.map(|kind| kind.held(&gripd, "user456,room"));
    let mut other = Kind::Stream.held(&gripd, "user7,room");
    assert_eq!(deny(&gripd, "user456", json!({})), 3);
    kicked.iter_mut().for_each(|member| drop(member.ends()));
    refused(&gripd, "user456");
    refused(&gripd, "lobby,user456,news");
    held(&gripd, "user457,lobby");
    gripd.say("room", "on");
    assert_eq!(other.hears(), "on");
    // A denial also applies to clients that were not connected when the channel was closed.
    assert_eq!(deny(&gripd, "user8", json!({})), 0);
    refused(&gripd, "user8");
}

#[test]
fn a_denial_applies_only_to_the_selected_connections() {
    let gripd = start();
    deny(&gripd, "user456", json!({ "with": ["conversation123"] }));
    refused(&gripd, "conversation123,user456");
    refused(&gripd, "user456,x,conversation123");
    held(&gripd, "user456,conversation7");
    held(&gripd, "user7,conversation123");
    deny(&gripd, "office", json!({ "except": ["staff", "guard"] }));
    refused(&gripd, "office,guest");
    held(&gripd, "office,staff");
    held(&gripd, "guard,office");
    deny(&gripd, "both", json!({ "with": ["in"], "except": ["out"] }));
    refused(&gripd, "both,in");
    held(&gripd, "both,in,out");
    held(&gripd, "both");
}

#[test]
fn a_denial_applies_to_the_own_channel_of_a_user() {
    let route = "user_jwt = [\"query:token\"]\nuser_channel = \"user{user}\"\nprefix = \"app-\"";
    let gripd = Gripd::configured(&origin().route(&format!("{route}\nuser_key = \"{SECRET}\"")));
    deny(&gripd, "app-user456", json!({}));
    refused(&gripd, &format!("room&token={}", token("456")));
    for kind in KINDS {
        let _member =
            kind.ask(&gripd, &format!("room&token={}", token("7"))).begun(|| gripd.connections("app-user7") == 1);
        assert_eq!(gripd.close("app-user7"), (1, 0), "{kind:?}");
    }
}

#[test]
fn a_websocket_cannot_subscribe_to_a_denied_channel() {
    let gripd = start();
    let mut socket = Kind::WebSocket.held(&gripd, "lobby");
    deny(&gripd, "user456", json!({}));
    socket.tell(&json!({ "type": "subscribe", "channel": "user456" }));
    assert_eq!((gripd.connections("user456"), gripd.metric("denied_total")), (0, 1));
    socket.tell(&json!({ "type": "subscribe", "channel": "user7" }));
    gripd.publish(&json!([item("user456", "no"), item("lobby", "on"), item("user7", "and on")]));
    assert_eq!([socket.hears(), socket.hears()], ["on", "and on"]);
    assert_eq!(gripd.control("DELETE", "/denied/user456").0, 200);
    socket.tell(&json!({ "type": "subscribe", "channel": "user456" }));
    assert_eq!(gripd.connections("user456"), 1);
}

#[test]
fn a_websocket_ends_when_its_origin_names_a_denied_user() {
    let gripd = Gripd::configured(&origin().route("user_meta = \"user\"\nuser_channel = \"user{user}\""));
    deny(&gripd, "user456", json!({}));
    let mut socket = Kind::WebSocket.held(&gripd, "lobby");
    socket.write(r#"c:{"type":"set-meta","name":"user","value":"456"}"#);
    socket.ends();
    eventually("the WebSocket is gone", || gripd.connections("lobby") == 0);
    // If the origin names the denied user in its response to the handshake, the handshake is refused.
    assert_eq!(Kind::WebSocket.ask(&gripd, "lobby&meta=456").refused().0, 403);
}

#[test]
fn a_denied_subscription_is_not_tried_again_after_an_unsubscribe() {
    let origin = Origin::start(|asked| {
        let control =
            |kind: &str, channel: &str| event("TEXT", format!("c:{}", json!({ "type": kind, "channel": channel })));
        let said = [control("subscribe", "office"), control("subscribe", "staff"), control("unsubscribe", "office")];
        match asked.body.as_str() {
            "OPEN\r\n" => events("Sec-WebSocket-Extensions: grip\r\n", &[b"OPEN\r\n".to_vec(), said.concat()].concat()),
            _ => events("", b""),
        }
    });
    let gripd = Gripd::configured(&origin.route(""));
    deny(&gripd, "office", json!({ "except": ["staff"] }));
    let _socket = Kind::WebSocket.ask(&gripd, "").begun(|| gripd.connections("staff") == 1);
    assert_eq!(gripd.connections("office"), 0);
}

#[test]
fn many_denials_of_one_channel_are_listed_one_by_one() {
    let gripd = start();
    for user in 0..5 {
        deny(&gripd, "room", json!({ "with": [format!("user{user}")] }));
    }
    deny(&gripd, "sea", json!({}));
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let page = gripd.json(&format!("/denied?limit=2{after}"));
        assert!(channels(&page).len() <= 2, "{page}");
        found.extend(page["denied"].as_array().unwrap().iter().map(|denied| denied["with"].to_string()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    let expected: Vec<String> = (0..5).map(|user| format!("[\"user{user}\"]")).chain(["[]".into()]).collect();
    assert_eq!(found, expected);
}

#[test]
fn denials_are_listed_page_by_page() {
    let gripd = start();
    assert_eq!(gripd.json("/denied"), json!({ "denied": [], "next": null }));
    for channel in ["b1", "a3", "a1", "a2", "a/4 &"] {
        deny(&gripd, channel, json!({}));
    }
    deny(&gripd, "c", json!({ "with": ["x", "y"], "except": ["z"] }));
    let mut one = gripd.json("/denied?prefix=c");
    let seconds = one["denied"][0]["seconds"].take().as_u64().unwrap();
    assert!((280..=300).contains(&seconds), "{seconds}");
    let expected = json!({ "channel": "c", "seconds": null, "with": ["x", "y"], "except": ["z"] });
    assert_eq!(one, json!({ "denied": [expected], "next": null }));
    let all = gripd.json("/denied");
    assert_eq!(channels(&all), ["a/4 &", "a1", "a2", "a3", "b1", "c"]);
    let page = gripd.json("/denied?prefix=a&limit=3");
    assert_eq!((channels(&page), &page["next"]), (vec!["a/4 &", "a1", "a2"], &json!("a2")));
    let page = gripd.json("/denied?prefix=a&limit=3&after=a2");
    assert_eq!((channels(&page), &page["next"]), (vec!["a3"], &Value::Null));
    for wrong in ["limit=0", "limit=1001", "limit=x", "color=red"] {
        assert_eq!(gripd.control("GET", &format!("/denied?{wrong}")).0, 400, "{wrong}");
    }
}

#[test]
fn a_denial_can_be_deleted() {
    let gripd = start();
    deny(&gripd, "user456", json!({}));
    deny(&gripd, "a/b c%", json!({}));
    let (head, body) = gripd.ask("DELETE /denied/user456 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(body, "Deleted\n");
    held(&gripd, "user456");
    let (status, body) = gripd.control("DELETE", "/denied/a%2Fb%20c%25");
    assert_eq!((status, body.trim_end()), (200, "{\"deleted\":1}"));
    for gone in ["user456", "a%2Fb%20c%25", "never"] {
        assert_eq!(gripd.control("DELETE", &format!("/denied/{gone}")).0, 404, "{gone}");
    }
    assert_eq!(gripd.json("/denied")["denied"], json!([]));
}

#[test]
fn a_stream_whose_link_names_a_denied_channel_ends_and_is_counted() {
    let hold = |channel| format!("Grip-Hold: stream\r\nGrip-Channel: {channel}\r\n");
    let origin = Origin::start(move |asked| {
        let channel = if asked.target() == "/next" { "user456" } else { "lobby" };
        Answer::linked(&hold(channel), "</next>; rel=next; timeout=600", "hello ")
    });
    let gripd = Gripd::start(&origin);
    let mut client = gripd.get("/");
    client.head();
    assert_eq!(client.chunk(), "hello ");
    deny(&gripd, "user456", json!({}));
    gripd.publish(&json!([{ "channel": "lobby", "action": "hint" }]));
    client.rest();
    assert_eq!(gripd.metric("denied_total"), 1);
}

#[test]
fn a_denial_expires() {
    let gripd = start();
    gripd.publish(&json!([{ "channel": "user456", "action": "close", "deny-for": 1 }]));
    let mut listed = 0;
    eventually("the denial has expired", || {
        let denied = gripd.json("/denied")["denied"].as_array().unwrap().len();
        listed += denied;
        denied == 0
    });
    assert!(listed > 0, "the denial was never listed");
    held(&gripd, "user456");
}

#[test]
fn the_last_close_sets_the_duration_of_a_denial() {
    let gripd = start();
    for seconds in [300, 3000] {
        gripd.publish(&json!([{ "channel": "user456", "action": "close", "deny-for": seconds }]));
        let left = gripd.json("/denied")["denied"][0]["seconds"].as_u64().unwrap();
        assert!((seconds - 20..=seconds).contains(&left), "{left} of {seconds}");
    }
    // A close without `deny-for` does not end the denial.
    gripd.close("user456");
    refused(&gripd, "user456");
}

#[test]
fn an_invalid_deny_for_refuses_the_whole_batch() {
    let gripd = start();
    let mut client = Kind::Stream.held(&gripd, "user456");
    let wrong = [json!(0), json!(-1), json!(1.5), json!(true), json!(31_536_001), json!([300])];
    for wrong in wrong {
        let items = json!({ "items": [{ "channel": "user456", "action": "close", "deny-for": 300 },
            { "channel": "user7", "action": "close", "deny-for": wrong }] });
        let (status, reply) = gripd.publish_body("", &items.to_string());
        assert_eq!(status, 400, "{wrong}");
        assert!(reply.contains("deny-for"), "{reply}");
    }
    assert_eq!(gripd.json("/denied")["denied"], json!([]));
    gripd.say("user456", "still");
    assert_eq!(client.hears(), "still");
    gripd.publish(&json!([{ "channel": "a", "action": "close", "deny-for": 31_536_000 }]));
    gripd.publish(&json!([{ "channel": "b", "action": "close", "deny-for": 1 }]));
    assert_eq!(channels(&gripd.json("/denied"))[0], "a");
}

#[test]
fn the_number_of_denials_is_limited() {
    let config = format!("control.max_body = 10000000\n{}", origin().route(""));
    let gripd = Gripd::configured(&config);
    let close = |n: usize| json!({ "channel": format!("user{n}"), "action": "close", "deny-for": 300 });
    let post = |from: usize, to: usize| {
        let items: Vec<Value> = (from..to).map(close).collect();
        gripd.publish_body("", &json!({ "items": items }).to_string()).0
    };
    assert_eq!(post(0, 100_001), 503);
    assert_eq!(gripd.json("/denied")["denied"], json!([]));
    assert_eq!(post(0, 100_000), 200);
    let mut client = Kind::Stream.held(&gripd, "new,user100000");
    assert_eq!(post(100_000, 100_001), 503);
    gripd.say("new", "still here");
    assert_eq!(client.hears(), "still here");
    assert_eq!(gripd.control("DELETE", "/denied/user5").0, 200);
    assert_eq!(post(100_000, 100_001), 200);
    assert!(client.ends().is_empty());
}

#[test]
fn denials_outlive_a_restart() {
    let folder = folder("denied-restart");
    let config = format!("state_dir = \"state\"\n{}", origin().route(""));
    let gripd = Gripd::configured_in(&folder, &config);
    deny(&gripd, "user456", json!({ "with": ["room"], "except": ["staff"] }));
    deny(&gripd, "user7", json!({}));
    deny(&gripd, "user8", json!({}));
    assert_eq!(gripd.control("DELETE", "/denied/user8").0, 200);
    drop(gripd);
    let mode = |name: &str| {
        std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(folder.join("state").join(name)).unwrap()) & 0o777
    };
    assert_eq!(mode("denied.log"), 0o600);
    let gripd = Gripd::configured_in(&folder, &config);
    let all = gripd.json("/denied");
    assert_eq!(channels(&all), ["user456", "user7"]);
    assert_eq!((&all["denied"][0]["with"], &all["denied"][0]["except"]), (&json!(["room"]), &json!(["staff"])));
    assert!((250..=300).contains(&all["denied"][1]["seconds"].as_u64().unwrap()), "{all}");
    refused(&gripd, "user456,room");
    held(&gripd, "user456,room,staff");
    refused(&gripd, "user7");
    // The first change after a start writes all denials to `denied.json` and empties the journal.
    deny(&gripd, "user9", json!({}));
    assert_eq!(mode("denied.json"), 0o600);
    assert_eq!(std::fs::metadata(folder.join("state/denied.log")).unwrap().len(), 0);
    drop(gripd);
    let gripd = Gripd::configured_in(&folder, &config);
    assert_eq!(channels(&gripd.json("/denied")), ["user456", "user7", "user9"]);
}

#[test]
fn a_new_denial_adds_only_one_line_to_the_journal() {
    let folder = folder("denied-journal");
    let config = format!("control.max_body = 1000000\nstate_dir = \"state\"\n{}", origin().route(""));
    let gripd = Gripd::configured_in(&folder, &config);
    let close = |n: usize| json!({ "channel": format!("user{n}"), "action": "close", "deny-for": 300 });
    let size = || std::fs::metadata(folder.join("state/denied.log")).unwrap().len();
    gripd.publish(&json!((0..5000).map(close).collect::<Vec<Value>>()));
    let before = size();
    deny(&gripd, "user5000", json!({}));
    assert!((1..200).contains(&(size() - before)), "{before} {}", size());
    assert!(!folder.join("state/denied.json").exists());
    // After 10,000 decisions gripd writes all denials to `denied.json` and empties the journal. No denial is lost.
    gripd.publish(&json!((0..5000).map(close).collect::<Vec<Value>>()));
    assert_eq!(size(), 0);
    assert_eq!(gripd.control("DELETE", "/denied/user5000").0, 200);
    // A last line that was not written completely is ignored.
    let mut journal = std::fs::File::options().append(true).open(folder.join("state/denied.log")).unwrap();
    std::io::Write::write_all(&mut journal, b"{\"deny\":{\"channel\":\"\xc3").unwrap();
    drop(gripd);
    let gripd = Gripd::configured_in(&folder, &config);
    assert_eq!(gripd.control("DELETE", "/denied/user5000").0, 404);
    assert_eq!(gripd.control("DELETE", "/denied/user4999").0, 200);
}

#[test]
fn denials_outlive_a_gripd_that_is_killed() {
    let folder = folder("denied-killed");
    let file = folder.join("gripd.toml");
    std::fs::write(&file, format!("state_dir = \"state\"\n{}", origin().route(""))).unwrap();
    for round in 0..5 {
        let mut program = program(&file);
        let body = json!({ "items": [
            { "channel": format!("user{round}"), "action": "close", "deny-for": 300 },
            { "channel": "last", "action": "close", "deny-for": 300 },
        ] })
        .to_string();
        let request =
            format!("POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        assert_eq!(Client::send(program.control.parse().unwrap(), request).answer().1, "Published\n");
        program.kill();
    }
    let program = program(&file);
    for channel in ["user0", "user1", "user2", "user3", "user4", "last"] {
        let (head, _) = Client::send(program.clients.parse().unwrap(), get(&format!("/poll?{channel}"))).answer();
        assert!(head.starts_with("http/1.1 403"), "{channel}: {head}");
    }
}

fn program(file: &Path) -> Program {
    Program::start(&["--config", file.to_str().unwrap()])
}
