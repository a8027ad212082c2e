//! A shard: the parked connections of one thread, and the delivery of items to them.
//!
//! Items arrive in the [`Inbox`]. The `registry` says which connections hold the channel of an item, and the bytes
//! of the item wait in the `outlet` of each connection until they are flushed. Everything except the inbox belongs
//! to one thread.

mod asking;
mod away;
mod command;
mod conn;
mod connections;
mod crowding;
mod deliver;
mod end;
mod ending;
mod expiring;
mod flushing;
pub mod inbox;
mod invariants;
mod ledger;
mod listing;
pub mod metrics;
mod moving;
mod offer;
mod outgoing;
mod outlet;
mod parked;
mod pending_item;
mod pieces;
mod profile;
mod rare;
mod reading;
mod registry;
mod rendered;
mod rounds;
mod sending;
#[cfg(test)]
mod simulation;
mod spread;
mod steps;
mod subscribing;
pub mod tally;
pub mod terms;
mod users;

pub use asking::{Compare, Turn};
pub use away::Away;
pub use command::{Command, CommandEffect, Whom};
pub use conn::Feed;
pub use inbox::{Delivery, Inbox};
pub use ledger::{Denied, Ended, Entering, Joined, Ledger, Reason};
pub use listing::{Page, Question, Row};
pub use metrics::Metrics;
pub use parked::{ClientGone, Event, Parked};
pub use pending_item::PendingItem;
pub use profile::{ConnectionId, NoConnectionId, Place, Profile};
pub use rare::Ways;
pub use rendered::Rendered;
pub use spread::Spread;
pub use steps::Steps;
pub use tally::Tally;
pub use terms::{Term, Terms};

#[cfg(test)]
pub use crate::net::{MemoryClient, MemoryStream};

use conn::Conn;
use connections::{Connections, Key};
use expiring::Expiring;
use outgoing::Outgoing;
use registry::Registry;
use rounds::Rounds;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use users::Users;

/// The limits of a shard.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The number of bytes that may wait for one client after the piece that is being written to it. If the client
    /// keeps reading, 16 times as many may wait.
    pub client_buffer: usize,
    /// The number of bytes that may wait for all slow clients of the shard together. Clients that keep reading are
    /// closed only if more than 4 times as many wait.
    pub outlets_total: usize,
    /// The time that a client has to read its last bytes when its connection is ended.
    pub close_grace: Duration,
    /// The number of channels to which one connection may be subscribed.
    pub max_channels: usize,
    /// The amounts of work that the shard does before it lets other tasks run.
    pub steps: Steps,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            client_buffer: 256 << 10,
            outlets_total: 512 << 20,
            close_grace: Duration::from_secs(1),
            max_channels: 100,
            steps: Steps::default(),
        }
    }
}

/// A shard, which owns the parked connections of one thread.
pub struct Shard {
    state: RefCell<State>,
    inbox: Arc<Inbox>,
}

impl Shard {
    /// Returns a shard that takes its items from `inbox`.
    pub fn new(settings: Settings, inbox: Arc<Inbox>, ledger: Box<dyn Ledger>, metrics: Arc<Metrics>) -> Rc<Self> {
        let state = State {
            conns: Connections::default(),
            registry: Registry::default(),
            users: Users::default(),
            expiring: Expiring::default(),
            rounds: Rounds::default(),
            outgoing: Outgoing::new(&settings),
            started: Instant::now(),
            settings,
            ledger,
            metrics,
        };
        Rc::new(Self { state: RefCell::new(state), inbox })
    }

    /// Returns the counters of all shards.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.state.borrow().metrics)
    }

    /// Returns the number of connections that are parked here, and the number of channels that they hold.
    pub fn population(&self) -> (usize, usize) {
        let state = self.state.borrow();
        (state.conns.len(), state.registry.len())
    }
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (connections, channels) = self.population();
        f.debug_struct("Shard").field("connections", &connections).field("channels", &channels).finish()
    }
}

/// The state of a shard. Its fields can be borrowed separately: a function that needs few of them takes them as
/// arguments, and a function that needs most of them is a method of `State`.
struct State {
    conns: Connections,
    registry: Registry,
    users: Users,
    expiring: Expiring,
    rounds: Rounds,
    outgoing: Outgoing,
    started: Instant,
    settings: Settings,
    ledger: Box<dyn Ledger>,
    metrics: Arc<Metrics>,
}

impl State {
    /// Returns the connection at `key`. It is in the shard as long as its [`Parked`] exists.
    fn conn(&mut self, key: Key) -> &mut Conn {
        &mut self.conns[key]
    }

    /// Returns the milliseconds since the shard began, by which keep-alives and the progress of transports are
    /// measured. The number wraps around after 49 days, so only differences between two such numbers are
    /// meaningful.
    fn now_ms(&self) -> u32 {
        millis_since(self.started)
    }

    /// Returns the hundredths of a second since the shard began, by which the time that a connection is held is
    /// measured. The number stays at its maximum after 497 days.
    fn now_cs(&self) -> u32 {
        u32::try_from(self.started.elapsed().as_millis() / 10).unwrap_or(u32::MAX)
    }

    /// Reports to the ledger that a connection is held no longer.
    fn tell_end(&self, key: Key) {
        let conn = &self.conns[key];
        let held = self.started.elapsed().saturating_sub(Duration::from_millis(10 * u64::from(conn.parked_cs)));
        let ended = Ended {
            place: conn.place(key),
            kind: conn.feed.kind(),
            reason: conn.reason.unwrap_or_default(),
            duration: held,
            bytes: conn.sent,
        };
        self.ledger.ended(&conn.whose, &ended);
    }

    /// Removes a connection from every channel that it holds, and reports this to the ledger.
    fn unsubscribe(&mut self, key: Key) {
        let subscriptions = std::mem::take(&mut self.conn(key).subscriptions);
        if subscriptions.is_empty() {
            return;
        }
        let conns = &mut self.conns;
        let left = self.registry.remove(key, &subscriptions, |moved, s| conns[moved].note_place(s));
        self.ledger.left(&self.conns[key].whose, &left);
    }
}

/// Returns the milliseconds since `started`, of which only the lower 32 bits are kept.
fn millis_since(started: Instant) -> u32 {
    (started.elapsed().as_millis() & u128::from(u32::MAX)) as u32
}
