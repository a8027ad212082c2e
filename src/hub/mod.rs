//! The hub: takes every item once, orders it, and hands it to the shards that hold its channel.
//!
//! Acceptance is one short critical section, so the order in which batches pass it is the order of every
//! channel; of items that have ids, theirs. The hub never waits for a socket.

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

pub use allowed::{Change, Rules, Unchanged};
pub use denial::{After, Denial};
pub use lists::Wanted;
pub use membership::Membership;
pub use receipt::{Finally, Outcome, Receipt};
pub use table::Held;

use crate::grip::{Channel, Item};
use crate::shard::{Inbox, Tally};
use allowed::Allowed;
use batch::{Batch, Entry, Load, Parcel};
use denial::Denials;
use seen::Seen;
use sequence::{Sequences, Turn};
use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use store::Store;
use table::Table;
use tokio::sync::Notify;

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

/// What the lock is for.
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

/// Why a batch was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// The inboxes stayed full.
    Inboxes,
    /// There are as many denials as there may be.
    Denials,
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inboxes => "Too many items wait for delivery: nothing was published.",
            Self::Denials => "Too many channels are denied, or one to too many who are told apart by nothing but `except`: nothing was published. GET \
                 /denied lists them.",
        })
    }
}

impl std::error::Error for Busy {}

/// A batch that was accepted.
struct Accepted {
    receipt: Receipt,
    /// Dropped outside of the critical section: the end of the last tally runs what waits for the outcomes, and items are
    /// many bytes to give back.
    _spent: (Vec<Entry>, Tally),
}

impl Hub {
    /// A hub for so many shards, each with an inbox of its own.
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

    /// The inbox of the shard with this index.
    pub fn inbox(&self, shard: usize) -> Arc<Inbox> {
        Arc::clone(&self.inboxes[shard])
    }

    /// What the shard with this index tells the hub.
    pub fn membership(self: &Arc<Self>, shard: usize) -> Membership {
        Membership::new(Arc::clone(self), shard)
    }

    /// Accepts a batch, all of it or nothing. While an inbox has no room for it, it waits its turn; a batch that does
    /// something to connections never waits. `finally` gets the outcomes when every connection concerned has its bytes queued
    /// or is ended.
    ///
    /// # Errors
    /// [`Busy`] when there was no room, or none in time. Nothing was published then.
    pub async fn publish(&self, items: Vec<Item>, finally: Finally) -> Result<Receipt, Busy> {
        let batch = Batch::new(items, finally);
        if self.settings.compression {
            batch.compress();
        }
        if batch.commands() {
            return self.put_at_once(batch);
        }
        let accepted = tokio::time::timeout(self.settings.publish_wait, self.accept_in_turn(batch)).await;
        accepted.map_err(|_| Busy::Inboxes)
    }

    fn put_at_once(&self, batch: Batch) -> Result<Receipt, Busy> {
        let mut state = self.state();
        let denials = batch.denials(now());
        if !denials.is_empty() {
            if !state.denials.has_room(&denials, now()) {
                return Err(Busy::Denials);
            }
            self.denying.store(true, Relaxed);
        }
        let accepted = self.put(batch, &mut state);
        self.record_denials(denials);
        drop(state);
        Ok(accepted.receipt)
    }

    async fn accept_in_turn(&self, mut batch: Batch) -> Receipt {
        let _turn = self.turn.lock().await;
        loop {
            match self.accept(batch) {
                Ok(accepted) => return accepted.receipt,
                Err(refused) => batch = refused,
            }
            self.room.notified().await;
        }
    }

    /// Accepts a batch if every inbox that it goes to has room; otherwise gives it back.
    fn accept(&self, batch: Batch) -> Result<Accepted, Batch> {
        let mut state = self.state();
        let loads = batch.loads(&state.table, self.inboxes.len());
        let fits = |(load, inbox): (&Load, &Arc<Inbox>)| load.is_empty() || inbox.has_room(load.items, load.bytes);
        if loads.iter().zip(&self.inboxes).all(fits) { Ok(self.put(batch, &mut state)) } else { Err(batch) }
    }

    /// The critical section: orders the items of a batch, and sends those whose turn it is.
    fn put(&self, batch: Batch, state: &mut State) -> Accepted {
        let now = Instant::now();
        let mut due = Vec::with_capacity(batch.entries.len());
        for entry in batch.entries {
            due.extend(state.order(entry, now));
        }
        if state.sequences.deadline().is_some() {
            self.timetable.notify_one();
        }
        self.send(&due, state);
        Accepted { receipt: batch.receipt, _spent: (due, batch.tally) }
    }

    /// Numbers items and puts them into the inbox of every shard that holds their channel.
    fn send(&self, entries: &[Entry], state: &mut State) {
        let mut parcels: Vec<Parcel> = self.inboxes.iter().map(|_| Parcel::default()).collect();
        if entries.iter().any(|entry| entry.deny_for.is_some()) {
            let now = now();
            entries.iter().filter_map(|entry| entry.denial(now)).for_each(|denial| state.denials.add(denial));
        }
        entries.iter().for_each(|entry| entry.address(&mut state.table, &mut parcels));
        for (parcel, inbox) in parcels.into_iter().zip(&self.inboxes) {
            if !parcel.is_empty() {
                inbox.put(parcel.deliveries, parcel.commands);
            }
        }
    }

    /// Does what is to be done at its time, for ever: items that have waited long enough are delivered, channels that
    /// were new are refreshed.
    pub async fn keep_time(&self) {
        loop {
            let deadline = self.state().deadline();
            let due = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
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
        self.send(&due, &mut state);
        drop(state);
        // Outside of the critical section, as in `Accepted`.
        drop(due);
    }

    /// Forgets all last ids, and has every held connection ask its origin again.
    pub fn recover(&self) {
        self.state().sequences.forget_all();
        self.inboxes.iter().for_each(|inbox| inbox.refresh_all());
    }

    /// The channels whose names begin with `prefix`, in order, behind `after`; at most `limit`, and whether
    /// there are more.
    pub fn channels(&self, prefix: &str, after: Option<&str>, limit: usize) -> (Vec<Held>, bool) {
        self.state().table.list(prefix, after, limit)
    }

    /// How many connections hold `channel`.
    pub fn connections(&self, channel: &str) -> u64 {
        self.state().table.connections(channel)
    }

    /// How many channels are held.
    pub fn population(&self) -> usize {
        self.state().table.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics halfway, so a poisoned state is still a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The items whose turn it is when this one has come.
    fn order(&mut self, mut entry: Entry, now: Instant) -> Vec<Entry> {
        // A command waits for nothing, and is never one too many; what the item is besides has its place in the order.
        let command = entry.split_command();
        // But a goodbye comes before its close.
        entry.no_seq |= command.is_some() && self.sequences.would_wait(&entry.item.channel, &entry);
        let mut due = self.order_content(entry, now);
        due.extend(command);
        due
    }

    fn order_content(&mut self, entry: Entry, now: Instant) -> Vec<Entry> {
        use sequence::Sequenced;
        if entry.deed.is_some() {
            return vec![entry];
        }
        if let Some(id) = entry.id()
            && !self.seen.is_new(&entry.item.channel, id, now)
        {
            entry.counts().duplicate.store(1, Relaxed);
            return Vec::new();
        }
        if entry.no_seq {
            return vec![entry];
        }
        let channel = entry.item.channel.clone();
        let held = self.table.connections(&channel) > 0;
        // Until it is known to have its turn.
        entry.counts().waiting.store(1, Relaxed);
        let (Turn::Now(due) | Turn::Later(due)) = self.sequences.accept(&channel, entry, held, now);
        due.iter().for_each(|entry| entry.counts().waiting.store(0, Relaxed));
        due
    }

    /// When something is to be done.
    fn deadline(&self) -> Option<Instant> {
        let fresh = self.fresh.front().map(|(at, _)| *at);
        self.sequences.deadline().into_iter().chain(fresh).min()
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::{Entering, Ledger, Profile};
    use serde_json::{Value, json};
    use std::future::Future;

    fn run<T>(f: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(f)
    }

    /// A hub of two shards that take nothing out of their inboxes; the first holds the channel `a`.
    fn hub(publish_wait: Duration) -> Arc<Hub> {
        let hub = Hub::new(Settings { publish_wait, ..Settings::default() }, 2);
        join(&hub, 0, "a");
        hub
    }

    fn join(hub: &Arc<Hub>, shard: usize, channel: &str) {
        let (whose, channels) = (Profile::default(), [Channel::from(channel)]);
        let entering = Entering { whose: &whose, channels: &channels, held: &[], known: &[] };
        hub.membership(shard).join(&entering).unwrap();
    }

    fn items(items: &[Value]) -> Vec<Item> {
        crate::grip::item::parse_batch(json!({ "items": items }).to_string().as_bytes()).unwrap()
    }

    fn many(channel: &str, count: usize) -> Vec<Item> {
        items(&vec![json!({ "channel": channel, "http-stream": { "content": "x" } }); count])
    }

    async fn publish(hub: &Hub, items: Vec<Item>) -> Result<Receipt, Busy> {
        hub.publish(items, Box::new(|_| {})).await
    }

    #[test]
    fn a_full_inbox_refuses_in_time_and_takes_nothing() {
        run(async {
            let hub = hub(Duration::from_millis(20));
            assert!(publish(&hub, many("a", 4096)).await.is_ok());
            let number = hub.state().table.number;
            assert_eq!(publish(&hub, many("a", 1)).await.err(), Some(Busy::Inboxes));
            assert_eq!(hub.state().table.number, number);
            // What nobody holds, or only others do, needs no room there.
            assert!(publish(&hub, many("nobody", 1)).await.is_ok());
            join(&hub, 1, "b");
            assert!(publish(&hub, many("b", 1)).await.is_ok());
            // All or nothing: one full inbox refuses the whole batch.
            let both = many("b", 1).into_iter().chain(many("a", 1)).collect();
            assert_eq!(publish(&hub, both).await.err(), Some(Busy::Inboxes));
        });
    }

    #[test]
    fn a_batch_with_a_close_is_never_refused() {
        run(async {
            let hub = hub(Duration::from_millis(20));
            publish(&hub, many("a", 4096)).await.unwrap();
            let kick = json!({ "channel": "a", "action": "close", "http-stream": { "content": "bye" } });
            assert!(publish(&hub, items(&[kick])).await.is_ok());
        });
    }

    #[test]
    fn an_empty_inbox_takes_what_is_larger_than_its_bound() {
        run(async {
            let hub = hub(Duration::from_millis(20));
            assert!(publish(&hub, many("a", 5000)).await.is_ok());
        });
    }

    #[test]
    fn those_who_wait_are_served_in_their_order() {
        run(async {
            let hub = hub(Duration::from_secs(10));
            publish(&hub, many("a", 4096)).await.unwrap();
            let (mut first, mut second) =
                (Box::pin(publish(&hub, many("a", 2))), Box::pin(publish(&hub, many("a", 1))));
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(first.as_mut().poll(&mut cx).is_pending());
            assert!(second.as_mut().poll(&mut cx).is_pending());
            let weight = size_of::<crate::shard::Rendered>() + "1\r\nx\r\n".len();
            // Room for the second, but it is not its turn.
            hub.inbox(0).release(weight);
            assert!(second.as_mut().poll(&mut cx).is_pending());
            assert!(first.as_mut().poll(&mut cx).is_pending());
            hub.inbox(0).release(weight);
            assert!(first.as_mut().poll(&mut cx).is_ready());
            hub.inbox(0).release(weight);
            assert!(second.as_mut().poll(&mut cx).is_ready());
        });
    }

    #[test]
    fn outcomes_are_final_when_the_last_shard_is_done() {
        run(async {
            let hub = hub(Duration::from_secs(1));
            let told = Arc::new(Mutex::new(None));
            let tell = Arc::clone(&told);
            let finally = Box::new(move |outcomes| *tell.lock().unwrap() = Some(outcomes));
            let receipt = hub.publish(many("a", 1), finally).await.unwrap();
            assert!(told.lock().unwrap().is_none());
            assert_eq!(receipt.outcomes()[0].delivered, Some(0));
            drop(hub);
            assert_eq!(told.lock().unwrap().as_ref().map(Vec::len), Some(1));
        });
    }
}
