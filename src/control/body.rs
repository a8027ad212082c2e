//! The bodies of requests.

use super::Control;
use super::error::ApiError;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::EXPECT;
use std::time::Duration;
use tokio::time::timeout;

/// How long a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one may take that is not wanted.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// Reads a body, in the time and to the size that are allowed.
pub(super) async fn read(control: &Control, body: Incoming) -> Result<Bytes, ApiError> {
    let max_body = control.settings.max_body;
    let Ok(body) = timeout(BODY_TIMEOUT, Limited::new(body, max_body).collect()).await else {
        return Err(ApiError::Slow);
    };
    match body {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::TooLarge(max_body)),
        Err(error) => Err(ApiError::Malformed(format!("The request body is incomplete: {error}"))),
    }
}

/// Reads the body of a request that is refused, and drops it. If the connection were closed with bytes unread, the kernel
/// would reset it and the publisher would not see the reason. A publisher that waits for `100 Continue` is not asked for
/// its body.
pub(super) async fn discard(control: &Control, request: Request<Incoming>) {
    if request.headers().contains_key(EXPECT) {
        return;
    }
    let mut body = Limited::new(request.into_body(), control.settings.max_body);
    let all = async { while body.frame().await.is_some_and(|frame| frame.is_ok()) {} };
    // However it ends, the answer is the same.
    let _ = timeout(DISCARD_TIMEOUT, all).await;
}
