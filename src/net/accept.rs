//! The loop that accepts connections.

use super::{Listener, Transport};
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::coop::unconstrained;
use tokio::task::yield_now;
use tokio::time::sleep;

/// The pause after an attempt to accept has failed, which happens when file descriptors or memory are short.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// A part of gripd that takes the connections of a listener.
pub trait Acceptor {
    /// Takes a connection. The next connection is accepted once the returned future is ready.
    fn admit(&self, transport: Transport) -> impl Future<Output = ()>;

    /// Logs that no connection can be accepted, and closes an idle connection if there is one.
    fn make_room(&self, error: &io::Error);
}

/// Passes every connection to `acceptor` until `end` is ready. Then passes on the connections that are already
/// established, so that they are not lost when the listener is closed.
pub async fn accept(listener: &Listener, acceptor: &impl Acceptor, end: impl Future<Output = ()>) {
    let mut end = pin!(end);
    loop {
        let accepted = poll_fn(|cx| match listener.poll_accept(cx) {
            Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
            Poll::Pending => end.as_mut().poll(cx).map(|()| None),
        });
        match accepted.await {
            Some(Ok(transport)) => acceptor.admit(transport).await,
            Some(Err(error)) if is_lost(&error) => {}
            Some(Err(error)) => {
                acceptor.make_room(&error);
                sleep(PAUSE_AFTER_ERROR).await;
            }
            None => return empty(listener, acceptor).await,
        }
    }
}

/// Returns whether `error` means that a connection ended before it was accepted. Such an error does not affect the
/// next connection.
fn is_lost(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset)
}

/// Passes on all connections that are already established. Does this twice, and yields to the runtime before each
/// time, because the runtime may not have polled the socket lately.
async fn empty(listener: &Listener, acceptor: &impl Acceptor) {
    for _ in 0..2 {
        yield_now().await;
        // This runs outside of the runtime's budget: once the budget is used up, the listener would look empty.
        while let Some(transport) = unconstrained(poll_fn(|cx| poll_established(listener, cx))).await {
            acceptor.admit(transport).await;
        }
    }
}

fn poll_established(listener: &Listener, cx: &mut Context<'_>) -> Poll<Option<Transport>> {
    match listener.poll_accept(cx) {
        Poll::Ready(Ok(transport)) => Poll::Ready(Some(transport)),
        Poll::Ready(Err(_)) | Poll::Pending => Poll::Ready(None),
    }
}
