//! The hub, which accepts every item once, orders it, and hands it to the shards that hold its channel.
//!
//! Acceptance is one short critical section. Therefore, the items of a channel are delivered in the order in which
//! their batches pass this section. Only items that name the item before them (`prev-id`) may have to wait for it.
//! The hub never waits for a socket.

mod acceptance;
mod batch;
mod channel_table;
mod denial;
mod lists;
mod membership;
mod receipt;
mod route_rules;
mod seen_items;
mod sequence;
#[cfg(test)]
mod simulation;
mod store;

pub use acceptance::BusyReason;
pub use batch::Batch;
pub use channel_table::HeldChannel;
pub use denial::{Denial, DenialCursor};
pub use lists::ConnectionFilter;
pub use membership::MembershipReport;
pub use receipt::{OnFinalOutcomes, Outcome, Receipt};
pub use route_rules::{RouteRule, RuleChange, RuleChangeError};

use crate::grip::Channel;
use crate::shard::Inbox;
use batch::BatchEntry;
use channel_table::ChannelTable;
use denial::Denials;
use route_rules::RouteRules;
use seen_items::SeenItems;
use sequence::Sequences;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use store::Store;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The settings of the hub.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The time that a batch waits for room in the inboxes before it is refused.
    pub publish_wait: Duration,
    /// The time that an item waits for the item that its `prev-id` names.
    pub message_wait: Duration,
    /// The time for which the id of an item is remembered, so that an item that is published again is not delivered
    /// again. Zero turns this off.
    pub id_cache_ttl: Duration,
    /// The time for which the last id of a channel is remembered after its last connection has left.
    pub subscription_linger: Duration,
    /// Whether the connections of a channel are made to ask their origin again one second after the first of them
    /// has subscribed, as Pushpin does.
    pub update_on_first_subscription: bool,
    /// Whether WebSockets may take compressed messages. If so, large messages are compressed before their batch is
    /// accepted, so that no shard has to do it.
    pub compression: bool,
    /// The folder for the decisions of operators that survive a restart: denials, and changed lists of allowed
    /// channels. If it is `None`, a restart forgets both.
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

/// The part that accepts items from publishers and hands them to the shards.
#[derive(Debug)]
pub struct Hub {
    /// The settings that publishers read without the lock.
    publishing: PublishSettings,
    state: Mutex<HubState>,
    inboxes: Vec<Arc<Inbox>>,
    /// The lock of the batch that waits for room in the inboxes. Other batches queue for the lock, so that they are
    /// accepted in the order in which they came.
    waiting_batch_lock: tokio::sync::Mutex<()>,
    /// Notified by the inboxes when there is room again.
    room: Arc<Notify>,
    /// Notified when there is a new deadline, which may be earlier than the one that `keep_time` waits for.
    timetable: Notify,
    /// Whether there may be denials. Reading this flag spares the lock if there are none.
    has_denials: AtomicBool,
    /// Whether any route has a rule for channel names. Reading this flag spares the lock if none has.
    has_rules: AtomicBool,
    /// The storage for the decisions of operators.
    store: Store,
}

/// The state of the hub that is protected by its lock.
#[derive(Debug)]
struct HubState {
    table: ChannelTable,
    sequences: Sequences<BatchEntry>,
    seen: SeenItems,
    /// The channels that were subscribed to for the first time, with the times at which their connections are made
    /// to ask their origin again, in the order of time.
    first_refreshes: VecDeque<(Instant, Channel)>,
    denials: Denials,
    allowed: RouteRules,
    /// Whether the connections of a channel are made to ask their origin again after the first subscription.
    update_on_first_subscription: bool,
}

/// The settings that publishers read. They may be replaced at any time.
#[derive(Debug)]
struct PublishSettings {
    /// The `publish_wait`, in nanoseconds.
    wait_nanos: AtomicU64,
    compression: AtomicBool,
}

impl PublishSettings {
    fn new(settings: &Settings) -> Self {
        let new = Self { wait_nanos: AtomicU64::default(), compression: AtomicBool::default() };
        new.change(settings);
        new
    }

    fn change(&self, settings: &Settings) {
        let wait_nanos = u64::try_from(settings.publish_wait.as_nanos()).unwrap_or(u64::MAX);
        self.wait_nanos.store(wait_nanos, Relaxed);
        self.compression.store(settings.compression, Relaxed);
    }

    fn wait(&self) -> Duration {
        Duration::from_nanos(self.wait_nanos.load(Relaxed))
    }
}

impl Hub {
    /// Returns a hub for `shards` shards, each with an inbox of its own.
    pub fn new(settings: Settings, shards: usize) -> Arc<Self> {
        let room = Arc::new(Notify::new());
        let inboxes = (0..shards).map(|_| Arc::new(Inbox::new(Arc::clone(&room)))).collect();
        let state = HubState {
            table: ChannelTable::default(),
            sequences: Sequences::new(settings.message_wait, settings.subscription_linger),
            seen: SeenItems::new(settings.id_cache_ttl),
            first_refreshes: VecDeque::new(),
            denials: Denials::default(),
            allowed: RouteRules::default(),
            update_on_first_subscription: settings.update_on_first_subscription,
        };
        let (turn, timetable) = (tokio::sync::Mutex::new(()), Notify::new());
        let (denying, ruled) = (AtomicBool::new(false), AtomicBool::new(false));
        let publishing = PublishSettings::new(&settings);
        let store = Store::new(settings.state_dir, lists::JOURNAL);
        Arc::new(Self {
            publishing,
            state: Mutex::new(state),
            inboxes,
            waiting_batch_lock: turn,
            room,
            timetable,
            has_denials: denying,
            has_rules: ruled,
            store,
        })
    }

    /// Replaces the settings, except `state_dir`. Items and channels that are remembered already are forgotten after
    /// the new times, and items that wait already wait no longer than the new time from now on.
    pub fn change_settings(&self, settings: &Settings) {
        self.publishing.change(settings);
        let mut state = self.state();
        state.update_on_first_subscription = settings.update_on_first_subscription;
        state.seen.set_ttl(settings.id_cache_ttl);
        state.sequences.set_times(settings.message_wait, settings.subscription_linger, Instant::now());
        drop(state);
        // An item may be due earlier now.
        self.timetable.notify_one();
    }

    /// Returns the inbox of the shard with this index.
    pub fn inbox(&self, shard: usize) -> Arc<Inbox> {
        Arc::clone(&self.inboxes[shard])
    }

    /// Returns the ledger to which the shard with this index reports.
    pub fn membership(self: &Arc<Self>, shard: usize) -> MembershipReport {
        MembershipReport::new(Arc::clone(self), shard)
    }

    /// Runs the timers of the hub, and never returns. Items that have waited long enough for the item before them
    /// are delivered, and the connections of new channels are made to ask their origin again.
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
        let mut due: Vec<BatchEntry> = Vec::new();
        for (_, entry) in state.sequences.overdue(now) {
            entry.counts().waiting.store(0, Relaxed);
            due.push(entry);
        }
        while state.first_refreshes.front().is_some_and(|(at, _)| *at <= now) {
            due.extend(state.first_refreshes.pop_front().map(|(_, channel)| BatchEntry::hint(channel)));
        }
        self.send(due, state);
    }

    /// Forgets the last ids of all channels, and makes every stream and every long-poll ask its origin again, if it
    /// can.
    pub fn recover(&self) {
        self.state().sequences.forget_all();
        self.inboxes.iter().for_each(|inbox| inbox.refresh_all());
    }

    /// Returns at most `limit` of the held channels whose names begin with `prefix`, in the order of their names, and
    /// whether there are more. If `after` is given, only channels whose names come after it are returned.
    pub fn channels(&self, prefix: &str, after: Option<&str>, limit: usize) -> (Vec<HeldChannel>, bool) {
        self.state().table.list(prefix, after, limit)
    }

    /// Returns, for each of these channels, whether any connection holds it or its last id is remembered. All
    /// results are those of a single moment.
    ///
    /// If the result for a channel is `false`, an item of that channel has no effect unless it has an id or is a
    /// command. An item without effect that came from another node need not even be parsed.
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

    fn state(&self) -> MutexGuard<'_, HubState> {
        // No code panics in the middle of a change to the state, so the state is consistent even if the lock is
        // poisoned.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HubState {
    /// Returns the time at which the next timer ends, or `None` if no timer runs.
    fn deadline(&self) -> Option<Instant> {
        let fresh = self.first_refreshes.front().map(|(at, _)| *at);
        self.sequences.deadline().into_iter().chain(fresh).min()
    }
}

/// Returns the current time in seconds since 1970.
pub fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs())
}
