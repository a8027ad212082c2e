//! The answers that gripd itself gives to clients, in Pushpin's words where Pushpin has them.

use super::{AnswerHead, Fields, Framing, Head, Persistence};
use bytes::Bytes;
use hyper::Version;
use hyper::header::CONTENT_TYPE;
use std::borrow::Cow;

/// A status and a line of plain text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The text, without the newline that ends it.
    pub text: Cow<'static, str>,
}

impl Answer {
    /// Returns an answer with a text that never changes.
    pub const fn new(status: u16, text: &'static str) -> Self {
        Self { status, text: Cow::Borrowed(text) }
    }

    /// Returns the same status with a text for whoever debugs the route.
    pub fn explained(self, text: String) -> Self {
        Self { text: Cow::Owned(text), ..self }
    }

    /// Returns the complete response as HTTP/1.1 bytes. It is the last response on its connection.
    pub fn render(&self) -> Bytes {
        let (head, body) = (self.head(), self.body());
        let framing = Framing::Length(body.len());
        let head = AnswerHead { head: &head, version: Version::HTTP_11, framing, persistence: Persistence::Close };
        let mut bytes = head.render();
        bytes.extend_from_slice(body.as_bytes());
        bytes.into()
    }

    /// Returns the head.
    pub fn head(&self) -> Head {
        let mut fields = Fields::default();
        fields.push(&CONTENT_TYPE, b"text/plain");
        Head { status: self.status, reason: None, fields }
    }

    /// Returns the body: the text and a newline.
    pub fn body(&self) -> String {
        format!("{}\n", self.text)
    }
}

/// The whole answer to a connection for which there is no room.
pub const NO_ROOM: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nRetry-After: 1\r\n\
    Content-Length: 22\r\nConnection: close\r\n\r\nToo many connections.\n";

/// No route fits the request.
pub const ROUTE_NOT_FOUND: Answer = Answer::new(502, "Route not found");
/// The origin cannot be reached, or its answer cannot be used.
pub const ORIGIN_FAILED: Answer = Answer::new(502, "Error while proxying to origin.");
/// The origin did not answer in time.
pub const ORIGIN_TIMED_OUT: Answer = Answer::new(504, "The origin did not answer in time.");
/// The connections to the origin are all in use, and too many requests wait for one.
pub const ORIGIN_BUSY: Answer = Answer::new(503, "Too many requests are waiting for the origin.");
/// A request to be held has a body that is too large to keep.
pub const REQUEST_TOO_LARGE: Answer = Answer::new(400, "Request too large to accept GRIP instruct.");
/// The client was slow while others waited for the origin.
pub const GAVE_WAY: Answer = Answer::new(503, "The origin is busy, and the request was too slow.");
/// The request's body came too slowly (RFC 9110 15.5.9).
pub const REQUEST_SLOW: Answer = Answer::new(408, "The request body came too slowly.");
/// The request's body did not arrive whole.
pub const REQUEST_BROKEN: Answer = Answer::new(400, "The request body did not arrive whole.");
/// A request that has `Upgrade: websocket` and is no WebSocket handshake that is understood here (RFC 6455 4.2.1).
pub const BAD_HANDSHAKE: Answer = Answer::new(
    400,
    "Upgrade header present, but the request is no WebSocket handshake: it must be GET of a path by HTTP/1.1, without a body, with \
     Connection: Upgrade, Sec-WebSocket-Version: 13 and one Sec-WebSocket-Key of 16 bytes in base64.",
);
/// A request that is not HTTP/1.1 by the letter.
pub const MALFORMED: Answer = Answer::new(400, "The request could not be read: it is not valid HTTP/1.1.");
/// A head that is larger than any may be.
pub const HEAD_TOO_LARGE: Answer =
    Answer::new(431, "The head of the request is larger than 65,536 bytes, or has more than 128 headers.");
/// `Connection` names so many headers that looking for each of them would cost more than the request.
pub const NAMES_A_CROWD: Answer = Answer::new(400, "'Connection' names more than 100 headers.");
/// A body in a transfer coding other than `chunked`.
pub const UNKNOWN_CODING: Answer = Answer::new(501, "The only Transfer-Encoding that is supported is chunked.");
/// More than one host, or a user name where only a host may be.
pub const WRONG_HOST: Answer = Answer::new(400, "The request must name one host, without a user.");
/// The response to an HTTP/1.1 request without a `Host` header (RFC 9112, section 3.2).
pub const NO_HOST: Answer = Answer::new(400, "An HTTP/1.1 request must have a Host header.");
/// A request target that is neither a path nor a whole URI of HTTP (RFC 9112 3.2).
pub const WRONG_TARGET: Answer = Answer::new(400, "The request target must be a path, or a URI with http or https.");
/// The response to a `TRACE` request. The method is refused because its response would reveal the headers that gripd adds
/// for the origin.
pub const NO_TRACE: Answer = Answer::new(405, "TRACE is not supported.");
/// An `OPTIONS` request that may go no further (RFC 9110 7.6.2).
pub const NO_FURTHER: Answer = Answer::new(200, "gripd");
/// A `CONNECT` request.
pub const NO_TUNNELS: Answer = Answer::new(501, "CONNECT is not supported.");
/// The request has passed here before (RFC 8586).
pub const LOOP: Answer = Answer::new(508, "The request has come here before.");
/// The response sent if the origin's response is too large to be encoded as JSON-P.
pub const NO_SCRIPT: Answer = Answer::new(500, "Upstream response could not be JSON-P encoded.");
/// A channel that the client would hold is denied to it.
pub const DENIED: Answer = Answer::new(403, "The channel is closed to you.");
/// A channel that the client would hold is none of those that its token names.
pub const NOT_NAMED: Answer = Answer::new(403, "Your token does not let you hold this channel.");
/// WebSocket events from somebody who is no trusted proxy.
pub const NO_EVENTS: Answer = Answer::new(403, "Client not allowed to send WebSocket events directly.");
