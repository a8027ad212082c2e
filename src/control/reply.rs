//! The replies of the control API.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Method, Response, StatusCode};
use serde::Serialize;

const TEXT: &str = "text/plain";
const JSON: &str = "application/json";

/// The media type of a reply, as the client prefers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MediaType {
    Text,
    Json,
}

impl MediaType {
    /// Returns the media type that `Accept` asks for, or `None` if it asks for neither. As in Pushpin, the last
    /// element that fits decides.
    pub(super) fn negotiate(headers: &HeaderMap) -> Option<Self> {
        if !headers.contains_key(ACCEPT) {
            return Some(Self::Text);
        }
        let values = headers.get_all(ACCEPT).iter().rev().filter_map(|v| v.to_str().ok());
        values.flat_map(|v| v.split(',').rev()).find_map(Self::of_element)
    }

    fn of_element(element: &str) -> Option<Self> {
        match &*element.split(';').next().unwrap_or_default().trim().to_ascii_lowercase() {
            "text/plain" | "text/*" | "*/*" | "*" => Some(Self::Text),
            "application/json" | "application/*" => Some(Self::Json),
            _ => None,
        }
    }
}

/// A reply: its status, its body, and at most one header besides `Content-Type`.
#[derive(Debug)]
pub(super) struct ApiReply {
    status: u16,
    media: &'static str,
    body: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl ApiReply {
    /// Returns a reply with one line of plain text.
    pub(super) fn text(status: u16, line: impl Into<String>) -> Self {
        Self { status, media: TEXT, body: line.into() + "\n", header: None }
    }

    /// Returns a reply with status 200 and one line of JSON.
    pub(super) fn json(value: &impl Serialize) -> Self {
        match serde_json::to_string(value) {
            Ok(body) => Self { status: 200, media: JSON, body: body + "\n", header: None },
            Err(error) => Self::text(500, format!("The reply cannot be written as JSON: {error}")),
        }
    }

    /// Returns the reply to a request that was carried out: `word` as plain text, or `more` as JSON.
    pub(super) fn done(media: MediaType, word: &str, more: &impl Serialize) -> Self {
        match media {
            MediaType::Text => Self::text(200, word),
            MediaType::Json => Self::json(more),
        }
    }

    /// Returns a reply with status 200 and a text of another media type.
    pub(super) const fn other(media: &'static str, body: String) -> Self {
        Self { status: 200, media, body, header: None }
    }

    pub(super) fn not_allowed(method: &Method, allowed: &'static str) -> Self {
        let header = Some((ALLOW, HeaderValue::from_static(allowed)));
        Self { header, ..Self::text(405, format!("Method not allowed: {method}.")) }
    }

    pub(super) fn not_acceptable() -> Self {
        Self::text(406, "Not Acceptable. Supported formats are text/plain and application/json.")
    }

    /// Adds `Retry-After`, with this number of seconds.
    pub(super) fn retry_after(self, seconds: u32) -> Self {
        Self { header: Some((RETRY_AFTER, HeaderValue::from(seconds))), ..self }
    }

    /// Adds `WWW-Authenticate`, which says how to authenticate.
    pub(super) fn challenge(self, challenge: &str) -> Self {
        let value = HeaderValue::from_str(challenge).unwrap_or(HeaderValue::from_static("Bearer"));
        Self { header: Some((WWW_AUTHENTICATE, value)), ..self }
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.body)));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(self.media));
        response.headers_mut().extend(self.header.map(|(name, value)| (Some(name), value)));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn negotiate(accept: &str) -> Option<MediaType> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_str(accept).unwrap());
        MediaType::negotiate(&headers)
    }

    #[test]
    fn the_last_element_that_fits_decides() {
        assert_eq!(MediaType::negotiate(&HeaderMap::new()), Some(MediaType::Text));
        assert_eq!(negotiate("*/*"), Some(MediaType::Text));
        assert_eq!(negotiate("Application/JSON"), Some(MediaType::Json));
        assert_eq!(negotiate("text/plain, application/json;q=0.1, image/png"), Some(MediaType::Json));
        assert_eq!(negotiate("application/*, */*"), Some(MediaType::Text));
        assert_eq!(negotiate("image/png"), None);
    }
}
