//! The admission of new connections, which are refused if too few file descriptors are available.

use super::{Front, connection};
use crate::net::{Acceptor, Listener, Transport, accept};
use crate::telemetry::RateLimitedLine;
use crate::wire::answer::NO_ROOM;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::task::{spawn_local, yield_now};
use tokio::time::timeout;

/// The number of refused connections of one shard that are still read at the same time, so that their clients get
/// the refusal.
const MAX_REFUSED_READ: usize = 1;
/// How long a refused connection is still read.
const REFUSED_READ_TIME: Duration = Duration::from_millis(100);

/// Accepts and serves clients until `front` drains. Then it also serves the connections that are established
/// already, and closes the listener.
pub async fn serve(front: &Rc<Front>, listener: Listener) {
    accept(&listener, front, front.drain.begins()).await;
}

impl Acceptor for Rc<Front> {
    /// Serves a connection, unless it would take one of the file descriptors that are kept back for origins and the
    /// control API. In that case, idle connections are closed to make room: one of a client or, if no client is
    /// idle, those to origins. If this frees no descriptor, the connection is refused.
    async fn admit(&self, transport: Transport) {
        if self.descriptors.has_room_for_client() {
            return spawn(self, transport);
        }
        if self.idle.close_oldest_idle() {
            self.metrics.connections_spared.inc();
        } else {
            self.origin.spare_idle();
        }
        // The tasks of the connections that were told to close run now, and free their descriptors.
        yield_now().await;
        if self.descriptors.has_room_for_client() {
            spawn(self, transport);
        } else {
            refuse(self, transport);
        }
    }

    fn make_room(&self, error: &io::Error) {
        static LINE: RateLimitedLine = RateLimitedLine::new();
        LINE.log(|left_out| tracing::error!(%error, left_out, "cannot accept connections"));
        self.idle.close_oldest_idle();
    }
}

/// Sends a 503 response to a connection for which there is no room, and closes the connection.
fn refuse(front: &Rc<Front>, transport: Transport) {
    static LINE: RateLimitedLine = RateLimitedLine::new();
    front.metrics.connections_refused.inc();
    LINE.log(|left_out| {
        let (limit, kept_back) = (front.descriptors.limit(), front.descriptors.reserved());
        tracing::error!(
            limit,
            kept_back,
            left_out,
            "client connections are refused: the process has reached its limit of open files; raise it (ulimit \
             -n, LimitNOFILE)"
        );
    });
    transport.refuse_with(NO_ROOM);
    let parting = front.parting.get();
    if parting < MAX_REFUSED_READ {
        front.parting.set(parting + 1);
        let parting = RefusedGuard(Rc::clone(front));
        spawn_local(async move {
            part(transport).await;
            drop(parting);
        });
    }
}

/// A guard that counts a refused connection as still being read, until it is dropped.
struct RefusedGuard(Rc<Front>);

impl Drop for RefusedGuard {
    fn drop(&mut self) {
        self.0.parting.set(self.0.parting.get() - 1);
    }
}

/// A guard that counts a client's file descriptor as used, until it is dropped.
struct ConnectedGuard(Rc<Front>);

impl Drop for ConnectedGuard {
    fn drop(&mut self) {
        self.0.descriptors.client_went();
    }
}

/// Reads and drops the bytes that a refused client still sends, for at most [`REFUSED_READ_TIME`]. If a request
/// arrived at a closed socket, the kernel would reset the connection, and the client would lose the response.
async fn part(mut transport: Transport) {
    let all = async { while transport.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {} };
    let _ = timeout(REFUSED_READ_TIME, all).await;
}

fn spawn(front: &Rc<Front>, transport: Transport) {
    let front = Rc::clone(front);
    let listed = front.idle.enter();
    // The future is boxed so that its memory is freed when the connection is parked. Otherwise the task would keep
    // that memory for as long as it runs.
    let first = Box::pin(connection::first(Rc::clone(&front), transport, listed));
    // The connection is counted before its task runs for the first time. Otherwise a drain could end without
    // waiting for it.
    let open = front.drain.enter();
    front.descriptors.client_came();
    let connected = ConnectedGuard(front);
    spawn_local(async move {
        let _open = open;
        connection::run(&connected.0, first).await;
    });
}
