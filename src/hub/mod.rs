//! The hub: takes every item once, orders it, and hands it to the shards that hold its channel.
//!
//! Acceptance is one short critical section, so the order in which batches pass it is the order of every
//! channel; of items that have ids, theirs. The hub never waits for a socket.

mod acceptance;
mod allowed;
mod batch;
mod denial;
mod lists;
mod membership;
mod receipt;
mod seen;
mod sequence;
#[cfg(test)]
mod simulation;
mod store;
mod table;

pub use acceptance::Busy;
pub use allowed::{Change, Rules, Unchanged};
pub use batch::Batch;
pub use denial::{After, Denial};
pub use lists::ConnectionFilter;
pub use membership::Membership;
pub use receipt::{Finally, Outcome, Receipt};
pub use table::Held;

use crate::grip::Channel;
use crate::shard::Inbox;
use allowed::Allowed;
use batch::Entry;
use denial::Denials;
use seen::Seen;
use sequence::Sequences;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use store::Store;
use table::Table;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The limits of the hub.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a batch waits for room in the inboxes before it is refused.
    pub publish_wait: Duration,
    /// How long an item waits for the one before it.
    pub message_wait: Duration,
    /// How long the id of an item is remembered, so that it is not published twice. Zero: not at all.
    pub id_cache_ttl: Duration,
    /// How long the last id of a channel is known after its last connection left.
    pub subscription_linger: Duration,
    /// Whether the connections of a channel that nobody held before ask their origin again after a second.
    pub update_on_first_subscription: bool,
    /// Whether there may be WebSockets that take compressed messages: large ones are compressed before they are accepted.
    pub compression: bool,
    /// The folder in which what operators decide survives a restart: denials, and lists of allowed channels.
    pub state_dir: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            publish_wait: Duration::from_secs(5),
            message_wait: Duration::from_secs(5),
            id_cache_ttl: Duration::from_secs(60),
            subscription_linger: Duration::from_secs(60),
            update_on_first_subscription: false,
            compression: false,
            state_dir: None,
        }
    }
}

/// The way from publishers to shards.
#[derive(Debug)]
pub struct Hub {
    settings: Settings,
    state: Mutex<State>,
    inboxes: Vec<Arc<Inbox>>,
    /// Held by the batch whose turn it is to wait for room; the others queue for it.
    turn: tokio::sync::Mutex<()>,
    /// Told by the inboxes when there is room again.
    room: Arc<Notify>,
    /// Told when something is to be done at a time that was not known before.
    timetable: Notify,
    /// Whether there is a denial: spares the lock.
    denying: AtomicBool,
    /// Whether a route has a rule for names: spares the lock.
    ruled: AtomicBool,
    /// Where what operators decide survives a restart.
    store: Store,
}

/// The state that the lock protects.
#[derive(Debug)]
struct State {
    table: Table,
    sequences: Sequences<Entry>,
    seen: Seen,
    /// Channels that nobody held before, and when they are refreshed.
    fresh: VecDeque<(Instant, Channel)>,
    denials: Denials,
    allowed: Allowed,
}

impl Hub {
    /// Returns a hub for this many shards, each with an inbox of its own.
    pub fn new(settings: Settings, shards: usize) -> Arc<Self> {
        let room = Arc::new(Notify::new());
        let inboxes = (0..shards).map(|_| Arc::new(Inbox::new(Arc::clone(&room)))).collect();
        let state = State {
            table: Table::default(),
            sequences: Sequences::new(settings.message_wait, settings.subscription_linger),
            seen: Seen::new(settings.id_cache_ttl),
            fresh: VecDeque::new(),
            denials: Denials::default(),
            allowed: Allowed::default(),
        };
        let (turn, timetable) = (tokio::sync::Mutex::new(()), Notify::new());
        let (denying, ruled) = (AtomicBool::new(false), AtomicBool::new(false));
        let store = Store::new(settings.state_dir.clone(), lists::JOURNAL);
        Arc::new(Self { settings, state: Mutex::new(state), inboxes, turn, room, timetable, denying, ruled, store })
    }

    /// Returns the inbox of the shard with this index.
    pub fn inbox(&self, shard: usize) -> Arc<Inbox> {
        Arc::clone(&self.inboxes[shard])
    }

    /// Returns the ledger to which the shard with this index reports.
    pub fn membership(self: &Arc<Self>, shard: usize) -> Membership {
        Membership::new(Arc::clone(self), shard)
    }

    /// Does what is to be done at its time, forever: items that have waited long enough are delivered, channels that were
    /// new are refreshed.
    pub async fn keep_time(&self) {
        loop {
            let deadline = self.state().deadline();
            let due = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.timetable.notified() => {}
            }
            self.catch_up(Instant::now());
        }
    }

    fn catch_up(&self, now: Instant) {
        let mut state = self.state();
        let mut due: Vec<Entry> = Vec::new();
        for (_, entry) in state.sequences.overdue(now) {
            entry.counts().waiting.store(0, Relaxed);
            due.push(entry);
        }
        while state.fresh.front().is_some_and(|(at, _)| *at <= now) {
            due.extend(state.fresh.pop_front().map(|(_, channel)| Entry::hint(channel)));
        }
        self.send(due, state);
    }

    /// Forgets all last ids, and has every held connection ask its origin again.
    pub fn recover(&self) {
        self.state().sequences.forget_all();
        self.inboxes.iter().for_each(|inbox| inbox.refresh_all());
    }

    /// Returns the channels whose names begin with `prefix`, in order, after `after`; at most `limit`, and whether there
    /// are more.
    pub fn channels(&self, prefix: &str, after: Option<&str>, limit: usize) -> (Vec<Held>, bool) {
        self.state().table.list(prefix, after, limit)
    }

    /// Returns for each of these channels, all at one moment, whether anybody holds it or its last id is remembered. An item
    /// of another channel changes nothing here unless it has an id or is a command: if it came from another node, it need
    /// not even be parsed.
    pub fn wanted<'a>(&self, channels: impl IntoIterator<Item = &'a str>) -> Vec<bool> {
        let state = self.state();
        let is_wanted = |channel| state.table.connections(channel) > 0 || state.sequences.knows(channel);
        channels.into_iter().map(is_wanted).collect()
    }

    /// Returns how many connections hold `channel`.
    pub fn connections(&self, channel: &str) -> u64 {
        self.state().table.connections(channel)
    }

    /// Returns how many channels are held.
    pub fn population(&self) -> usize {
        self.state().table.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics halfway, so a poisoned state is still a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns when something is to be done.
    fn deadline(&self) -> Option<Instant> {
        let fresh = self.fresh.front().map(|(at, _)| *at);
        self.sequences.deadline().into_iter().chain(fresh).min()
    }
}

/// Returns the seconds since 1970.
pub fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs())
}
