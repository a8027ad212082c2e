//! The rules for the channel names that origins may use, and `/allowed`, which changes them.

use crate::support::kinds::origin;
use crate::support::tokens::{SECRET, token};
use crate::support::{Gripd, KINDS, Kind, Origin, folder};
use serde_json::{Value, json};

const CHAT: &str = r#"channels = ["conversation{id}", "user{user}", "conversation{id}-user{user}"]"#;

fn with_users(origin: &Origin, rule: &str) -> String {
    origin.route(&format!("user_jwt = [\"query:token\"]\nuser_key = \"{SECRET}\"\n{rule}"))
}

fn start(rule: &str) -> Gripd {
    Gripd::configured(&with_users(&origin(), rule))
}

fn of(user: &str) -> String {
    format!("&token={}", token(user))
}

/// Asserts that each kind of connection may hold the channel.
fn held(gripd: &Gripd, channel: &str, more: &str) {
    for kind in KINDS {
        let mut member = kind.held(gripd, &format!("{channel}{more}"));
        assert_eq!(gripd.close(channel), (1, 0), "{kind:?} of {channel}");
        member.ends();
    }
}

/// Asserts that no kind of connection may hold the channel. A stream or a long-poll is answered with 502, and a
/// WebSocket is open without the channel.
fn refused(gripd: &Gripd, channel: &str, more: &str) {
    for kind in [Kind::Stream, Kind::Poll] {
        let before = gripd.metric("not_allowed_total");
        let (status, head, body) = kind.ask(gripd, &format!("{channel}{more}")).refused();
        assert_eq!(status, 502, "{kind:?} of {channel}: {head}{body}");
        assert!(!body.contains("hello"), "{body}");
        assert_eq!(gripd.metric("not_allowed_total"), before + 1);
    }
    let before = gripd.metric("not_allowed_total");
    let mut socket = Kind::WebSocket.ask(gripd, &format!("{channel}{more}")).begun(|| true);
    assert_eq!((gripd.connections(channel), gripd.metric("not_allowed_total")), (0, before + 1), "{channel}");
    socket.tell(&json!({ "type": "subscribe", "channel": channel }));
    assert_eq!((gripd.connections(channel), gripd.metric("not_allowed_total")), (0, before + 2), "{channel}");
}

/// Sends a request to `/allowed`, and returns the status of the reply.
fn change(gripd: &Gripd, method: &str, rest: &str, body: &str) -> u16 {
    gripd.control_with(method, &format!("/allowed{rest}"), body).0
}

/// Returns the entry of the first route in `/allowed`.
fn entry(gripd: &Gripd) -> Value {
    gripd.json("/allowed")["routes"][0].take()
}

#[test]
fn names_that_fit_no_pattern_are_refused() {
    let gripd = start(CHAT);
    held(&gripd, "conversation5", "");
    held(&gripd, "conversation5-x", &of("7"));
    for channel in ["conversation", "secret", "xconversation5", "Conversation5", "user"] {
        refused(&gripd, channel, "");
        refused(&gripd, channel, &of("7"));
    }
    // One refused name makes the whole response of the origin unusable.
    assert_eq!(Kind::Stream.ask(&gripd, "conversation5,secret").refused().0, 502);
    assert_eq!(gripd.connections("conversation5"), 0);
    // A WebSocket holds the other channels.
    let _socket = Kind::WebSocket.held(&gripd, "conversation5,secret,conversation6");
    assert_eq!(["conversation5", "secret", "conversation6"].map(|c| gripd.connections(c)), [1, 0, 1]);
}

#[test]
fn names_of_another_user_are_refused() {
    let gripd = start(CHAT);
    for channel in ["user7", "conversation5-user7"] {
        held(&gripd, channel, &of("7"));
        refused(&gripd, channel, &of("9"));
        refused(&gripd, channel, &of("77"));
        refused(&gripd, channel, "");
    }
    held(&gripd, "conversation5", &of("9"));
}

#[test]
fn a_rule_can_be_written_as_options_in_a_route_line() {
    let options = ",channels=conversation{id},channels=news";
    let gripd = Gripd::to(&[format!("*{options} {},over_http", origin().address)], |_| {});
    held(&gripd, "conversation5", "");
    held(&gripd, "news", "");
    refused(&gripd, "user7", "");
    let expected = json!(["conversation{id}", "news"]);
    assert_eq!(entry(&gripd)["configured"], expected);
}

#[test]
fn without_a_rule_every_name_is_allowed() {
    let gripd = start("");
    held(&gripd, "whatever", "");
    assert_eq!(
        gripd.json("/allowed"),
        json!({ "routes": [{ "route": "chat", "channels": null, "configured": null }] })
    );
}

#[test]
fn wrong_patterns_are_errors_of_the_configuration() {
    for wrong in ["[\"a{\"]", "[\"a}\"]", "[\"{}\"]", "[\"\"]", "[1]", "\"a\""] {
        let folder = folder("naming-wrong");
        let file = folder.join("gripd.toml");
        std::fs::write(&file, format!("[[route]]\ntarget = \"h:1\"\nchannels = {wrong}\n")).unwrap();
        let (code, _, error) = crate::support::run(&["check", "--config", file.to_str().unwrap()]);
        assert_eq!(code, 78, "{wrong}");
        assert!(error.contains("gripd.toml"), "{wrong}: {error}");
    }
}

#[test]
fn the_allowed_names_can_be_changed() {
    let gripd = start("channels = [\"conversation{id}\"]");
    let configured = json!(["conversation{id}"]);
    let is = |channels: Value| {
        let expected = json!({ "route": "chat", "channels": channels, "configured": configured });
        assert_eq!(entry(&gripd), expected);
        expected
    };
    is(configured.clone());
    refused(&gripd, "news", "");
    // A name is added.
    let (status, reply) = gripd.control("PUT", "/allowed/news?route=chat");
    assert_eq!(status, 200, "{reply}");
    assert_eq!(serde_json::from_str::<Value>(&reply).unwrap(), is(json!(["conversation{id}", "news"])));
    held(&gripd, "news", "");
    held(&gripd, "conversation5", "");
    // The same name is added again, which changes nothing.
    assert_eq!(change(&gripd, "PUT", "/news?route=chat", ""), 200);
    is(json!(["conversation{id}", "news"]));
    // A name is removed.
    assert_eq!(change(&gripd, "DELETE", "/conversation%7Bid%7D?route=chat", ""), 200);
    is(json!(["news"]));
    refused(&gripd, "conversation5", "");
    // The list is replaced.
    assert_eq!(change(&gripd, "PUT", "?route=chat", r#"{"channels":["user{user}","a b/c"]}"#), 200);
    is(json!(["user{user}", "a b/c"]));
    held(&gripd, "user7", &of("7"));
    refused(&gripd, "news", "");
    assert_eq!(change(&gripd, "DELETE", "/a%20b%2Fc", ""), 200);
    // The list becomes empty, so that no name is allowed.
    assert_eq!(change(&gripd, "PUT", "", r#"{"channels":[]}"#), 200);
    is(json!([]));
    refused(&gripd, "conversation5", "");
    // The list is deleted, which restores the configured one.
    let request = "DELETE /allowed?route=chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(gripd.ask(request).1, "Changed\n");
    is(configured.clone());
    held(&gripd, "conversation5", "");
}

#[test]
fn held_channels_stay_when_the_rule_changes() {
    let gripd = start("channels = [\"conversation{id}\"]");
    let mut members = [Kind::Stream, Kind::WebSocket].map(|kind| kind.held(&gripd, "conversation5"));
    assert_eq!(change(&gripd, "PUT", "", r#"{"channels":["news"]}"#), 200);
    assert_eq!(gripd.connections("conversation5"), 2);
    refused(&gripd, "other", "");
    gripd.publish(&json!([crate::support::kinds::item("conversation5", "on")]));
    members.iter_mut().for_each(|member| assert_eq!(member.hears(), "on"));
}

#[test]
fn invalid_changes_are_refused() {
    let gripd = start("channels = [\"conversation{id}\"]");
    for body in ["", "{", "[]", "{}", r#"{"channels":"news"}"#, r#"{"channels":[1]}"#, r#"{"channels":["a{"]}"#] {
        assert_eq!(change(&gripd, "PUT", "?route=chat", body), 400, "{body}");
    }
    for pattern in ["a%7B", "%7D", "%FF"] {
        assert_eq!(change(&gripd, "PUT", &format!("/{pattern}?route=chat"), ""), 400, "{pattern}");
    }
    assert_eq!(change(&gripd, "DELETE", "/never?route=chat", ""), 404);
    for (method, rest, body) in [
        ("PUT", "?route=other", r#"{"channels":[]}"#),
        ("PUT", "/news?route=other", ""),
        ("DELETE", "/conversation%7Bid%7D?route=other", ""),
        ("DELETE", "?route=other", ""),
    ] {
        assert_eq!(change(&gripd, method, rest, body), 404, "{method} {rest}");
    }
    assert_eq!(change(&gripd, "POST", "", ""), 405);
    assert_eq!(entry(&gripd)["channels"], json!(["conversation{id}"]));
    // A name cannot be added to a route without a list, because all names are allowed there.
    let gripd = start("");
    assert_eq!(change(&gripd, "PUT", "/news?route=chat", ""), 409);
    assert_eq!(change(&gripd, "PUT", "?route=chat", r#"{"channels":["news"]}"#), 200);
    assert_eq!(change(&gripd, "PUT", "/more?route=chat", ""), 200);
    held(&gripd, "more", "");
    refused(&gripd, "other", "");
    assert_eq!(change(&gripd, "DELETE", "?route=chat", ""), 200);
    held(&gripd, "other", "");
}

#[test]
fn each_route_has_its_own_rule() {
    let origin = origin();
    let other = format!("[[route]]\nhost = \"other.example\"\npath_beg = \"/x\"\ntarget = \"{}\"\n", origin.address);
    let gripd = Gripd::configured(&format!("{}{other}", origin.route("channels = [\"a{x}\"]")));
    let routes = gripd.json("/allowed")["routes"].as_array().unwrap().clone();
    let named = |name: &str| routes.iter().find(|route| route["route"] == name).cloned();
    assert_eq!(routes.len(), 2);
    assert_eq!(named("chat").unwrap()["channels"], json!(["a{x}"]));
    assert_eq!(named("other.example/x").unwrap_or_else(|| panic!("{routes:?}"))["channels"], Value::Null);
    let status = change(&gripd, "PUT", "", r#"{"channels":["b"]}"#);
    assert!((400..500).contains(&status), "{status}");
    assert_eq!(change(&gripd, "PUT", "?route=other.example%2Fx", r#"{"channels":["b"]}"#), 200);
    held(&gripd, "a1", "");
    refused(&gripd, "b", "");
}

#[test]
fn a_request_with_an_empty_name_does_not_change_the_list() {
    let gripd = Gripd::configured(&origin().route(""));
    assert_eq!(change(&gripd, "PUT", "", r#"{"channels":["a"]}"#), 200);
    for method in ["PUT", "DELETE"] {
        assert_eq!(change(&gripd, method, "/", ""), 400, "{method}");
        assert_eq!(change(&gripd, method, "/?route=chat", ""), 400, "{method}");
    }
    assert_eq!(entry(&gripd)["channels"], json!(["a"]));
    assert_eq!(change(&gripd, "PUT", "/rooms/?route=chat", ""), 200);
    assert_eq!(entry(&gripd)["channels"], json!(["a", "rooms/"]));
    // `*` is not supported in patterns of names, although it stands for any text elsewhere.
    assert_eq!(change(&gripd, "PUT", "/conversation*", ""), 400);
}

#[test]
fn changes_outlive_a_restart() {
    let folder = folder("naming-restart");
    let config = |rule: &str| format!("state_dir = \"state\"\n{}", origin().route(&format!("channels = [\"{rule}\"]")));
    let gripd = Gripd::configured_in(&folder, &config("conversation{id}"));
    assert_eq!(change(&gripd, "PUT", "/news", ""), 200);
    drop(gripd);
    assert!(folder.join("state/allowed.json").exists());
    let gripd = Gripd::configured_in(&folder, &config("conversation{id}"));
    assert_eq!(entry(&gripd)["channels"], json!(["conversation{id}", "news"]));
    held(&gripd, "news", "");
    refused(&gripd, "other", "");
    assert_eq!(change(&gripd, "DELETE", "", ""), 200);
    drop(gripd);
    let gripd = Gripd::configured_in(&folder, &config("room{id}"));
    assert_eq!(entry(&gripd), json!({ "route": "chat", "channels": ["room{id}"], "configured": ["room{id}"] }));
}
