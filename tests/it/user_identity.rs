//! The user of a client: from its token, from the origin, or from a trusted proxy.

use crate::support::kinds::{item, origin};
use crate::support::tokens::{SECRET, claims, now, signed, token};
use crate::support::{Client, Gripd, KINDS, Kind, Member, Origin, Program, Socket, eventually, folder, run};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

const KEYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/");
const OWN: &str = "user_channel = \"user{user}\"";

/// Starts a gripd that reads tokens of users from the query.
fn start(origin: &Origin, more: &str) -> Gripd {
    places(origin, &format!("[\"query:token\"]\nuser_key = \"{SECRET}\"\n{OWN}\n{more}"))
}

fn places(origin: &Origin, more: &str) -> Gripd {
    Gripd::configured(&origin.route(&format!("user_jwt = {more}")))
}

/// Returns a connection that is held on the user's own channel besides those in the query. Checks that gripd shows the
/// user.
fn user(gripd: &Gripd, kind: Kind, user: &str, rest: &str, headers: &str) -> Member {
    let own = format!("user{user}");
    eventually("the user has no other connection", || gripd.connections(&own) == 0);
    let member = kind.ask_with(gripd, rest, headers).begun(|| gripd.connections(&own) == 1);
    let shown = gripd.json(&format!("/connections?channel={own}"));
    assert_eq!(shown["connections"].as_array().unwrap().len(), 1, "{kind:?} with {rest} {headers}: {shown}");
    assert_eq!(shown["connections"][0]["user"], user);
    member
}

/// Checks that requests of every kind are refused with 401, and that the origin is not asked. Returns the head of the
/// last response.
fn unauthorized(gripd: &Gripd, origin: &Origin, rest: &str, headers: &str) -> String {
    // A DISCONNECT of an earlier client may reach the origin at any time, and is not counted.
    let asks = || origin.asked().iter().filter(|asked| asked.body.is_empty() || asked.body == "OPEN\r\n").count();
    let (before, mut why) = (asks(), String::new());
    for kind in KINDS {
        let counted = gripd.metric("unauthorized_total");
        let (status, head, body) = kind.ask_with(gripd, rest, headers).refused();
        assert_eq!(status, 401, "{kind:?} with {rest} {headers}: {body}");
        assert!(head.contains("www-authenticate: bearer"), "{head}");
        assert!(body.len() > 5 && !body.contains(SECRET), "{body}");
        assert_eq!(gripd.metric("unauthorized_total"), counted + 1);
        why = head;
    }
    assert_eq!(asks(), before, "the origin was asked");
    why
}

fn of(value: &Value) -> String {
    format!("room&token={}", claims(value))
}

#[test]
fn tokens_are_read_from_the_places_that_the_route_lists() {
    let origin = origin();
    let gripd = places(
        &origin,
        &format!(
            "[\"header:Authorization\", \"cookie:session\", \"query:access token\"]\nuser_key = \"{SECRET}\"\n{OWN}"
        ),
    );
    let good = token("456");
    for kind in KINDS {
        for header in [
            format!("Authorization: Bearer {good}\r\n"),
            format!("authorization: bEARER {good}\r\n"),
            format!("Authorization: {good}\r\n"),
            format!("Cookie: session={good}\r\n"),
            format!("Cookie: a=b; session={good}; sessions=c\r\n"),
        ] {
            let mut member = user(&gripd, kind, "456", "room", &header);
            gripd.publish(&json!([item("user456", "for you")]));
            assert_eq!(member.hears(), "for you");
        }
        let encoded = good.replace('.', "%2e");
        drop(user(&gripd, kind, "456", &format!("room&x=y&access%20token={encoded}&z"), ""));
        // If a request has tokens in several places, the place that is first in the route's list counts.
        let both = format!("room&access%20token={good}");
        let (status, _, _) = kind.ask_with(&gripd, &both, "Authorization: Bearer x.y.z\r\n").refused();
        assert_eq!(status, 401);
        drop(user(&gripd, kind, "456", "room&access%20token=x", &format!("Authorization: Bearer {good}\r\n")));
    }
}

#[test]
fn tokens_with_invalid_claims_are_401() {
    let origin = origin();
    let gripd = start(&origin, "user_iss = \"login\"\nuser_aud = \"chat\"");
    let good = json!({ "sub": "456", "exp": now() + 3600, "iss": "login", "aud": ["other", "chat"] });
    let but = |field: &str, value: Value| {
        let mut claims = good.clone();
        claims[field] = value;
        if claims[field].is_null() {
            claims.as_object_mut().unwrap().remove(field);
        }
        of(&claims)
    };
    drop(user(&gripd, Kind::Stream, "456", &of(&good), ""));
    drop(user(&gripd, Kind::Stream, "456", &but("aud", json!("chat")), ""));
    drop(user(&gripd, Kind::Stream, "456", &but("nbf", json!(now() - 1)), ""));
    drop(user(&gripd, Kind::Stream, "7", &but("sub", json!(7)), ""));
    for (field, value) in [
        ("exp", json!(now() - 1)),
        ("exp", Value::Null),
        ("exp", json!("soon")),
        ("nbf", json!(now() + 60)),
        ("iss", json!("other")),
        ("iss", Value::Null),
        ("aud", json!("other")),
        ("aud", json!([])),
        ("aud", Value::Null),
        ("sub", Value::Null),
        ("sub", json!("")),
        ("sub", json!(1.5)),
        ("sub", json!(["456"])),
        ("sub", json!("a\nb")),
        ("sub", json!("x".repeat(256))),
        ("channels", json!("room")),
        ("channels", json!([1])),
    ] {
        let head = unauthorized(&gripd, &origin, &but(field, value), "");
        assert!(head.contains("error=\"invalid_token\", error_description=\""), "{head}");
    }
    drop(user(&gripd, Kind::Stream, &"x".repeat(255), &but("sub", json!("x".repeat(255))), ""));
}

#[test]
fn tokens_with_invalid_signatures_are_401() {
    let origin = origin();
    let gripd = start(&origin, "");
    let good = json!({ "sub": "456", "exp": now() + 3600 });
    let other = signed(Algorithm::HS256, None, &EncodingKey::from_secret(b"another"), &good);
    let longer = signed(Algorithm::HS384, None, &EncodingKey::from_secret(SECRET.as_bytes()), &good);
    let token = claims(&good);
    let (body, _) = token.rsplit_once('.').unwrap();
    // {"alg":"none"}
    let none = format!("eyJhbGciOiJub25lIn0.{}.", body.split_once('.').unwrap().1);
    for wrong in [other, longer, none, format!("{body}."), format!("{token}x"), body.into(), "x".into(), "%00".into()] {
        unauthorized(&gripd, &origin, &format!("room&token={wrong}"), "");
    }
    // Requests that are not held are refused as well.
    let request = "GET /plain?token=x HTTP/1.1\r\nHost: h\r\n\r\n";
    assert!(Client::send(gripd.clients, request).answer().0.starts_with("http/1.1 401"));
    assert!(origin.asked().is_empty());
}

#[test]
fn keys_may_be_public_keys_or_a_jwks_file() {
    let origin = origin();
    let good = json!({ "sub": "456", "exp": now() + 3600 });
    let read = |name: &str| std::fs::read(format!("{KEYS}{name}")).unwrap();
    let ec = EncodingKey::from_ec_pem(&read("ec.pem")).unwrap();
    let rsa = EncodingKey::from_rsa_pem(&read("rsa.pem")).unwrap();
    let secret = EncodingKey::from_secret(SECRET.as_bytes());
    let query = |token: &str| format!("room&token={token}");
    for (file, algorithm, key) in [("ec.public.pem", Algorithm::ES256, &ec), ("rsa.public.pem", Algorithm::RS256, &rsa)]
    {
        let gripd = places(&origin, &format!("[\"query:token\"]\nuser_key = \"file:{KEYS}{file}\"\n{OWN}"));
        drop(user(&gripd, Kind::Stream, "456", &query(&signed(algorithm, Some("any"), key, &good)), ""));
        // The public key must not be accepted as the secret of an HMAC.
        let forged = EncodingKey::from_secret(&read(file));
        unauthorized(&gripd, &origin, &query(&signed(Algorithm::HS256, None, &forged, &good)), "");
    }
    let gripd = places(&origin, &format!("[\"query:token\"]\nuser_jwks = \"{KEYS}jwks.json\"\n{OWN}"));
    for (algorithm, kid, key) in
        [(Algorithm::HS256, "secret", &secret), (Algorithm::ES256, "ec", &ec), (Algorithm::RS256, "rsa", &rsa)]
    {
        for kid in [Some(kid), None] {
            drop(user(&gripd, Kind::Stream, "456", &query(&signed(algorithm, kid, key, &good)), ""));
        }
        for kid in ["never", "other", "encryption", "unknown"] {
            unauthorized(&gripd, &origin, &query(&signed(algorithm, Some(kid), key, &good)), "");
        }
    }
}

#[test]
fn a_client_without_a_token_is_anonymous_or_refused() {
    let origin = origin();
    let gripd = start(&origin, "");
    for kind in KINDS {
        let _member = kind.held(&gripd, "room");
        let shown = gripd.json("/connections?channel=room");
        assert_eq!(shown["connections"][0]["user"], Value::Null, "{shown}");
        gripd.close("room");
    }
    assert_eq!(gripd.metric("channels"), 0);
    let gripd = start(&origin, "user_required = true");
    let head = unauthorized(&gripd, &origin, "room", "");
    assert!(!head.contains("invalid_token"), "{head}");
    drop(user(&gripd, Kind::Poll, "456", &format!("room&token={}", token("456")), ""));
}

#[test]
fn one_publish_ends_all_of_a_users_connections() {
    let origin = origin();
    let gripd = start(&origin, "prefix = \"app-\"");
    let rest = |user: &str| format!("room&token={}", token(user));
    let mut all: Vec<Member> = Vec::new();
    for kind in KINDS {
        let count = gripd.connections("app-user456");
        all.push(kind.ask(&gripd, &rest("456")).begun(|| gripd.connections("app-user456") > count));
    }
    let mut other = Kind::Stream.ask(&gripd, &rest("4567")).begun(|| true);
    assert_eq!((gripd.close("app-user456"), gripd.connections("app-room")), ((3, 0), 1));
    all.iter_mut().for_each(|member| drop(member.ends()));
    gripd.say("app-user4567", "on");
    assert_eq!(other.hears(), "on");
}

#[test]
fn a_token_says_what_its_user_may_hold() {
    let origin = origin();
    let gripd = start(&origin, "");
    let may = |channels: Value| {
        format!("&token={}", claims(&json!({ "sub": "456", "exp": now() + 3600, "channels": channels })))
    };
    let some = may(json!(["conversation*", "news"]));
    for kind in KINDS {
        for names in ["conversation5", "news", "conversation,user456"] {
            drop(user(&gripd, kind, "456", &format!("{names}{some}"), ""));
        }
        for (names, may) in [("news2", &some), ("conversation5,secret", &some), ("other", &may(json!([])))] {
            let refused = names.split(',').next_back().unwrap();
            let head = kind.ask(&gripd, &format!("{names}{may}")).http().head();
            assert!(head.starts_with("http/1.1 403") || kind == Kind::WebSocket, "{kind:?} {names}: {head}");
            assert_eq!(gripd.connections(refused), 0, "{names}");
        }
    }
    let mut socket = user(&gripd, Kind::WebSocket, "456", &format!("news{some}"), "");
    socket.tell(&json!({ "type": "subscribe", "channel": "secret" }));
    socket.tell(&json!({ "type": "subscribe", "channel": "conversation6" }));
    assert_eq!((gripd.connections("secret"), gripd.connections("conversation6")), (0, 1));
}

#[test]
fn a_hold_ends_when_its_token_expires() {
    let origin = origin();
    let gripd = start(&origin, "close_at_expiry = true");
    let unbound = start(&origin, "");
    for kind in KINDS {
        let exp = now() + 2;
        let rest = of(&json!({ "sub": "456", "exp": exp }));
        let mut stays = user(&unbound, kind, "456", &rest, "");
        let mut ends = user(&gripd, kind, "456", &rest, "");
        gripd.publish(&json!([item("nobody", "no")]));
        ends.ends();
        assert!((exp..exp + 2).contains(&now()), "{kind:?} ended {} for {exp}", now());
        assert_eq!((gripd.connections("user456"), unbound.connections("user456")), (0, 1));
        unbound.publish(&json!([item("room", "on")]));
        assert_eq!(stays.hears(), "on");
        unbound.close("user456");
        unauthorized(&gripd, &origin, &rest, "");
    }
}

#[test]
fn an_origin_may_name_the_user() {
    let gripd = Gripd::configured(&origin().route(&format!("user_meta = \"user\"\n{OWN}")));
    for kind in KINDS {
        drop(user(&gripd, kind, "456", "room&meta=456", ""));
    }
    let mut socket = Kind::WebSocket.held(&gripd, "lobby");
    assert_eq!(gripd.connections("user7"), 0);
    socket.tell(&json!({ "type": "set-meta", "name": "user", "value": "7" }));
    assert_eq!((gripd.connections("user7"), gripd.connections("lobby")), (1, 1));
    assert_eq!(gripd.json("/connections?user=7")["connections"][0]["kind"], "websocket");
    gripd.publish(&json!([item("user7", "hello 7")]));
    assert_eq!(socket.hears(), "hello 7");
    // The origin may change the user.
    socket.tell(&json!({ "type": "set-meta", "name": "user", "value": "8" }));
    assert_eq!((gripd.connections("user7"), gripd.connections("user8")), (0, 1));
}

#[test]
fn a_trusted_proxy_may_name_the_user() {
    for (proxies, trusted) in
        [("[\"127.0.0.0/8\"]", true), ("[\"::1\", \"127.0.0.1\"]", true), ("[\"10.0.0.0/8\", \"::1\"]", false)]
    {
        let origin = origin();
        let route = format!("user_header = \"X-User\"\nuser_proxies = {proxies}\n{OWN}");
        let gripd = Gripd::configured(&origin.route(&route));
        for kind in KINDS {
            if trusted {
                drop(user(&gripd, kind, "456", "room", "X-User: 456\r\n"));
            } else {
                let _member = kind.held_with(&gripd, "room", "X-User: 456\r\n");
                assert_eq!(gripd.connections("user456"), 0);
                gripd.close("room");
            }
        }
        if !trusted {
            let asked = origin.asked();
            assert!(asked.len() >= 3 && asked.iter().all(|asked| asked.header("x-user").is_none()), "{asked:?}");
        }
        eventually("the user has no connection any more", || gripd.connections("user456") == 0);
    }
}

#[test]
fn no_token_is_logged() {
    let route =
        format!("user_jwt = [\"query:token\", \"cookie:session\"]\nuser_key = \"{SECRET}\"\nchannels = [\"a\"]");
    let file = folder("users-log").join("gripd.toml");
    std::fs::write(&file, format!("drain = 0.1\n{}", origin().route(&route))).unwrap();
    let mut program = Program::start(&["--config", file.to_str().unwrap(), "--log", "trace"]);
    let (good, late) = (token("456"), claims(&json!({ "sub": "456", "exp": 1 })));
    let ask = |path: &str, headers: &str| {
        let request = format!("GET /{path} HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
        Client::send(program.clients.parse().unwrap(), request).head();
    };
    for token in [&good, &late] {
        ask(&format!("plain?a=b&token={token}&c=d"), &format!("Cookie: session={token}\r\n"));
        // The refusal of a channel has a line of its own in the log.
        ask(&format!("stream?secret&token={token}"), "");
        ask(&format!("poll?secret&token={token}"), "");
    }
    let mut socket = Socket::ask(program.clients.parse().unwrap(), &format!("/ws?secret&token={good}"), "");
    socket.accepted();
    program.signal("TERM");
    let log = program.wait().1;
    let secret = |token: &str| token.rsplit_once('.').unwrap().1.to_owned();
    assert!(log.contains("uri=/plain?a=b"), "{log}");
    for hidden in [secret(&good), secret(&late), SECRET.into()] {
        assert!(!log.contains(&hidden), "{hidden} is in {log}");
    }
}

#[test]
fn keys_are_read_again_on_sighup() {
    let folder = folder("users-keys");
    let (file, keys) = (folder.join("gripd.toml"), folder.join("keys.json"));
    let set = |secret: &str| {
        use base64::Engine;
        let secret = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(secret);
        std::fs::write(&keys, json!({ "keys": [{ "kty": "oct", "k": secret }] }).to_string()).unwrap();
    };
    set("the one before");
    let route = "user_jwt = [\"query:token\"]\nuser_jwks = \"keys.json\"";
    std::fs::write(&file, origin().route(route)).unwrap();
    let program = Program::start(&["--config", file.to_str().unwrap()]);
    let rest = format!("GET /plain?token={} HTTP/1.1\r\nHost: h\r\n\r\n", token("456"));
    let status = || Client::send(program.clients.parse().unwrap(), &rest).answer().0[9..12].to_owned();
    assert_eq!(status(), "401");
    set(SECRET);
    program.signal("HUP");
    eventually("the new key is known", || status() == "200");
}

#[test]
fn invalid_configurations_are_errors() {
    let key = format!("user_key = \"{SECRET}\"");
    for wrong in [
        "user_jwt = [\"query:token\"]".into(),
        format!("user_jwt = [\"token\"]\n{key}"),
        format!("user_jwt = [\"body:token\"]\n{key}"),
        format!("user_jwt = []\n{key}"),
        format!("user_jwt = [\"query:token\"]\n{key}\nuser_jwks = \"{KEYS}jwks.json\""),
        format!("user_jwt = [\"query:token\"]\n{key}\nuser_meta = \"user\""),
        "user_jwt = [\"query:token\"]\nuser_jwks = \"/does/not/exist\"".into(),
        format!("user_jwt = [\"query:token\"]\nuser_jwks = \"{KEYS}ec.pem\""),
        "user_header = \"X-User\"\nuser_proxies = [\"10.0.0.0/99\"]".into(),
        "user_header = \"X-User\"\nuser_proxies = [\"proxy.example\"]".into(),
        "user_header = \"X User\"\nuser_proxies = [\"::1\"]".into(),
        "user_meta = \"user\"\nuser_channel = \"{who}\"".into(),
    ] {
        let file = folder("users-wrong").join("gripd.toml");
        std::fs::write(&file, format!("[[route]]\ntarget = \"h:1\"\n{wrong}\n")).unwrap();
        let (code, _, error) = run(&["check", "--config", file.to_str().unwrap()]);
        assert_eq!(code, 78, "{wrong}");
        assert!(error.contains("gripd.toml") && !error.contains(SECRET), "{wrong}: {error}");
    }
}
