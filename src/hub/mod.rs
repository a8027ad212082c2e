//! The hub: takes every item once, orders it, and hands it to the shards that hold its channel.
//!
//! Acceptance is one short critical section, so the order in which batches pass it is the order of every
//! channel. The hub never waits for a socket.

mod batch;
mod receipt;
mod table;

pub use batch::Finally;
pub use receipt::{Outcome, Receipt};
pub use table::Held;

use crate::grip::{Channel, Item};
use crate::shard::{Inbox, Ledger};
use batch::{Accepted, Batch, Load};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use table::Table;
use tokio::sync::Notify;

/// The limits of the hub.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a batch waits for room in the inboxes before it is refused.
    pub publish_wait: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { publish_wait: Duration::from_secs(5) }
    }
}

/// The way from publishers to shards.
#[derive(Debug)]
pub struct Hub {
    settings: Settings,
    table: Mutex<Table>,
    inboxes: Vec<Arc<Inbox>>,
    /// Held by the batch whose turn it is to wait for room; the others queue for it.
    turn: tokio::sync::Mutex<()>,
    /// Told by the inboxes when there is room again.
    room: Arc<Notify>,
}

/// A batch was refused: the inboxes stayed full.
#[derive(Debug, PartialEq, Eq)]
pub struct Busy;

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many items wait for delivery")
    }
}

impl std::error::Error for Busy {}

impl Hub {
    /// A hub for so many shards, each with an inbox of its own.
    pub fn new(settings: Settings, shards: usize) -> Arc<Self> {
        let room = Arc::new(Notify::new());
        let inboxes = (0..shards).map(|_| Arc::new(Inbox::new(Arc::clone(&room)))).collect();
        Arc::new(Self { settings, table: Mutex::default(), inboxes, turn: tokio::sync::Mutex::new(()), room })
    }

    /// The inbox of the shard with this index.
    pub fn inbox(&self, shard: usize) -> Arc<Inbox> {
        Arc::clone(&self.inboxes[shard])
    }

    /// What the shard with this index tells the hub.
    pub fn membership(self: &Arc<Self>, shard: usize) -> Membership {
        Membership { hub: Arc::clone(self), shard }
    }

    /// Accepts a batch, all of it or nothing. While an inbox has no room for it, it waits its turn; a batch
    /// with a close never waits. `finally` gets the outcomes when every connection concerned has its bytes queued
    /// or is ended.
    ///
    /// # Errors
    /// [`Busy`] when there was no room in time. Nothing was published then.
    pub async fn publish(&self, items: Vec<Item>, finally: Finally) -> Result<Receipt, Busy> {
        let batch = Batch::new(items, finally);
        if batch.closes() {
            let mut table = self.table();
            let accepted = self.put(batch, &mut table);
            drop(table);
            return Ok(accepted.receipt);
        }
        let accepted = tokio::time::timeout(self.settings.publish_wait, self.accept_in_turn(batch)).await;
        accepted.map_err(|_| Busy)
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
        let mut table = self.table();
        let loads = batch.loads(&table, self.inboxes.len());
        let fits = |(load, inbox): (&Load, &Arc<Inbox>)| load.is_empty() || inbox.has_room(load.items, load.bytes);
        if loads.iter().zip(&self.inboxes).all(fits) { Ok(self.put(batch, &mut table)) } else { Err(batch) }
    }

    /// The critical section: numbers a batch and puts it into the inbox of every shard that holds one of its
    /// channels.
    fn put(&self, batch: Batch, table: &mut Table) -> Accepted {
        let (parcels, accepted) = batch.address(table, self.inboxes.len());
        for (parcel, inbox) in parcels.into_iter().zip(&self.inboxes) {
            if !parcel.is_empty() {
                inbox.put(parcel.deliveries, parcel.closes);
            }
        }
        accepted
    }

    /// The channels whose names begin with `prefix`, in order, behind `after`; at most `limit`, and whether
    /// there are more.
    pub fn channels(&self, prefix: &str, after: Option<&str>, limit: usize) -> (Vec<Held>, bool) {
        self.table().list(prefix, after, limit)
    }

    /// How many connections hold `channel`.
    pub fn connections(&self, channel: &str) -> u64 {
        self.table().connections(channel)
    }

    /// How many channels are held.
    pub fn population(&self) -> usize {
        self.table().len()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing in here panics halfway, so a poisoned table is still a whole one.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One shard's word to the hub: who joined a channel there, and who left it.
#[derive(Clone, Debug)]
pub struct Membership {
    hub: Arc<Hub>,
    shard: usize,
}

impl Membership {
    /// One connection of the shard holds each of `channels` from now on. Returns the number of the last
    /// item accepted before.
    pub fn join(&self, channels: &[Channel]) -> u64 {
        self.hub.table().join(self.shard, channels)
    }
}

impl Ledger for Membership {
    fn left(&self, channels: &[Channel]) {
        self.hub.table().leave(self.shard, channels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::future::Future;

    fn run<T>(f: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(f)
    }

    /// A hub of two shards that take nothing out of their inboxes; the first holds the channel `a`.
    fn hub(publish_wait: Duration) -> Arc<Hub> {
        let hub = Hub::new(Settings { publish_wait }, 2);
        hub.membership(0).join(&[Channel::from("a")]);
        hub
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
            let number = hub.table().number;
            assert_eq!(publish(&hub, many("a", 1)).await.err(), Some(Busy));
            assert_eq!(hub.table().number, number);
            // What nobody holds, or only others do, needs no room there.
            assert!(publish(&hub, many("nobody", 1)).await.is_ok());
            hub.membership(1).join(&[Channel::from("b")]);
            assert!(publish(&hub, many("b", 1)).await.is_ok());
            // All or nothing: one full inbox refuses the whole batch.
            let both = many("b", 1).into_iter().chain(many("a", 1)).collect();
            assert_eq!(publish(&hub, both).await.err(), Some(Busy));
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
            let weight = size_of::<crate::shard::Delivery>() + "1\r\nx\r\n".len();
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
