//! Acceptance: one short critical section that orders the items of a batch and hands them to the shards.

use super::batch::{Batch, BatchEntry, InboxLoad, ShardParcel};
use super::receipt::{OnFinalOutcomes, Receipt};
use super::sequence::{Audience, OrderDecision, Sequenced};
use super::{Hub, HubState, now};
use crate::grip::Item;
use crate::shard::Inbox;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, MutexGuard};
use tokio::time::Instant;

/// The reason for refusing a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusyReason {
    /// The inboxes had no room for the batch in time.
    Inboxes,
    /// There would be too many denials.
    Denials,
}

impl fmt::Display for BusyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inboxes => "Too many items are waiting for delivery. Nothing was published; try again later.",
            Self::Denials => {
                "Too many channels are denied, or too many denials of one channel differ only in `except`. Nothing was \
                 published. GET /denied lists the denials."
            }
        })
    }
}

impl std::error::Error for BusyReason {}

impl Hub {
    /// Accepts a batch, either all of it or nothing. It waits at most for the `publish_wait` of the settings until
    /// the inboxes have room. A batch with a command does not wait. `finally` gets the outcomes once every
    /// connection concerned has the items in its outlet or has ended. It does not wait for connections that hold the
    /// items back, for example until their origin has responded. These count as pending.
    ///
    /// # Errors
    /// [`BusyReason`] if the inboxes had no room in time, or if there would be too many denials. Nothing was published
    /// then.
    pub async fn publish(&self, items: Vec<Item>, finally: OnFinalOutcomes) -> Result<Receipt, BusyReason> {
        let mut batch = self.batch(items, finally);
        if batch.has_command() {
            return self.take_at_once(&mut batch);
        }
        let taken = tokio::time::timeout(self.publishing.wait(), self.take(&mut batch)).await;
        taken.map_err(|_| BusyReason::Inboxes)
    }

    /// Renders items into a batch that can be accepted later. `finally` gets the outcomes when they are final, which
    /// is not before the batch is dropped.
    pub fn batch(&self, items: Vec<Item>, finally: OnFinalOutcomes) -> Batch {
        let batch = Batch::new(items, finally);
        if self.publishing.compression.load(Relaxed) {
            batch.compress();
        }
        batch
    }

    /// Accepts a batch without a command as soon as the inboxes have room for it, after the batches that have waited
    /// longer. There is no limit to the time that it waits.
    ///
    /// A batch with a command must not wait: pass it to [`take_at_once`](Self::take_at_once).
    ///
    /// If the returned future is dropped before it is ready, nothing of the batch was accepted, and the batch can be
    /// passed to this method or to `take_at_once` again. A batch that was accepted already is not accepted a second
    /// time.
    pub async fn take(&self, batch: &mut Batch) -> Receipt {
        debug_assert!(!batch.has_command(), "a command waits for room");
        let _turn = self.waiting_batch_lock.lock().await;
        while !self.accept(batch) {
            self.room.notified().await;
        }
        batch.receipt.clone()
    }

    /// Accepts a batch at once, even if the inboxes have no room for it. This is meant for a batch with a command,
    /// and for a batch that must be accepted before such a batch.
    ///
    /// # Errors
    /// [`BusyReason::Denials`] if there would be too many denials. Nothing of the batch was accepted then.
    pub fn take_at_once(&self, batch: &mut Batch) -> Result<Receipt, BusyReason> {
        let mut state = self.state();
        let now = now();
        let denials = batch.denials(now);
        if !denials.is_empty() {
            if !state.denials.make_room(&denials, now) {
                return Err(BusyReason::Denials);
            }
            denials.iter().for_each(|denial| state.denials.add(denial.clone()));
            self.has_denials.store(true, Relaxed);
            self.record_denials(denials);
        }
        self.put(batch, state);
        Ok(batch.receipt.clone())
    }

    /// Accepts a batch if every inbox that its items go to has room. Returns whether it was accepted.
    fn accept(&self, batch: &mut Batch) -> bool {
        let state = self.state();
        let loads = batch.loads(&state.table, self.inboxes.len());
        let fits = |(load, inbox): (&InboxLoad, &Arc<Inbox>)| load.is_empty() || inbox.has_room(load.items, load.bytes);
        if !loads.iter().zip(&self.inboxes).all(fits) {
            return false;
        }
        self.put(batch, state);
        true
    }

    /// Orders the items of a batch, and sends the items that are due.
    fn put(&self, batch: &mut Batch, mut state: MutexGuard<'_, HubState>) {
        let now = Instant::now();
        let mut due = Vec::with_capacity(batch.entries.len());
        for entry in std::mem::take(&mut batch.entries) {
            due.extend(state.order(entry, now));
        }
        if state.sequences.deadline().is_some() {
            self.timetable.notify_one();
        }
        self.send(due, state);
    }

    /// Numbers items, and puts them into the inbox of every shard that holds their channel. This ends the critical
    /// section, because it releases the lock of the hub.
    pub(super) fn send(&self, entries: Vec<BatchEntry>, mut state: MutexGuard<'_, HubState>) {
        let mut parcels: Vec<ShardParcel> = self.inboxes.iter().map(|_| ShardParcel::default()).collect();
        entries.iter().for_each(|entry| entry.address(&mut state.table, &mut parcels));
        for (parcel, inbox) in parcels.into_iter().zip(&self.inboxes) {
            if !parcel.is_empty() {
                inbox.put(parcel.deliveries, parcel.commands);
            }
        }
        drop(state);
        // The entries may hold many bytes. Freeing them takes time, so they are dropped after the lock is released.
        drop(entries);
    }
}

impl HubState {
    /// Takes a new item, and returns the items that are due: the new one, unless it has to wait or was published
    /// before, and items whose wait has ended, usually because they waited for the new one.
    fn order(&mut self, mut entry: BatchEntry, now: Instant) -> Vec<BatchEntry> {
        // A command never waits, and is never dropped as a duplicate. The content and hints of the item keep their
        // place in the order.
        let command = entry.split_command();
        // If the content would have to wait, it is delivered out of order, so that it still comes before the
        // command.
        entry.no_seq |= command.is_some() && self.sequences.would_wait(&entry.item.channel, &entry);
        let mut due = self.order_content(entry, now);
        due.extend(command);
        due
    }

    fn order_content(&mut self, entry: BatchEntry, now: Instant) -> Vec<BatchEntry> {
        if entry.effect.is_some() {
            return vec![entry];
        }
        if let Some(id) = entry.id()
            && !self.seen.remember(&entry.item.channel, id, now)
        {
            entry.counts().duplicate.store(1, Relaxed);
            return Vec::new();
        }
        if entry.no_seq {
            return vec![entry];
        }
        let channel = entry.item.channel.clone();
        let audience = if self.table.connections(&channel) > 0 { Audience::Present } else { Audience::Absent };
        // The item counts as waiting until it is among the items that are due.
        entry.counts().waiting.store(1, Relaxed);
        let (OrderDecision::Now(due) | OrderDecision::Later(due)) =
            self.sequences.accept(&channel, entry, audience, now);
        due.iter().for_each(|entry| entry.counts().waiting.store(0, Relaxed));
        due
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::super::receipt::Outcome;
    use super::*;
    use crate::grip::Channel;
    use crate::shard::{JoinRequest, Ledger, Profile};
    use serde_json::{Value, json};
    use std::future::Future;
    use std::sync::Mutex;
    use std::time::Duration;

    fn run<T>(f: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(f)
    }

    /// Returns a hub of two shards that take nothing out of their inboxes. The first shard holds the channel `a`.
    fn hub(publish_wait: Duration) -> Arc<Hub> {
        let hub = Hub::new(Settings { publish_wait, ..Settings::default() }, 2);
        join(&hub, 0, "a");
        hub
    }

    fn join(hub: &Arc<Hub>, shard: usize, channel: &str) {
        let (profile, channels) = (Profile::default(), [Channel::from(channel)]);
        let entering = JoinRequest { profile: &profile, channels: &channels, held: &[], known: &[] };
        hub.membership(shard).join(&entering).unwrap();
    }

    fn items(items: &[Value]) -> Vec<Item> {
        crate::grip::item::parse_batch(json!({ "items": items }).to_string().as_bytes()).unwrap().items
    }

    fn many(channel: &str, count: usize) -> Vec<Item> {
        items(&vec![json!({ "channel": channel, "http-stream": { "content": "x" } }); count])
    }

    async fn publish(hub: &Hub, items: Vec<Item>) -> Result<Receipt, BusyReason> {
        hub.publish(items, Box::new(|_| {})).await
    }

    #[test]
    fn a_full_inbox_refuses_in_time_and_takes_nothing() {
        run(async {
            let hub = hub(Duration::from_millis(20));
            assert!(publish(&hub, many("a", 4096)).await.is_ok());
            let number = hub.state().table.number;
            assert_eq!(publish(&hub, many("a", 1)).await.err(), Some(BusyReason::Inboxes));
            assert_eq!(hub.state().table.number, number);
            // An item needs no room in the full inbox if nobody holds its channel, or if only the other shard does.
            assert!(publish(&hub, many("nobody", 1)).await.is_ok());
            join(&hub, 1, "b");
            assert!(publish(&hub, many("b", 1)).await.is_ok());
            // The batch is accepted as a whole, so one full inbox refuses all of it.
            let both = many("b", 1).into_iter().chain(many("a", 1)).collect();
            assert_eq!(publish(&hub, both).await.err(), Some(BusyReason::Inboxes));
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
            // There is room for the second batch, but the first one has waited longer.
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
    fn a_batch_that_waits_can_be_taken_at_once_instead() {
        run(async {
            let hub = hub(Duration::from_secs(1));
            publish(&hub, many("a", 4096)).await.unwrap();
            let told = Arc::new(Mutex::new(0));
            let tell = Arc::clone(&told);
            let finally = Box::new(move |outcomes: Vec<Outcome>| *tell.lock().unwrap() += outcomes.len());
            let mut batch = hub.batch(many("a", 2), finally);
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(Box::pin(hub.take(&mut batch)).as_mut().poll(&mut cx).is_pending());
            let number = hub.state().table.number;
            assert!(hub.take_at_once(&mut batch).is_ok());
            assert_eq!(hub.state().table.number, number + 4);
            // The batch is accepted only once, whichever method it is passed to.
            assert!(hub.take_at_once(&mut batch).is_ok());
            assert!(Box::pin(hub.take(&mut batch)).as_mut().poll(&mut cx).is_ready());
            assert_eq!(hub.state().table.number, number + 4);
            drop((batch, hub));
            assert_eq!(*told.lock().unwrap(), 2);
        });
    }

    #[test]
    fn only_what_is_held_is_wanted() {
        let hub = hub(Duration::from_secs(1));
        join(&hub, 1, "c");
        assert_eq!(hub.wanted(["a", "b", "c", "a", ""]), [true, false, true, true, false]);
        hub.membership(1).left(&Profile::default(), &[Channel::from("c")]);
        assert_eq!(hub.wanted(["c", "a"]), [false, true]);
        // The last id of a channel is remembered although nobody holds the channel. An item without an id would
        // change it.
        let last = json!({ "channel": "d", "id": "5", "http-stream": { "content": "x" } });
        run(publish(&hub, items(&[last]))).unwrap();
        assert_eq!(hub.wanted(["d", "e"]), [true, false]);
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
