//! Clients that connect through proxies: which address counts as the client's, and whose headers are believed.

use crate::support::kinds::origin;
use crate::support::{Answer, Client, Gripd, KINDS, Origin, Program, folder, run};
use serde_json::json;
use std::fs;

/// Starts a gripd whose table `[client]` has this line, which lists the trusted proxies. `more` is further
/// configuration.
fn behind(origin: &Origin, proxies: &str, more: &str) -> Gripd {
    Gripd::configured(&format!("{}\n[client]\n{proxies}\n{more}", origin.route("")))
}

/// Sends a request with these header lines. Returns one header of the request that reached the origin.
fn told(gripd: &Gripd, origin: &Origin, headers: &str, name: &str) -> Option<String> {
    Client::send(gripd.clients, format!("GET /plain HTTP/1.1\r\nHost: h\r\n{headers}\r\n")).answer();
    origin.asked().pop().unwrap().header(name).map(str::to_owned)
}

#[test]
fn without_proxies_no_header_of_a_client_gives_its_address() {
    let origin = origin();
    let gripd = Gripd::configured(&origin.route(""));
    let forged = "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Forwarded-Host: evil\r\n\
                  X-Forwarded-Proto: https\r\nTrue-Client-IP: 6.6.6.6\r\n";
    assert_eq!(told(&gripd, &origin, forged, "x-forwarded-for").as_deref(), Some("127.0.0.1"));
    let asked = origin.asked().pop().unwrap();
    for name in ["forwarded", "x-real-ip", "x-forwarded-host", "x-forwarded-proto", "true-client-ip"] {
        assert_eq!(asked.header(name), None, "{name}");
    }
    assert_eq!(told(&gripd, &origin, "", "x-forwarded-for").as_deref(), Some("127.0.0.1"));
}

#[test]
fn listed_proxies_are_believed() {
    let origin = origin();
    let gripd = behind(&origin, "proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]", "");
    let list = |headers: &str| told(&gripd, &origin, headers, "x-forwarded-for").unwrap();
    assert_eq!(list("X-Forwarded-For: 6.6.6.6, 1.2.3.4, 10.0.0.9\r\n"), "1.2.3.4, 10.0.0.9, 127.0.0.1");
    assert_eq!(list("Forwarded: for=1.2.3.4;proto=https\r\n"), "1.2.3.4, 127.0.0.1");
    // `X-Forwarded-For` is preferred to `Forwarded`. What a client writes into them, such as an open quote, does not
    // hide the address that the trusted proxy has appended.
    assert_eq!(list("X-Forwarded-For: 1.2.3.4\r\nForwarded: for=6.6.6.6\r\n"), "1.2.3.4, 127.0.0.1");
    assert_eq!(list("Forwarded: for=6.6.6.6;x=\"\r\nX-Forwarded-For: ?, 1.2.3.4\r\n"), "1.2.3.4, 127.0.0.1");
    assert_eq!(list("Forwarded: for=6.6.6.6;x=\", for=1.2.3.4\r\n"), "1.2.3.4, 127.0.0.1");
    let told = |headers: &str, name: &str| told(&gripd, &origin, headers, name);
    assert_eq!(
        told("X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n", "x-forwarded-proto").as_deref(),
        Some("https")
    );
    assert_eq!(told("X-Forwarded-For: 1.2.3.4\r\nX-Real-IP: 6.6.6.6\r\n", "x-real-ip").as_deref(), Some("1.2.3.4"));
    assert_eq!(told("Forwarded: for=1.2.3.4;proto=https\r\n", "x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(told("Forwarded: for=1.2.3.4;proto=http\r\n", "x-forwarded-proto"), None);
}

#[test]
fn headers_in_a_jsonp_request_do_not_give_its_address() {
    let origin = origin();
    let gripd = Gripd::configured(&format!("{}\n[client]\nproxies = [\"127.0.0.1\"]", origin.route("aco = true")));
    let headers = "%7B%22X-Forwarded-For%22%3A%226.6.6.6%22%2C%22Forwarded%22%3A%22for%3D6.6.6.6%22%2C%22X-Real-IP%22%3A%226.6.6.6%22%2C%22X-Mine%22%3A%221%22%7D";
    let request = format!("GET /plain?callback=f&_headers={headers} HTTP/1.1\r\nHost: h\r\n\r\n");
    Client::send(gripd.clients, request).answer();
    let asked = origin.asked_once();
    assert_eq!((asked.header("x-forwarded-for"), asked.header("x-mine")), (Some("127.0.0.1"), Some("1")));
    assert_eq!((asked.header("forwarded"), asked.header("x-real-ip")), (None, None));
}

#[test]
fn x_forwarded_for_may_be_edited_as_pushpin_does() {
    let origin = origin();
    for (rule, expected) in [("", Some("6.6.6.6")), ("append", Some("6.6.6.6, 127.0.0.1")), ("truncate:0", None)] {
        let gripd = behind(&origin, "", &format!("[origin]\nx_forwarded_for = \"{rule}\""));
        let headers = "X-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n";
        assert_eq!(told(&gripd, &origin, headers, "x-forwarded-for").as_deref(), expected, "{rule}");
        assert_eq!(origin.asked().pop().unwrap().header("x-real-ip"), Some("6.6.6.6"));
    }
}

#[test]
fn every_kind_of_connection_has_the_clients_address() {
    for kind in KINDS {
        let origin = origin();
        let gripd = behind(&origin, "proxies = [\"127.0.0.0/8\"]", "");
        let _proxied = kind.held_with(&gripd, "a", "X-Forwarded-For: 6.6.6.6, 1.2.3.4\r\n");
        let row = gripd.json("/connections")["connections"][0].take();
        assert_eq!(row["address"], json!("1.2.3.4"), "{}", kind.name());
        assert!(row["proxy"].as_str().unwrap().starts_with("127.0.0.1:"), "{row}");
        let _direct = kind.held(&gripd, "b");
        let row = gripd.json("/connections?channel=b")["connections"][0].take();
        assert!(row["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{row}");
        assert_eq!(row.get("proxy"), None);
        // Every request to the origin has the header, including those of WebSocket over HTTP.
        assert!(origin.asked().iter().all(|asked| asked.header("x-forwarded-for").unwrap().ends_with("127.0.0.1")));
        assert_eq!(origin.asked()[0].header("x-forwarded-for"), Some("1.2.3.4, 127.0.0.1"));
    }
}

#[test]
fn only_a_listed_proxy_may_name_the_user_and_the_protocol() {
    let origin = origin();
    let route = "user_header = \"X-User\"\nuser_channel = \"user{user}\"";
    let gripd = Gripd::configured(&format!("{}\n[client]\nproxies = [\"127.0.0.1\"]", origin.route(route)));
    let _held = KINDS[0].held_with(&gripd, "a", "X-User: 7\r\nX-Forwarded-For: 1.2.3.4\r\n");
    assert_eq!(gripd.connections("user7"), 1);
    // Only the address of the peer shows that it is a trusted proxy, and not an address in a header.
    let gripd = Gripd::configured(&format!("{}\n[client]\nproxies = [\"10.0.0.1\"]", origin.route(route)));
    let _held =
        KINDS[0].held_with(&gripd, "a", "X-User: 7\r\nX-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: https\r\n");
    assert_eq!(gripd.connections("user7"), 0);
    assert_eq!(origin.asked().pop().unwrap().header("x-forwarded-proto"), None);
}

#[test]
fn errors_in_the_configuration_of_proxies_are_reported() {
    let check = |text: &str| {
        let file = folder("proxies-check").join("gripd.toml");
        fs::write(&file, text).unwrap();
        run(&["check", "--config", file.to_str().unwrap()])
    };
    let (code, _, error) = check("[client]\nproxies = [\"10.0.0.1/8\"]\n[[route]]\ntarget = \"o:1\"\n");
    assert!(code == 78 && error.contains("client.proxies") && error.contains("10.0.0.1/8"), "{code}: {error}");
    let (code, _, error) = check("[[route]]\ntarget = \"o:1\"\nuser_header = \"X-User\"\n");
    assert!(code == 78 && error.contains("[client] proxies"), "{code}: {error}");
    let (code, _, error) = check("[origin]\nx_forwarded_for = \"auto,append\"\n[[route]]\ntarget = \"o:1\"\n");
    assert!(code == 78 && error.contains("'auto', 'truncate:N' or 'append'"), "{code}: {error}");
}

#[test]
fn a_proxy_that_is_not_listed_causes_one_warning() {
    let origin = Origin::start(|_| Answer::ok("ok"));
    for (proxies, hints) in [("", 1), ("proxies = []", 0), ("proxies = [\"10.0.0.1\"]", 0)] {
        let file = folder("proxies-hint").join("gripd.toml");
        fs::write(&file, format!("{}[client]\n{proxies}\n", origin.route(""))).unwrap();
        let mut program = Program::start(&["--config", file.to_str().unwrap()]);
        let clients = program.clients.parse().unwrap();
        for _ in 0..5 {
            Client::send(clients, "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n").answer();
        }
        program.signal("TERM");
        let (_, log) = program.wait();
        let found =
            log.lines().filter(|line| line.contains("WARN") && line.contains("proxies = [\"127.0.0.1\"]")).count();
        assert_eq!(found, hints, "{proxies}: {log}");
    }
}

#[test]
fn lines_of_the_access_log_have_the_clients_address() {
    let origin = Origin::start(|_| Answer::ok("ok"));
    let file = folder("proxies-access").join("gripd.toml");
    fs::write(&file, format!("{}[client]\nproxies = [\"127.0.0.1\"]\n", origin.route(""))).unwrap();
    let mut program = Program::start(&["--config", file.to_str().unwrap()]);
    let clients = program.clients.parse().unwrap();
    Client::send(clients, "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 6.6.6.6, 1.2.3.4\r\n\r\n").answer();
    program.says("client=1.2.3.4");
    Client::send(clients, "GET / HTTP/1.1\r\nHost: h\r\n\r\n").answer();
    program.says("client=127.0.0.1");
}

#[test]
fn a_request_gets_a_via_header_and_is_refused_when_it_comes_back() {
    let origin = Origin::start(|asked| Answer::ok(&asked.all("via").join("; ")));
    let gripd = Gripd::start(&origin);
    let ask = |via: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: h\r\n{via}\r\n");
        Client::send(gripd.clients, request).answer()
    };
    let (head, own) = ask("");
    assert!(own.starts_with("1.1 gripd-") && !head.contains("\r\nvia:"), "{own} {head}");
    let old = Client::send(gripd.clients, "GET / HTTP/1.0\r\n\r\n").answer().1;
    assert_eq!(old, own.replacen("1.1", "1.0", 1));
    assert_eq!(ask("Via: 1.0 fred, 1.1 other\r\n").1, format!("1.0 fred, 1.1 other; {own}"));
    for via in [format!("Via: {own}\r\n"), format!("Via: 1.0 fred\r\nVia: 1.1 other,{own} (x)\r\n")] {
        let (head, body) = ask(&via);
        assert!(head.starts_with("http/1.1 508"), "{via}: {head}");
        assert_eq!(body, "The request has passed through this proxy before (a loop).\n");
    }
    // A request that has passed another gripd is not a loop. `via = false` leaves out the header.
    let other = Gripd::start(&origin);
    let theirs = Client::send(other.clients, format!("GET / HTTP/1.1\r\nHost: h\r\nVia: {own}\r\n\r\n")).answer().1;
    assert!(theirs.starts_with(&format!("{own}; 1.1 gripd-")) && !theirs.ends_with(&own), "{theirs}");
    let silent = Gripd::configured(&format!("{}\n[origin]\nvia = false\n", origin.route("")));
    assert_eq!(silent.get("/").answer().1, "");
}
