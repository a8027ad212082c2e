//! WebSocket over HTTP. In both directions a body is a series of events, each of which has the form `TYPE\r\n` or
//! `TYPE hexlen\r\ncontent\r\n`.

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, SEC_WEBSOCKET_EXTENSIONS};
use serde_json::Value;

use super::web::{self, DemoAnswer};

/// The media type of bodies that consist of events.
const EVENTS: &str = "application/websocket-events";
/// The extension by which the demo agrees to GRIP. gripd carries out messages that begin with `c:`, and relays all
/// others unchanged.
const GRIP: &str = "grip; message-prefix=\"\"";
/// The largest request body, in bytes. A proxy sends all events at once that have arrived since its last request.
pub(super) const BODY_MAX: usize = 256 * 1024;

/// A WebSocket-over-HTTP event, such as `OPEN`, `TEXT` or `CLOSE`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DemoEvent<'a> {
    /// The type of the event, such as `OPEN`, `TEXT` or `CLOSE`.
    pub(super) kind: &'a str,
    /// The content of the event: that of a message, or the code and the reason of a close.
    pub(super) content: &'a [u8],
}

/// Returns whether a request with these headers carries events.
pub(super) fn is_carried_by(headers: &HeaderMap) -> bool {
    // The header may occur twice, because the client's own may precede that of the proxy.
    headers.get_all(CONTENT_TYPE).iter().any(|value| value == EVENTS)
}

/// Parses a body. Returns `None` if it does not consist of events.
pub(super) fn decode(mut body: &[u8]) -> Option<Vec<DemoEvent<'_>>> {
    let mut events = Vec::new();
    while !body.is_empty() {
        let (event, rest) = first(body)?;
        events.push(event);
        body = rest;
    }
    Some(events)
}

fn first(body: &[u8]) -> Option<(DemoEvent<'_>, &[u8])> {
    let end = body.windows(2).position(|two| two == b"\r\n")?;
    let (line, rest) = body.split_at(end);
    let (line, rest) = (str::from_utf8(line).ok()?, &rest[2..]);
    let Some((kind, length)) = line.split_once(' ') else {
        return Some((DemoEvent { kind: line, content: b"" }, rest));
    };
    let length = usize::from_str_radix(length, 16).ok()?;
    let (content, rest) = rest.split_at_checked(length)?;
    Some((DemoEvent { kind, content }, rest.strip_prefix(b"\r\n")?))
}

/// The response to a request with events: the events that are to happen on the WebSocket.
#[derive(Debug, Default)]
pub(super) struct DemoReply {
    body: Vec<u8>,
    opens: bool,
}

impl DemoReply {
    /// Accepts the WebSocket.
    pub(super) fn open(&mut self) {
        self.opens = true;
        self.push("OPEN", b"");
    }

    /// Sends a control message to gripd.
    pub(super) fn control(&mut self, message: &Value) {
        self.push("TEXT", format!("c:{message}").as_bytes());
    }

    /// Closes the WebSocket with a code and a reason.
    pub(super) fn close(&mut self, (code, reason): (u16, &str)) {
        let content = [&code.to_be_bytes(), reason.as_bytes()].concat();
        self.push("CLOSE", &content);
    }

    /// Adds an event of any type.
    pub(super) fn push(&mut self, kind: &str, content: &[u8]) {
        self.body.extend_from_slice(kind.as_bytes());
        if !content.is_empty() {
            self.body.extend_from_slice(format!(" {:x}\r\n", content.len()).as_bytes());
            self.body.extend_from_slice(content);
        }
        self.body.extend_from_slice(b"\r\n");
    }

    /// Returns the headers by which the response agrees to GRIP, if it opens the WebSocket.
    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if self.opens {
            headers.insert(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(GRIP));
        }
        headers
    }

    /// Returns the response to gripd's request.
    pub(super) fn into_answer(self) -> DemoAnswer {
        let headers = self.headers();
        let mut answer = web::answer(StatusCode::OK, EVENTS, self.body);
        answer.headers_mut().extend(headers);
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event<'a>(kind: &'a str, content: &'a [u8]) -> DemoEvent<'a> {
        DemoEvent { kind, content }
    }

    #[test]
    fn events_are_read() {
        assert_eq!(decode(b"").unwrap(), []);
        assert_eq!(decode(b"OPEN\r\n").unwrap(), [event("OPEN", b"")]);
        let events = decode(b"TEXT 3\r\na\r\n\r\nPING\r\nTEXT 0A\r\n0123456789\r\nCLOSE 2\r\n\x03\xe8\r\n").unwrap();
        let expected = [("TEXT", &b"a\r\n"[..]), ("PING", b""), ("TEXT", b"0123456789"), ("CLOSE", b"\x03\xe8")];
        assert_eq!(events, expected.map(|(kind, content)| event(kind, content)));
    }

    #[test]
    fn what_is_no_event_is_refused() {
        let bad = ["OPEN", "OPEN\n", "TEXT x\r\na\r\n", "TEXT 2\r\na", "TEXT 1\r\nab\r\n", "TEXT ffffffffffffffff\r\n"];
        for body in bad {
            assert_eq!(decode(body.as_bytes()), None, "{body:?}");
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let mut reply = DemoReply::default();
        reply.open();
        reply.control(&serde_json::json!({"type": "detach"}));
        reply.push("TEXT", "é".as_bytes());
        reply.close((4001, "kicked"));
        let expected = "OPEN\r\nTEXT 13\r\nc:{\"type\":\"detach\"}\r\nTEXT 2\r\né\r\nCLOSE 8\r\n";
        assert_eq!(reply.body, [expected.as_bytes(), b"\x0f\xa1kicked\r\n"].concat());
        assert_eq!(decode(&reply.body).unwrap().len(), 4);
    }

    #[test]
    fn only_the_answer_that_opens_agrees_to_grip() {
        let mut opening = DemoReply::default();
        opening.open();
        let answers = [opening, DemoReply::default()].map(DemoReply::into_answer);
        assert_eq!(answers[0].headers()["sec-websocket-extensions"], "grip; message-prefix=\"\"");
        assert!(!answers[1].headers().contains_key("sec-websocket-extensions"));
        assert!(answers.iter().all(|answer| answer.headers()["content-type"] == EVENTS));
    }
}
