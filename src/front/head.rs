//! The head of a response in its two forms: that of hyper, and the compact one that gripd keeps.

use crate::wire::{HeaderLines, ResponseHead};
use hyper::ext::ReasonPhrase;
use hyper::header::{DATE, HeaderName, HeaderValue};
use hyper::http::response;
use hyper::{Response, StatusCode};
use std::time::SystemTime;

/// Returns the head in its compact form, which keeps no buffer of the connection to the origin alive. A `Date` is
/// added if there is none.
pub(super) fn compact(head: &response::Parts) -> ResponseHead {
    let mut fields = HeaderLines::default();
    for (name, value) in &head.headers {
        fields.push(name, value.as_bytes());
    }
    let reason = head.extensions.get::<ReasonPhrase>();
    let reason = reason.and_then(|r| std::str::from_utf8(r.as_bytes()).ok()).map(Into::into);
    let mut compact = ResponseHead { status: head.status.as_u16(), reason, fields };
    if !head.headers.contains_key(DATE) {
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
