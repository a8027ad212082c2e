//! The demo: its WebSockets over HTTP, its long-polls, and its page.

use crate::support::{Answer, Client, Gripd, Origin, eventually, get};
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpListener};

const BOB: &str = "/events?name=bob&conversation=123";

/// Starts a demo that publishes to `gripd`, and returns its address.
fn demo(gripd: &Gripd) -> SocketAddr {
    let (listener, addr) = listen();
    serve(listener, gripd.control);
    addr
}

/// Starts a gripd whose origin is the demo. Returns it with the address of the demo.
fn chat() -> (Gripd, SocketAddr) {
    let (listener, addr) = listen();
    let gripd = Gripd::to(&[format!("* {addr}")], |_| {});
    serve(listener, gripd.control);
    (gripd, addr)
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// Serves a demo that publishes to `control`, in a thread of its own.
fn serve(listener: TcpListener, control: SocketAddr) {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            gripd::demo::serve(listener, control, None).await.unwrap();
        });
    });
}

fn post(to: SocketAddr, path: &str, content_type: &str, body: &str) -> (String, String) {
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nHost: d\r\nContent-Type: {content_type}\r\nContent-Length: {length}");
    Client::send(to, format!("{head}\r\n\r\n{body}")).answer()
}

fn events(to: SocketAddr, body: &str) -> (String, String) {
    post(to, BOB, "application/websocket-events", body)
}

fn text(content: &str) -> String {
    format!("TEXT {:x}\r\n{content}\r\n", content.len())
}

#[test]
fn the_demo_opens_a_websocket_on_its_channels() {
    let gripd = Gripd::start(&Origin::holding());
    let (head, body) = events(demo(&gripd), "OPEN\r\n");
    assert!(head.starts_with("http/1.1 200") && head.contains("content-type: application/websocket-events\r\n"));
    assert!(head.contains("sec-websocket-extensions: grip; message-prefix=\"\"\r\n"), "{head}");
    assert!(body.starts_with("OPEN\r\nTEXT "), "{body}");
    for channel in ["conversation123", "user-bob", "conversation123-user-bob"] {
        assert!(body.contains(&text(&format!(r#"c:{{"channel":"{channel}","type":"subscribe"}}"#))), "{body}");
    }
    assert!(body.contains(r#""type":"keep-alive""#) && body.contains(r#""event":"hello""#), "{body}");
}

#[test]
fn the_demo_publishes_what_a_websocket_says() {
    let gripd = Gripd::start(&Origin::holding());
    let mut stream = gripd.stream("conversation123");
    let (head, body) = events(demo(&gripd), &(text("hi") + "PING 1\r\nx\r\n" + &text(" ") + "CLOSE 2\r\n\x01\x02\r\n"));
    assert!(head.starts_with("http/1.1 200") && !head.contains("sec-websocket-extensions"), "{head}");
    let refused = text(r#"{"data":{"reason":"text must not be empty","text":" "},"event":"refused"}"#);
    assert_eq!(body, format!("PONG 1\r\nx\r\n{refused}CLOSE 2\r\n\x01\x02\r\n"));
    stream.read_until("event: message\ndata: {\"from\":\"bob\",\"text\":\"hi\"");
}

#[test]
fn the_demo_refuses_the_websocket_of_a_removed_person() {
    let gripd = Gripd::start(&Origin::holding());
    let demo = demo(&gripd);
    let kick = r#"{"name": "bob", "by": "amy", "conversation": "123"}"#;
    assert!(post(demo, "/kick", "application/json", kick).0.starts_with("http/1.1 200"));
    let (head, body) = events(demo, "OPEN\r\n");
    assert!(head.starts_with("http/1.1 403") && head.contains("text/plain"), "{head}");
    assert_eq!(body, "amy removed you from the conversation\n");
    let elsewhere = "/events?name=bob&conversation=7";
    assert!(post(demo, elsewhere, "application/websocket-events", "OPEN\r\n").1.starts_with("OPEN\r\n"));
    let stream = Client::send(demo, format!("GET {BOB} HTTP/1.1\r\nHost: d\r\n\r\n")).head();
    assert!(stream.starts_with("http/1.1 403"), "{stream}");
}

#[test]
fn the_demo_ignores_unneeded_events_and_refuses_invalid_requests() {
    let gripd = Gripd::start(&Origin::holding());
    let demo = demo(&gripd);
    for quiet in ["", "DISCONNECT\r\n", "PONG 1\r\n:\r\n"] {
        assert_eq!(events(demo, quiet).1, "", "{quiet:?}");
    }
    assert!(events(demo, "TEXT 5\r\nhi\r\n").0.starts_with("http/1.1 400"));
    assert!(post(demo, BOB, "text/plain", "OPEN\r\n").0.starts_with("http/1.1 405"));
}

fn say(demo: SocketAddr, text: &str) -> String {
    let line = json!({"name": "amy", "conversation": "123", "text": text}).to_string();
    post_quietly(demo, "/say", &line)
}

/// Sends a `POST` request, and returns only the head of the response, because a response without content has no length.
fn post_quietly(to: SocketAddr, path: &str, body: &str) -> String {
    let head = format!("POST {path} HTTP/1.1\r\nHost: d\r\nContent-Length: {}", body.len());
    Client::send(to, format!("{head}\r\n\r\n{body}")).head()
}

/// The page of bob, which gets its news by long-polls.
struct Page {
    client: Client,
    last: Option<u64>,
}

impl Page {
    /// Returns a page that has sent its first long-poll.
    fn open(to: SocketAddr) -> Self {
        let mut page = Self { client: Client::send(to, ""), last: None };
        page.ask();
        page
    }

    fn ask(&mut self) {
        let after = self.last.map_or_else(String::new, |last| last.to_string());
        self.client.write(get(&format!("/poll?name=bob&conversation=123&after={after}")));
    }

    /// Reads the response to the long-poll. Returns the names and the data of the events in it.
    fn news(&mut self) -> Vec<(String, Value)> {
        let (head, body) = self.client.answer();
        assert!(head.starts_with("http/1.1 200") && head.contains("content-type: application/json\r\n"), "{head}");
        let told: Value = serde_json::from_str(&body).unwrap();
        self.last = told["last"].as_u64().or(self.last);
        let news = told["news"].as_array().unwrap().iter();
        news.map(|one| (one["event"].as_str().unwrap().to_owned(), one["data"].clone())).collect()
    }

    /// Sends long-polls until they have returned `lines` chat messages. Returns the texts of these messages.
    fn hear(&mut self, lines: usize) -> Vec<String> {
        let mut heard = Vec::new();
        while heard.len() < lines {
            self.ask();
            let said = self.news().into_iter().filter(|(event, _)| event == "message");
            heard.extend(said.map(|(_, data)| data["text"].as_str().unwrap().to_owned()));
        }
        heard
    }

    /// Sends a long-poll, and waits until it is held because there is no more news.
    fn hold(&mut self, gripd: &Gripd) {
        // The first request returns the news that bob himself has joined, whether that news comes before the request or
        // ends its hold.
        self.ask();
        self.news();
        self.ask();
        eventually("the long-poll is held", || gripd.connections("conversation123-polls") == 1);
    }
}

#[test]
fn the_demo_greets_a_long_poll_and_has_the_next_one_held() {
    let (gripd, demo) = chat();
    let mut page = Page::open(demo);
    assert_eq!(page.news(), [("hello".to_owned(), json!({"name": "bob", "conversation": "123"}))]);
    let mut stream = gripd.get("/events?name=amy&conversation=123");
    stream.read_until("event: hello");
    let mut page = Page::open(gripd.clients);
    page.news();
    stream.read_until("event: joined\ndata: {\"name\":\"bob\"}");
    page.hold(&gripd);
    for channel in ["conversation123-user-bob", "user-bob"] {
        assert_eq!(gripd.connections(channel), 1, "{channel}");
    }
    say(demo, "hi");
    let news = page.news();
    assert_eq!((news.len(), &news[0].1["text"]), (1, &json!("hi")));
    stream.read_until("\"text\":\"hi\"");
}

#[test]
fn long_polls_get_every_message_exactly_once() {
    let (gripd, demo) = chat();
    let mut page = Page::open(gripd.clients);
    page.news();
    let lines: Vec<String> = (0..20).map(|n| format!("line {n}")).collect();
    let burst = lines.clone();
    let talking = std::thread::spawn(move || burst.iter().all(|line| say(demo, line).starts_with("http/1.1 204")));
    assert_eq!(page.hear(20), lines);
    assert!(talking.join().unwrap());
    // Messages that are published while the page sends no long-poll are not missed either.
    lines.iter().for_each(|line| drop(say(demo, line)));
    assert_eq!(page.hear(20), lines);
    page.ask();
    eventually("the long-poll is held", || gripd.connections("conversation123-polls") == 1);
    say(demo, "last");
    assert_eq!(page.news()[0].1["text"], "last");
}

#[test]
fn a_long_poll_gets_an_item_from_the_shell_and_then_a_chat_message() {
    let (gripd, demo) = chat();
    let mut page = Page::open(gripd.clients);
    page.news();
    page.hold(&gripd);
    let told = json!({"news": [{"event": "message", "data": {"text": "from the shell"}}]}).to_string();
    let formats = json!({"http-response": {"body": told}});
    assert_eq!(gripd.publish(&json!([{"channel": "conversation123", "formats": formats}]))[0]["delivered"], 1);
    assert_eq!(page.news()[0].1["text"], "from the shell");
    say(demo, "hi");
    assert_eq!(page.hear(1), ["hi"]);
}

#[test]
fn a_kicked_long_poll_gets_the_reason_and_is_then_refused() {
    let (gripd, demo) = chat();
    let mut page = Page::open(gripd.clients);
    page.news();
    page.hold(&gripd);
    let kick = r#"{"name": "bob", "by": "amy", "conversation": "123"}"#;
    let (_, receipt) = post(demo, "/kick", "application/json", kick);
    let receipt: Value = serde_json::from_str(&receipt).unwrap();
    assert_eq!((&receipt["items"][0]["channel"], &receipt["items"][0]["closed"]), (&json!("user-bob"), &json!(1)));
    let news = page.news();
    assert_eq!((news.len(), news[0].0.as_str()), (1, "kicked"));
    assert_eq!(news[0].1["reason"], "amy removed you from the conversation");
    assert_eq!(page.client.rest(), "");
    page.client = Client::send(gripd.clients, "");
    for _ in 0..2 {
        page.ask();
        let (head, body) = page.client.answer();
        assert!(head.starts_with("http/1.1 403"), "{head}");
        assert_eq!(body, "amy removed you from the conversation\n");
        page.last = None;
    }
}

#[test]
fn no_item_names_an_unpublished_message_as_its_predecessor() {
    let control = Origin::start(|asked| match asked.body.contains("lost") {
        true => Answer::Last("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_owned()),
        false => Answer::Last("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()),
    });
    let (listener, demo) = listen();
    serve(listener, control.address);
    let heads = ["one", "two", "lost", "three"].map(|text| say(demo, text));
    assert!(heads[2].starts_with("http/1.1 502") && heads[3].starts_with("http/1.1 204"), "{heads:?}");
    let numbered: Vec<Value> = control.asked().iter().map(|asked| serde_json::from_str(&asked.body).unwrap()).collect();
    let numbered: Vec<&Value> = numbered.iter().map(|body| &body["items"][1]).collect();
    assert_eq!(numbered[1]["prev-id"], numbered[0]["id"]);
    assert_eq!(numbered[2]["prev-id"], numbered[1]["id"]);
    assert!(numbered[0].get("prev-id").is_none() && numbered[3].get("prev-id").is_none());
    let mut page = Page { client: Client::send(demo, ""), last: Some(0) };
    assert_eq!(page.hear(3), ["one", "two", "three"]);
}

#[test]
fn the_demo_refuses_invalid_long_polls() {
    let (_gripd, demo) = chat();
    let ask = |query: &str| Client::send(demo, get(&format!("/poll?{query}"))).head();
    for bad in ["name=bob", "name=&conversation=123&after=1", "name=bob&conversation=123&after=x"] {
        assert!(ask(bad).starts_with("http/1.1 400"), "{bad}");
    }
    assert!(post_quietly(demo, "/poll?name=bob&conversation=123", "").starts_with("http/1.1 405"));
}

#[test]
fn pages_of_other_sites_cannot_post_and_the_demo_page_runs_only_its_own_script() {
    let (gripd, _demo) = chat();
    let body = r#"{"name": "amy", "conversation": "1", "text": "hello"}"#;
    let say = |origin: &str| {
        let length = body.len();
        let request =
            format!("POST /say HTTP/1.1\r\nHost: chat.example:80\r\n{origin}Content-Length: {length}\r\n\r\n{body}");
        Client::send(gripd.clients, request).head()
    };
    for own in ["", "Origin: http://chat.example\r\n", "Origin: https://chat.example:80\r\n"] {
        assert!(say(own).starts_with("http/1.1 204"), "{own}");
    }
    for other in ["Origin: http://evil.example\r\n", "Origin: null\r\n", "Origin: chat.example\r\n"] {
        assert!(say(other).starts_with("http/1.1 403"), "{other}");
    }
    let (head, _) = gripd.get("/").answer();
    let policy = head.lines().find_map(|line| line.strip_prefix("content-security-policy: ")).unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
}
