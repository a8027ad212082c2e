//! A shard: one thread's parked connections, and how items reach them.
//!
//! Items come through the [`Inbox`]; the [`registry`] says which connections take them; their bytes wait in
//! each connection's [`outlet`] until they are flushed. All of it but the inbox belongs to one thread.

mod asking;
mod away;
mod conn;
mod deliver;
mod end;
pub mod inbox;
pub mod metrics;
mod offer;
mod outlet;
mod parked;
mod pieces;
mod rare;
mod reading;
mod registry;
#[cfg(test)]
mod simulation;
mod spread;
mod subscribing;
pub mod tally;
pub mod terms;

pub use asking::{Asked, Turn};
pub use away::Away;
pub use conn::Feed;
pub use inbox::{Close, Delivery, Inbox};
pub use metrics::Metrics;
pub use parked::{Event, Parked};
pub use rare::Ways;
pub use spread::Spread;
pub use tally::Tally;
pub use terms::{Term, Terms};

use crate::grip::Channel;
use conn::Conn;
use registry::Registry;
use slab::Slab;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The limits of a shard.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes that may wait for one client behind the item being written to it.
    pub client_buffer: usize,
    /// Bytes that may wait for all slow clients of the shard together.
    pub outlets_total: usize,
    /// How long a client whose connection is ended may take to read what is left.
    pub close_grace: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { client_buffer: 256 << 10, outlets_total: 512 << 20, close_grace: Duration::from_secs(1) }
    }
}

/// Who must know that connections left channels: whoever sends this shard its items.
pub trait Ledger {
    /// One connection of this shard left each of `channels`.
    fn left(&self, channels: &[Channel]);
}

/// The place of a connection in its shard.
type Key = u32;

/// One thread's parked connections.
pub struct Shard {
    state: RefCell<State>,
    inbox: Arc<Inbox>,
}

impl Shard {
    /// A shard that takes its items from `inbox`.
    pub fn new(settings: Settings, inbox: Arc<Inbox>, ledger: Box<dyn Ledger>, metrics: Arc<Metrics>) -> Rc<Self> {
        let state = State {
            conns: Slab::new(),
            registry: Registry::default(),
            backlog: VecDeque::new(),
            closes: VecDeque::new(),
            close_at: None,
            round: deliver::Round::default(),
            dirty: VecDeque::new(),
            waiting_bytes: 0,
            started: Instant::now(),
            settings,
            ledger,
            metrics,
        };
        Rc::new(Self { state: RefCell::new(state), inbox })
    }

    /// How many connections are parked here, and how many channels they hold.
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

/// What a shard owns.
struct State {
    conns: Slab<Conn>,
    registry: Registry,
    /// Items taken from the inbox and not yet appended to every outlet, in the order of acceptance.
    backlog: VecDeque<Delivery>,
    /// Closes still to be carried out.
    closes: VecDeque<Close>,
    /// Of the first close: how many subscribers are still to be looked at, once it has begun.
    close_at: Option<usize>,
    round: deliver::Round,
    /// Connections with bytes to flush.
    dirty: VecDeque<Key>,
    /// Bytes in the outlets whose sockets refused them.
    waiting_bytes: usize,
    started: Instant,
    settings: Settings,
    ledger: Box<dyn Ledger>,
    metrics: Arc<Metrics>,
}

impl State {
    /// The connection at `key`, which lives as long as its [`Parked`].
    fn conn(&mut self, key: Key) -> &mut Conn {
        &mut self.conns[key as usize]
    }

    /// Milliseconds since the shard began: the clock of keep-alives. It begins anew after 49 days, so that only
    /// differences of it mean something.
    fn now_ms(&self) -> u32 {
        millis_since(self.started)
    }

    /// Takes a connection out of every channel it holds.
    fn unsubscribe(&mut self, key: Key) {
        let subscriptions = std::mem::take(&mut self.conn(key).subscriptions);
        if subscriptions.is_empty() {
            return;
        }
        let left = self.registry.remove(&mut self.conns, key, &subscriptions);
        self.ledger.left(&left);
    }
}

/// Milliseconds since `started`, of which only the lower 32 bits are kept.
fn millis_since(started: Instant) -> u32 {
    (started.elapsed().as_millis() & u128::from(u32::MAX)) as u32
}
