//! A shard: the parked connections of one thread, and the delivery of items to them.
//!
//! Items arrive in the [`Inbox`]. The `registry` says which connections hold the channel of an item, and the bytes
//! of the item wait in the `outlet` of each connection until they are flushed. Everything except the inbox belongs
//! to one thread.

mod away;
mod ceiling;
mod command;
mod comments;
mod conn;
mod connected_users;
mod connections;
mod deliver;
mod early_bytes;
mod end_connection;
mod end_state;
mod expiry;
mod flushing;
pub mod inbox;
mod invariants;
mod ledger;
mod listing;
pub mod metrics;
mod moving;
mod offer;
mod outlet;
mod parked;
mod pending_item;
mod pieces;
mod profile;
mod rare_parts;
mod read_state;
mod registry;
mod rendered;
mod rounds;
mod sending;
#[cfg(test)]
mod simulation;
mod step_sizes;
mod subscribing;
pub mod tally;
pub mod terms;
mod timer_spread;
mod unsent_account;
mod waiting_items;

pub use away::AwayConnection;
pub use command::{Command, CommandEffect, CommandTarget};
pub use conn::DeliveryForm;
pub use inbox::{Delivery, Inbox};
pub use ledger::{DeniedChannel, EndReason, EndReport, JoinInfo, JoinRequest, Ledger};
pub use listing::{ListedConnection, ListingPage, ListingQuery};
pub use metrics::Metrics;
pub use parked::{ClientGone, Parked, ParkedEvent};
pub use pending_item::PendingItem;
pub use profile::{ConnectionId, ConnectionPlace, NoConnectionId, Profile};
pub use rare_parts::ItemHandling;
pub use rendered::Rendered;
pub use step_sizes::StepSizes;
pub use tally::Tally;
pub use terms::{ChannelTerms, Terms};
pub use timer_spread::TimerSpread;
pub use waiting_items::{IdComparison, PendingDecision};

#[cfg(test)]
pub use crate::net::{MemoryClient, MemoryStream};

use crate::grip::Channel;
use conn::Conn;
use connected_users::ConnectedUsers;
use connections::{ConnectionKey, Connections};
use expiry::ExpiryTimes;
use registry::SubscriberRegistry;
use rounds::Rounds;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use unsent_account::UnsentAccount;

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
    /// The longest time for which an event stream without a keep-alive of its own is silent. Then a comment is sent. No
    /// comments are sent if it is zero.
    pub event_keep_alive: Duration,
    /// The number of channels to which one connection may be subscribed.
    pub max_channels: usize,
    /// The amounts of work of one kind that the shard does before it turns to something else.
    pub steps: StepSizes,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            client_buffer: 256 << 10,
            outlets_total: 512 << 20,
            close_grace: Duration::from_secs(1),
            event_keep_alive: Duration::from_secs(25),
            max_channels: 100,
            steps: StepSizes::default(),
        }
    }
}

/// A shard, which owns the parked connections of one thread.
pub struct Shard {
    state: RefCell<ShardState>,
    inbox: Arc<Inbox>,
    /// Notified when the settings have changed.
    changed: Notify,
}

impl Shard {
    /// Returns a shard that takes its items from `inbox`.
    pub fn new(settings: Settings, inbox: Arc<Inbox>, ledger: Box<dyn Ledger>, metrics: Arc<Metrics>) -> Rc<Self> {
        let state = ShardState {
            conns: Connections::default(),
            registry: SubscriberRegistry::default(),
            users: ConnectedUsers::default(),
            expiring: ExpiryTimes::default(),
            rounds: Rounds::default(),
            outgoing: UnsentAccount::new(&settings),
            started: Instant::now(),
            settings,
            ledger,
            metrics,
        };
        Rc::new(Self { state: RefCell::new(state), inbox, changed: Notify::new() })
    }

    /// Replaces the limits, also for connections that are parked here.
    pub fn change_settings(&self, settings: Settings) {
        let state = &mut *self.state.borrow_mut();
        state.outgoing.set_limits(&settings);
        state.settings = settings;
        self.changed.notify_one();
    }

    /// Returns the counters of all shards.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.state.borrow().metrics)
    }

    /// Calls `f` for each parked connection, with its profile and the channels that it holds.
    pub fn each_connection(&self, mut f: impl FnMut(&Profile, &[Channel])) {
        let state = self.state.borrow();
        state.conns.iter().for_each(|(key, conn)| f(&conn.profile, &state.channels(key)));
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
/// arguments, and a function that needs most of them is a method of `ShardState`.
struct ShardState {
    conns: Connections,
    registry: SubscriberRegistry,
    users: ConnectedUsers,
    expiring: ExpiryTimes,
    rounds: Rounds,
    outgoing: UnsentAccount,
    started: Instant,
    settings: Settings,
    ledger: Box<dyn Ledger>,
    metrics: Arc<Metrics>,
}

impl ShardState {
    /// Returns the connection at `key`. It is in the shard as long as its [`Parked`] exists.
    fn conn(&mut self, key: ConnectionKey) -> &mut Conn {
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
    fn tell_end(&self, key: ConnectionKey) {
        let conn = &self.conns[key];
        let held = self.started.elapsed().saturating_sub(Duration::from_millis(10 * u64::from(conn.parked_cs)));
        let ended = EndReport {
            place: conn.place(key),
            kind: conn.feed.kind(),
            reason: conn.reason.unwrap_or_default(),
            duration: held,
            bytes: conn.sent,
        };
        self.ledger.ended(&conn.profile, &ended);
    }

    /// Removes a connection from every channel that it holds, and reports this to the ledger.
    fn unsubscribe(&mut self, key: ConnectionKey) {
        let subscriptions = std::mem::take(&mut self.conn(key).subscriptions);
        if subscriptions.is_empty() {
            return;
        }
        let conns = &mut self.conns;
        let left = self.registry.remove(key, &subscriptions, |moved, s| conns[moved].update_subscription(s));
        self.ledger.left(&self.conns[key].profile, &left);
    }
}

/// Returns the milliseconds since `started`, of which only the lower 32 bits are kept.
fn millis_since(started: Instant) -> u32 {
    (started.elapsed().as_millis() & u128::from(u32::MAX)) as u32
}
