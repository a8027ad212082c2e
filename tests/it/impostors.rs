//! Clients that try to pass for another user, or to hold channels that they may not, by requests that name something
//! twice or in an unusual way.

use crate::support::kinds::origin;
use crate::support::tokens::{SECRET, claims, now, token};
use crate::support::{Client, Gripd, Kind, Origin, folder, run};
use serde_json::json;
use std::fs;

/// Sends a request and returns the status of the response, which may be one that begins a stream.
fn status(gripd: &Gripd, request: &str) -> u16 {
    let mut client = Client::send(gripd.clients, request);
    client.head().split(' ').nth(1).unwrap().parse().unwrap()
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n{headers}\r\n")
}

/// Starts a gripd that trusts proxies on this machine to name the user in `X-User`. `more` holds further options
/// of its route.
fn behind_a_proxy(origin: &Origin, more: &str) -> Gripd {
    let route =
        format!("user_header = \"X-User\"\nuser_proxies = [\"127.0.0.1\"]\nuser_channel = \"user{{user}}\"\n{more}");
    Gripd::configured(&origin.route(&route))
}

#[test]
fn a_jsonp_request_cannot_set_the_header_that_names_the_user() {
    let origin = origin();
    let gripd = behind_a_proxy(&origin, "aco = true");
    let script = "/poll?room&callback=f&_headers=%7B%22X-User%22%3A%22admin%22%7D";
    let _anonymous = Client::send(gripd.clients, get(script, ""));
    crate::support::eventually("the long-poll is held", || gripd.connections("room") == 1);
    assert_eq!(gripd.json("/connections")["connections"][0]["user"], json!(null));
    assert!(origin.asked()[0].header("x-user").is_none());
    let _named = Client::send(gripd.clients, get(script, "X-User: 7\r\n"));
    crate::support::eventually("the long-poll is held", || gripd.connections("user7") == 1);
    assert_eq!(gripd.connections("useradmin"), 0);
    assert_eq!(origin.asked()[1].header("x-user"), Some("7"));
}

#[test]
fn a_repeated_header_names_no_user() {
    let origin = origin();
    let gripd = behind_a_proxy(&origin, "");
    let mut twice = Client::send(gripd.clients, get("/stream?room", "X-User: evil\r\nX-User: 7\r\n"));
    twice.head();
    assert_eq!(gripd.json("/connections")["connections"][0]["user"], json!(null));
    let mut variants = Client::send(gripd.clients, get("/stream?room", "X-User: 7\r\nX_User: evil\r\n"));
    variants.head();
    assert_eq!((gripd.connections("user7"), gripd.connections("userevil")), (1, 0));
    let asked = origin.asked();
    assert!(asked[0].header("x-user").is_none() && asked[1].header("x_user").is_none());
    assert_eq!(asked[1].header("x-user"), Some("7"));
}

#[test]
fn a_cors_preflight_needs_no_token_and_cannot_hold() {
    let origin = origin();
    let route = format!("user_jwt = [\"header:Authorization\"]\nuser_key = \"{SECRET}\"\nuser_required = true");
    let gripd = Gripd::configured(&origin.route(&route));
    let asks = "Origin: http://a\r\nAccess-Control-Request-Method: GET\r\n";
    let options = |path: &str, headers: &str| get(path, headers).replace("GET ", "OPTIONS ");
    assert_eq!(status(&gripd, &options("/plain", asks)), 200);
    assert_eq!(status(&gripd, &options("/stream?room", asks)), 403);
    assert_eq!(status(&gripd, &options("/plain", "Access-Control-Request-Method: GET\r\n")), 401);
    assert_eq!(status(&gripd, &options("/plain", "")), 401);
    assert_eq!(gripd.connections("room"), 0);
}

#[test]
fn different_tokens_in_one_place_are_refused() {
    let origin = origin();
    let route = format!("user_jwt = [\"query:token\", \"header:Authorization\"]\nuser_key = \"{SECRET}\"");
    let gripd = Gripd::configured(&origin.route(&route));
    let (good, other) = (token("7"), claims(&json!({ "sub": "8", "exp": now() + 60 })));
    let asked = |path: String, headers: String| status(&gripd, &get(&path, &headers));
    assert_eq!(asked(format!("/plain?a&token={good}&token={other}"), String::new()), 401);
    assert_eq!(asked(format!("/plain?a&token={good}&token={good}"), String::new()), 200);
    let two = format!("Authorization: Bearer {good}\r\nAuthorization: Bearer {other}\r\n");
    assert_eq!(asked("/plain".into(), two), 401);
    // A header with a scheme other than Bearer contains no token.
    assert_eq!(asked("/plain".into(), "Authorization: Basic YTpi\r\n".into()), 200);
}

#[test]
fn a_channel_rule_belongs_to_one_route_and_outlives_it() {
    let origin = origin();
    let rule = |name: &str, channels: &str| format!("*,id={name},channels={channels} {},over_http", origin.address);
    let gripd = Gripd::to(&[rule("old", "a{id}")], |_| {});
    let mut socket = Kind::WebSocket.held(&gripd, "a1");
    // A connection stays bound by the rule of the route by which it is held, even if that route no longer exists.
    gripd.reroute(&rule("new", "b{id}"));
    socket.tell(&json!({ "type": "subscribe", "channel": "secret" }));
    socket.tell(&json!({ "type": "subscribe", "channel": "a2" }));
    assert_eq!((gripd.connections("secret"), gripd.connections("a2")), (0, 1));
    // The control API finds rules by the names of routes. Two routes that differ only in `proto` have different names.
    // Two routes with the same id are refused.
    let check = |text: &str| {
        let file = folder("impostors").join("gripd.toml");
        fs::write(&file, text).unwrap();
        run(&["check", "--config", file.to_str().unwrap()])
    };
    let routes = |one: &str, other: &str| {
        format!("[[route]]\ntarget = \"o:1\"\nchannels = [\"a\"]\n{one}\n[[route]]\ntarget = \"o:1\"\n{other}\n")
    };
    assert_eq!(check(&routes("proto = \"http\"", "proto = \"ws\"")).0, 0);
    let (code, _, error) = check(&routes("id = \"x\"\npath_beg = \"/a\"", "id = \"x\"\npath_beg = \"/b\""));
    assert!(code == 78 && error.contains("two routes have the id 'x'"), "{code}: {error}");
}

#[test]
fn a_key_from_an_unset_environment_variable_is_an_error() {
    let file = folder("impostors-env").join("gripd.toml");
    let route = "[[route]]\ntarget = \"o:1\"\nuser_jwt = \"cookie:t\"\nuser_key = \"env:GRIPD_NO_SUCH_VARIABLE\"\n";
    fs::write(&file, route).unwrap();
    let (code, _, error) = run(&["check", "--config", file.to_str().unwrap()]);
    assert!(code == 78 && error.contains("'GRIPD_NO_SUCH_VARIABLE' is not set"), "{code}: {error}");
}
