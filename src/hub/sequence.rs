//! The order of the items within a channel. An item may name the item before it by its id, and then waits for that
//! item. Pure: the caller passes in the current time.

use crate::grip::Channel;
use crate::grip::item::ItemId;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// The number of items of one channel that may wait. When one more has to wait, the item that has waited longest is
/// delivered.
const MAX_WAITING: usize = 100;
/// The number of ids per channel that are remembered to distinguish a late item from an early one.
const MAX_RECENT: usize = 32;
/// The number of channels whose last ids are kept after the last connection left.
const MAX_LINGERING: usize = 1_000_000;

/// The time for which the last id of a channel is remembered if an item comes while nobody holds the channel. It is
/// longer than a client takes to hold the channel after its origin has responded.
const UNHELD_FOR: Duration = Duration::from_secs(10);
/// The number of items for channels that nobody holds, beyond which the oldest of these channels are forgotten
/// early.
const MAX_UNHELD: usize = 200_000;

/// The shortest time for which a pinned channel is remembered after its last connection left.
const PINNED_FOR: Duration = Duration::from_secs(5);

/// An item that has a place in the order of a channel.
pub(super) trait Sequenced {
    /// Returns the id of the item.
    fn id(&self) -> Option<&ItemId>;
    /// Returns the id of the item that comes before this item.
    fn prev_id(&self) -> Option<&ItemId>;
}

/// The sequences of all channels in which ids are used.
#[derive(Debug)]
pub(super) struct Sequences<T> {
    /// The time that an item waits for the item before it.
    wait: Duration,
    /// The time for which the last id of a channel is remembered after its last connection left.
    linger: Duration,
    channels: HashMap<Channel, Sequence<T>, foldhash::fast::RandomState>,
    /// The channels and tickets of waiting items, with the times at which their wait ends, in the order of time.
    /// Some of these items may have been delivered early.
    deadlines: VecDeque<(Instant, Channel, u64)>,
    /// The channels that nobody holds any more and that are still remembered, with the times at which they are
    /// forgotten, in the order in which their last connections left. In this list and in `unheld`, an entry is void if
    /// its time is not that of the sequence.
    lingering: VecDeque<(Instant, Channel)>,
    /// The channels that got items while nobody held them, with the times at which they are forgotten, in the order
    /// of time.
    unheld: VecDeque<(Instant, Channel)>,
    ticket: u64,
}

#[derive(Debug)]
struct Sequence<T> {
    last: Option<ItemId>,
    /// The `prev-id`s of the items that were delivered last, the latest at the end. An item with one of these ids is
    /// late.
    recent: VecDeque<ItemId>,
    waiting: VecDeque<(u64, T)>,
    /// The time until which the sequence is remembered although nobody holds the channel. `None` if no such time is
    /// set.
    lingers: Option<Instant>,
    /// Whether the sequence is remembered even if no id is known.
    pinned: bool,
}

impl<T> Default for Sequence<T> {
    fn default() -> Self {
        Self { last: None, recent: VecDeque::new(), waiting: VecDeque::new(), lingers: None, pinned: false }
    }
}

/// The decision about a new item, with the items that are due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OrderDecision<T> {
    /// The new item is due, and after it the items that waited for it.
    Now(Vec<T>),
    /// The new item waits. If too many items wait, the one that has waited longest is due, and after it the items
    /// that waited for it, among which may be the new one.
    Later(Vec<T>),
}

/// The state of a channel: whether any connection holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    /// At least one connection holds the channel.
    Present,
    /// No connection holds the channel.
    Absent,
}

impl<T: Sequenced> Sequences<T> {
    pub(super) fn new(wait: Duration, linger: Duration) -> Self {
        Self {
            wait,
            linger,
            channels: HashMap::default(),
            deadlines: VecDeque::new(),
            lingering: VecDeque::new(),
            unheld: VecDeque::new(),
            ticket: 0,
        }
    }

    /// Sets the time that an item waits for the item before it, and the time for which the last id of a channel is
    /// remembered. An item that waits already waits at most `wait` from `now` on, and not longer than before. Channels
    /// that nobody holds any more are remembered as long as before.
    pub(super) fn set_times(&mut self, wait: Duration, linger: Duration, now: Instant) {
        (self.wait, self.linger) = (wait, linger);
        for (deadline, ..) in &mut self.deadlines {
            // The deadlines stay in the order of time, because none becomes later.
            *deadline = (*deadline).min(now + wait);
        }
    }

    /// Puts a new item into the order of its channel, and decides whether it is due.
    pub(super) fn accept(&mut self, channel: &Channel, item: T, audience: Audience, now: Instant) -> OrderDecision<T> {
        self.expire(now);
        let known = self.channels.contains_key(channel);
        if !known && item.id().is_none() {
            return OrderDecision::Now(vec![item]);
        }
        let sequence = self.channels.entry(channel.clone()).or_default();
        if audience == Audience::Absent {
            // Nobody holds the channel, so the item does not wait. But a connection that is about to hold the
            // channel must learn of the item, so its id is remembered.
            let mut turn = Vec::new();
            if sequence.is_late(&item) {
                turn.push(item)
            } else {
                sequence.deliver(item, &mut turn)
            }
            self.remember_unheld(channel, now);
            return OrderDecision::Now(turn);
        }
        if sequence.follows(&item) {
            let mut turn = Vec::new();
            sequence.deliver(item, &mut turn);
            self.tidy(channel);
            return OrderDecision::Now(turn);
        }
        if sequence.is_late(&item) {
            return OrderDecision::Now(vec![item]);
        }
        self.ticket += 1;
        sequence.waiting.push_back((self.ticket, item));
        self.deadlines.push_back((now + self.wait, channel.clone(), self.ticket));
        let mut turn = Vec::new();
        if sequence.waiting.len() > MAX_WAITING {
            sequence.release_first(&mut turn);
        }
        OrderDecision::Later(turn)
    }

    /// Remembers the last id of a channel for at least [`UNHELD_FOR`], although nobody holds the channel.
    fn remember_unheld(&mut self, channel: &Channel, now: Instant) {
        let Some(sequence) = self.channels.get_mut(channel) else { return };
        let until = now + UNHELD_FOR;
        if sequence.lingers.is_none_or(|lingers| lingers < until) {
            sequence.lingers = Some(until);
            self.unheld.push_back((until, channel.clone()));
        }
        self.tidy(channel);
    }

    /// Returns whether anything is known about the order of a channel.
    pub(super) fn knows(&self, channel: &str) -> bool {
        self.channels.contains_key(channel)
    }

    /// Returns whether an item would wait for another, if a connection holds the channel.
    pub(super) fn would_wait(&self, channel: &str, item: &T) -> bool {
        self.channels.get(channel).is_some_and(|sequence| !sequence.follows(item) && !sequence.is_late(item))
    }

    /// Removes and returns the items whose wait is over, in their order, each with its channel. Items that waited
    /// for one of them are included.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<(Channel, T)> {
        let mut turn = Vec::new();
        while let Some((deadline, ..)) = self.deadlines.front()
            && *deadline <= now
        {
            let Some((_, channel, ticket)) = self.deadlines.pop_front() else { break };
            let Some(sequence) = self.channels.get_mut(&channel) else { continue };
            let mut released = Vec::new();
            while sequence.waiting.front().is_some_and(|(first, _)| *first <= ticket) {
                sequence.release_first(&mut released);
            }
            turn.extend(released.into_iter().map(|item| (channel.clone(), item)));
            self.tidy(&channel);
        }
        turn
    }

    /// Returns the time at which the wait of the next item ends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadlines.front().map(|(deadline, ..)| *deadline)
    }

    /// Returns the id of the last item of a channel, if it is known.
    pub(super) fn last_id(&self, channel: &str) -> Option<&ItemId> {
        self.channels.get(channel)?.last.as_ref()
    }

    /// Forgets the last id of a channel, so that the next item is due whatever its `prev-id` is.
    pub(super) fn forget(&mut self, channel: &str) {
        if let Some(sequence) = self.channels.get_mut(channel) {
            sequence.last = None;
        }
    }

    /// Forgets the last ids of all channels.
    pub(super) fn forget_all(&mut self) {
        self.channels.values_mut().for_each(|sequence| sequence.last = None);
    }

    /// Notes that a channel is held again, so that it is not forgotten.
    pub(super) fn joined(&mut self, channel: &str, now: Instant) {
        if self.channels.is_empty() {
            return;
        }
        self.expire(now);
        if let Some(sequence) = self.channels.get_mut(channel) {
            sequence.lingers = None;
        }
    }

    /// Pins a channel: it is remembered, even without ids, while it is held and for a while after. Returns whether
    /// it was not pinned before.
    pub(super) fn pin(&mut self, channel: &Channel) -> bool {
        let sequence = self.channels.entry(channel.clone()).or_default();
        !std::mem::replace(&mut sequence.pinned, true)
    }

    /// Notes that nobody holds a channel any more.
    pub(super) fn left(&mut self, channel: &Channel, now: Instant) {
        let Some(sequence) = self.channels.get_mut(channel) else { return };
        // A pinned channel is remembered for at least `PINNED_FOR`, so that a channel that is held again soon does not
        // count as new.
        let linger = if sequence.pinned { self.linger.max(PINNED_FOR) } else { self.linger };
        let until = now + linger;
        sequence.lingers = Some(until);
        self.lingering.push_back((until, channel.clone()));
        self.expire(now);
    }

    /// Forgets the channels that nobody has held for long enough.
    fn expire(&mut self, now: Instant) {
        // Each entry is looked at once at most, because some are put back at the end.
        for _ in 0..self.lingering.len() {
            let Some((until, channel)) = pop_over(&mut self.lingering, MAX_LINGERING, now) else { break };
            let Some(sequence) = self.channels.get_mut(&channel).filter(|s| s.lingers == Some(until)) else { continue };
            if sequence.waiting.is_empty() {
                self.channels.remove(&channel);
            } else {
                // The channel has items that still wait. It is kept until their wait is over.
                let until = now + self.wait;
                sequence.lingers = Some(until);
                self.lingering.push_back((until, channel));
            }
        }
        while let Some((until, channel)) = pop_over(&mut self.unheld, MAX_UNHELD, now) {
            let over = |s: &Sequence<T>| s.lingers == Some(until) && s.waiting.is_empty();
            if self.channels.get(&channel).is_some_and(over) {
                self.channels.remove(&channel);
            }
        }
    }

    /// Removes the sequence of a channel if it holds nothing worth remembering.
    fn tidy(&mut self, channel: &str) {
        let empty = |sequence: &Sequence<T>| !sequence.pinned && sequence.last.is_none() && sequence.waiting.is_empty();
        if self.channels.get(channel).is_some_and(empty) {
            self.channels.remove(channel);
        }
    }
}

/// Removes and returns the first entry of a list if its time is over, or if the list has more than `most` entries.
fn pop_over(list: &mut VecDeque<(Instant, Channel)>, most: usize, now: Instant) -> Option<(Instant, Channel)> {
    let over = list.front().is_some_and(|(until, _)| *until <= now) || list.len() > most;
    if over { list.pop_front() } else { None }
}

impl<T: Sequenced> Sequence<T> {
    /// Returns whether an item is next in order: its `prev-id` is the last id, or one of the two is not known.
    fn follows(&self, item: &T) -> bool {
        match (&self.last, item.prev_id()) {
            (Some(last), Some(prev)) => last == prev,
            _ => true,
        }
    }

    /// Returns whether an item is late: an item that named it as the one before was delivered already.
    fn is_late(&self, item: &T) -> bool {
        item.id().is_some_and(|id| self.recent.contains(id))
    }

    /// Delivers an item, and then the items that waited for it.
    fn deliver(&mut self, item: T, turn: &mut Vec<T>) {
        let mut next = Some(item);
        while let Some(item) = next {
            self.last = item.id().cloned();
            if let Some(prev) = item.prev_id() {
                self.recent.push_back(prev.clone());
                if self.recent.len() > MAX_RECENT {
                    self.recent.pop_front();
                }
            }
            turn.push(item);
            next = self.successor();
        }
    }

    /// Removes and returns the first waiting item whose `prev-id` is the last id.
    fn successor(&mut self) -> Option<T> {
        let last = self.last.as_ref()?;
        let at = self.waiting.iter().position(|(_, item)| item.prev_id() == Some(last))?;
        self.waiting.remove(at).map(|(_, item)| item)
    }

    /// Delivers the item that has waited longest, and the items that waited for it.
    fn release_first(&mut self, turn: &mut Vec<T>) {
        if let Some((_, item)) = self.waiting.pop_front() {
            if self.is_late(&item) {
                turn.push(item);
            } else {
                self.deliver(item, turn);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Audience::{Absent, Present};
    use super::*;
    use proptest::prelude::*;

    const WAIT: Duration = Duration::from_secs(5);
    const LINGER: Duration = Duration::from_secs(60);

    #[derive(Clone, Debug, PartialEq, Eq)]
    struct TestItem(Option<ItemId>, Option<ItemId>);

    impl Sequenced for TestItem {
        fn id(&self) -> Option<&ItemId> {
            self.0.as_ref()
        }

        fn prev_id(&self) -> Option<&ItemId> {
            self.1.as_ref()
        }
    }

    fn id(n: u32) -> Option<ItemId> {
        Some(n.to_string().into())
    }

    /// Returns an item with the id `n` and the `prev-id` `n - 1`.
    fn nth(n: u32) -> TestItem {
        TestItem(id(n), id(n - 1))
    }

    fn sequences() -> (Sequences<TestItem>, Channel, Instant) {
        (Sequences::new(WAIT, LINGER), Channel::from("c"), Instant::now())
    }

    fn now(items: &[u32]) -> OrderDecision<TestItem> {
        OrderDecision::Now(items.iter().map(|n| nth(*n)).collect())
    }

    #[test]
    fn the_first_item_passes_whatever_it_names_and_late_ones_wait() {
        let (mut s, c, t) = sequences();
        assert_eq!(s.accept(&c, nth(5), Present, t), now(&[5]));
        assert_eq!(s.accept(&c, nth(7), Present, t), OrderDecision::Later(vec![]));
        assert_eq!(s.accept(&c, nth(8), Present, t), OrderDecision::Later(vec![]));
        assert_eq!(s.accept(&c, nth(6), Present, t), now(&[6, 7, 8]));
        assert_eq!(s.last_id("c").map(|id| &**id), Some("8"));
    }

    #[test]
    fn what_waits_too_long_waits_no_more() {
        let (mut s, c, t) = sequences();
        s.accept(&c, nth(1), Present, t);
        s.accept(&c, nth(3), Present, t);
        s.accept(&c, nth(4), Present, t + Duration::from_secs(1));
        assert_eq!(s.deadline(), Some(t + WAIT));
        assert!(s.overdue(t + WAIT - Duration::from_millis(1)).is_empty());
        let released: Vec<_> = s.overdue(t + WAIT).into_iter().map(|(_, item)| item).collect();
        assert_eq!(released, [nth(3), nth(4)]);
        // Item 2 comes after the others have given up waiting for it. It is delivered, but the last id stays 4.
        assert_eq!(s.accept(&c, nth(2), Present, t), now(&[2]));
        assert_eq!(s.accept(&c, nth(5), Present, t), now(&[5]));
        assert_eq!(s.overdue(t + LINGER), []);
    }

    #[test]
    fn what_waits_already_waits_no_longer_than_a_new_time() {
        let (mut s, c, t) = sequences();
        let _ = [1, 3].map(|n| s.accept(&c, nth(n), Present, t));
        s.set_times(WAIT / 4, LINGER, t + WAIT / 2);
        assert_eq!(s.deadline(), Some(t + WAIT / 2 + WAIT / 4));
    }

    #[test]
    fn items_without_ids_are_not_sequenced() {
        let (mut s, c, t) = sequences();
        assert_eq!(s.accept(&c, TestItem(None, None), Present, t), OrderDecision::Now(vec![TestItem(None, None)]));
        s.accept(&c, nth(1), Present, t);
        // After an item without an id, the last id is not known any more.
        assert_eq!(s.accept(&c, TestItem(None, id(1)), Present, t), OrderDecision::Now(vec![TestItem(None, id(1))]));
        assert_eq!(s.last_id("c"), None);
        assert!(s.channels.is_empty());
    }

    #[test]
    fn a_channel_that_nobody_holds_any_more_is_remembered_for_a_while() {
        let (mut s, c, t) = sequences();
        s.accept(&c, nth(1), Present, t);
        s.left(&c, t);
        assert_eq!(s.accept(&c, nth(2), Absent, t), now(&[2]));
        s.joined("c", t + LINGER / 2);
        s.expire(t + LINGER);
        assert_eq!(s.last_id("c").map(|id| &**id), Some("2"));
        s.left(&c, t + LINGER);
        s.expire(t + LINGER * 2);
        assert!(s.channels.is_empty() && s.lingering.is_empty() && s.unheld.is_empty());
    }

    #[test]
    fn who_is_about_to_hold_a_channel_learns_what_came_just_before() {
        let (mut s, c, t) = sequences();
        // The items come out of order, and none of them waits.
        for n in [1, 3, 2, 5] {
            assert_eq!(s.accept(&c, nth(n), Absent, t), now(&[n]));
        }
        assert_eq!(s.last_id("c").map(|id| &**id), Some("5"));
        s.joined("c", t + UNHELD_FOR / 2);
        s.expire(t + UNHELD_FOR * 2);
        assert_eq!(s.last_id("c").map(|id| &**id), Some("5"));
        // The last id is not remembered for long if nobody joins the channel.
        s.accept(&Channel::from("d"), nth(1), Absent, t);
        s.expire(t + UNHELD_FOR);
        assert_eq!(s.last_id("d"), None);
        assert!(s.unheld.is_empty());
    }

    #[test]
    fn too_many_do_not_wait() {
        let (mut s, c, t) = sequences();
        s.accept(&c, nth(1), Present, t);
        for n in 0..100 {
            assert_eq!(s.accept(&c, nth(10 + 2 * n), Present, t), OrderDecision::Later(vec![]));
        }
        assert_eq!(s.accept(&c, nth(1000), Present, t), OrderDecision::Later(vec![nth(10)]));
    }

    proptest! {
        /// Accepts a sequence of items in which some come late, some come repeatedly and some are missing. Every item
        /// must be delivered as often as it came, and in the end no item may be waiting.
        #[test]
        fn nothing_that_comes_is_lost(order in prop::collection::vec((1u32..40, 0u64..3000), 1..120)) {
            let (mut s, c, mut t) = sequences();
            let mut out = Vec::new();
            for (n, pause) in &order {
                t += Duration::from_millis(*pause);
                out.extend(s.overdue(t).into_iter().map(|(_, item)| item));
                match s.accept(&c, nth(*n), Present, t) {
                    OrderDecision::Now(items) | OrderDecision::Later(items) => out.extend(items),
                }
            }
            out.extend(s.overdue(t + WAIT).into_iter().map(|(_, item)| item));
            let sorted = |mut v: Vec<u32>| { v.sort_unstable(); v };
            let numbers = |items: &[TestItem]| items.iter().map(|i| i.0.as_ref().unwrap().parse().unwrap()).collect();
            prop_assert_eq!(sorted(numbers(&out)), sorted(order.iter().map(|(n, _)| *n).collect()));
            prop_assert!(s.deadline().is_none());
        }

        /// Accepts items in any order, all within the time that they may wait. They must be delivered in the order
        /// of their ids.
        #[test]
        fn shuffled_items_come_out_in_order(shuffled in Just((2u32..60).collect::<Vec<_>>()).prop_shuffle()) {
            let (mut s, c, t) = sequences();
            let mut out = vec![1];
            s.accept(&c, nth(1), Present, t);
            for n in shuffled {
                if let OrderDecision::Now(items) = s.accept(&c, nth(n), Present, t) {
                    out.extend(items.iter().map(|i| i.0.as_ref().unwrap().parse::<u32>().unwrap()));
                }
            }
            prop_assert_eq!(out, (1..60).collect::<Vec<_>>());
        }
    }
}
