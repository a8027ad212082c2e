//! The accept loop of one shard.

use super::{Front, connection};
use crate::telemetry::Seldom;
use crate::wire::answer::NO_ROOM;
use std::future::{Future, poll_fn};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::coop::unconstrained;
use tokio::task::{spawn_local, yield_now};
use tokio::time::timeout;

/// How long to wait when no connection can be accepted: descriptors or memory are short.
const PAUSE: Duration = Duration::from_millis(100);

/// Refused connections of one shard that are read for a moment at the same time, so that their clients see why.
const MOST_PARTING: usize = 1;
/// Pieces of 4 KiB that are read of it at once.
const MOST_READ: usize = 16;
/// How long that moment is.
const PARTING: Duration = Duration::from_millis(100);

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
            Some(Ok((stream, _))) => admit(front, stream).await,
            Some(Err(error)) => pause(front, &error).await,
            None => return empty(front, &listener).await,
        }
    }
}

/// Takes all who are connected already. Twice, as the runtime may not have looked at the socket lately.
async fn empty(front: &Rc<Front>, listener: &TcpListener) {
    for _ in 0..2 {
        yield_now().await;
        // Without the runtime's budget, which would make the listener look empty when it is spent.
        while let Some(stream) = unconstrained(poll_fn(|cx| accept_waiting(listener, cx))).await {
            admit(front, stream).await;
        }
    }
}

fn accept_waiting(listener: &TcpListener, cx: &mut Context<'_>) -> Poll<Option<TcpStream>> {
    match listener.poll_accept(cx) {
        Poll::Ready(Ok((stream, _))) => Poll::Ready(Some(stream)),
        Poll::Ready(Err(_)) | Poll::Pending => Poll::Ready(None),
    }
}

/// Serves a connection, unless it would take one of the descriptors that are kept back. Then an idle one is closed for
/// it, of a client or of an origin; if there is none, it is refused.
async fn admit(front: &Rc<Front>, stream: TcpStream) {
    if front.descriptors.are_enough_for_client() {
        return spawn(front, stream);
    }
    if front.idle.spare_one() {
        front.metrics.connections_spared.fetch_add(1, Relaxed);
    } else {
        front.origin.spare_idle();
    }
    // Whoever makes room closes now.
    yield_now().await;
    if front.descriptors.are_enough_for_client() {
        spawn(front, stream);
    } else {
        refuse(front, stream);
    }
}

/// Says that there is no room, and closes.
fn refuse(front: &Rc<Front>, stream: TcpStream) {
    static LINE: Seldom = Seldom::new();
    front.metrics.connections_refused.fetch_add(1, Relaxed);
    LINE.log(|left_out| {
        let (limit, kept_back) = (front.descriptors.limit(), front.descriptors.kept_back());
        tracing::error!(
            limit,
            kept_back,
            left_out,
            "client connections are refused: the process may not open more files; raise its limit (ulimit -n, LimitNOFILE)"
        );
    });
    let Ok(mut stream) = stream.into_std() else { return };
    let _ = stream.write(NO_ROOM);
    let _ = stream.shutdown(Shutdown::Write);
    // A request that is not read has the kernel reset the connection, and lose the answer.
    for _ in 0..MOST_READ {
        if !stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {
            break;
        }
    }
    let parting = front.parting.get();
    if parting < MOST_PARTING {
        front.parting.set(parting + 1);
        let parting = Parting(Rc::clone(front));
        spawn_local(async move {
            part(stream).await;
            drop(parting);
        });
    }
}

/// A refused connection that is read, until this is dropped.
struct Parting(Rc<Front>);

impl Drop for Parting {
    fn drop(&mut self) {
        self.0.parting.set(self.0.parting.get() - 1);
    }
}

/// A connection that counts as open, until this is dropped.
struct Connected(Rc<Front>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.descriptors.client_went();
    }
}

/// Reads what a refused client still sends, for a moment: its request may be on the way.
async fn part(stream: std::net::TcpStream) {
    let Ok(mut stream) = TcpStream::from_std(stream) else { return };
    let all = async { while stream.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {} };
    let _ = timeout(PARTING, all).await;
}

fn spawn(front: &Rc<Front>, stream: TcpStream) {
    let front = Rc::clone(front);
    // Boxed, so that the task keeps no place for what is over when the connection is parked.
    let listed = front.idle.enter();
    let first = Box::pin(connection::first(Rc::clone(&front), stream, listed));
    // Counted before its task first runs: a drain must not take it for gone.
    let open = front.drain.enter();
    front.descriptors.client_came();
    let connected = Connected(front);
    spawn_local(async move {
        let _open = open;
        connection::run(&connected.0, first).await;
    });
}

/// Waits after an error that would come again at once. A connection that ended before it was accepted concerns nobody.
async fn pause(front: &Front, error: &io::Error) {
    static LINE: Seldom = Seldom::new();
    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        return;
    }
    LINE.log(|left_out| tracing::error!(%error, left_out, "cannot accept connections"));
    front.idle.spare_one();
    tokio::time::sleep(PAUSE).await;
}
