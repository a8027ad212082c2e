//! The responses that gripd itself makes for clients. Several have the text that Pushpin sends in the same case, but
//! not all: Pushpin names the host, for example, if it finds no route.

use super::{AnswerHead, Framing, HeaderLines, Persistence, ResponseHead};
use bytes::Bytes;
use hyper::Version;
use hyper::header::CONTENT_TYPE;
use std::borrow::Cow;

/// A response that gripd makes: a status and a line of plain text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainAnswer {
    /// The status code.
    pub status: u16,
    /// The text, without the newline that ends it.
    pub text: Cow<'static, str>,
}

impl PlainAnswer {
    /// Creates a response with a constant text.
    pub const fn new(status: u16, text: &'static str) -> Self {
        Self { status, text: Cow::Borrowed(text) }
    }

    /// Returns a response with the same status and a text that explains the reason, for clients that may know it: those
    /// of a route that is being debugged, and those whose token was refused.
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

    /// Returns the head of the response.
    pub fn head(&self) -> ResponseHead {
        let mut fields = HeaderLines::default();
        fields.push(&CONTENT_TYPE, b"text/plain");
        ResponseHead { status: self.status, reason: None, fields }
    }

    /// Returns the body: the text and a newline.
    pub fn body(&self) -> String {
        format!("{}\n", self.text)
    }
}

/// The whole response to a connection that is refused because no file descriptor is left for it.
pub const NO_ROOM: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nRetry-After: 1\r\n\
    Content-Length: 22\r\nConnection: close\r\n\r\nToo many connections.\n";

/// The response to a request that no route matches.
pub const ROUTE_NOT_FOUND: PlainAnswer = PlainAnswer::new(502, "Route not found");
/// The response if the origin cannot be reached or its response cannot be used.
pub const ORIGIN_FAILED: PlainAnswer = PlainAnswer::new(502, "Error while proxying to origin.");
/// The response if the origin did not answer in time.
pub const ORIGIN_TIMED_OUT: PlainAnswer = PlainAnswer::new(504, "The origin did not answer in time.");
/// The response if a request got no connection to the origin, because too many are in use or no file descriptor is
/// left.
pub const ORIGIN_BUSY: PlainAnswer = PlainAnswer::new(503, "Too many requests are waiting for the origin.");
/// The response if a request is to be held, but its body is too large to be kept.
pub const REQUEST_TOO_LARGE: PlainAnswer = PlainAnswer::new(400, "Request too large to accept GRIP instruct.");
/// The response if a request lost its connection to the origin because its client was slow while other requests
/// waited.
pub const SLOW_REQUEST_ENDED: PlainAnswer = PlainAnswer::new(503, "The origin is busy, and the request was too slow.");
/// The response if the request's body came too slowly (RFC 9110 15.5.9).
pub const REQUEST_SLOW: PlainAnswer = PlainAnswer::new(408, "The request body came too slowly.");
/// The response if the request's body is incomplete.
pub const REQUEST_BROKEN: PlainAnswer = PlainAnswer::new(400, "The request body is incomplete.");
/// The response to a request with `Upgrade: websocket` that is not a handshake that gripd supports (RFC 6455 4.2.1).
pub const BAD_HANDSHAKE: PlainAnswer = PlainAnswer::new(
    400,
    "Upgrade header present, but the request is not a valid WebSocket handshake: it must be a GET request for a path, with HTTP/1.1, without a body, with \
     Connection: Upgrade, Sec-WebSocket-Version: 13 and one Sec-WebSocket-Key of 16 bytes in base64.",
);
/// The response to a request that is not valid HTTP/1.1.
pub const MALFORMED: PlainAnswer = PlainAnswer::new(400, "The request could not be read: it is not valid HTTP/1.1.");
/// The response to a request whose head is too large or has too many headers.
pub const HEAD_TOO_LARGE: PlainAnswer =
    PlainAnswer::new(431, "The head of the request is larger than 65,536 bytes, or has more than 128 headers.");
/// The response to a request whose `Connection` header names too many headers. Looking for each of them would cost
/// more than the request itself.
pub const TOO_MANY_CONNECTION_OPTIONS: PlainAnswer = PlainAnswer::new(400, "'Connection' names more than 100 headers.");
/// The response to a request whose body has a transfer coding other than `chunked` (RFC 9112 6.1).
pub const UNKNOWN_CODING: PlainAnswer =
    PlainAnswer::new(501, "The only Transfer-Encoding that is supported is chunked.");
/// The response to a request with more than one host, or with something other than a host and a port, such as a user
/// name.
pub const WRONG_HOST: PlainAnswer =
    PlainAnswer::new(400, "The request must name exactly one host, without a user name.");
/// The response to an HTTP/1.1 request without a `Host` header (RFC 9112, section 3.2).
pub const NO_HOST: PlainAnswer = PlainAnswer::new(400, "An HTTP/1.1 request must have a Host header.");
/// The response to a request whose target is neither a path nor an `http` or `https` URI (RFC 9112 3.2).
pub const WRONG_TARGET: PlainAnswer =
    PlainAnswer::new(400, "The request target must be a path, or a URI with http or https.");
/// The response to a `TRACE` request, or to its variant `TRACK`. These methods are refused because their response
/// would reveal the headers that gripd adds for the origin.
pub const NO_TRACE: PlainAnswer = PlainAnswer::new(405, "TRACE is not supported.");
/// The response to an `OPTIONS` request with `Max-Forwards: 0`, which must not be forwarded (RFC 9110 7.6.2).
pub const MAX_FORWARDS_REACHED: PlainAnswer = PlainAnswer::new(200, "gripd");
/// The response to a `CONNECT` request.
pub const NO_TUNNELS: PlainAnswer = PlainAnswer::new(501, "CONNECT is not supported.");
/// The response to a request that has passed this gripd before, according to its `Via` (RFC 9110 7.6.3) or `CDN-Loop`
/// (RFC 8586).
pub const LOOP: PlainAnswer = PlainAnswer::new(508, "The request has passed through this proxy before (a loop).");
/// The response if the origin's response cannot be sent as JSON-P, because it is too large or is a stream.
pub const NOT_JSONP: PlainAnswer = PlainAnswer::new(500, "Upstream response could not be JSON-P encoded.");
/// The response if the client is currently denied one of the channels that it would hold.
pub const DENIED: PlainAnswer = PlainAnswer::new(403, "The channel is closed to you.");
/// The response if the client's token does not name one of the channels that the client would hold, or if a CORS
/// preflight request, which needs no token, would hold channels.
pub const NOT_NAMED: PlainAnswer = PlainAnswer::new(403, "Your token does not allow this channel.");
/// The response to WebSocket-over-HTTP events from a sender that is not a trusted GRIP proxy.
pub const NO_EVENTS: PlainAnswer = PlainAnswer::new(403, "Client not allowed to send WebSocket events directly.");
