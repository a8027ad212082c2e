//! The serialization of requests that are served again.

use crate::origin::RequestBody;
use bytes::Bytes;
use hyper::header::{CONTENT_LENGTH, EXPECT, HeaderName, TRANSFER_ENCODING};
use hyper::http::request::Parts;

/// Returns a request as bytes of HTTP/1 that a client could have sent. They are kept during a hold, and parsed when
/// the request is served again.
pub(super) fn replay(request: &Parts, upload: &RequestBody) -> Box<[u8]> {
    let body = upload.kept().unwrap_or_default();
    let mut bytes = format!("{} {} {:?}\r\n", request.method, request.uri, request.version).into_bytes();
    let framed = |name: &HeaderName| [CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT].contains(name);
    for (name, value) in request.headers.iter().filter(|(name, _)| !framed(name)) {
        bytes.extend_from_slice(name.as_str().as_bytes());
        // There is no space after the colon, so that no header is longer than the one that the client sent.
        bytes.extend_from_slice(b":");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    if request.headers.contains_key(CONTENT_LENGTH) || request.headers.contains_key(TRANSFER_ENCODING) {
        let length: usize = body.iter().map(Bytes::len).sum();
        bytes.extend_from_slice(format!("content-length:{length}\r\n").as_bytes());
    }
    if request.headers.contains_key(TRANSFER_ENCODING) {
        // If there was a `Content-Length` as well, hyper has dropped it. The connection must then end after this
        // request (RFC 9112 6.1).
        bytes.extend_from_slice(b"connection:close\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    body.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes.into()
}
