//! Requests that are served again.

use crate::origin::Upload;
use bytes::Bytes;
use hyper::header::{CONTENT_LENGTH, EXPECT, HeaderName, TRANSFER_ENCODING};
use hyper::http::request::Parts;

/// Returns the bytes of a request, as they could have come, to be kept until it is served again.
pub(super) fn replay(request: &Parts, upload: &Upload) -> Box<[u8]> {
    let body = upload.kept().unwrap_or_default();
    let mut bytes = format!("{} {} {:?}\r\n", request.method, request.uri, request.version).into_bytes();
    let framed = |name: &HeaderName| [CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT].contains(name);
    for (name, value) in request.headers.iter().filter(|(name, _)| !framed(name)) {
        bytes.extend_from_slice(name.as_str().as_bytes());
        // No space, so that it never grows.
        bytes.extend_from_slice(b":");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    if request.headers.contains_key(CONTENT_LENGTH) || request.headers.contains_key(TRANSFER_ENCODING) {
        let length: usize = body.iter().map(Bytes::len).sum();
        bytes.extend_from_slice(format!("content-length:{length}\r\n").as_bytes());
    }
    if request.headers.contains_key(TRANSFER_ENCODING) {
        // The length that it may have had as well is lost, so that its connection ends with it (RFC 9112 6.1).
        bytes.extend_from_slice(b"connection:close\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    body.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes.into()
}
