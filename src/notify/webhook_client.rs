//! The requests to one webhook.

use super::event::UnixMillis;
use super::url::WebhookUrl;
use crate::grip::signature::Signer;
use crate::net::{HttpConnection, READY_WAIT, connect};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// The `aud` claim of the signature. Requests of clients may be signed with the same key, but have no `aud`. So a
/// server can distinguish them from webhooks.
const AUDIENCE: &str = "webhook";

/// The largest response body, in bytes, that is read to its end. After a longer one, the connection is not kept.
const MAX_REPLY: usize = 64 * 1024;
/// The time for which the end of a response's body is awaited. If it does not come, the connection is not kept.
const REPLY_WAIT: Duration = Duration::from_secs(1);
/// The time for which an idle connection is kept. After that, a device between gripd and the server may have
/// forgotten it.
const MAX_IDLE: Duration = Duration::from_secs(30);

const GRIP_SIG: HeaderName = HeaderName::from_static("grip-sig");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("gripd/", env!("CARGO_PKG_VERSION")));

/// A sender of requests to a webhook. It sends one request at a time, and uses the same connection again if the
/// server keeps it open.
#[derive(Debug)]
pub(super) struct WebhookClient {
    url: WebhookUrl,
    signer: Option<Arc<Signer>>,
    timeout: Duration,
    kept: Option<IdleWebhookConnection>,
}

/// A connection to the webhook's server.
type WebhookConnection = HttpConnection<Full<Bytes>>;

/// An idle connection, and the time at which it became idle.
#[derive(Debug)]
struct IdleWebhookConnection {
    connection: WebhookConnection,
    since: Instant,
}

/// The reason why a request failed.
#[derive(Debug)]
pub(super) enum PostError {
    Connect(io::Error),
    Exchange(hyper::Error),
    /// The server responded with a status code other than 2xx.
    Status(StatusCode),
    /// The server did not respond within this time.
    Timeout(Duration),
}

impl WebhookClient {
    /// Returns a sender of requests to `url`. A request fails if the head of its response has not arrived after
    /// `timeout`.
    pub(super) const fn new(url: WebhookUrl, signer: Option<Arc<Signer>>, timeout: Duration) -> Self {
        Self { url, signer, timeout, kept: None }
    }

    /// Sends `body`. The request succeeds if the status code of the response is 2xx. Nothing else in the response
    /// matters.
    pub(super) async fn send(&mut self, body: &Bytes) -> Result<(), PostError> {
        let within = self.timeout;
        let answer = timeout(within, self.exchange(body)).await;
        let (connection, reply) = answer.map_err(|_| PostError::Timeout(within))??;
        let status = reply.status();
        let is_whole = timeout(REPLY_WAIT.min(within), discard(reply.into_body())).await;
        if is_whole == Ok(true) && !connection.is_closed() {
            self.kept = Some(IdleWebhookConnection { connection, since: Instant::now() });
        }
        if status.is_success() { Ok(()) } else { Err(PostError::Status(status)) }
    }

    /// Sends `body` on the kept connection, or else on a new one.
    async fn exchange(&mut self, body: &Bytes) -> Result<(WebhookConnection, Response<Incoming>), PostError> {
        if let Some(mut connection) = self.take_kept().await {
            match connection.send(self.request(body)).await {
                Ok(reply) => return Ok((connection, reply)),
                // The server may have closed the reused connection at the same moment. If it accepted the events
                // nevertheless, it recognizes them by their ids when they are sent again.
                Err(failed) => {
                    let error = failed.into_error();
                    tracing::debug!(
                        url = %self.url,
                        %error,
                        "a reused connection to a webhook failed: its events are sent again on a new connection"
                    );
                }
            }
        }
        let mut connection = self.connect().await?;
        let sent = connection.send(self.request(body)).await;
        let reply = sent.map_err(|failed| PostError::Exchange(failed.into_error()))?;
        Ok((connection, reply))
    }

    /// Takes the kept connection, if it is young enough and ready for a request.
    async fn take_kept(&mut self) -> Option<WebhookConnection> {
        let IdleWebhookConnection { mut connection, since } = self.kept.take()?;
        let deadline = Instant::now() + READY_WAIT;
        if since.elapsed() > MAX_IDLE || !connection.is_ready(deadline).await {
            return None;
        }
        Some(connection)
    }

    async fn connect(&self) -> Result<WebhookConnection, PostError> {
        let address = self.url.address();
        let transport = connect(&address.host, address.port).await.map_err(PostError::Connect)?;
        WebhookConnection::new(transport, None).await.map_err(PostError::Exchange)
    }

    /// Returns a request with `body`, signed at the current time.
    fn request(&self, body: &Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.path();
        let headers = request.headers_mut();
        headers.insert(HOST, self.url.host());
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(USER_AGENT, AGENT);
        let token =
            self.signer.as_ref().and_then(|signer| signer.sign_for(Some(AUDIENCE), UnixMillis::now().as_secs()));
        if let Some(token) = token.and_then(|token| HeaderValue::try_from(token).ok()) {
            headers.insert(GRIP_SIG, token);
        }
        request
    }
}

/// Reads a body to its end. Returns `false` if it is larger than [`MAX_REPLY`] or breaks off.
async fn discard(mut body: Incoming) -> bool {
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > MAX_REPLY {
            return false;
        }
    }
    true
}

impl fmt::Display for PostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "cannot connect: {error}"),
            Self::Exchange(error) => match error.source() {
                Some(source) => write!(f, "{error}: {source}"),
                None => error.fmt(f),
            },
            Self::Status(status) => write!(f, "the webhook answered {status}"),
            Self::Timeout(within) => write!(f, "the webhook did not answer within {within:?}"),
        }
    }
}
