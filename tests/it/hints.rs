//! Hints in the log: each kind is logged once, however often there is a reason for it, and not without a reason.

use crate::support::websocket::handshake;
use crate::support::{Answer, Client, Nobody, Origin, Program, folder, get, gripd};
use gripd::telemetry::Hint;
use serde_json::json;
use std::fs;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;

/// The number of times that a test gives gripd a reason for a hint.
const REASONS: usize = 5;

/// Starts gripd with this route, which has the id "shop".
fn with_route(options: &str, target: impl std::fmt::Display) -> Program {
    Program::start(&["--shards", "1", "--route", &format!("*,id=shop{options} {target}")])
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Stops gripd. Returns the only hint in its log.
fn only_hint(gripd: Program) -> String {
    let hints = hints(gripd);
    assert_eq!(hints.len(), 1, "{hints:#?}");
    hints[0].clone()
}

/// Stops gripd. Returns the hints in its log.
fn hints(mut gripd: Program) -> Vec<String> {
    gripd.signal("TERM");
    let (code, log) = gripd.wait();
    assert_eq!(code, 0, "{log}");
    log.lines().filter(|line| line.contains(" hint=\"")).map(str::to_owned).collect()
}

/// Asserts that a line is a hint of this kind and level, about the route "shop", with these texts.
fn is(hint: Hint, level: &str, line: &str, texts: &[&str]) {
    let name = format!(" hint=\"{}\" route=shop", hint.name());
    for text in texts.iter().copied().chain([level, &name]) {
        assert!(line.contains(text), "no {text} in {line}");
    }
}

fn publish(path: &str) -> String {
    let body = json!({ "items": [{ "channel": "a", "action": "close" }] }).to_string();
    let head = "HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close";
    format!("POST {path} {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn status(status: &'static str) -> Origin {
    Origin::start(move |_| Answer::Bytes(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")))
}

#[test]
fn an_origin_that_refuses_websockets_may_want_them_over_http() {
    let origin = status("501 Not Implemented");
    let gripd = with_route("", origin.address);
    for _ in 0..REASONS {
        let (head, _) = Client::send(address(&gripd.clients), handshake("/", "")).answer();
        assert!(head.starts_with("http/1.1 501"), "{head}");
    }
    let better = format!("'{},over_http'", origin.address);
    is(Hint::WebSocketRefused, " INFO ", &only_hint(gripd), &["with the status 501", &better]);
    // A decision about this client, and a refusal by an origin that does take WebSockets over HTTP, are no reasons.
    for (origin, option) in [(status("403 Forbidden"), ""), (status("404 Not Found"), ",over_http")] {
        let gripd = with_route("", format!("{}{option}", origin.address));
        assert!(Client::send(address(&gripd.clients), handshake("/", "")).head().starts_with("http/1.1 40"));
        assert_eq!(hints(gripd), Vec::<String>::new());
    }
}

#[test]
fn a_hold_without_a_channel_is_pointed_out() {
    let origin = Origin::start(|asked| match asked.target() {
        "/none" => Answer::with("Grip-Hold: stream\r\n", "begun"),
        "/linked" => Answer::linked("Grip-Hold: stream\r\n", "</none>; rel=next; timeout=60", "begun"),
        _ => Answer::hold("stream", "a"),
    });
    let gripd = with_route("", origin.address);
    let stream = |path: &str| {
        let mut client = Client::send(address(&gripd.clients), get(path));
        assert!(client.head().starts_with("http/1.1 200"));
        client.chunk();
        client
    };
    let _held: Vec<Client> = ["/some", "/linked"].into_iter().map(stream).collect();
    let _without: Vec<Client> = (0..REASONS).map(|_| stream("/none")).collect();
    is(Hint::NoChannel, " WARN ", &only_hint(gripd), &["response to /none ", "Grip-Channel"]);
    // The target gives each connection a channel.
    let gripd = with_route("", format!("{},sub=all", origin.address));
    Client::send(address(&gripd.clients), get("/none")).read_until("begun");
    assert_eq!(hints(gripd), Vec::<String>::new());
}

#[test]
fn grip_on_a_route_without_grip_is_pointed_out() {
    let origin = Origin::holding();
    let gripd = with_route(",no_grip", origin.address);
    for path in ["/", "/stream?a"].into_iter().cycle().take(2 * REASONS) {
        Client::send(address(&gripd.clients), get(path)).answer();
    }
    is(Hint::GripUnused, " INFO ", &only_hint(gripd), &["response to /stream uses GRIP (grip-", "no_grip"]);
}

#[test]
fn an_unknown_format_is_pointed_out() {
    let gripd = with_route("", "localhost:1");
    let body = json!({ "items": [{ "channel": "a", "formats": { "http_stream": { "content": "x" } } }] }).to_string();
    let head = format!("POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}", body.len());
    for _ in 0..REASONS {
        let (_, reply) = Client::send(address(&gripd.control), format!("{head}\r\n\r\n{body}")).answer();
        assert_eq!(reply, "Published\n");
    }
    let hint = only_hint(gripd);
    assert!(hint.contains(" WARN ") && hint.contains(" hint=\"unknown-member\""), "{hint}");
    assert!(hint.contains("did you mean 'http-stream'?") && hint.contains("A publisher at 127.0.0.1:"), "{hint}");
}

#[test]
fn a_publish_to_the_address_for_clients_is_pointed_out() {
    let origin = Origin::start(|asked| match asked.target() {
        "/own/publish" => Answer::ok("the site has a publish of its own"),
        _ => Answer::Bytes("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned()),
    });
    let gripd = with_route("", origin.address);
    for path in ["/other", "/own/publish"].into_iter().chain(["/publish/"; REASONS]) {
        Client::send(address(&gripd.clients), publish(path)).answer();
    }
    let texts = ["(POST /publish/)", "the origin answered it with 404", "http://localhost:5561"];
    is(Hint::PublishToClients, " INFO ", &only_hint(gripd), &texts);
    let nobody = Nobody::new();
    let gripd = with_route("", &nobody);
    Client::send(address(&gripd.clients), publish("/publish")).answer();
    is(Hint::PublishToClients, " INFO ", &only_hint(gripd), &["the origin cannot be reached"]);
    let gripd = Program::start(&["--route", &format!("example.com {}", origin.address)]);
    Client::send(address(&gripd.clients), publish("/publish")).answer();
    let hint = only_hint(gripd);
    assert!(hint.contains("no route matches it") && !hint.contains("route=shop"), "{hint}");
}

#[test]
fn other_protocols_than_http_are_pointed_out() {
    let zeromq = &b"\xff\0\0\0\0\0\0\0\x01\x7f"[..];
    let tls = &b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"[..];
    for (bytes, hint, level, text) in [
        (zeromq, Hint::ZeroMqToControl, " WARN ", " speaks ZeroMQ to the control port"),
        (tls, Hint::TlsToControl, " WARN ", " speaks TLS to the control port"),
        (tls, Hint::TlsToClients, " INFO ", " speaks TLS to the address for clients"),
    ] {
        let gripd = with_route("", "localhost:1");
        let to = if hint == Hint::TlsToClients { &gripd.clients } else { &gripd.control };
        for _ in 0..REASONS {
            drop(Client::send(address(to), bytes).rest_and_end());
        }
        let line = only_hint(gripd);
        for text in [level, &format!(" hint=\"{}\"", hint.name()), " at 127.0.0.1", text] {
            assert!(line.contains(text), "no {text} in {line}");
        }
    }
}

#[test]
fn an_origin_at_the_other_loopback_address_is_found() {
    // The port is reserved at 127.0.0.1, where nobody listens.
    let nobody = Nobody::new();
    let port = address(&nobody.to_string()).port();
    let _origin = Origin::start_at((Ipv6Addr::LOCALHOST, port).into(), |_| Answer::ok(""));
    let mut gripd = with_route("", &nobody);
    for _ in 0..REASONS {
        let (head, _) = Client::send(address(&gripd.clients), get("/")).answer();
        assert!(head.starts_with("http/1.1 502"), "{head}");
    }
    gripd.says(" hint=\"other-loopback\"");
    let hint = only_hint(gripd);
    is(Hint::OtherLoopback, " WARN ", &hint, &[&format!("a server listens on [::1]:{port}.")]);
    // The target in the hint works. It is the name if the name includes the address.
    let better = hint.split_once(", write ").unwrap().1.split(' ').next().unwrap();
    assert!([format!("localhost:{port}"), format!("[::1]:{port}")].contains(&better.to_owned()), "{better}");
    let gripd = with_route("", better);
    assert!(Client::send(address(&gripd.clients), get("/")).head().starts_with("http/1.1 200"));
    assert_eq!(hints(gripd), Vec::<String>::new());
}

#[test]
fn all_hints_are_explained_in_the_documentation() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operate.md")).unwrap();
    for hint in Hint::ALL {
        assert!(page.contains(&format!("\n| `{}` | ", hint.name())), "{}", hint.name());
    }
}

/// Returns the body of a 502 response to a `GET` for `/`.
fn error_page(gripd: &Program) -> String {
    let port = address(&gripd.clients).port();
    let (head, body) = Client::send(([127, 0, 0, 1], port).into(), get("/")).answer();
    assert!(head.starts_with("http/1.1 502") && head.contains("content-type: text/plain"), "{head}");
    body
}

#[test]
fn error_pages_tell_developers_the_reason() {
    let nobody = Nobody::new();
    let page = error_page(&with_route("", &nobody));
    for text in [
        &format!("Unable to connect to any targets. Tried: {nobody} (cannot connect to the origin: Connection refused")
            [..],
        &format!("\n\nRoute: shop\nTarget: {nobody}\n\nStart the origin, or correct the target of the route.\n"),
    ] {
        assert!(page.contains(text), "no {text} in {page}");
    }
    let page = error_page(&Program::start(&["--route", &format!("example.com,path_beg=/api {nobody}")]));
    let why = "No route matches the host localhost and the path /. The routes are:\n\nexample.com/api\n";
    assert_eq!(page, format!("Route not found\n\n{why}"));
}

#[test]
fn other_clients_are_told_no_reason() {
    let nobody = Nobody::new();
    let route = format!("* {nobody}");
    // Other machines can connect.
    let everywhere = ["--listen", "0.0.0.0:0", "--control", "127.0.0.1:0", "--route", &route];
    assert_eq!(error_page(&Program::of(gripd(&everywhere))), "Error while proxying to origin.\n");
    // The file turns it off.
    let folder = folder("hints-debug");
    let (off, routed) = (folder.join("off.toml"), folder.join("routed.toml"));
    fs::write(&off, "debug = false\n").unwrap();
    let page = error_page(&Program::start(&["--config", off.to_str().unwrap(), "--route", &route]));
    assert_eq!(page, "Error while proxying to origin.\n");
    // The routes are those of the file.
    fs::write(&routed, format!("[[route]]\ntarget = \"{nobody}\"\n")).unwrap();
    let page = error_page(&Program::start(&["--config", routed.to_str().unwrap()]));
    assert_eq!(page, "Error while proxying to origin.\n");
}
