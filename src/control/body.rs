//! The bodies of requests to the control API.

use super::ControlApi;
use super::error::ApiError;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::EXPECT;
use std::time::Duration;
use tokio::time::timeout;

/// How long the body of a request may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the body of a refused request is read before the reply is sent.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// Reads the body of a request.
///
/// # Errors
/// The body does not arrive within [`BODY_TIMEOUT`], is larger than `max_body`, or is incomplete.
pub(super) async fn read(control: &ControlApi, body: Incoming) -> Result<Bytes, ApiError> {
    let max_body = control.settings().max_body;
    let Ok(body) = timeout(BODY_TIMEOUT, Limited::new(body, max_body).collect()).await else {
        return Err(ApiError::Slow);
    };
    match body {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::TooLarge(max_body)),
        Err(error) => Err(ApiError::Malformed(format!("The request body is incomplete: {error}"))),
    }
}

/// Reads and drops the body of a refused request. If the connection were closed with unread bytes, the kernel would
/// reset it, and the publisher would not receive the reply. A publisher that waits for `100 Continue` has not sent
/// its body, so nothing is read.
pub(super) async fn discard(control: &ControlApi, request: Request<Incoming>) {
    if request.headers().contains_key(EXPECT) {
        return;
    }
    let mut body = Limited::new(request.into_body(), control.settings().max_body);
    let all = async { while body.frame().await.is_some_and(|frame| frame.is_ok()) {} };
    // A timeout or an error makes no difference, because the refusal is sent in any case.
    let _ = timeout(DISCARD_TIMEOUT, all).await;
}
