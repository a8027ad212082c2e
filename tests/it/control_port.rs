//! The control port under load and attack: many connections, guessed tokens, health probes, and host names.

use crate::support::{Client, Gripd, Origin, eventually, get};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

const TOKEN: &str = "[[control.token]]\nname = \"ops\"\nsecret = \"s3cret\"\nscopes = [\"admin\"]\n";

/// Starts a gripd with the lines `control` in its table `[control]`, and with the tables `tokens` after it.
fn gripd(control: &str, tokens: &str) -> Gripd {
    let origin = Origin::holding();
    Gripd::configured(&format!("{}\n[control]\n{control}\n{tokens}", origin.route("")))
}

/// Sends a request with the method and target in `line`, and with these headers. Returns the status of the reply.
fn status(to: SocketAddr, line: &str, headers: &str) -> u16 {
    let mut client = Client::send(to, format!("{line} HTTP/1.1\r\n{headers}\r\n"));
    client.head().split(' ').nth(1).unwrap().parse().unwrap()
}

fn host(name: &str) -> String {
    format!("Host: {name}\r\n")
}

#[test]
fn many_silent_connections_keep_nobody_out() {
    for tokens in ["", TOKEN] {
        let gripd = gripd("", tokens);
        let crowd: Vec<Client> = (0..300).map(|_| Client::send(gripd.control, "")).collect();
        // Connections that have sent half a head are closed to make room, as are those that have sent nothing.
        let _half: Vec<Client> = (0..300).map(|_| Client::send(gripd.control, "GET /channels HTTP/1.1\r\n")).collect();
        let begin = Instant::now();
        for _ in 0..20 {
            assert_eq!(status(gripd.control, "GET /healthz", &host("localhost")), 200);
            let bearer = host("localhost") + "Authorization: Bearer s3cret\r\n";
            assert_eq!(status(gripd.control, "GET /channels", &bearer), 200);
        }
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        drop(crowd);
    }
}

#[test]
fn a_connection_with_a_valid_token_is_not_closed_to_make_room() {
    let gripd = gripd("", TOKEN);
    let bearer = "GET /channels HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer s3cret\r\n\r\n";
    let mut proven: Vec<Client> = (0..5).map(|_| Client::send(gripd.control, bearer)).collect();
    proven.iter_mut().for_each(|client| drop(client.answer()));
    let mut refused = Client::send(gripd.control, bearer.replace("s3cret", "wrong"));
    assert!(refused.answer().0.starts_with("http/1.1 401"));
    let _crowd: Vec<Client> = (0..400).map(|_| Client::send(gripd.control, "")).collect();
    // Connections without a valid token are closed to make room for new ones. Those that have sent one are not.
    assert_eq!(refused.rest(), "");
    for client in &mut proven {
        client.write(bearer);
        assert!(client.answer().0.starts_with("http/1.1 200"));
    }
    let metrics = Client::send(gripd.control, bearer.replace("/channels", "/metrics")).answer().1;
    assert!(metrics.contains("\ngripd_control_gave_way_total 1"), "{metrics}");
    assert!(metrics.contains("\ngripd_control_refused_total 1\n"), "{metrics}");
}

#[test]
fn guesses_are_slowed_down_and_good_tokens_are_not() {
    let gripd = gripd("", TOKEN);
    let (stop, guesses) = (AtomicBool::new(false), AtomicUsize::new(0));
    let request =
        |token: &str| format!("GET /channels HTTP/1.1\r\nHost: h.test\r\nAuthorization: Bearer {token}\r\n\r\n");
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let mut client = Client::send(gripd.control, "");
                while !stop.load(Relaxed) {
                    client.write(request("wrong"));
                    assert!(client.answer().0.starts_with("http/1.1 401"));
                    guesses.fetch_add(1, Relaxed);
                }
            });
        }
        eventually("twenty guesses are refused", || guesses.load(Relaxed) >= 20);
        let begin = Instant::now();
        let mut good = 0;
        while begin.elapsed() < Duration::from_secs(1) {
            assert!(Client::send(gripd.control, request("s3cret")).answer().0.starts_with("http/1.1 200"));
            good += 1;
        }
        stop.store(true, Relaxed);
        // Twenty wrong tokens are refused at once, and ten more each second. The good token is not delayed.
        let guessed = guesses.load(Relaxed);
        assert!(guessed < 50 && good > guessed, "{guessed} guesses, {good} good tokens");
    });
}

#[test]
fn guesses_that_do_not_wait_for_the_answer_are_counted_all_the_same() {
    let gripd = gripd("", TOKEN);
    let request =
        |token: &str| format!("GET /metrics HTTP/1.1\r\nHost: h.test\r\nAuthorization: Bearer {token}\r\n\r\n");
    for _ in 0..60 {
        drop(Client::send(gripd.control, request("wrong")));
    }
    // A connection may end before its request is read, so a few guesses may be missing. All others are counted,
    // although only the first twenty are refused without a delay.
    eventually("nearly all guesses are counted", || {
        let metrics = Client::send(gripd.control, request("s3cret")).answer().1;
        let counted = metrics.lines().find_map(|line| line.strip_prefix("gripd_control_refused_total "));
        (50..=60).contains(&counted.unwrap().parse::<u64>().unwrap())
    });
    // A request without a token is not a guess, because some clients send their token only after a 401. It is refused
    // without a delay.
    let begin = Instant::now();
    for _ in 0..30 {
        assert_eq!(status(gripd.control, "GET /metrics", &host("localhost")), 401);
    }
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
}

#[test]
fn health_may_have_an_address_of_its_own() {
    let gripd = gripd("health = \"127.0.0.1:0\"", TOKEN);
    let health = gripd.health();
    for (line, expected) in [
        ("GET /healthz", 200),
        ("GET /readyz", 200),
        ("HEAD /readyz/", 200),
        ("GET /", 404),
        ("GET /metrics", 404),
        ("GET /channels", 404),
        ("POST /healthz", 405),
        ("POST /publish", 405),
        ("DELETE /denied/a", 405),
    ] {
        assert_eq!(status(health, line, "Host: any.name\r\nOrigin: http://page\r\n"), expected, "{line}");
    }
    let _crowd: Vec<Client> = (0..200).map(|_| Client::send(health, "")).collect();
    assert_eq!(status(health, "GET /healthz", &host("h")), 200);
    gripd.drain();
    eventually("the readiness probe is answered with 503", || status(health, "GET /readyz", &host("h")) == 503);
}

#[test]
fn probes_and_scrapers_are_answered_whatever_they_accept() {
    let gripd = gripd("", "");
    for accept in ["text/html", "", "application/openmetrics-text", "image/png;q=1"] {
        for path in ["/healthz", "/readyz", "/metrics", "/channels", "/connections", "/"] {
            let headers = format!("Host: localhost\r\nAccept: {accept}\r\n");
            assert_eq!(status(gripd.control, &format!("GET {path}"), &headers), 200, "{path} {accept}");
        }
    }
    assert_eq!(status(gripd.control, "POST /recover", "Host: localhost\r\nAccept: text/html\r\n"), 406);
    assert_eq!(status(gripd.control, "GET /nowhere", "Host: localhost\r\nAccept: text/html\r\n"), 404);
}

#[test]
fn an_unknown_host_name_is_refused_unless_a_token_is_sent() {
    let open = gripd("hosts = [\"build-7.internal\", \"127.0.1.1\"]", "");
    for known in ["localhost", "localhost.", "127.0.0.1", "build-7.internal", "BUILD-7.internal.:5561", "127.0.1.1"] {
        assert_eq!(status(open.control, "GET /channels", &host(known)), 200, "{known}");
    }
    let refusal = Client::send(open.control, "GET /channels HTTP/1.1\r\nHost: my-laptop:5561\r\n\r\n").answer();
    assert!(refusal.0.starts_with("http/1.1 403"), "{}", refusal.0);
    assert!(refusal.1.contains("hosts = [\"my-laptop\"]") && refusal.1.contains("http://localhost:"), "{}", refusal.1);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(status(open.control, &format!("GET {path}"), &host("my-laptop")), 200);
    }
    let closed = gripd("", TOKEN);
    let bearer = |name: &str, token: &str| host(name) + "Authorization: Bearer " + token + "\r\n";
    assert_eq!(status(closed.control, "GET /channels", &bearer("my-laptop", "s3cret")), 200);
    assert_eq!(status(closed.control, "GET /channels", &bearer("my-laptop", "wrong")), 401);
    // A browser adds `Origin` to the requests of a page. Such requests are refused, even with a good token.
    let page = bearer("localhost", "s3cret") + "Origin: http://evil\r\n";
    assert_eq!(status(closed.control, "GET /channels", &page), 403);
    // An address that needs no token may also be that of a browser, whose pages could send requests. The host name is
    // therefore checked.
    let spared = gripd("without_token = [\"loopback\"]", TOKEN);
    assert_eq!(status(spared.control, "GET /channels", &host("localhost")), 200);
    assert_eq!(status(spared.control, "GET /channels", &host("evil.example")), 403);
    assert_eq!(status(spared.control, "GET /channels", &bearer("evil.example", "s3cret")), 200);
}

#[test]
fn requests_with_missing_or_contradictory_hosts_are_refused() {
    let gripd = gripd("", "");
    for (line, headers, expected) in [
        ("GET /channels", "", 400),
        ("GET /channels", "Host: localhost\r\nHost: evil.example\r\n", 400),
        ("GET /channels", "Host: localhost\r\nHost: localhost\r\n", 400),
        ("GET http://evil.example/channels", "Host: localhost\r\n", 403),
        ("GET http://localhost/channels", "Host: evil.example\r\n", 403),
        ("GET http://localhost/channels", "Host: localhost\r\n", 200),
        ("CONNECT localhost:80", "Host: localhost\r\n", 405),
        ("TRACE /", "Host: localhost\r\n", 405),
    ] {
        assert_eq!(status(gripd.control, line, headers), expected, "{line} {headers}");
    }
    let old = Client::send(gripd.control, get("/channels").replace("HTTP/1.1\r\nHost: localhost", "HTTP/1.0")).head();
    assert!(old.starts_with("http/1.0 200"), "{old}");
}
