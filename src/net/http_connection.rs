//! HTTP/1 connections that gripd opens: to origins, to webhooks, to another gripd.

use super::{Counted, Outbound, Transport};
use hyper::body::{Body, Incoming};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::future::poll_fn;
use std::time::Duration;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{Instant, timeout_at};

/// Headers that the head of an answer may have: as many as any server needs, but not without a bound.
const MAX_HEADERS: usize = 256;

/// How long an idle connection may take to be ready for a request: its task may have a last thing to do.
pub const READY_WAIT: Duration = Duration::from_millis(20);

/// A connection that carries one request at a time.
///
/// It ends when this is dropped: a task that is still writing a body would not notice that nobody wants it any more.
#[derive(Debug)]
pub struct HttpConnection<B> {
    sender: SendRequest<B>,
    task: AbortHandle,
}

/// The outcome of a request. On failure the request comes back if nothing of it was sent.
pub type Sent<B> = Result<Response<Incoming>, TrySendError<Request<B>>>;

impl<B> HttpConnection<B>
where
    B: Body + Unpin + 'static,
    B::Data: Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// Begins HTTP on a transport that is connected. Its descriptor may be counted as long as it is open. It runs in a task
    /// of its own, on the runtime of this thread.
    ///
    /// # Errors
    /// The transport is broken.
    pub async fn new(transport: Transport, counted: Option<Counted>) -> hyper::Result<Self> {
        let (sender, connection) = Builder::new()
            .max_headers(MAX_HEADERS)
            // RFC 9112 5.1: a proxy removes them.
            .allow_spaces_after_header_name_in_responses(true)
            .handshake(TokioIo::new(Outbound::new(transport, counted)))
            .await?;
        // How it ends is told to whoever waits for an answer on it.
        let task = spawn_local(connection.with_upgrades()).abort_handle();
        Ok(Self { sender, task })
    }

    /// Waits for an idle connection to be ready. Returns `false` if it is not by that time, or if it has ended.
    pub async fn is_ready(&mut self, by: Instant) -> bool {
        timeout_at(by, poll_fn(|cx| self.sender.poll_ready(cx))).await.is_ok_and(|ready| ready.is_ok())
    }

    /// Sends a request, and returns the head of its answer.
    pub fn send(&mut self, request: Request<B>) -> impl Future<Output = Sent<B>> + use<B> {
        self.sender.try_send_request(request)
    }

    /// Returns whether the connection takes no more requests.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Returns a handle by which others can end the connection.
    pub fn abort_handle(&self) -> AbortHandle {
        self.task.clone()
    }
}

impl<B> Drop for HttpConnection<B> {
    fn drop(&mut self) {
        self.task.abort();
    }
}
