//! HTTP/1 connections that gripd opens: to origins, to the receivers of webhooks, and to the control API of another
//! gripd.

use super::{DescriptorGuard, Outbound, Transport};
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

/// The number of headers that a response may have. Servers send far fewer, and a hostile one cannot send more.
const MAX_HEADERS: usize = 256;

/// The longest time that a request waits until one of the idle connections is ready. The connection's task may still
/// have some work left from the request before.
pub const READY_WAIT: Duration = Duration::from_millis(20);

/// An HTTP/1 connection that carries one request at a time.
///
/// The connection ends when this value is dropped, because a task that is still writing a request body would not
/// notice that the response is no longer wanted. A connection that was upgraded before lives on.
#[derive(Debug)]
pub struct HttpConnection<B> {
    sender: SendRequest<B>,
    task: AbortHandle,
}

/// The outcome of sending a request. The error contains the request if nothing of it was sent.
pub type SendResult<B> = Result<Response<Incoming>, TrySendError<Request<B>>>;

impl<B> HttpConnection<B>
where
    B: Body + Unpin + 'static,
    B::Data: Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// Begins HTTP/1 on a connected transport. The connection runs in a task of its own, on the runtime of this
    /// thread. `counted`, if given, counts the transport's file descriptor until the connection ends.
    ///
    /// # Errors
    /// The transport is broken.
    pub async fn new(transport: Transport, counted: Option<DescriptorGuard>) -> hyper::Result<Self> {
        let (sender, connection) = Builder::new()
            .max_headers(MAX_HEADERS)
            // A proxy removes spaces between a header's name and the colon from responses (RFC 9112 5.1).
            .allow_spaces_after_header_name_in_responses(true)
            .handshake(TokioIo::new(Outbound::new(transport, counted)))
            .await?;
        // The result of the task is not needed, because an error also reaches the caller that waits for a response.
        let task = spawn_local(connection.with_upgrades()).abort_handle();
        Ok(Self { sender, task })
    }

    /// Waits until an idle connection is ready for a request. Returns `false` if it is not ready by the time `by`, or
    /// if it has ended.
    pub async fn is_ready(&mut self, by: Instant) -> bool {
        timeout_at(by, poll_fn(|cx| self.sender.poll_ready(cx))).await.is_ok_and(|ready| ready.is_ok())
    }

    /// Sends a request. The returned future gives the head of the response.
    pub fn send(&mut self, request: Request<B>) -> impl Future<Output = SendResult<B>> + use<B> {
        self.sender.try_send_request(request)
    }

    /// Returns whether the connection takes no more requests.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Returns a handle with which another part of gripd can end the connection.
    pub fn abort_handle(&self) -> AbortHandle {
        self.task.clone()
    }
}

impl<B> Drop for HttpConnection<B> {
    fn drop(&mut self) {
        self.task.abort();
    }
}
