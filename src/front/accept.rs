//! The admission of new connections: whether there is room for them.

use super::{Front, connection};
use crate::net::{Acceptor, Listener, Transport, accept};
use crate::telemetry::Seldom;
use crate::wire::answer::NO_ROOM;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::task::{spawn_local, yield_now};
use tokio::time::timeout;

/// Refused connections of one shard that are read for a moment at the same time, so that their clients see why.
const MOST_PARTING: usize = 1;
/// How long that moment is.
const PARTING: Duration = Duration::from_millis(100);

/// Serves every client that connects, until `front` drains. Then it takes those who are connected already
/// and closes the listener.
pub async fn serve(front: &Rc<Front>, listener: Listener) {
    accept(&listener, front, front.drain.begins()).await;
}

impl Acceptor for Rc<Front> {
    /// Serves a connection, unless it would take one of the descriptors that are kept back. Then an idle one is closed for
    /// it, of a client or of an origin; if there is none, it is refused.
    async fn admit(&self, transport: Transport) {
        if self.descriptors.are_enough_for_client() {
            return spawn(self, transport);
        }
        if self.idle.spare_one() {
            self.metrics.connections_spared.inc();
        } else {
            self.origin.spare_idle();
        }
        // Whoever makes room closes now.
        yield_now().await;
        if self.descriptors.are_enough_for_client() {
            spawn(self, transport);
        } else {
            refuse(self, transport);
        }
    }

    fn make_room(&self, error: &io::Error) {
        static LINE: Seldom = Seldom::new();
        LINE.log(|left_out| tracing::error!(%error, left_out, "cannot accept connections"));
        self.idle.spare_one();
    }
}

/// Says that there is no room, and closes.
fn refuse(front: &Rc<Front>, transport: Transport) {
    static LINE: Seldom = Seldom::new();
    front.metrics.connections_refused.inc();
    LINE.log(|left_out| {
        let (limit, kept_back) = (front.descriptors.limit(), front.descriptors.kept_back());
        tracing::error!(
            limit,
            kept_back,
            left_out,
            "client connections are refused: the process has reached its limit of open files; raise it (ulimit -n, LimitNOFILE)"
        );
    });
    transport.dismiss(NO_ROOM);
    let parting = front.parting.get();
    if parting < MOST_PARTING {
        front.parting.set(parting + 1);
        let parting = Parting(Rc::clone(front));
        spawn_local(async move {
            part(transport).await;
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
async fn part(mut transport: Transport) {
    let all = async { while transport.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {} };
    let _ = timeout(PARTING, all).await;
}

fn spawn(front: &Rc<Front>, transport: Transport) {
    let front = Rc::clone(front);
    // Boxed, so that the task keeps no place for what is over when the connection is parked.
    let listed = front.idle.enter();
    let first = Box::pin(connection::first(Rc::clone(&front), transport, listed));
    // Counted before its task first runs: a drain must not take it for gone.
    let open = front.drain.enter();
    front.descriptors.client_came();
    let connected = Connected(front);
    spawn_local(async move {
        let _open = open;
        connection::run(&connected.0, first).await;
    });
}
