//! The head of a response in its two forms: that of hyper, and the compact one that gripd keeps.

use crate::wire::{HeaderLines, ResponseHead};
use hyper::ext::ReasonPhrase;
use hyper::header::{DATE, HeaderName, HeaderValue};
use hyper::http::response;
use hyper::{Response, StatusCode};
use std::time::SystemTime;

/// The number of bytes of a line with a `Date`.
const DATE_LINE: usize = "date: Thu, 01 Jan 1970 00:00:00 GMT\r\n".len();

/// Returns the head in its compact form, which keeps no buffer of the connection to the origin alive. A `Date` is
/// added if there is none. There is room for `more` bytes of further lines.
pub(super) fn compact(head: &response::Parts, more: usize) -> ResponseHead {
    // The memory is allocated once and in the right size, because the head of a long-poll is kept while it is held.
    let lines = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    let date = if head.headers.contains_key(DATE) { 0 } else { DATE_LINE };
    let mut fields = HeaderLines::with_capacity(lines.sum::<usize>() + date + more);
    for (name, value) in &head.headers {
        fields.push(name, value.as_bytes());
    }
    let reason = head.extensions.get::<ReasonPhrase>();
    let reason = reason.and_then(|r| std::str::from_utf8(r.as_bytes()).ok()).map(Into::into);
    let mut compact = ResponseHead { status: head.status.as_u16(), reason, fields };
    if date > 0 {
        compact.date(SystemTime::now());
    }
    compact
}

/// Returns the head in the form that hyper sends.
pub(super) fn parts(head: &ResponseHead) -> response::Parts {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(head.status).unwrap_or(StatusCode::BAD_GATEWAY);
    for (name, value) in head.fields.iter() {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            response.headers_mut().append(name, value);
        }
    }
    if let Some(reason) = head.reason.as_ref().and_then(|r| ReasonPhrase::try_from(r.as_bytes()).ok()) {
        response.extensions_mut().insert(reason);
    }
    response.into_parts().0
}
