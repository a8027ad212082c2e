//! The target `test`: a built-in origin to try GRIP with, as Pushpin has one.

use super::{BodySource, Handshake, OriginAnswer, OriginRequest, OriginSocket};
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use percent_encoding::percent_decode_str;

const NOT_FOUND: &str = "no such test resource\n";

/// Returns the response to a request: a greeting at the root, a hold at `/response` and `/stream`, and otherwise 404.
pub(super) fn answer(origin_request: &OriginRequest<'_>, target: usize) -> OriginAnswer {
    let uri = &origin_request.request.uri;
    let (status, hold, body) = match path(origin_request).trim_end_matches('/') {
        "" => (StatusCode::OK, None, "Hello from the gripd test handler!\n"),
        "/response" => (StatusCode::OK, Some("response"), "nothing for now\n"),
        "/stream" => (StatusCode::OK, Some("stream"), "[stream opened]\n"),
        _ => (StatusCode::NOT_FOUND, None, NOT_FOUND),
    };
    let mut response = Response::new(());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if let Some(hold) = hold {
        headers.insert("grip-hold", HeaderValue::from_static(hold));
        for channel in channels(uri.query().unwrap_or_default()) {
            if let Ok(value) = HeaderValue::from_bytes(channel.as_bytes()) {
                headers.append("grip-channel", value);
            }
        }
    }
    OriginAnswer { head: response.into_parts().0, body: BodySource::Whole(Bytes::from_static(body.as_bytes())), target }
}

/// Accepts a WebSocket at `/ws`, on which the client's messages are sent back to the client. A handshake for any
/// other path is refused with 404.
pub(super) fn open(origin_request: &OriginRequest<'_>, target: usize) -> Handshake {
    let uri = &origin_request.request.uri;
    if path(origin_request).trim_end_matches('/') == "/ws" {
        let channels = channels(uri.query().unwrap_or_default());
        return Handshake::Accepted(OriginSocket::Echo { channels, target });
    }
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::NOT_FOUND;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    let body = BodySource::Whole(Bytes::from_static(NOT_FOUND.as_bytes()));
    Handshake::Refused(OriginAnswer { head: response.into_parts().0, body, target })
}

/// Returns the path of a request without the beginning that its route requires (`path_beg`).
fn path<'a>(origin_request: &OriginRequest<'a>) -> &'a str {
    let begin = origin_request.route.condition.path_beg.trim_end_matches('/');
    let path = origin_request.request.uri.path();
    path.strip_prefix(begin).unwrap_or(path)
}

/// Returns the values of the query parameters named `channel`, or `test` if there are none.
fn channels(query: &str) -> Vec<String> {
    let values = query.split('&').filter_map(|pair| pair.strip_prefix("channel="));
    let decode = |value: &str| percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned();
    let named: Vec<String> = values.map(decode).collect();
    if named.is_empty() { vec!["test".to_owned()] } else { named }
}
