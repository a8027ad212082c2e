//! The check and the normalization of the headers that frame an origin's response, before the response is used.
//!
//! hyper's client finds out how a body is delimited, but leaves the headers and the version of the response as they
//! came. hyper's server would apply these headers to the client's connection, where they may be wrong. Every response
//! of an origin therefore passes through [`take_over`] once.

use super::RequestPurpose;
use super::hop::{is_plainly_framed, names_too_many_headers, remove_hop_by_hop};
use hyper::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use hyper::{Response, StatusCode, Version};

/// Takes over an origin's response: its version and its headers no longer say anything about the origin's connection.
///
/// A response that accepts the handshake of a WebSocket keeps its headers, because they still have to be checked.
///
/// # Errors
/// The response changes the protocol although that was not asked for, has a transfer coding other than `chunked`,
/// contradicts itself about its length, or names too many headers in `Connection`.
pub(in crate::origin) fn take_over<B>(
    mut response: Response<B>,
    purpose: RequestPurpose,
) -> Result<Response<B>, &'static str> {
    let status = response.status();
    if status == StatusCode::SWITCHING_PROTOCOLS && purpose == RequestPurpose::WebSocket {
        return Ok(response);
    }
    if status.is_informational() {
        return Err("the response has the status 101 (Switching Protocols), which the request did not ask for");
    }
    *response.version_mut() = Version::HTTP_11;
    let headers = response.headers_mut();
    if !is_plainly_framed(headers) {
        return Err("the response has a Transfer-Encoding other than 'chunked'");
    }
    if headers.contains_key(TRANSFER_ENCODING) || status == StatusCode::NO_CONTENT {
        // `Transfer-Encoding` overrides `Content-Length` (RFC 9112 6.3). A response with status 204 has no
        // `Content-Length` (RFC 9110 8.6).
        headers.remove(CONTENT_LENGTH);
    } else {
        agree_on_length(headers)?;
    }
    if names_too_many_headers(headers) {
        return Err("the Connection header of the response names more than 100 headers");
    }
    remove_hop_by_hop(headers);
    Ok(response)
}

/// Replaces several equal values of `Content-Length` by a single one (RFC 9110 8.6). Returns an error if they differ
/// or are not numbers.
fn agree_on_length(headers: &mut HeaderMap) -> Result<(), &'static str> {
    const CONTRADICTORY_LENGTH: &str = "the Content-Length of the response is invalid or contradictory";
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = values.next() else { return Ok(()) };
    // In the usual case nothing needs to be changed: there is one number without leading zeros, which fits into a
    // `u64`.
    let text = first.as_bytes();
    if values.next().is_none() && is_number(text) && text.len() < 20 && (text.len() == 1 || text[0] != b'0') {
        return Ok(());
    }
    let mut agreed: Option<u64> = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        for part in value.as_bytes().split(|byte| *byte == b',') {
            let part = part.trim_ascii();
            match (number(part), agreed) {
                (None, _) => return Err(CONTRADICTORY_LENGTH),
                (Some(length), Some(other)) if length != other => return Err(CONTRADICTORY_LENGTH),
                (Some(length), _) => agreed = Some(length),
            }
        }
    }
    if let Some(length) = agreed {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(())
}

/// Parses a number that consists only of digits. Returns `None` for other texts, and for numbers that do not fit into
/// a `u64`.
fn number(text: &[u8]) -> Option<u64> {
    if !is_number(text) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the headers of a response after it was taken over, and asserts that its version is HTTP/1.1.
    fn taken(status: u16, headers: &[(&'static str, &str)]) -> Result<Vec<(String, String)>, &'static str> {
        let mut response = Response::builder().status(status).version(Version::HTTP_10);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        let response = take_over(response.body(()).unwrap(), RequestPurpose::Plain)?;
        assert_eq!(response.version(), Version::HTTP_11);
        let pair = |(name, value): (&hyper::header::HeaderName, &HeaderValue)| {
            (name.to_string(), value.to_str().unwrap().to_owned())
        };
        Ok(response.headers().iter().map(pair).collect())
    }

    fn length(value: &str) -> Vec<(String, String)> {
        vec![("content-length".to_owned(), value.to_owned())]
    }

    #[test]
    fn chunks_are_stronger_than_a_length() {
        for length in ["0", "3", "100", "5, 6", "x"] {
            let headers = [("transfer-encoding", "chunked"), ("content-length", length)];
            assert_eq!(taken(200, &headers), Ok(vec![]), "{length}");
        }
    }

    #[test]
    fn a_length_is_one_number() {
        assert_eq!(taken(200, &[("content-length", "5")]), Ok(length("5")));
        assert_eq!(taken(200, &[("content-length", "5, 5")]), Ok(length("5")));
        assert_eq!(taken(200, &[("content-length", "05")]), Ok(length("5")));
        assert_eq!(taken(200, &[("content-length", "0")]), Ok(length("0")));
        assert_eq!(taken(200, &[("content-length", "5"), ("content-length", "05")]), Ok(length("5")));
        assert_eq!(taken(204, &[("content-length", "5")]), Ok(vec![]));
        for wrong in ["99999999999999999999", "5, 6", "5,", "", "+5", "-5", "5 5", "0x5", "99999999999999999999, 5"] {
            assert!(taken(200, &[("content-length", wrong)]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_a_protocol_that_was_asked_for_is_changed_to() {
        assert!(taken(101, &[]).is_err() && taken(103, &[]).is_err());
        let answer = || Response::builder().status(101).header("connection", "Upgrade").body(()).unwrap();
        assert!(take_over(answer(), RequestPurpose::WebSocket).unwrap().headers().contains_key("connection"));
    }

    #[test]
    fn nothing_is_left_of_the_origins_connection() {
        let headers = [("connection", "close, x-hop"), ("x-hop", "1"), ("keep-alive", "5"), ("x-a", "1")];
        assert_eq!(taken(200, &headers), Ok(vec![("x-a".to_owned(), "1".to_owned())]));
        assert!(taken(200, &[("transfer-encoding", "gzip, chunked")]).is_err());
    }
}
