//! Routes: to which origin requests go, and how gripd changes requests and responses.

use crate::support::{Answer, Client, Gripd, Nobody, Origin, eventually, get};
use serde_json::json;

#[test]
fn the_next_target_is_asked_when_one_cannot_be_reached() {
    let origin = Origin::start(|asked| Answer::ok(&asked.body));
    let resets = Origin::start(|_| Answer::Last(String::new()));
    let nobody = Nobody::new();
    let dead = format!("{nobody} no-such-host.invalid:80 {}", resets.address);
    let gripd = Gripd::to(&[format!("* {dead} {}", origin.address)], |_| {});
    let put = "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody";
    assert_eq!(Client::send(gripd.clients, put).answer().1, "body");
    assert_eq!(gripd.metric("origin_fail_overs_total"), 3);
    // An origin may have seen the POST, which must not be carried out twice. Therefore it is not sent again.
    let post = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody";
    assert!(Client::send(gripd.clients, post).answer().0.starts_with("http/1.1 502"));
    assert_eq!(origin.asked().len(), 1);
}

#[test]
fn in_debug_mode_the_error_names_the_targets_that_cannot_be_reached() {
    let (one, other) = (Nobody::new(), Nobody::new());
    let gripd = Gripd::to(&[format!("*,debug {one} {other}")], |_| {});
    let (head, body) = gripd.get("/").answer();
    assert!(head.starts_with("http/1.1 502"), "{head}");
    assert!(body.contains(&format!("Unable to connect to any targets. Tried: {one}, {other}")), "{body}");
}

#[test]
fn the_test_target_answers_by_itself() {
    let gripd = Gripd::to(&["*,path_beg=/try/ test".into(), "* test,sub=always".into()], |_| {});
    assert!(gripd.get("/try/").answer().1.starts_with("Hello from the"));
    assert!(gripd.get("/try/other").answer().0.starts_with("http/1.1 404"));
    let mut stream = gripd.get("/try/stream/?channel=x&channel=y%20z");
    stream.head();
    assert_eq!(stream.chunk(), "[stream opened]\n");
    assert_eq!((gripd.say("x", "1"), gripd.say("y z", "2")), (1, 1));
    assert_eq!([stream.chunk(), stream.chunk()], ["1", "2"]);
    let mut poll = gripd.get("/response");
    eventually("the long-poll is held", || gripd.connections("test") == 1);
    // The channel in the target option `sub` is held as well, whatever channels the response names.
    gripd.publish(&json!([{ "channel": "always", "http-response": { "body": "item" } }]));
    assert_eq!(poll.answer().1, "item");
}

#[test]
fn a_targets_channels_are_held_without_the_prefix() {
    let origin = Origin::holding();
    let gripd = Gripd::to(&[format!("*,prefix=p- {},sub=all", origin.address)], |_| {});
    let mut client = gripd.get("/stream?a");
    client.head();
    client.chunk();
    assert_eq!((gripd.connections("p-a"), gripd.connections("all"), gripd.connections("p-all")), (1, 1, 0));
    gripd.say("all", "x");
    assert_eq!(client.chunk(), "x");
}

#[test]
fn a_header_chooses_a_route_where_that_is_allowed() {
    let (one, other) = (Origin::start(|_| Answer::ok("one")), Origin::start(|_| Answer::ok("other")));
    let routes = [format!("* {}", one.address), format!("id=other,path_beg=/o {}", other.address)];
    let ask = |gripd: &Gripd, path: &str, id: &str| {
        Client::send(gripd.clients, format!("GET {path} HTTP/1.1\r\nHost: h\r\nPushpin-Route: {id}\r\n\r\n")).answer()
    };
    let gripd = Gripd::to(&routes, |config| config.origin.forwarding.accept_route = true);
    assert_eq!(ask(&gripd, "/o", "other").1, "other");
    assert_eq!(other.asked_once().header("pushpin-route"), None);
    assert!(ask(&gripd, "/x", "other").0.starts_with("http/1.1 502"));
    assert_eq!(ask(&gripd, "/o", "nonsense").1, "Route not found\n");
    assert_eq!(ask(&Gripd::to(&routes, |_| {}), "/o", "other").1, "one");
}

#[test]
fn pages_of_other_origins_may_use_a_route_with_the_option_aco() {
    let origin = Origin::start(|asked| match asked.target() {
        "/poll" => Answer::with("Grip-Hold: response\r\nGrip-Channel: a\r\nX-A: 1\r\n", "nothing"),
        _ => Answer::with("X-B: 1\r\n", "plain"),
    });
    let gripd = Gripd::with(&origin, ",aco", |_| {});
    let ask = |path: &str| {
        Client::send(gripd.clients, format!("GET {path} HTTP/1.1\r\nHost: h\r\nOrigin: http://page\r\n\r\n"))
    };
    let head = ask("/").answer().0;
    for expected in ["allow-origin: http://page", "expose-headers: ", "allow-credentials: true", "max-age: 3600"] {
        assert!(head.contains(&format!("access-control-{expected}")), "{expected} is missing: {head}");
    }
    let mut poll = ask("/poll");
    eventually("the long-poll is held", || gripd.connections("a") == 1);
    gripd.publish(&json!([{ "channel": "a", "http-response": { "body": "item" } }]));
    let head = poll.answer().0;
    assert!(
        head.contains("access-control-allow-origin: http://page") && head.contains("expose-headers: x-a"),
        "{head}"
    );
    assert!(!Gripd::start(&origin).get("/").answer().0.contains("access-control"));
}

#[test]
fn jsonp_requests_get_scripts() {
    let origin = Origin::start(|asked| match asked.target() {
        "/poll?x=1" => Answer::with("Grip-Hold: response\r\nGrip-Channel: a\r\nX-A: 1\r\n", "nothing"),
        "/stream" => Answer::hold("stream", "a"),
        _ => Answer::ok(&format!("{} {}\n", asked.line, asked.body)),
    });
    let gripd = Gripd::with(&origin, ",aco", |_| {});
    let (head, body) = gripd.get("/echo?callback=cb&_method=POST&_body=hi").answer();
    assert!(head.starts_with("http/1.1 200") && head.contains("content-type: application/javascript"), "{head}");
    assert!(body.starts_with("/**/cb({\"body\":\"POST /echo HTTP/1.1 hi\\n\",\"code\":200"), "{body}");
    let mut poll = gripd.get("/poll?x=1&callback=cb");
    eventually("the long-poll is held", || gripd.connections("a") == 1);
    gripd.publish(&json!([{ "channel": "a", "http-response": { "code": 201, "body": "item" } }]));
    let (head, body) = poll.answer();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(body.starts_with("/**/cb({\"body\":\"item\",\"code\":201") && body.contains("\"x-a\":\"1\""), "{body}");
    assert!(gripd.get("/echo?callback=").answer().0.starts_with("http/1.1 400"));
    let (_, body) = gripd.get("/stream?callback=cb").answer();
    assert!(body.contains("\"code\":500") && body.contains("could not be JSON-P encoded"), "{body}");
}

#[test]
fn a_jsonp_request_that_is_served_again_stays_one() {
    let origin = Origin::start(|asked| match asked.all("grip-last").is_empty() {
        true => Answer::with("Grip-Hold: response\r\nGrip-Channel: a; prev-id=1\r\n", "nothing"),
        false => Answer::ok(&format!("{} {}", asked.line, asked.body)),
    });
    let gripd = Gripd::with(&origin, ",aco", |_| {});
    // The body that the client sends is read before the hold, and is not taken for another request.
    let body = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    let head = "GET /x?callback=cb&_method=HEAD&_body=b HTTP/1.1\r\nHost: h\r\n";
    let mut client = Client::send(gripd.clients, format!("{head}Content-Length: {}\r\n\r\n", body.len()));
    eventually("the origin is asked", || origin.asked().len() == 1);
    assert_eq!(gripd.connections("a"), 0);
    client.write(body);
    eventually("the long-poll is held", || gripd.connections("a") == 1);
    gripd.publish(&json!([{ "channel": "a", "action": "hint" }]));
    let (_, body) = client.answer();
    assert!(body.starts_with("/**/cb({\"body\":\"\""), "{body}");
    assert_eq!(origin.asked().len(), 2);
    assert_eq!(origin.asked()[1].line, "HEAD /x HTTP/1.1");
}

#[test]
fn gripds_own_answers_can_be_read_by_pages_and_scripts() {
    let nobody = Nobody::new();
    let gripd = Gripd::to(&[format!("*,aco {nobody}")], |_| {});
    let request = "GET / HTTP/1.1\r\nHost: h\r\nOrigin: http://page\r\n\r\n";
    let (head, _) = Client::send(gripd.clients, request).answer();
    assert!(head.starts_with("http/1.1 502") && head.contains("allow-origin: http://page"), "{head}");
    assert!(gripd.get("/?callback=cb").answer().1.contains("\"code\":502"));
}

#[test]
fn an_untrusted_target_is_not_reached_in_a_private_network() {
    let origin = Origin::holding();
    let gripd = Gripd::to(&[format!("*,debug {},untrusted", origin.address)], |_| {});
    let (head, body) = gripd.get("/").answer();
    assert!(head.starts_with("http/1.1 502") && body.contains("Origin host/IP blocked."), "{body}");
    assert!(origin.asked().is_empty());
}

#[test]
fn websocket_events_in_a_jsonp_request_are_refused_as_well() {
    let origin = Origin::holding();
    let gripd = Gripd::to(&[format!("*,aco {},over_http", origin.address)], |_| {});
    let headers = "%7B%22Content-Type%22%3A%22application%2Fwebsocket-events%22%7D";
    let (_, body) = gripd.get(&format!("/?callback=cb&_method=POST&_headers={headers}&_body=OPEN")).answer();
    assert!(body.contains("\"code\":403"), "{body}");
    assert!(origin.asked().is_empty());
}

#[test]
fn held_connections_stay_when_routes_change() {
    let (one, other) = (Origin::holding(), Origin::start(|_| Answer::ok("other")));
    let gripd = Gripd::start(&one);
    let (mut stream, mut poll) = (gripd.stream("a"), gripd.poll("b"));
    gripd.reroute(&format!("* {}", other.address));
    let eventually_other = || Client::send(gripd.clients, get("/")).answer().1 == "other";
    eventually("the new route is used", eventually_other);
    gripd.say("a", "still here");
    assert_eq!(stream.chunk(), "still here");
    // A request that is served again follows the new routes.
    gripd.publish(&json!([{ "channel": "b", "action": "hint" }]));
    assert_eq!(poll.answer().1, "other");
}
