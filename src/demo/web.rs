//! Small HTTP helpers of the demo: query parameters, JSON bodies with a limit, and responses.

use std::time::Duration;

use crate::wire::is_same_authority;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Body;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::{Response, StatusCode};
use serde_json::Value;

/// The largest JSON body of a page's request, in bytes.
pub(super) const BODY_MAX: usize = 16 * 1024;
/// How long a request body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The type of all responses of the demo. Their bodies are small and known in advance.
pub(super) type DemoAnswer = Response<Full<Bytes>>;

/// A response that refuses a request. It is passed on by `?` as an error.
#[derive(Debug)]
pub(super) struct DemoRefusal {
    /// The status of the response.
    pub(super) status: StatusCode,
    /// The body of the response, in plain text.
    pub(super) text: String,
}

impl DemoRefusal {
    /// Returns a refusal with this status and text.
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { status, text }
    }
}

impl From<String> for DemoRefusal {
    /// Returns the refusal of an invalid input: 400 with this text.
    fn from(text: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }
}

/// Returns whether a browser has sent a request for a page of another site. Programs other than browsers do not send
/// the headers that tell this.
pub(super) fn is_of_another_site(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        // A proxy may have changed `Host`, but it leaves `Sec-Fetch-Site` as it is.
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = headers.get(ORIGIN) else { return false };
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
    let (origin, host) = (text(origin), headers.get(HOST).map(text).unwrap_or_default());
    !origin.split_once("://").is_some_and(|(_, authority)| is_same_authority(&host, authority))
}

/// Returns a response that must not be cached.
pub(super) fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> DemoAnswer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// Returns a response with one line of plain text.
pub(super) fn text(status: StatusCode, line: &str) -> DemoAnswer {
    let content_type = "text/plain; charset=utf-8";
    answer(status, content_type, format!("{line}\n"))
}

/// Returns a response with a JSON document.
pub(super) fn json(value: &Value) -> DemoAnswer {
    answer(StatusCode::OK, "application/json", value.to_string())
}

/// Returns a response with status 204 and no body.
pub(super) fn no_content() -> DemoAnswer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

/// Returns the response to a method that the path does not allow.
pub(super) fn wrong_method(allowed: &'static str) -> DemoAnswer {
    let line = format!("this path takes {allowed} only");
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, &line);
    let headers = answer.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// Reads a JSON body of at most `max` bytes.
///
/// # Errors
/// The body is too large, too slow, incomplete or not JSON.
pub(super) async fn json_body<B>(body: B, max: usize) -> Result<Value, DemoRefusal>
where
    B: Body<Data = Bytes, Error = hyper::Error>,
{
    let body = whole_body(body, max).await?;
    serde_json::from_slice(&body).map_err(|error| DemoRefusal::from(format!("the body is not JSON: {error}")))
}

/// Reads a body of at most `max` bytes.
///
/// # Errors
/// The body is too large, too slow or incomplete.
pub(super) async fn whole_body<B>(body: B, max: usize) -> Result<Bytes, DemoRefusal>
where
    B: Body<Data = Bytes, Error = hyper::Error>,
{
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, max).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let text = format!("the body must be at most {max} bytes");
            Err(DemoRefusal::new(StatusCode::PAYLOAD_TOO_LARGE, text))
        }
        Ok(Err(_)) => Err("the body is incomplete".to_owned().into()),
        Err(_) => Err(DemoRefusal::new(StatusCode::REQUEST_TIMEOUT, "the body took too long to arrive")),
    }
}

/// Returns a text member of a JSON object.
///
/// # Errors
/// There is no such member, or it is not a text.
pub(super) fn member<'a>(object: &'a Value, key: &str) -> Result<&'a str, DemoRefusal> {
    let member = object.get(key).and_then(Value::as_str);
    member.ok_or_else(|| DemoRefusal::from(format!("the body must be JSON with a string \"{key}\"")))
}

/// Returns the decoded value of a query parameter. It is empty if there is no such parameter, so that parsing it
/// fails.
pub(super) fn parameter(query: Option<&str>, key: &str) -> String {
    let mut pairs = query.unwrap_or_default().split('&');
    let value = pairs.find_map(|pair| match pair.split_once('=') {
        Some((found, value)) if found == key => Some(decode(value)),
        _ => None,
    });
    value.unwrap_or_default()
}

/// Decodes percent-encoding and `+`. Invalid encoding is left as it is, and invalid UTF-8 is replaced by U+FFFD.
fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let (byte, tail) = match (first, tail) {
            (b'%', [high, low, after @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => (high * 16 + low, after),
                _ => (b'%', tail),
            },
            (b'+', _) => (b' ', tail),
            _ => (*first, tail),
        };
        out.push(byte);
        rest = tail;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn digit(byte: u8) -> Option<u8> {
    let digit = char::from(byte).to_digit(16)?;
    u8::try_from(digit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_and_decoded() {
        let query = Some("name=a%2Db+c&x&name=second&odd=%zz%4");
        assert_eq!(parameter(query, "name"), "a-b c");
        assert_eq!(parameter(query, "odd"), "%zz%4");
        assert_eq!(parameter(query, "x"), "");
        assert_eq!(parameter(None, "name"), "");
        assert_eq!(parameter(Some("n=%ff"), "n"), "\u{fffd}");
    }

    #[test]
    fn members_must_be_text() {
        let body = serde_json::json!({"name": "amy", "text": 5});
        assert_eq!(member(&body, "name").unwrap(), "amy");
        for key in ["text", "absent"] {
            let refusal = member(&body, key).unwrap_err();
            assert_eq!(refusal.status, StatusCode::BAD_REQUEST);
        }
        assert!(member(&Value::Null, "name").is_err());
    }

    #[test]
    fn a_wrong_method_names_the_right_one() {
        let answer = wrong_method("POST");
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.headers()[ALLOW], "POST");
    }
}
