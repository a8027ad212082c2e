//! The accept loop of one shard.

use super::{Front, connection};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::coop::unconstrained;

/// How long to wait when no connection can be accepted: descriptors or memory are short.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves every client that connects, until `front` drains. Then it takes those who are connected already
/// and closes the listener.
pub async fn serve(front: &Rc<Front>, listener: TcpListener) {
    let mut drain = pin!(front.drain.begins());
    loop {
        let accepted = poll_fn(|cx| match listener.poll_accept(cx) {
            Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
            Poll::Pending => drain.as_mut().poll(cx).map(|()| None),
        });
        match accepted.await {
            Some(Ok((stream, _))) => spawn(front, stream),
            Some(Err(error)) => pause(&error).await,
            None => return empty(front, &listener).await,
        }
    }
}

/// Takes all who are connected already. Twice, as the runtime may not have looked at the socket lately.
async fn empty(front: &Rc<Front>, listener: &TcpListener) {
    for _ in 0..2 {
        tokio::task::yield_now().await;
        // Without the runtime's budget, which would make the listener look empty when it is spent.
        while let Some(stream) = unconstrained(poll_fn(|cx| accept_waiting(listener, cx))).await {
            spawn(front, stream);
        }
    }
}

fn accept_waiting(listener: &TcpListener, cx: &mut Context<'_>) -> Poll<Option<TcpStream>> {
    match listener.poll_accept(cx) {
        Poll::Ready(Ok((stream, _))) => Poll::Ready(Some(stream)),
        Poll::Ready(Err(_)) | Poll::Pending => Poll::Ready(None),
    }
}

fn spawn(front: &Rc<Front>, stream: TcpStream) {
    let front = Rc::clone(front);
    // Boxed, so that the task keeps no place for what is over when the connection is parked.
    let first = Box::pin(connection::first(Rc::clone(&front), stream));
    // Counted before its task first runs: a drain must not take it for gone.
    let open = front.drain.enter();
    tokio::task::spawn_local(async move {
        let _open = open;
        front.metrics.connections.fetch_add(1, Relaxed);
        connection::run(&front, first).await;
        front.metrics.connections.fetch_sub(1, Relaxed);
    });
}

/// A connection that ended before it was accepted concerns nobody; anything else is ours, and would come
/// again at once.
async fn pause(error: &io::Error) {
    if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        tracing::error!(%error, "cannot accept connections");
        tokio::time::sleep(PAUSE).await;
    }
}
