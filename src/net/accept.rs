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

/// How long to wait when no connection can be accepted, because descriptors or memory are short.
const PAUSE: Duration = Duration::from_millis(100);

/// The part of gripd for whose connections a listener is.
pub trait Acceptor {
    /// Takes a connection. The next one is accepted when this is done.
    fn admit(&self, transport: Transport) -> impl Future<Output = ()>;

    /// Logs that no connection can be accepted, and closes one that is idle if there is one.
    fn make_room(&self, error: &io::Error);
}

/// Gives every connection to `acceptor` until `end` is ready. Then it takes those that are established already, so that
/// they are not lost when the listener is closed.
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
                sleep(PAUSE).await;
            }
            None => return empty(listener, acceptor).await,
        }
    }
}

/// Returns whether a connection ended before it was accepted, which says nothing about the next one.
fn is_lost(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset)
}

/// Takes all connections that are established already. It looks twice, as the runtime may not have looked at the socket
/// lately.
async fn empty(listener: &Listener, acceptor: &impl Acceptor) {
    for _ in 0..2 {
        yield_now().await;
        // Without the runtime's budget, which would make the listener look empty when it is spent.
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
