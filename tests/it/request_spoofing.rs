//! Requests by which a client claims more than it may, by unusual spellings: gripd refuses them, or removes the claim
//! before an origin could believe it.

use crate::support::websocket::handshake;
use crate::support::{Answer, Client, Gripd, Kind, Origin, Socket, SocketOrigin, eventually};
use gripd::grip::signature::{Key, ProxyVerifier};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;

/// Starts an origin that answers every request alike.
fn plain() -> Origin {
    Origin::start(|_| Answer::ok("ok"))
}

/// Sends a request, and returns the status of the response.
fn status(gripd: &Gripd, request: &str) -> u16 {
    let mut client = Client::send(gripd.clients, request);
    client.head().split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn trace_never_reaches_an_origin() {
    let origin = plain();
    let gripd = Gripd::with(&origin, ",aco", |_| {});
    for method in ["TRACE", "trace", "TRACK"] {
        let head = Client::send(gripd.clients, format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n")).head();
        assert!(head.starts_with("http/1.1 405") && head.contains("\r\nallow: get, head, "), "{method}: {head}");
    }
    for method in ["TRACE", "Trace", "TRACK"] {
        let request = format!("GET /?callback=f&_method={method} HTTP/1.1\r\nHost: h\r\nCookie: a=b\r\n\r\n");
        let (head, body) = Client::send(gripd.clients, request).answer();
        assert!(head.starts_with("http/1.1 200") && body.contains("\"code\":405"), "{head}{body}");
    }
    assert_eq!(origin.asked().len(), 0);
}

#[test]
fn jsonp_requests_cannot_be_configured_to_use_trace_or_connect() {
    for method in ["TRACE", "CONNECT"] {
        let line = format!("*,aco,jsonp_defmethod={method} o:1");
        assert!(gripd::route::parse_line(&line).unwrap_err().to_string().contains("TRACE"), "{method}");
    }
}

#[test]
fn headers_that_imitate_trusted_ones_with_underscores_are_removed() {
    let origin = plain();
    let options = ",user_header=X-User,user_proxies=10.0.0.1,header=X-Key:secret";
    let gripd = Gripd::with(&origin, options, |_| {});
    let forged = "Grip_Last: a\r\nGRIP_SIG: b\r\nGrip-Sig_: c\r\nMeta_User: d\r\nConnection_Id: e\r\n\
                  X_Forwarded_Proto: https\r\nX_Forwarded_For: 1.1.1.1\r\neb9bf0f5_Host: f\r\nX_User: g\r\n\
                  X_Key: h\r\nTransfer_Encoding: chunked\r\nContent_Length: 5\r\nX-Both: 1\r\nX_Both: 2\r\n";
    let request = format!("GET / HTTP/1.1\r\nHost: h\r\n{forged}X_Api_Key: mine\r\n\r\n");
    assert_eq!(status(&gripd, &request), 200);
    let asked = origin.asked_once();
    let underscored: Vec<&str> =
        asked.headers.lines().filter(|line| line.split(':').next().unwrap().contains('_')).collect();
    assert_eq!(underscored, ["x_api_key: mine"], "{}", asked.headers);
    assert_eq!((asked.header("x-key"), asked.header("x-both")), (Some("secret"), Some("1")));
}

#[test]
fn headers_with_underscores_are_removed_for_websocket_over_http_as_well() {
    let origin = crate::support::kinds::origin();
    let gripd = Gripd::configured(&origin.route(""));
    let _held =
        Kind::WebSocket.held_with(&gripd, "a", "Meta_User: 1\r\nConnection_Id: 2\r\nGrip_Sig: 3\r\nX_Mine: 4\r\n");
    let asked = origin.asked();
    let names: Vec<&str> = asked[0].headers.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert!(names.contains(&"x_mine"), "{names:?}");
    assert!(names.iter().all(|name| !name.contains('_') || *name == "x_mine"), "{names:?}");
}

#[test]
fn trailers_that_imitate_headers_are_removed() {
    let origin = plain();
    let options = ",user_header=X-User,user_proxies=10.0.0.1,header=X-Key:secret";
    let gripd = Gripd::with(&origin, options, |_| {});
    let names = [
        "X-User",
        "X_User",
        "X-Key",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "Forwarded",
        "Connection-Id",
        "Meta-User",
        "eb9bf0f5-Host",
        "Proxy-Connection",
        "Grip-Last",
        "Grip_Last",
        "Content-Length",
        "Host",
        "Cookie",
        "Authorization",
    ];
    let trailers: String = names.iter().map(|name| format!("{name}: forged\r\n")).collect();
    let request = format!(
        "POST / HTTP/1.1\r\nHost: h\r\nTrailer: {}, X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n{trailers}X-Sum: 7\r\n\r\n",
        names.join(", ")
    );
    assert_eq!(status(&gripd, &request), 200);
    let asked = origin.asked_once();
    assert_eq!((asked.body.as_str(), asked.header("trailer")), ("ax-sum: 7", Some("X-Sum")));
}

#[test]
fn the_connection_header_cannot_remove_headers_of_a_proxy_or_a_route() {
    let origin = plain();
    let options = ",user_header=X-User,user_proxies=127.0.0.1,header=X-Key:secret";
    let gripd = Gripd::with(&origin, options, |_| {});
    let request = "GET / HTTP/1.1\r\nHost: h\r\nX-User: 7\r\nX-Hop: 1\r\nX-Key: 0\r\nCookie: c\r\n\
                   Connection: X-User, X-Hop, X-Key, Cookie, Host\r\n\r\n";
    assert_eq!(status(&gripd, request), 200);
    let asked = origin.asked_once();
    assert_eq!((asked.header("x-user"), asked.header("x-key")), (Some("7"), Some("secret")));
    assert_eq!((asked.header("cookie"), asked.header("x-hop")), (Some("c"), None));
}

#[test]
fn the_connection_header_cannot_remove_headers_of_a_handshake() {
    let origin = SocketOrigin::start();
    let gripd = origin.gripd("", "", |_| {});
    let request = handshake("/", "Sec-WebSocket-Protocol: chat\r\n")
        .replace("Connection: Upgrade", "Connection: Upgrade, Sec-WebSocket-Key, Sec-WebSocket-Protocol");
    let mut client = Socket::around(Client::send(gripd.clients, request));
    let knock = origin.next();
    assert!(knock.head.contains("sec-websocket-key: ") && knock.head.contains("sec-websocket-protocol: chat"));
    let _end = knock.accept("");
    client.accepted();
}

#[test]
fn only_a_valid_handshake_is_accepted() {
    let gripd = Gripd::to(&["* test".to_owned()], |_| {});
    let whole = handshake("/ws", "");
    let key = format!("Sec-WebSocket-Key: {}", crate::support::websocket::KEY);
    for request in [
        whole.replace(&key, "Sec-WebSocket-Key: c2hvcnQ="),
        whole.replace(&key, "Sec-WebSocket-Key: not base64 at all, I say"),
        whole.replace(&key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"),
        whole.replace(&key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSBhbmQgbW9yZQ=="),
        whole.replace(&key, &format!("{key}\r\n{key}")),
        whole.replace("Connection: Upgrade\r\n", ""),
        whole.replace("Connection: Upgrade", "Connection: keep-alive"),
        whole.replace("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 8"),
    ] {
        let (head, body) = Client::send(gripd.clients, &request).answer();
        assert!(head.starts_with("http/1.1 400") && head.contains("sec-websocket-version: 13"), "{request}{head}");
        assert!(body.contains("Connection: Upgrade"), "{body}");
    }
    for request in [
        whole.replace("Connection: Upgrade", "Connection: keep-alive, upgrade"),
        whole.replace("Upgrade: websocket", "Upgrade: h2c, WebSocket"),
    ] {
        assert_eq!(status(&gripd, &request), 101, "{request}");
    }
}

#[test]
fn every_spelling_of_a_host_leads_to_its_route() {
    let (open, closed) = (plain(), plain());
    let routes = [
        format!("* {}", open.address),
        format!("jwt.test,user_jwt=cookie:t,user_key=k,user_required {}", closed.address),
    ];
    let gripd = Gripd::to(&routes, |_| {});
    for host in ["jwt.test", "JWT.test", "jwt.test.", "jwt.test.:80", "jwt.test:80"] {
        assert_eq!(status(&gripd, &format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")), 401, "{host}");
        let whole = format!("GET http://{host}/ HTTP/1.1\r\nHost: other\r\n\r\n");
        assert_eq!(status(&gripd, &whole), 401, "{host}");
    }
    for host in ["jwt.test..", ".jwt.test", "jwt..test", ".", "jwt.test%2e", "jwt.test\u{3002}"] {
        assert_eq!(status(&gripd, &format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")), 400, "{host}");
    }
    assert_eq!(status(&gripd, "GET / HTTP/1.1\r\nHost: other.test\r\n\r\n"), 200);
    assert_eq!((open.asked().len(), closed.asked().len()), (1, 0));
}

#[test]
fn a_target_is_a_path_or_a_uri_of_http() {
    let origin = plain();
    let gripd = Gripd::start(&origin);
    for (line, expected) in [
        ("GET evil.test HTTP/1.1", 400),
        ("GET evil.test:80 HTTP/1.1", 400),
        ("GET ftp://h/y HTTP/1.1", 400),
        ("GET ws://h/y HTTP/1.1", 400),
        ("GET http://user@h/y HTTP/1.1", 400),
        ("CONNECT h:80 HTTP/1.1", 501),
        ("GET http://h/y HTTP/1.1", 200),
        ("GET HTTPS://h/y HTTP/1.1", 200),
        ("GET /y HTTP/1.1", 200),
        ("OPTIONS * HTTP/1.1", 200),
        ("GET * HTTP/1.1", 400),
    ] {
        assert_eq!(status(&gripd, &format!("{line}\r\nHost: h\r\n\r\n")), expected, "{line}");
    }
    // The host in a URI does not excuse a Host header that is invalid, repeated or missing.
    assert_eq!(status(&gripd, "GET http://h/ HTTP/1.1\r\nHost: a@b\r\n\r\n"), 400);
    assert_eq!(status(&gripd, "GET http://h/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), 400);
    assert_eq!(status(&gripd, "GET http://h/ HTTP/1.1\r\n\r\n"), 400);
}

#[test]
fn a_request_names_its_host_once() {
    let origin = plain();
    let gripd = Gripd::start(&origin);
    assert_eq!(status(&gripd, "GET / HTTP/1.1\r\n\r\n"), 400);
    assert_eq!(status(&gripd, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), 400);
    assert_eq!(status(&gripd, "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"), 400);
    assert_eq!(origin.asked().len(), 0);
    assert_eq!(status(&gripd, "GET / HTTP/1.0\r\n\r\n"), 200);
    assert_eq!(status(&gripd, "GET / HTTP/1.1\r\nHost:\r\n\r\n"), 200);
}

#[test]
fn options_requests_go_no_further_than_max_forwards_says() {
    let origin = plain();
    let gripd = Gripd::start(&origin);
    let options = |hops: &str| format!("OPTIONS / HTTP/1.1\r\nHost: h\r\nMax-Forwards: {hops}\r\n\r\n");
    assert_eq!(status(&gripd, &options("0")), 200);
    assert_eq!(origin.asked().len(), 0);
    assert_eq!(status(&gripd, &options("5")), 200);
    assert_eq!(status(&gripd, &options("many")), 200);
    assert_eq!(status(&gripd, "GET / HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n\r\n"), 200);
    let hops: Vec<Option<String>> =
        origin.asked().iter().map(|a| a.header("max-forwards").map(str::to_owned)).collect();
    assert_eq!(hops, [Some("4".to_owned()), None, Some("0".to_owned())]);
}

#[test]
fn an_instruct_is_known_by_its_media_type_in_any_case() {
    for media in [
        "Application/Grip-Instruct",
        "application/grip-instruct ; charset=utf-8",
        "APPLICATION/GRIP-INSTRUCT;charset=utf-8",
        "  application/grip-instruct  ",
    ] {
        let origin = Origin::start(move |_| {
            let body = r#"{"hold":{"mode":"stream","channels":[{"name":"a"}]},"response":{"body":"held\n"}}"#;
            Answer::with(&format!("Content-Type: {media}\r\n"), body)
        });
        let gripd = Gripd::start(&origin);
        let mut client = gripd.get("/");
        client.read_until("held\n");
        eventually("the stream is held", || gripd.connections("a") == 1);
    }
}

#[test]
fn websocket_events_are_refused_anywhere_in_a_list_of_media_types() {
    let origin = plain();
    let gripd = Gripd::to(&[format!("* {},over_http", origin.address)], |_| {});
    for media in [
        "application/websocket-events, text/plain",
        "text/plain, application/websocket-events",
        "text/plain\r\nContent-Type: Application/WebSocket-Events;x",
        "text/plain;a=b , application/websocket-events ; x",
    ] {
        let request =
            format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Type: {media}\r\nContent-Length: 6\r\n\r\nOPEN\r\n");
        assert_eq!(status(&gripd, &request), 403, "{media}");
    }
    assert_eq!(origin.asked().len(), 0);
}

#[test]
fn a_signature_of_a_trusted_proxy_is_not_valid_before_its_nbf() {
    let origin = plain();
    let secret = Key::parse("between us", |_| Err("no files".into())).unwrap();
    let gripd = Gripd::with(&origin, "", |config| config.front.trusted = ProxyVerifier::new(&secret).unwrap());
    let now = gripd::origin::now();
    let last = |nbf: serde_json::Value| {
        let mut claims = json!({ "iss": "edge", "exp": now + 60 });
        if !nbf.is_null() {
            claims["nbf"] = nbf;
        }
        let token =
            jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(b"between us")).unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: h\r\nGrip-Sig: {token}\r\nGrip-Last: a; last-id=1\r\n\r\n");
        assert_eq!(status(&gripd, &request), 200);
        origin.asked().pop().unwrap().header("grip-last").is_some()
    };
    assert!(last(json!(null)) && last(json!(now - 5)) && last(json!(now as f64 - 0.5)));
    assert!(!last(json!(now + 30)) && !last(json!("soon")) && !last(json!(now as f64 + 30.5)));
}
