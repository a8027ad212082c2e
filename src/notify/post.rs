//! One request to a webhook.

use super::event::Time;
use super::url::Url;
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

/// The `aud` of what is signed: requests of clients are signed by the same key, and have none.
const AUDIENCE: &str = "webhook";

/// The largest body of a reply, in bytes, with which the connection is kept.
const MAX_REPLY: usize = 64 * 1024;
/// How long its end is waited for.
const REPLY_WAIT: Duration = Duration::from_secs(1);
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
    kept: Option<Kept>,
}

/// A connection to the webhook's server.
type Connection = HttpConnection<Full<Bytes>>;

/// A connection that is idle.
#[derive(Debug)]
struct Kept {
    connection: Connection,
    since: Instant,
}

/// Why a request failed.
#[derive(Debug)]
pub(super) enum Failure {
    Connect(io::Error),
    Exchange(hyper::Error),
    /// The webhook answered with a status code other than success.
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
        let (connection, reply) = answer.map_err(|_| Failure::Timeout(within))??;
        let status = reply.status();
        let is_whole = timeout(REPLY_WAIT.min(within), discard(reply.into_body())).await;
        if is_whole == Ok(true) && !connection.is_closed() {
            self.kept = Some(Kept { connection, since: Instant::now() });
        }
        if status.is_success() { Ok(()) } else { Err(Failure::Status(status)) }
    }

    /// Sends `body` on the kept connection, or else on a new one.
    async fn exchange(&mut self, body: &Bytes) -> Result<(Connection, Response<Incoming>), Failure> {
        if let Some(mut connection) = self.take_kept().await {
            match connection.send(self.request(body)).await {
                Ok(reply) => return Ok((connection, reply)),
                // The server was about to close it. If it took the events nevertheless, it knows them by their ids.
                Err(failed) => {
                    let error = failed.into_error();
                    tracing::debug!(url = %self.url, %error, "a reused connection to a webhook had been closed");
                }
            }
        }
        let mut connection = self.connect().await?;
        let sent = connection.send(self.request(body)).await;
        let reply = sent.map_err(|failed| Failure::Exchange(failed.into_error()))?;
        Ok((connection, reply))
    }

    /// Takes the kept connection, if it is young enough and ready for a request.
    async fn take_kept(&mut self) -> Option<Connection> {
        let Kept { mut connection, since } = self.kept.take()?;
        let deadline = Instant::now() + READY_WAIT;
        if since.elapsed() > MAX_IDLE || !connection.is_ready(deadline).await {
            return None;
        }
        Some(connection)
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        let address = self.url.address();
        let transport = connect(&address.host, address.port).await.map_err(Failure::Connect)?;
        Connection::new(transport, None).await.map_err(Failure::Exchange)
    }

    /// Returns the request, signed now.
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
