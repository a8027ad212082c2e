//! The queue of the events that are still to be sent to one webhook. Pure: the caller passes in the current time.

use super::event::{EventKind, Moment, NumberedEvent, UnixMillis, WebhookEvent};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A bounded queue of events. If it is full, new events are dropped. Once there is room again, an event is queued
/// that says how many were dropped.
#[derive(Debug)]
pub(super) struct EventQueue {
    boot: Arc<str>,
    capacity: usize,
    /// The number of the first waiting event. The numbers of the others follow without gaps.
    first: u64,
    waiting: VecDeque<WaitingEvent>,
    /// The number of events at the front that were returned as a batch and are not removed yet. The server may have
    /// received them.
    offered: usize,
    /// The number of dropped events that no queued event reports yet, and the time of the last of them.
    unreported_drops: Option<(u64, UnixMillis)>,
}

#[derive(Debug)]
struct WaitingEvent {
    event: WebhookEvent,
    since: Instant,
}

impl EventQueue {
    /// Returns a queue for at most `most` events, whose ids begin with `boot`.
    pub(super) const fn new(boot: Arc<str>, capacity: usize) -> Self {
        Self { boot, capacity, first: 1, waiting: VecDeque::new(), offered: 0, unreported_drops: None }
    }

    /// Adds an event. Returns `false` if the queue is full, in which case the event is dropped.
    #[must_use]
    pub(super) fn push(&mut self, event: WebhookEvent, now: Instant) -> bool {
        if self.room() > 0 {
            self.waiting.push_back(WaitingEvent { event, since: now });
            return true;
        }
        let (count, _) = self.unreported_drops.unwrap_or((0, event.time));
        self.unreported_drops = Some((count + 1, event.time));
        false
    }

    /// Returns the events that are to be sent next, at most `most`. Until they are removed, each further call
    /// returns the same events, whatever `most` is.
    pub(super) fn batch(&mut self, most: usize) -> Vec<NumberedEvent> {
        if self.offered == 0 {
            self.offered = self.waiting.len().min(most);
        }
        let numbers = self.first..;
        let numbered = |(waiting, number): (&WaitingEvent, u64)| {
            let (boot, event) = (Arc::clone(&self.boot), waiting.event.clone());
            NumberedEvent { boot, number, event }
        };
        self.waiting.iter().take(self.offered).zip(numbers).map(numbered).collect()
    }

    /// Removes the current batch, which was delivered. Returns the number of its events.
    pub(super) fn delivered(&mut self, now: Moment) -> usize {
        let count = std::mem::take(&mut self.offered);
        self.remove(count, now);
        count
    }

    /// Removes the current batch, which was not delivered. Returns how many events are lost with it.
    pub(super) fn discard(&mut self, now: Moment) -> u64 {
        let count = std::mem::take(&mut self.offered);
        self.remove(count, now)
    }

    /// Drops all events. From now on, new events are dropped as well. Returns how many events are lost now.
    pub(super) fn close(&mut self, now: Moment) -> u64 {
        self.capacity = 0;
        self.offered = 0;
        self.remove(self.waiting.len(), now)
    }

    fn remove(&mut self, count: usize, now: Moment) -> u64 {
        let removed = self.waiting.drain(..count.min(self.waiting.len()));
        self.first += removed.len() as u64;
        // An event that says how many events were dropped is not counted as lost itself.
        let events = removed.filter(|waiting| !matches!(waiting.event.kind, EventKind::Dropped(_))).count() as u64;
        if let Some((count, time)) = self.unreported_drops.take_if(|_| self.waiting.len() < self.capacity) {
            self.waiting.push_back(WaitingEvent {
                event: WebhookEvent { time, kind: EventKind::Dropped(count) },
                since: now.instant,
            });
        }
        events
    }

    /// Returns the time at which the next batch is due. A batch that is full, or that was returned before, is due at
    /// once. Otherwise it is due when its first event has waited for `wait`; if that time cannot be represented, it
    /// is due at once. Returns `None` if no event waits.
    pub(super) fn ready(&self, most: usize, wait: Duration) -> Option<Instant> {
        let since = self.waiting.front()?.since;
        let is_full = self.waiting.len() >= most || self.offered > 0;
        Some(if is_full { since } else { since.checked_add(wait).unwrap_or(since) })
    }

    /// Returns how many events wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Returns how many more events the queue has room for.
    pub(super) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.waiting.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::HeldName;
    use super::*;
    use proptest::prelude::*;

    fn event(n: u64) -> WebhookEvent {
        let name = HeldName::User(Arc::from(n.to_string()));
        WebhookEvent { time: UnixMillis::from_millis(n), kind: EventKind::Joined(name) }
    }

    fn moment(instant: Instant) -> Moment {
        Moment { instant, time: UnixMillis::from_millis(0) }
    }

    fn queue(most: usize) -> EventQueue {
        EventQueue::new("b".into(), most)
    }

    fn numbers(batch: &[NumberedEvent]) -> Vec<u64> {
        batch.iter().map(|numbered| numbered.number).collect()
    }

    #[test]
    fn the_same_batch_is_offered_until_it_is_removed() {
        let (mut queue, t) = (queue(9), Instant::now());
        assert!(queue.push(event(1), t) && queue.push(event(2), t));
        let offered = queue.batch(3);
        assert_eq!(numbers(&offered), [1, 2]);
        assert!(queue.push(event(3), t));
        assert_eq!(queue.batch(3), offered);
        assert_eq!(queue.batch(1), offered);
        assert_eq!(queue.delivered(moment(t)), 2);
        assert_eq!(numbers(&queue.batch(3)), [3]);
        assert_eq!(queue.delivered(moment(t)), 1);
        assert_eq!(queue.delivered(moment(t)), 0);
        assert!(queue.batch(3).is_empty());
    }

    #[test]
    fn a_batch_waits_for_more_unless_it_is_full() {
        let (mut queue, t) = (queue(9), Instant::now());
        let wait = Duration::from_secs(1);
        assert_eq!(queue.ready(2, wait), None);
        assert!(queue.push(event(1), t));
        assert_eq!(queue.ready(2, wait), Some(t + wait));
        assert!(queue.push(event(2), t + wait / 2));
        assert_eq!(queue.ready(2, wait), Some(t));
        queue.batch(1);
        queue.delivered(moment(t));
        assert_eq!(queue.ready(2, wait), Some(t + wait * 3 / 2));
        assert_eq!(queue.ready(2, Duration::MAX), Some(t + wait / 2));
    }

    #[test]
    fn what_was_dropped_is_counted_once_there_is_room() {
        let (mut queue, t) = (queue(2), Instant::now());
        let taken: Vec<bool> = (1..=5).map(|n| queue.push(event(n), t)).collect();
        assert_eq!(taken, [true, true, false, false, false]);
        queue.batch(1);
        queue.delivered(moment(t));
        let batch = queue.batch(9);
        assert_eq!(numbers(&batch), [2, 3]);
        assert_eq!(batch[1].event, WebhookEvent { time: UnixMillis::from_millis(5), kind: EventKind::Dropped(3) });
        // The event that says how many events were dropped is not counted as lost itself.
        assert_eq!(queue.discard(moment(t)), 1);
        assert_eq!((queue.len(), queue.unreported_drops), (0, None));
    }

    #[test]
    fn a_closed_queue_takes_nothing() {
        let (mut queue, t) = (queue(2), Instant::now());
        assert!(queue.push(event(1), t));
        queue.batch(1);
        assert_eq!(queue.close(moment(t)), 1);
        assert!(!queue.push(event(2), t));
        assert_eq!((queue.delivered(moment(t)), queue.len(), queue.room()), (0, 0, 0));
    }

    proptest! {
        #[test]
        fn what_is_not_told_is_counted(
            steps in prop::collection::vec((0usize..6, 1usize..5, any::<bool>()), 1..100),
            most in 1usize..8,
        ) {
            let (mut queue, now) = (queue(most), moment(Instant::now()));
            let (mut next, mut dropped, mut last) = (1, 0, None);
            let mut told = Vec::new();
            for (pushes, size, delivered) in steps {
                for _ in 0..pushes {
                    dropped += u64::from(!queue.push(event(next), now.instant));
                    next += 1;
                }
                let batch = queue.batch(size);
                prop_assert!(queue.len() <= most);
                // A batch that was not removed is returned again.
                prop_assert!(last.is_none_or(|last| last == batch));
                last = Some(batch.clone()).filter(|batch| !batch.is_empty());
                if delivered {
                    prop_assert_eq!(queue.delivered(now), batch.len());
                    told.extend(batch);
                    last = None;
                }
            }
            while queue.len() > 0 {
                told.extend(queue.batch(3));
                queue.delivered(now);
            }
            // The numbers have no gaps. Where events are missing, an event says how many.
            prop_assert_eq!(numbers(&told), (1..=told.len() as u64).collect::<Vec<_>>());
            let (mut expected, mut counted) = (1, 0);
            for numbered in &told {
                if let EventKind::Dropped(count) = numbered.event.kind {
                    expected += count;
                    counted += count;
                } else {
                    prop_assert_eq!(&numbered.event, &event(expected));
                    expected += 1;
                }
            }
            prop_assert_eq!((expected, counted), (next, dropped));
        }
    }
}
