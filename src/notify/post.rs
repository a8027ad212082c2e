//! One request to a webhook.

use super::event::Time;
use super::url::Url;
use crate::grip::signature::Signer;
use crate::net::{Outbound, connect};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// The `aud` of what is signed: requests of clients are signed by the same key, and have none.
const AUDIENCE: &str = "webhook";

/// What a reply's body may have for its connection to be kept, in bytes.
const MAX_REPLY: usize = 64 * 1024;
/// How long its end is waited for.
const REPLY_WAIT: Duration = Duration::from_secs(1);
/// How long a kept connection may take to be ready for a request: its task may have a last thing to do.
const READY_WAIT: Duration = Duration::from_millis(20);
/// How long a connection is kept. After that something on the way may have forgotten it.
const MAX_IDLE: Duration = Duration::from_secs(30);

const GRIP_SIG: HeaderName = HeaderName::from_static("grip-sig");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("gripd/", env!("CARGO_PKG_VERSION")));

/// Sends requests to a webhook, one at a time, on one connection if the server keeps it.
#[derive(Debug)]
pub(super) struct Post {
    url: Url,
    signer: Option<Arc<Signer>>,
    timeout: Duration,
    kept: Option<Wire>,
}

/// A connection. It ends with this.
#[derive(Debug)]
struct Wire {
    sender: SendRequest<Full<Bytes>>,
    task: AbortHandle,
    since: Instant,
}

/// Why a request failed.
#[derive(Debug)]
pub(super) enum Failure {
    Connect(io::Error),
    Exchange(hyper::Error),
    /// It was answered, but not by success.
    Status(StatusCode),
    /// It was not answered within this time.
    Timeout(Duration),
}

impl Post {
    /// Sends to `url`; an answer may take `timeout`.
    pub(super) const fn new(url: Url, signer: Option<Arc<Signer>>, timeout: Duration) -> Self {
        Self { url, signer, timeout, kept: None }
    }

    /// Sends `body`. Success is what the status says; nothing else of the answer counts.
    pub(super) async fn send(&mut self, body: &Bytes) -> Result<(), Failure> {
        let within = self.timeout;
        let answer = timeout(within, self.exchange(body)).await;
        let (mut wire, reply) = answer.map_err(|_| Failure::Timeout(within))??;
        let status = reply.status();
        let is_whole = timeout(REPLY_WAIT.min(within), discard(reply.into_body())).await;
        if is_whole == Ok(true) && !wire.sender.is_closed() {
            wire.since = Instant::now();
            self.kept = Some(wire);
        }
        if status.is_success() { Ok(()) } else { Err(Failure::Status(status)) }
    }

    /// Sends `body` on the kept connection, or else on a new one.
    async fn exchange(&mut self, body: &Bytes) -> Result<(Wire, Response<Incoming>), Failure> {
        if let Some(mut wire) = self.kept.take()
            && wire.is_ready().await
        {
            match wire.sender.send_request(self.request(body)).await {
                Ok(reply) => return Ok((wire, reply)),
                // The server was about to close it. If it took the events nevertheless, it knows them by their ids.
                Err(error) => tracing::debug!(url = %self.url, %error, "a kept connection to a webhook was stale"),
            }
        }
        let mut wire = self.connect().await?;
        let reply = wire.sender.send_request(self.request(body)).await.map_err(Failure::Exchange)?;
        Ok((wire, reply))
    }

    async fn connect(&self) -> Result<Wire, Failure> {
        let address = self.url.address();
        let stream = connect(&address.host, address.port).await.map_err(Failure::Connect)?;
        stream.set_nodelay(true).map_err(Failure::Connect)?;
        let (sender, connection) =
            Builder::new().handshake(TokioIo::new(Outbound::new(stream, None))).await.map_err(Failure::Exchange)?;
        // How it ends is told to whoever waits for an answer on it.
        let task = tokio::spawn(connection).abort_handle();
        Ok(Wire { sender, task, since: Instant::now() })
    }

    /// The request, signed now.
    fn request(&self, body: &Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.path();
        let headers = request.headers_mut();
        headers.insert(HOST, self.url.host());
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(USER_AGENT, AGENT);
        let token = self.signer.as_ref().and_then(|signer| signer.sign_for(Some(AUDIENCE), Time::now().as_secs()));
        if let Some(token) = token.and_then(|token| HeaderValue::try_from(token).ok()) {
            headers.insert(GRIP_SIG, token);
        }
        request
    }
}

impl Wire {
    async fn is_ready(&mut self) -> bool {
        self.since.elapsed() <= MAX_IDLE
            && timeout(READY_WAIT, self.sender.ready()).await.is_ok_and(|ready| ready.is_ok())
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads a body to its end. `false`: that is too far, or does not come.
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

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "cannot connect: {error}"),
            Self::Exchange(error) => match error.source() {
                Some(source) => write!(f, "{error}: {source}"),
                None => error.fmt(f),
            },
            Self::Status(status) => write!(f, "answered {status}"),
            Self::Timeout(within) => write!(f, "did not answer within {within:?}"),
        }
    }
}
