//! An origin that has WebSockets over HTTP, request by request.

use super::{Answer, Asked, DEADLINE, Gripd, Origin, Socket};
use gripd::config::Config;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

/// An origin whose answers wait for the test.
pub(crate) struct Events {
    origin: Origin,
    questions: Receiver<Question>,
}

/// A request that waits for its answer. If it is dropped, the answer is one without events.
pub(crate) struct Question {
    pub(crate) asked: Asked,
    answer: Sender<Answer>,
}

/// An event with content.
pub(crate) fn event(name: &str, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [format!("{name} {:X}\r\n", content.len()).as_bytes(), content, b"\r\n"].concat()
}

/// A message for the client.
pub(crate) fn say(text: &str) -> Vec<u8> {
    event("TEXT", format!("m:{text}"))
}

/// A control message.
pub(crate) fn control(message: &Value) -> Vec<u8> {
    event("TEXT", format!("c:{message}"))
}

/// A control message that subscribes.
pub(crate) fn subscribe(channel: &str) -> Vec<u8> {
    control(&serde_json::json!({ "type": "subscribe", "channel": channel }))
}

/// A close for a reason.
pub(crate) fn close(code: u16, reason: &str) -> Vec<u8> {
    event("CLOSE", [&code.to_be_bytes(), reason.as_bytes()].concat())
}

/// An answer of 200 with events.
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

    /// At this address, where another has been.
    pub(crate) fn start_at(address: SocketAddr) -> Self {
        Self::by(|script| Origin::start_at(address, script))
    }

    fn by(start: impl FnOnce(Box<dyn Fn(&Asked) -> Answer + Send + Sync>) -> Origin) -> Self {
        let (sender, questions) = channel();
        let sender = Mutex::new(sender);
        let origin = start(Box::new(move |asked| {
            let (answer, answered) = channel();
            // When the test is over, nobody asks and answers any more.
            let _ = sender.lock().unwrap().send(Question { asked: asked.clone(), answer });
            answered.recv().unwrap_or_else(|_| events("", b""))
        }));
        Self { origin, questions }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.origin.address
    }

    /// A gripd in front of it, with options of the route, and of the target.
    pub(crate) fn gripd(&self, options: &str, target: &str, change: impl FnOnce(&mut Config)) -> Gripd {
        Gripd::to(&[format!("*{options} {},over_http{target}", self.origin.address)], change)
    }

    /// The next request.
    pub(crate) fn next(&self) -> Question {
        self.questions.recv_timeout(DEADLINE).expect("the origin is asked")
    }

    /// How often it was asked so far.
    pub(crate) fn count(&self) -> usize {
        self.origin.asked().len()
    }

    /// What it was told so far.
    pub(crate) fn bodies(&self) -> Vec<String> {
        self.origin.asked().into_iter().map(|asked| asked.body).collect()
    }

    /// A client that it has accepted; beside, it says `said`.
    pub(crate) fn open(&self, gripd: &Gripd, said: &[u8]) -> Socket {
        self.open_with(gripd, "", said)
    }

    /// The same, with further header lines of its answer.
    pub(crate) fn open_with(&self, gripd: &Gripd, headers: &str, said: &[u8]) -> Socket {
        let mut client = Socket::ask(gripd.clients, "/chat", "");
        self.next().accept(headers, said);
        client.accepted();
        client
    }
}

impl Question {
    /// The events, line ends shown as `|`, and bytes that are no text escaped.
    pub(crate) fn events(&self) -> String {
        self.asked.raw.escape_ascii().to_string().replace("\\r\\n", "|")
    }

    /// Says these events.
    pub(crate) fn say(self, said: impl AsRef<[u8]>) {
        self.say_with("", said);
    }

    /// Says these events, with further header lines.
    pub(crate) fn say_with(self, headers: &str, said: impl AsRef<[u8]>) {
        self.answer(events(headers, said.as_ref()));
    }

    /// Accepts a client, speaking GRIP.
    pub(crate) fn accept(self, headers: &str, said: &[u8]) {
        assert_eq!(self.events(), "OPEN|");
        self.say_with(&format!("Sec-WebSocket-Extensions: grip\r\n{headers}"), [b"OPEN\r\n", said].concat());
    }

    /// Answers in any way.
    pub(crate) fn answer(self, answer: Answer) {
        self.answer.send(answer).unwrap();
    }
}
