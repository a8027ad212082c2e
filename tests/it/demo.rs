//! The demo: its streams, its WebSockets over HTTP, its long-polls, the people who are here, and its page.

use crate::support::{Answer, Client, Gripd, Origin, eventually, get};
use gripd::demo::WebhookSecret;
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpListener};

const BOB: &str = "/events?name=bob&conversation=123";

/// Starts a demo that publishes to `gripd`, and returns its address.
fn demo(gripd: &Gripd) -> SocketAddr {
    let (listener, addr) = listen();
    serve(listener, gripd.control);
    addr
}

/// Starts a gripd without routes, so that it starts the demo as its origin.
fn chat() -> Gripd {
    Gripd::to(&[], |_| {})
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
            gripd::demo::serve(listener, control, None, WebhookSecret::random().unwrap()).await.unwrap();
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
    let demo = demo(&gripd);
    let (head, body) = events(demo, &text("hi"));
    assert!(head.starts_with("http/1.1 200") && !head.contains("sec-websocket-extensions"), "{head}");
    assert!(body.contains(r#""event":"published""#) && body.contains(r#""delivered":1"#), "{body}");
    stream.read_until("event: message\ndata: {\"from\":\"bob\",\"text\":\"hi\"");
    events(demo, &text(r#"{"text":"with an id","id":"7"}"#));
    stream.read_until("event: message\ndata: {\"from\":\"bob\",\"id\":\"7\",\"text\":\"with an id\"");
    let (_, body) = events(demo, &("PING 1\r\nx\r\n".to_owned() + &text(" ") + "CLOSE 2\r\n\x01\x02\r\n"));
    let refused = text(r#"{"data":{"id":null,"reason":"text must not be empty","text":" "},"event":"refused"}"#);
    assert_eq!(body, format!("PONG 1\r\nx\r\n{refused}CLOSE 2\r\n\x01\x02\r\n"));
}

#[test]
fn the_demo_refuses_the_websocket_of_a_removed_person() {
    let gripd = Gripd::start(&Origin::holding());
    let demo = demo(&gripd);
    kick(demo, "bob");
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

/// Says a line as amy. Returns the head of the response.
fn say(to: SocketAddr, text: &str) -> String {
    let line = json!({"name": "amy", "conversation": "123", "text": text}).to_string();
    post(to, "/say", "application/json", &line).0
}

/// Removes a person from the conversation in the name of amy. Returns the items and the receipt.
fn kick(to: SocketAddr, name: &str) -> Value {
    let body = json!({"name": name, "by": "amy", "conversation": "123"}).to_string();
    let (head, answer) = post(to, "/kick", "application/json", &body);
    assert!(head.starts_with("http/1.1 200"), "{head}");
    serde_json::from_str(&answer).unwrap()
}

/// Opens the stream of a person, and reads its first event.
fn join(gripd: &Gripd, name: &str) -> (Client, Value) {
    let mut stream = gripd.get(&format!("/events?name={name}&conversation=123"));
    stream.read_until("event: hello\ndata: ");
    let hello = event_data(&mut stream);
    (stream, hello)
}

/// Reads the data of an event whose `data: ` has been read.
fn event_data(stream: &mut Client) -> Value {
    let line = stream.read_until("\n\n");
    serde_json::from_str(line.trim_end()).unwrap()
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
        // The first held request makes gripd report that bob is here, which is the news that ends its hold.
        self.ask();
        self.news();
        self.ask();
        eventually("the long-poll is held", || gripd.connections("conversation123-polls") == 1);
    }
}

#[test]
fn the_first_event_of_a_stream_shows_the_people_and_the_exchange() {
    let gripd = chat();
    let (_stream, hello) = join(&gripd, "bob");
    assert_eq!((&hello["name"], &hello["count"], &hello["people"]), (&json!("bob"), &json!(1), &json!(["bob"])));
    let answer = ["Grip-Hold: stream", "Grip-Channel: conversation123, user-bob, conversation123-user-bob"];
    assert_eq!(hello["grip"], json!({"request": ["GET /events?name=bob&conversation=123"], "answer": answer}));
}

#[test]
fn those_who_are_here_are_told_who_comes_and_goes() {
    let gripd = chat();
    let (mut amy, _) = join(&gripd, "amy");
    amy.read_until("event: joined\ndata: {\"count\":1,\"name\":\"amy\",\"people\":[\"amy\"]}");
    let (bob, hello) = join(&gripd, "bob");
    assert_eq!(hello["people"], json!(["amy", "bob"]));
    amy.read_until("event: joined\ndata: {\"count\":2,\"name\":\"bob\",\"people\":[\"amy\",\"bob\"]}");
    // Another connection of bob is no news, and neither is the end of one of them.
    let (_second, _) = join(&gripd, "bob");
    drop(bob);
    eventually("one of bob's connections is gone", || gripd.connections("user-bob") == 1);
    let (zoe, _) = join(&gripd, "zoe");
    amy.read_until("event: ");
    assert_eq!(amy.read_until("\n"), "joined\n");
    drop(zoe);
    amy.read_until("event: left\ndata: {\"count\":2,\"name\":\"zoe\",\"people\":[\"amy\",\"bob\"]}");
}

#[test]
fn a_removed_person_is_not_listed_any_more() {
    let gripd = chat();
    let (mut amy, _) = join(&gripd, "amy");
    let (mut bob, _) = join(&gripd, "bob");
    amy.read_until("event: joined\ndata: {\"count\":2,");
    assert_eq!(kick(gripd.clients, "bob")["receipt"]["items"][0]["closed"], 1);
    bob.read_until("event: kicked\ndata: {\"by\":\"amy\",");
    amy.read_until("event: left\ndata: {\"by\":\"amy\",\"count\":1,\"name\":\"bob\",\"people\":[\"amy\"]}");
}

#[test]
fn a_client_cannot_report_who_is_here() {
    let gripd = chat();
    let (mut amy, _) = join(&gripd, "amy");
    amy.read_until("event: joined");
    let forged = r#"{"events":[{"event":"joined","channel":"conversation123-user-eve"}]}"#;
    for path in ["/presence", "/presence?secret=", "/presence?secret=00"] {
        let (head, _) = post(gripd.clients, path, "application/json", forged);
        assert!(head.starts_with("http/1.1 403"), "{path}: {head}");
    }
    assert_eq!(join(&gripd, "bob").1["people"], json!(["amy", "bob"]));
}

#[test]
fn names_of_any_script_are_held_and_closed() {
    let gripd = chat();
    let (mut stream, hello) = join(&gripd, "%D0%9E%D0%BB%D1%8C%D0%B3%D0%B0");
    assert_eq!(hello["people"], json!(["Ольга"]));
    stream.read_until("event: joined\ndata: {\"count\":1,\"name\":\"Ольга\"");
    assert_eq!(gripd.close("user-Ольга"), (1, 0));
    let (head, refusal) = gripd.get("/events?name=a%20b&conversation=123").answer();
    assert!(head.starts_with("http/1.1 400"), "{head}");
    assert_eq!(refusal, "name must consist of 1 to 24 letters or digits of any script, _ or -\n");
}

#[test]
fn a_page_learns_why_and_how_long_a_person_may_not_join() {
    let gripd = chat();
    let ask = |name: &str| -> Value {
        let (_, body) = gripd.get(&format!("/admission?name={name}&conversation=123")).answer();
        serde_json::from_str(&body).unwrap()
    };
    assert_eq!(ask("bob"), json!({"reason": null, "seconds": null}));
    kick(gripd.clients, "bob");
    assert_eq!(ask("bob"), json!({"reason": "amy removed you from the conversation", "seconds": null}));

    let (mut zoe, _) = join(&gripd, "zoe");
    gripd.publish(&json!([{"channel": "user-zoe", "action": "close", "deny-for": 300}]));
    zoe.rest();
    let answer = ask("zoe");
    assert_eq!(answer["reason"], "The channel user-zoe was closed through gripd's control port");
    assert!((290..=300).contains(&answer["seconds"].as_u64().unwrap()), "{answer}");
    assert_eq!(ask("zo"), json!({"reason": null, "seconds": null}));
    assert_eq!(gripd.control("DELETE", "/denied/user-zoe").0, 200);
    assert_eq!(ask("zoe"), json!({"reason": null, "seconds": null}));
}

#[test]
fn a_message_is_answered_with_its_items_and_the_receipt() {
    let gripd = chat();
    let (mut amy, _) = join(&gripd, "amy");
    let line = json!({"name": "amy", "conversation": "123", "text": "hi", "id": "7"}).to_string();
    let (_, answer) = post(gripd.clients, "/say", "application/json", &line);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let channels = ["conversation123", "conversation123-polls"];
    for (index, channel) in channels.iter().enumerate() {
        assert_eq!(answer["items"][index]["channel"], *channel);
        assert_eq!(answer["receipt"]["items"][index]["channel"], *channel);
    }
    assert_eq!(answer["receipt"]["items"][0]["delivered"], 1);
    amy.read_until("event: message\ndata: {\"from\":\"amy\",\"id\":\"7\",\"text\":\"hi\"");
}

#[test]
fn the_demo_greets_a_long_poll_and_has_the_next_one_held() {
    let gripd = chat();
    let (mut stream, _) = join(&gripd, "amy");
    stream.read_until("event: joined");
    let mut page = Page::open(gripd.clients);
    let hello = page.news();
    assert_eq!((hello.len(), hello[0].0.as_str(), &hello[0].1["people"]), (1, "hello", &json!(["amy", "bob"])));
    // The greeting shows the request that will be held, because its own is not.
    let next = format!("GET /poll?name=bob&conversation=123&after={}", page.last.unwrap());
    assert_eq!(hello[0].1["grip"]["request"], json!([next]));
    assert_eq!(hello[0].1["grip"]["answer"][0], "Grip-Hold: response");
    page.hold(&gripd);
    stream.read_until("event: joined\ndata: {\"count\":2,\"name\":\"bob\",\"people\":[\"amy\",\"bob\"]}");
    for channel in ["conversation123-user-bob", "user-bob"] {
        assert_eq!(gripd.connections(channel), 1, "{channel}");
    }
    say(gripd.clients, "hi");
    let news = page.news();
    assert_eq!((news.len(), &news[0].1["text"]), (1, &json!("hi")));
    stream.read_until("\"text\":\"hi\"");
}

#[test]
fn long_polls_get_every_message_exactly_once() {
    let gripd = chat();
    let demo = gripd.clients;
    let mut page = Page::open(gripd.clients);
    page.news();
    let lines: Vec<String> = (0..20).map(|n| format!("line {n}")).collect();
    let burst = lines.clone();
    let talking = std::thread::spawn(move || burst.iter().all(|line| say(demo, line).starts_with("http/1.1 200")));
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
fn streams_and_long_polls_get_plain_text_from_a_shell_and_then_a_chat_message() {
    let gripd = chat();
    let (mut stream, _) = join(&gripd, "amy");
    let mut page = Page::open(gripd.clients);
    page.news();
    page.hold(&gripd);
    let formats = json!({"http-stream": {"content": "data: hello\n\n"}, "http-response": {"body": "hello\n"}});
    assert_eq!(gripd.publish(&json!([{"channel": "conversation123", "formats": formats}]))[0]["delivered"], 2);
    assert_eq!(page.client.answer().1, "hello\n");
    stream.read_until("\r\ndata: hello\n\n");
    say(gripd.clients, "hi");
    assert_eq!(page.hear(1), ["hi"]);
}

#[test]
fn a_kicked_long_poll_gets_the_reason_and_is_then_refused() {
    let gripd = chat();
    let mut page = Page::open(gripd.clients);
    page.news();
    page.hold(&gripd);
    let receipt = &kick(gripd.clients, "bob")["receipt"];
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
    assert!(heads[2].starts_with("http/1.1 502") && heads[3].starts_with("http/1.1 200"), "{heads:?}");
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
    let gripd = chat();
    let ask = |query: &str| gripd.get(&format!("/poll?{query}")).head();
    for bad in ["name=bob", "name=&conversation=123&after=1", "name=bob&conversation=123&after=x"] {
        assert!(ask(bad).starts_with("http/1.1 400"), "{bad}");
    }
    let (head, _) = post(gripd.clients, "/poll?name=bob&conversation=123", "text/plain", "");
    assert!(head.starts_with("http/1.1 405"), "{head}");
}

#[test]
fn pages_of_other_sites_cannot_post_and_the_demo_page_runs_only_its_own_script() {
    let gripd = chat();
    let body = r#"{"name": "amy", "conversation": "1", "text": "hello"}"#;
    let say = |origin: &str| {
        let length = body.len();
        let request =
            format!("POST /say HTTP/1.1\r\nHost: chat.example:80\r\n{origin}Content-Length: {length}\r\n\r\n{body}");
        Client::send(gripd.clients, request).head()
    };
    for own in ["", "Origin: http://chat.example\r\n", "Origin: https://chat.example:80\r\n"] {
        assert!(say(own).starts_with("http/1.1 200"), "{own}");
    }
    for other in ["Origin: http://evil.example\r\n", "Origin: null\r\n", "Origin: chat.example\r\n"] {
        assert!(say(other).starts_with("http/1.1 403"), "{other}");
    }
    let (head, _) = gripd.get("/").answer();
    let policy = head.lines().find_map(|line| line.strip_prefix("content-security-policy: ")).unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
}
