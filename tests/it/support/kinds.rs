//! The three kinds of connections that gripd holds, looked at in one way.

use super::events::{event, events, say, subscribe};
use super::websocket::{CLOSE, TEXT, handshake};
use super::{Answer, Asked, Client, Gripd, Origin, Socket, eventually};
use serde_json::{Value, json};

/// Kinds of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Stream,
    Poll,
    WebSocket,
}

pub(crate) const KINDS: [Kind; 3] = [Kind::Stream, Kind::Poll, Kind::WebSocket];

/// A connection of one of the kinds.
pub(crate) struct Member {
    pub(crate) kind: Kind,
    socket: Socket,
}

/// An origin that holds everything, on the channels that the query begins with: `/stream?a,b`, `/poll?a,b`, and
/// `/ws?a,b` over HTTP. `&meta=7` in the query says who the client is. What a client says on a WebSocket is said back;
/// but what begins with `c:` is for gripd, and "done" is said behind it.
pub(crate) fn origin() -> Origin {
    Origin::start(answer)
}

/// What that origin answers.
pub(crate) fn answer(asked: &Asked) -> Answer {
    let (path, query) = asked.target().split_once('?').unwrap_or_else(|| (asked.target(), ""));
    let channels = query.split('&').next().unwrap_or_default();
    let meta = query.split('&').find_map(|part| part.strip_prefix("meta="));
    let mode = match path {
        "/stream" => "stream",
        "/poll" => "response",
        "/ws" => return answer_events(asked, channels, meta),
        _ => return Answer::ok("plain\n"),
    };
    let meta = meta.map_or_else(String::new, |user| format!("Grip-Set-Meta: user={user}\r\n"));
    Answer::with(&format!("Grip-Hold: {mode}\r\nGrip-Channel: {channels}\r\n{meta}"), "hello\n")
}

fn answer_events(asked: &Asked, channels: &str, meta: Option<&str>) -> Answer {
    let said = asked.body.as_str();
    let mut headers = String::new();
    let answer = if said == "OPEN\r\n" {
        headers.push_str("Sec-WebSocket-Extensions: grip\r\n");
        headers.extend(meta.map(|user| format!("Set-Meta-user: {user}\r\n")));
        let channels = channels.split(',').filter(|channel| !channel.is_empty());
        [said.as_bytes().to_vec()].into_iter().chain(channels.map(subscribe)).collect::<Vec<_>>().concat()
    } else if let Some((_, text)) = said.split_once("\r\n").filter(|(name, _)| name.starts_with("TEXT ")) {
        let text = text.trim_end_matches("\r\n");
        if text.starts_with("c:") { [event("TEXT", text), say("done")].concat() } else { say(text) }
    } else if said.starts_with("CLOSE") {
        asked.raw.clone()
    } else {
        Vec::new()
    };
    events(&headers, &answer)
}

/// An item for all kinds.
pub(crate) fn item(channel: &str, text: &str) -> Value {
    json!({ "channel": channel, "formats": { "http-stream": { "content": text },
        "http-response": { "body": text }, "ws-message": { "content": text } } })
}

/// A value with further fields.
pub(crate) fn with(mut value: Value, more: Value) -> Value {
    let Value::Object(more) = more else { panic!("{more} has no fields") };
    value.as_object_mut().unwrap().extend(more);
    value
}

impl Kind {
    /// What gripd calls it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Poll => "response",
            Self::WebSocket => "websocket",
        }
    }

    /// Asks to be held; `rest` is the channels and what else is in the query.
    pub(crate) fn ask(self, gripd: &Gripd, rest: &str) -> Member {
        self.ask_with(gripd, rest, "")
    }

    /// The same, with further header lines.
    pub(crate) fn ask_with(self, gripd: &Gripd, rest: &str, headers: &str) -> Member {
        let get = |path: &str| format!("GET /{path}?{rest} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        let socket = match self {
            Self::Stream => Socket::around(Client::send_to(&gripd.listen, get("stream"))),
            Self::Poll => Socket::around(Client::send_to(&gripd.listen, get("poll"))),
            Self::WebSocket => {
                Socket::around(Client::send_to(&gripd.listen, handshake(&format!("/ws?{rest}"), headers)))
            }
        };
        Member { kind: self, socket }
    }

    /// A connection that is held.
    pub(crate) fn held(self, gripd: &Gripd, rest: &str) -> Member {
        self.held_with(gripd, rest, "")
    }

    /// The same, with further header lines.
    pub(crate) fn held_with(self, gripd: &Gripd, rest: &str, headers: &str) -> Member {
        let first = rest.split([',', '&']).next().unwrap();
        let before = gripd.connections(first);
        self.ask_with(gripd, rest, headers).begun(|| gripd.connections(first) > before)
    }
}

impl Member {
    /// Reads that it is held. A long-poll sees nothing of it itself: `held` must say so.
    pub(crate) fn begun(mut self, held: impl FnMut() -> bool) -> Self {
        match self.kind {
            Kind::Stream => {
                let head = self.http().head();
                assert!(head.starts_with("http/1.1 200"), "{head}");
                assert_eq!(self.http().chunk(), "hello\n");
            }
            Kind::Poll => eventually("the long-poll is held", held),
            Kind::WebSocket => drop(self.socket.accepted()),
        }
        self
    }

    /// The connection, below what it means.
    pub(crate) const fn http(&mut self) -> &mut Client {
        self.socket.http()
    }

    /// The answer of one that is not held: status, head in lower case, body.
    pub(crate) fn refused(&mut self) -> (u16, String, String) {
        let (head, body) = self.http().answer();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), head, body)
    }

    /// The next text that it is sent. A long-poll has ended with it.
    pub(crate) fn hears(&mut self) -> String {
        match self.kind {
            Kind::Stream => self.http().chunk(),
            Kind::Poll => self.http().answer().1,
            Kind::WebSocket => self.socket.text(),
        }
    }

    /// Reads to its end, by which gripd closed it. What came before it is returned; of a long-poll its answer.
    pub(crate) fn ends(&mut self) -> Vec<String> {
        let mut heard = Vec::new();
        match self.kind {
            Kind::Stream => loop {
                match self.http().chunk() {
                    end if end.is_empty() => break,
                    text => heard.push(text),
                }
            },
            Kind::Poll => heard.push(self.http().answer().1),
            Kind::WebSocket => loop {
                match self.socket.message() {
                    (CLOSE, _) => break,
                    (opcode, content) => {
                        assert_eq!(opcode, TEXT);
                        heard.push(String::from_utf8(content).unwrap());
                    }
                }
            },
        }
        assert_eq!(self.http().rest(), "", "nothing follows the end");
        heard
    }

    /// Sends a text on a WebSocket.
    pub(crate) fn write(&mut self, text: &str) {
        self.socket.send(TEXT, text);
    }

    /// Has a WebSocket's origin say this to gripd.
    pub(crate) fn tell(&mut self, message: &Value) {
        self.socket.send(TEXT, format!("c:{message}"));
        assert_eq!(self.socket.text(), "done");
    }
}
