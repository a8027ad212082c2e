//! One interface for tests to the three kinds of connections that gripd holds.

use super::events::{event, events, say, subscribe};
use super::websocket::{CLOSE, TEXT, handshake};
use super::{Answer, Asked, Client, Gripd, Origin, Socket, eventually};
use serde_json::{Value, json};

/// A kind of connections that gripd holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Stream,
    Poll,
    WebSocket,
}

pub(crate) const KINDS: [Kind; 3] = [Kind::Stream, Kind::Poll, Kind::WebSocket];

/// The connection of a client, of one of the kinds.
pub(crate) struct Member {
    pub(crate) kind: Kind,
    socket: Socket,
}

/// Starts an origin that holds clients on the channels with which the query begins: `/stream?a,b`, `/poll?a,b`, and
/// `/ws?a,b` for a WebSocket over HTTP. Other requests are answered with "plain\n". `&meta=7` in the query sets the
/// client's meta `user` to 7.
///
/// A message of a client on a WebSocket is sent back to the client. But if it begins with `c:`, it is sent to gripd as
/// a control message, and the message "done" to the client after it.
pub(crate) fn origin() -> Origin {
    Origin::start(answer)
}

/// Returns the response of the origin that [`origin`] starts.
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

/// Returns an item with the same content for all kinds.
pub(crate) fn item(channel: &str, text: &str) -> Value {
    json!({ "channel": channel, "formats": { "http-stream": { "content": text },
        "http-response": { "body": text }, "ws-message": { "content": text } } })
}

/// Returns a JSON object with the fields of `more` added to those of `value`.
pub(crate) fn with(mut value: Value, more: Value) -> Value {
    let Value::Object(more) = more else { panic!("{more} is not an object") };
    value.as_object_mut().unwrap().extend(more);
    value
}

impl Kind {
    /// Returns the name of this kind in the control API.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Poll => "response",
            Self::WebSocket => "websocket",
        }
    }

    /// Connects a client that asks to be held. `rest` is the query: the channels, and further parameters.
    pub(crate) fn ask(self, gripd: &Gripd, rest: &str) -> Member {
        self.ask_with(gripd, rest, "")
    }

    /// Connects a client that asks to be held, with this query and further header lines.
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

    /// Returns a connection that is held. `rest` is the query: the channels, and further parameters.
    pub(crate) fn held(self, gripd: &Gripd, rest: &str) -> Member {
        self.held_with(gripd, rest, "")
    }

    /// Returns a connection that is held, with this query and further header lines.
    pub(crate) fn held_with(self, gripd: &Gripd, rest: &str, headers: &str) -> Member {
        let first = rest.split([',', '&']).next().unwrap();
        let before = gripd.connections(first);
        self.ask_with(gripd, rest, headers).begun(|| gripd.connections(first) > before)
    }
}

impl Member {
    /// Waits until the connection is held. The client of a long-poll cannot see this, so `held` must return whether it
    /// is the case.
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

    /// Returns the connection as a stream of bytes.
    pub(crate) const fn http(&mut self) -> &mut Client {
        self.socket.http()
    }

    /// Reads the response to a request that is not held. Returns its status, its head in lower case, and its body.
    pub(crate) fn refused(&mut self) -> (u16, String, String) {
        let (head, body) = self.http().answer();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), head, body)
    }

    /// Reads the next text that gripd sends. For a long-poll it is the body of the response, which ends the hold.
    pub(crate) fn hears(&mut self) -> String {
        match self.kind {
            Kind::Stream => self.http().chunk(),
            Kind::Poll => self.http().answer().1,
            Kind::WebSocket => self.socket.text(),
        }
    }

    /// Reads until gripd has closed the connection cleanly. Returns the texts that came before the end. For a long-poll
    /// this is the body of its response.
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
        assert_eq!(self.http().rest(), "", "bytes followed the end");
        heard
    }

    /// Sends a text on a WebSocket.
    pub(crate) fn write(&mut self, text: &str) {
        self.socket.send(TEXT, text);
    }

    /// Makes the origin of a WebSocket send this control message to gripd, and waits until gripd has carried it out.
    pub(crate) fn tell(&mut self, message: &Value) {
        self.socket.send(TEXT, format!("c:{message}"));
        assert_eq!(self.socket.text(), "done");
    }
}
