//! An origin that takes part in WebSockets by HTTP requests, and whose responses a test gives one by one.

use super::{Answer, Asked, DEADLINE, Gripd, Origin, Socket};
use gripd::config::Config;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

/// An origin that responds to each request only when the test says how.
pub(crate) struct Events {
    origin: Origin,
    questions: Receiver<Question>,
}

/// A request that waits for its response. If it is dropped, the response is 200 without events.
pub(crate) struct Question {
    pub(crate) asked: Asked,
    answer: Sender<Answer>,
}

/// Returns an event with content, as the body of a request or a response contains it.
pub(crate) fn event(name: &str, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [format!("{name} {:X}\r\n", content.len()).as_bytes(), content, b"\r\n"].concat()
}

/// Returns the event of a text message for the client, which has the prefix `m:`.
pub(crate) fn say(text: &str) -> Vec<u8> {
    event("TEXT", format!("m:{text}"))
}

/// Returns the event of a control message for gripd, which has the prefix `c:`.
pub(crate) fn control(message: &Value) -> Vec<u8> {
    event("TEXT", format!("c:{message}"))
}

/// Returns the event of a control message that subscribes the client to a channel.
pub(crate) fn subscribe(channel: &str) -> Vec<u8> {
    control(&serde_json::json!({ "type": "subscribe", "channel": channel }))
}

/// Returns a `CLOSE` event with a code and a reason.
pub(crate) fn close(code: u16, reason: &str) -> Vec<u8> {
    event("CLOSE", [&code.to_be_bytes(), reason.as_bytes()].concat())
}

/// Returns a response of 200 with further header lines, each ended by CRLF, and these events.
pub(crate) fn events(headers: &str, events: &[u8]) -> Answer {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/websocket-events\r\n{headers}Content-Length: {}\r\n\r\n",
        events.len()
    );
    Answer::Raw([head.as_bytes(), events].concat())
}

impl Events {
    pub(crate) fn start() -> Self {
        Self::by(Origin::start)
    }

    /// Starts an origin at this address, at which something else listened before.
    pub(crate) fn start_at(address: SocketAddr) -> Self {
        Self::by(|script| Origin::start_at(address, script))
    }

    fn by(start: impl FnOnce(Box<dyn Fn(&Asked) -> Answer + Send + Sync>) -> Origin) -> Self {
        let (sender, questions) = channel();
        let sender = Mutex::new(sender);
        let origin = start(Box::new(move |asked| {
            let (answer, answered) = channel();
            // Sending fails after the end of the test, because nobody receives the requests any more.
            let _ = sender.lock().unwrap().send(Question { asked: asked.clone(), answer });
            answered.recv().unwrap_or_else(|_| events("", b""))
        }));
        Self { origin, questions }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.origin.address
    }

    /// Starts a gripd in front of this origin, with options of the route and of the target.
    pub(crate) fn gripd(&self, options: &str, target: &str, change: impl FnOnce(&mut Config)) -> Gripd {
        Gripd::to(&[format!("*{options} {},over_http{target}", self.origin.address)], change)
    }

    /// Waits for the next request.
    pub(crate) fn next(&self) -> Question {
        self.questions.recv_timeout(DEADLINE).expect("the origin got no request")
    }

    /// Returns the number of requests so far.
    pub(crate) fn count(&self) -> usize {
        self.origin.asked().len()
    }

    /// Returns the bodies of the requests so far.
    pub(crate) fn bodies(&self) -> Vec<String> {
        self.origin.asked().into_iter().map(|asked| asked.body).collect()
    }

    /// Connects a client whose WebSocket this origin accepts. The response also carries the events `said`.
    pub(crate) fn open(&self, gripd: &Gripd, said: &[u8]) -> Socket {
        self.open_with(gripd, "", said)
    }

    /// Connects a client whose WebSocket this origin accepts. The response also carries further header lines and the
    /// events `said`.
    pub(crate) fn open_with(&self, gripd: &Gripd, headers: &str, said: &[u8]) -> Socket {
        let mut client = Socket::ask(gripd.clients, "/chat", "");
        self.next().accept(headers, said);
        client.accepted();
        client
    }
}

impl Question {
    /// Returns the events in the body of the request. A line end is shown as `|`, and bytes other than printable ASCII
    /// are escaped.
    pub(crate) fn events(&self) -> String {
        self.asked.raw.escape_ascii().to_string().replace("\\r\\n", "|")
    }

    /// Responds with these events.
    pub(crate) fn say(self, said: impl AsRef<[u8]>) {
        self.say_with("", said);
    }

    /// Responds with these events and further header lines.
    pub(crate) fn say_with(self, headers: &str, said: impl AsRef<[u8]>) {
        self.answer(events(headers, said.as_ref()));
    }

    /// Accepts the WebSocket of a client with the GRIP extension. The response also carries further header lines and
    /// the events `said`.
    pub(crate) fn accept(self, headers: &str, said: &[u8]) {
        assert_eq!(self.events(), "OPEN|");
        self.say_with(&format!("Sec-WebSocket-Extensions: grip\r\n{headers}"), [b"OPEN\r\n", said].concat());
    }

    /// Responds in any way.
    pub(crate) fn answer(self, answer: Answer) {
        self.answer.send(answer).unwrap();
    }
}
