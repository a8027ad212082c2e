//! A shard: one thread's parked connections, and how items reach them.
//!
//! Items come through the [`Inbox`]; the `registry` says which connections take them; their bytes wait in
//! each connection's `outlet` until they are flushed. All of it but the inbox belongs to one thread.

mod asked;
mod asking;
mod away;
mod command;
mod conn;
mod connections;
mod crowding;
mod deliver;
mod end;
mod ending;
pub mod inbox;
mod invariants;
mod ledger;
mod listing;
pub mod metrics;
mod moving;
mod offer;
mod outlet;
mod parked;
mod pieces;
mod profile;
mod rare;
mod reading;
mod registry;
mod rendered;
mod sending;
#[cfg(test)]
mod simulation;
mod spread;
mod steps;
mod subscribing;
pub mod tally;
pub mod terms;
mod until;

pub use asked::Asked;
pub use asking::Turn;
pub use away::Away;
pub use command::{Command, Deed, Whom};
pub use conn::Feed;
pub use inbox::{Delivery, Inbox};
pub use ledger::{Denied, Ended, Entering, Joined, Ledger, Reason};
pub use listing::{Page, Question, Row};
pub use metrics::Metrics;
pub use parked::{Event, Parked};
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
use registry::Registry;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The limits of a shard.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes that may wait for one client behind the item being written to it.
    pub client_buffer: usize,
    /// Bytes that may wait for all slow clients of the shard together.
    pub outlets_total: usize,
    /// How long a client whose connection is ended may take to read what is left.
    pub close_grace: Duration,
    /// Channels that one connection may be subscribed to.
    pub max_channels: usize,
    /// How much the shard does before others have their turn.
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

/// One thread's parked connections.
pub struct Shard {
    state: RefCell<State>,
    inbox: Arc<Inbox>,
}

impl Shard {
    /// A shard that takes its items from `inbox`.
    pub fn new(settings: Settings, inbox: Arc<Inbox>, ledger: Box<dyn Ledger>, metrics: Arc<Metrics>) -> Rc<Self> {
        let state = State {
            conns: Connections::default(),
            registry: Registry::default(),
            users: Registry::default(),
            profiles: HashMap::default(),
            expiring: BTreeSet::new(),
            expires: Rc::default(),
            backlog: VecDeque::new(),
            commands: VecDeque::new(),
            command: None,
            round: deliver::Round::default(),
            dirty: VecDeque::new(),
            waiting_bytes: 0,
            crowded: Rc::default(),
            made_bytes: 0,
            started: std::time::Instant::now(),
            settings,
            ledger,
            metrics,
        };
        Rc::new(Self { state: RefCell::new(state), inbox })
    }

    /// What is counted of all shards.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.state.borrow().metrics)
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
    conns: Connections,
    registry: Registry,
    /// The connections of users who are known, as if each user were a channel.
    users: Registry,
    /// What all connections of a route have whose user is not known.
    profiles: HashMap<Arc<str>, Rc<Profile>>,
    /// Connections that end by themselves, by time.
    expiring: BTreeSet<(Instant, Key)>,
    /// Told when another of them is the first.
    expires: Rc<Notify>,
    /// Items taken from the inbox and not yet appended to every outlet, in the order of acceptance.
    backlog: VecDeque<Delivery>,
    /// Commands still to be carried out.
    commands: VecDeque<Command>,
    /// Where the first of them goes on, once it was begun.
    command: Option<command::Begun>,
    round: deliver::Round,
    /// Connections with bytes to flush.
    dirty: VecDeque<Key>,
    /// Bytes in the outlets whose sockets refused them.
    waiting_bytes: usize,
    /// Told when more waits than the ceiling of all outlets allows.
    crowded: Rc<Notify>,
    /// Bytes that filters have made for single connections since all outlets were flushed.
    made_bytes: usize,
    started: std::time::Instant,
    settings: Settings,
    ledger: Box<dyn Ledger>,
    metrics: Arc<Metrics>,
}

impl State {
    /// The connection at `key`, which lives as long as its [`Parked`].
    fn conn(&mut self, key: Key) -> &mut Conn {
        &mut self.conns[key]
    }

    /// Milliseconds since the shard began: the clock of keep-alives. It begins anew after 49 days, so that only
    /// differences of it mean something.
    fn now_ms(&self) -> u32 {
        millis_since(self.started)
    }

    /// Hundredths of a second since the shard began: the clock of how long connections are held.
    fn now_cs(&self) -> u32 {
        u32::try_from(self.started.elapsed().as_millis() / 10).unwrap_or(u32::MAX)
    }

    /// Tells that a connection is held no longer.
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

    /// Takes a connection out of every channel it holds.
    fn unsubscribe(&mut self, key: Key) {
        let subscriptions = std::mem::take(&mut self.conn(key).subscriptions);
        if subscriptions.is_empty() {
            return;
        }
        let conns = &mut self.conns;
        let left = self.registry.remove(key, &subscriptions, |moved, s| conns[moved].has_moved(s));
        self.ledger.left(&self.conns[key].whose, &left);
    }
}

/// Milliseconds since `started`, of which only the lower 32 bits are kept.
fn millis_since(started: std::time::Instant) -> u32 {
    (started.elapsed().as_millis() & u128::from(u32::MAX)) as u32
}
