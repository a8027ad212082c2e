//! Trust: other GRIP proxies are believed if their signature is valid, and nobody else is.

use crate::support::{Answer, Client, Gripd, Origin};
use gripd::grip::signature::{Key, ProxyVerifier, Signer};
use gripd::origin::{ForwardedEdit, ForwardedFor};

fn holding_everything() -> Origin {
    Origin::start(|_| Answer::with("Grip-Hold: stream\r\nGrip-Channel: a\r\n", "body"))
}

fn secret(text: &str) -> Key {
    Key::parse(text, |_| Err("no files".into())).unwrap()
}

fn token(key: &str) -> String {
    Signer::new("edge", &secret(key)).unwrap().unwrap().sign(gripd::origin::now()).unwrap()
}

fn trusting(origin: &Origin, options: &str) -> Gripd {
    Gripd::with(origin, options, |config| {
        config.front.trusted = ProxyVerifier::new(&secret("between us")).unwrap();
        config.origin.forwarding.forwarded_for =
            ForwardedFor::Edited(ForwardedEdit { truncate: Some(0), append: true });
    })
}

fn send(gripd: &Gripd, headers: &str) -> (String, String) {
    Client::send(gripd.clients, format!("GET / HTTP/1.1\r\nHost: h\r\n{headers}\r\n")).answer()
}

#[test]
fn a_trusted_proxy_gets_the_instruct_and_holds_the_client_itself() {
    let origin = holding_everything();
    let gripd = trusting(&origin, "");
    let signature = token("between us");
    let headers =
        format!("Grip-Sig: {signature}\r\nGrip-Feature: x\r\nGrip-Last: a; last-id=1\r\nX-Forwarded-For: 1.1.1.1\r\n");
    let (head, body) = send(&gripd, &headers);
    assert!(head.contains("grip-hold: stream") && head.contains("grip-channel: a"), "{head}");
    assert_eq!(body, "body");
    let asked = origin.asked_once();
    assert_eq!(asked.all("grip-sig"), [signature]);
    assert_eq!((asked.header("grip-feature"), asked.header("grip-last")), (Some("x"), Some("a; last-id=1")));
    assert_eq!(asked.header("x-forwarded-for"), Some("1.1.1.1"));
}

#[test]
fn a_proxy_without_a_valid_signature_is_not_trusted() {
    let origin = holding_everything();
    let gripd = trusting(&origin, "");
    for forged in [token("another key"), "nonsense".to_owned(), String::new()] {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: h\r\nGrip-Sig: {forged}\r\nGrip-Last: forged\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n"
        );
        let mut client = Client::send(gripd.clients, request);
        assert!(!client.head().contains("grip-"), "a GRIP header has reached the client");
        let asked = origin.asked().pop().unwrap();
        assert_ne!(asked.header("grip-sig"), Some(forged.as_str()));
        assert_eq!((asked.header("grip-last"), asked.header("x-forwarded-for")), (None, Some("127.0.0.1")));
    }
}

#[test]
fn a_route_without_grip_only_forwards() {
    let origin = holding_everything();
    let (head, body) = Gripd::with(&origin, ",no_grip", |_| {}).get("/").answer();
    assert!(head.contains("grip-hold: stream"), "{head}");
    assert_eq!(body, "body");
    assert!(!origin.asked_once().headers.contains("grip-"));
}

#[test]
fn only_a_trusted_proxy_may_send_websocket_events() {
    let origin = Origin::holding();
    let routes = [format!("*,path_beg=/a {}", origin.address), format!("*,proto=ws {},over_http", origin.address)];
    let gripd = Gripd::to(&routes, |config| config.front.trusted = ProxyVerifier::new(&secret("between us")).unwrap());
    let post = |more: &str| {
        let request = format!("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n{more}\r\nOPEN\r\n");
        Client::send(gripd.clients, request).answer()
    };
    for media in ["application/websocket-events", "Application/WebSocket-Events ; x=y"] {
        let (head, body) = post(&format!("Content-Type: {media}\r\n"));
        assert!(head.starts_with("http/1.1 403"), "{head}");
        assert_eq!(body, "Client not allowed to send WebSocket events directly.\n");
    }
    assert!(post("Content-Type: application/json\r\n").0.starts_with("http/1.1 200"));
    let trusted = format!("Content-Type: application/websocket-events\r\nGrip-Sig: {}\r\n", token("between us"));
    assert!(post(&trusted).0.starts_with("http/1.1 200"));
    // If no route leads to an origin over HTTP, such a request is like any other.
    let gripd = Gripd::start(&origin);
    let request =
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Type: application/websocket-events\r\nContent-Length: 0\r\n\r\n";
    assert!(Client::send(gripd.clients, request).answer().0.starts_with("http/1.1 200"));
}

#[test]
fn a_request_that_comes_back_is_refused_as_a_loop() {
    let origin = Origin::holding();
    let gripd = Gripd::with(&origin, "", |config| config.origin.forwarding.cdn_loop = Some("me".into()));
    assert!(send(&gripd, "CDN-Loop: other; x=1\r\n").0.starts_with("http/1.1 200"));
    assert_eq!(origin.asked_once().header("cdn-loop"), Some("other; x=1, me"));
    assert!(send(&gripd, "CDN-Loop: other, ME\r\n").0.starts_with("http/1.1 508"));
}

#[test]
fn an_invalid_host_is_refused() {
    let origin = Origin::holding();
    let gripd = Gripd::start(&origin);
    for host in ["h#", "h/x", "a@h", "h?x", "h h", "h,h", "h:80:443", "[::1"] {
        let request = format!("GET /stream?a HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert!(Client::send(gripd.clients, request).answer().0.starts_with("http/1.1 400"), "{host}");
    }
    assert!(origin.asked().is_empty());
}

#[test]
fn grip_headers_in_trailers_are_removed_as_well() {
    let origin = Origin::start(|_| {
        Answer::Bytes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-a\r\n\r\n2\r\nok\r\n0\r\nGrip-Hold: stream\r\nX-A: 1\r\n\r\n".into())
    });
    let gripd = Gripd::start(&origin);
    let request = "POST / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nTrailer: x-b\r\n\r\n\
                   2\r\nhi\r\n0\r\nGrip-Sig: forged\r\nX-B: 2\r\n\r\n";
    let answer = Client::send(gripd.clients, request).rest().to_ascii_lowercase();
    assert!(answer.contains("x-a: 1") && !answer.contains("grip-hold"), "{answer}");
    let body = origin.asked_once().body;
    assert!(body.contains("x-b: 2") && !body.contains("grip-sig"), "{body}");
}

#[test]
fn a_route_may_be_left_unsigned() {
    let origin = Origin::holding();
    let gripd = Gripd::with(&origin, ",sig_key=", |_| {});
    gripd.get("/").answer();
    assert_eq!(origin.asked_once().header("grip-sig"), None);
}

#[test]
fn a_route_may_have_its_own_signature() {
    let origin = Origin::holding();
    let pem = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/");
    for (file, public) in [("ec.pem", "ec.public.pem"), ("rsa.pem", "rsa.public.pem")] {
        let gripd = Gripd::with(&origin, &format!(",sig_iss=me,sig_key=file:{pem}{file}"), |_| {});
        gripd.get("/").answer();
        let token = origin.asked().pop().unwrap().header("grip-sig").unwrap().to_owned();
        let key = Key::parse(&format!("file:{public}"), |name| {
            std::fs::read_to_string(format!("{pem}{name}")).map_err(|error| error.to_string())
        });
        let verifier = ProxyVerifier::new(&key.unwrap()).unwrap().unwrap();
        assert!(verifier.trusts(&token, gripd::origin::now()), "{token}");
    }
}
