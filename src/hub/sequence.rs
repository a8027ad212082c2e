//! The order of items within a channel, by what they say of themselves: an item names the one before it, and waits
//! for it. Pure: time is told.

use crate::grip::Channel;
use crate::grip::item::Id;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// Items of one channel that may wait. When one more comes, the one that has waited longest waits no more.
const MAX_WAITING: usize = 100;
/// Ids of a channel that are remembered to know a late item from an early one.
const MAX_RECENT: usize = 32;
/// Channels whose last id is kept after the last connection left.
const MAX_LINGERING: usize = 1_000_000;

/// How long the last id of a channel is known that nobody holds: longer than it takes a client to hold it whose origin has
/// just answered.
const UNHELD: Duration = Duration::from_secs(10);
/// Items for such channels after which the first are forgotten.
const MAX_UNHELD: usize = 200_000;

/// How long a channel that was pinned is remembered at least.
const PINNED: Duration = Duration::from_secs(5);

/// Something that can be put in order.
pub(super) trait Sequenced {
    /// Returns the id of the item.
    fn id(&self) -> Option<&Id>;
    /// Returns the id of the item before it.
    fn prev_id(&self) -> Option<&Id>;
}

/// The sequences of all channels in which ids are used.
#[derive(Debug)]
pub(super) struct Sequences<T> {
    /// How long an item waits for the one before it.
    wait: Duration,
    /// How long a last id is known after the last connection has left.
    linger: Duration,
    channels: HashMap<Channel, Sequence<T>, foldhash::fast::RandomState>,
    /// The items that wait, and the times at which they wait no longer, in the order of time.
    deadlines: VecDeque<(Instant, Channel, u64)>,
    /// The channels that nobody holds any more and that are still remembered, with the times at which they are forgotten,
    /// in the order of time.
    lingering: VecDeque<(Instant, Channel)>,
    /// The channels that got items while nobody held them, in the same form.
    unheld: VecDeque<(Instant, Channel)>,
    ticket: u64,
}

#[derive(Debug)]
struct Sequence<T> {
    last: Option<Id>,
    /// The ids that the delivered items named as those before them, the latest last.
    recent: VecDeque<Id>,
    waiting: VecDeque<(u64, T)>,
    /// Until when it is remembered, while nobody holds the channel.
    lingers: Option<Instant>,
    /// Whether it is remembered even without ids.
    pinned: bool,
}

impl<T> Default for Sequence<T> {
    fn default() -> Self {
        Self { last: None, recent: VecDeque::new(), waiting: VecDeque::new(), lingers: None, pinned: false }
    }
}

/// The decision about an item that has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn<T> {
    /// It is delivered, and after it those that waited for it.
    Now(Vec<T>),
    /// It waits. With it, those are delivered that it takes the place of.
    Later(Vec<T>),
}

/// The holders of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    /// Somebody holds it.
    Present,
    /// Nobody does.
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

    /// Takes an item of a channel.
    pub(super) fn accept(&mut self, channel: &Channel, item: T, audience: Audience, now: Instant) -> Turn<T> {
        self.expire(now);
        let known = self.channels.contains_key(channel);
        if !known && item.id().is_none() {
            return Turn::Now(vec![item]);
        }
        let sequence = self.channels.entry(channel.clone()).or_default();
        if audience == Audience::Absent {
            // Nobody is there for whom it could wait. But who is about to come must learn that it came.
            let mut turn = Vec::new();
            if sequence.is_late(&item) {
                turn.push(item)
            } else {
                sequence.deliver(item, &mut turn)
            }
            self.remember_unheld(channel, now);
            return Turn::Now(turn);
        }
        if sequence.follows(&item) {
            let mut turn = Vec::new();
            sequence.deliver(item, &mut turn);
            self.tidy(channel);
            return Turn::Now(turn);
        }
        if sequence.is_late(&item) {
            return Turn::Now(vec![item]);
        }
        self.ticket += 1;
        sequence.waiting.push_back((self.ticket, item));
        self.deadlines.push_back((now + self.wait, channel.clone(), self.ticket));
        let mut turn = Vec::new();
        if sequence.waiting.len() > MAX_WAITING {
            sequence.release_first(&mut turn);
        }
        Turn::Later(turn)
    }

    /// Keeps the last id of a channel that nobody holds for [`UNHELD`].
    fn remember_unheld(&mut self, channel: &Channel, now: Instant) {
        let Some(sequence) = self.channels.get_mut(channel) else { return };
        let until = now + UNHELD;
        if sequence.lingers.is_none_or(|lingers| lingers < until) {
            sequence.lingers = Some(until);
            self.unheld.push_back((until, channel.clone()));
        }
        self.tidy(channel);
    }

    /// Returns whether anything is known of the order of a channel.
    pub(super) fn knows(&self, channel: &str) -> bool {
        self.channels.contains_key(channel)
    }

    /// Returns whether an item would wait for another.
    pub(super) fn would_wait(&self, channel: &str, item: &T) -> bool {
        self.channels.get(channel).is_some_and(|sequence| !sequence.follows(item) && !sequence.is_late(item))
    }

    /// Returns the items that have waited long enough, in their order, each with its channel.
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

    /// Returns when the next item has waited long enough.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadlines.front().map(|(deadline, ..)| *deadline)
    }

    /// Returns the id of the last item of a channel, if that is known.
    pub(super) fn last_id(&self, channel: &str) -> Option<&Id> {
        self.channels.get(channel)?.last.as_ref()
    }

    /// Forgets the last id of a channel: the next item is the first.
    pub(super) fn forget(&mut self, channel: &str) {
        if let Some(sequence) = self.channels.get_mut(channel) {
            sequence.last = None;
        }
    }

    /// Forgets every last id.
    pub(super) fn forget_all(&mut self) {
        self.channels.values_mut().for_each(|sequence| sequence.last = None);
    }

    /// Says that somebody holds a channel again.
    pub(super) fn joined(&mut self, channel: &str, now: Instant) {
        if self.channels.is_empty() {
            return;
        }
        self.expire(now);
        if let Some(sequence) = self.channels.get_mut(channel) {
            sequence.lingers = None;
        }
    }

    /// Keeps a channel remembered as long as it is held, and a while longer. Returns whether it was not kept so before.
    pub(super) fn pin(&mut self, channel: &Channel) -> bool {
        let sequence = self.channels.entry(channel.clone()).or_default();
        !std::mem::replace(&mut sequence.pinned, true)
    }

    /// Says that nobody holds a channel any more.
    pub(super) fn left(&mut self, channel: &Channel, now: Instant) {
        let Some(sequence) = self.channels.get_mut(channel) else { return };
        // A pinned channel is remembered for at least [`PINNED`], so that a channel that is held again soon does not count
        // as new.
        let linger = if sequence.pinned { self.linger.max(PINNED) } else { self.linger };
        let until = now + linger;
        sequence.lingers = Some(until);
        self.lingering.push_back((until, channel.clone()));
        self.expire(now);
    }

    /// Drops what nobody has held for long.
    fn expire(&mut self, now: Instant) {
        // Each once: some are put back.
        for _ in 0..self.lingering.len() {
            let Some((until, channel)) = pop_over(&mut self.lingering, MAX_LINGERING, now) else { break };
            let Some(sequence) = self.channels.get_mut(&channel).filter(|s| s.lingers == Some(until)) else { continue };
            if sequence.waiting.is_empty() {
                self.channels.remove(&channel);
            } else {
                // An item that waits comes out at its time.
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

    /// Drops a sequence in which nothing is remembered.
    fn tidy(&mut self, channel: &str) {
        let empty = |sequence: &Sequence<T>| !sequence.pinned && sequence.last.is_none() && sequence.waiting.is_empty();
        if self.channels.get(channel).is_some_and(empty) {
            self.channels.remove(channel);
        }
    }
}

/// Returns the first of a list whose time is over, or which is one too many.
fn pop_over(list: &mut VecDeque<(Instant, Channel)>, most: usize, now: Instant) -> Option<(Instant, Channel)> {
    let over = list.front().is_some_and(|(until, _)| *until <= now) || list.len() > most;
    if over { list.pop_front() } else { None }
}

impl<T: Sequenced> Sequence<T> {
    /// Returns whether an item is next: nothing says that it is not.
    fn follows(&self, item: &T) -> bool {
        match (&self.last, item.prev_id()) {
            (Some(last), Some(prev)) => last == prev,
            _ => true,
        }
    }

    /// Returns whether an item comes after one that named it as the one before.
    fn is_late(&self, item: &T) -> bool {
        item.id().is_some_and(|id| self.recent.contains(id))
    }

    /// Delivers an item, and those that waited for it.
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

    /// Returns the first item that waits for the last one delivered.
    fn successor(&mut self) -> Option<T> {
        let last = self.last.as_ref()?;
        let at = self.waiting.iter().position(|(_, item)| item.prev_id() == Some(last))?;
        self.waiting.remove(at).map(|(_, item)| item)
    }

    /// Delivers the item that has waited longest.
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
    struct Numbered(Option<Id>, Option<Id>);

    impl Sequenced for Numbered {
        fn id(&self) -> Option<&Id> {
            self.0.as_ref()
        }

        fn prev_id(&self) -> Option<&Id> {
            self.1.as_ref()
        }
    }

    fn id(n: u32) -> Option<Id> {
        Some(n.to_string().into())
    }

    /// Returns the item that says that it is the `n`th.
    fn nth(n: u32) -> Numbered {
        Numbered(id(n), id(n - 1))
    }

    fn sequences() -> (Sequences<Numbered>, Channel, Instant) {
        (Sequences::new(WAIT, LINGER), Channel::from("c"), Instant::now())
    }

    fn now(items: &[u32]) -> Turn<Numbered> {
        Turn::Now(items.iter().map(|n| nth(*n)).collect())
    }

    #[test]
    fn the_first_item_passes_whatever_it_names_and_late_ones_wait() {
        let (mut s, c, t) = sequences();
        assert_eq!(s.accept(&c, nth(5), Present, t), now(&[5]));
        assert_eq!(s.accept(&c, nth(7), Present, t), Turn::Later(vec![]));
        assert_eq!(s.accept(&c, nth(8), Present, t), Turn::Later(vec![]));
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
        // An item that was given up comes at last: it does not turn the order back.
        assert_eq!(s.accept(&c, nth(2), Present, t), now(&[2]));
        assert_eq!(s.accept(&c, nth(5), Present, t), now(&[5]));
        assert_eq!(s.overdue(t + LINGER), []);
    }

    #[test]
    fn items_without_ids_are_not_sequenced() {
        let (mut s, c, t) = sequences();
        assert_eq!(s.accept(&c, Numbered(None, None), Present, t), Turn::Now(vec![Numbered(None, None)]));
        s.accept(&c, nth(1), Present, t);
        // An item without an id ends what is known.
        assert_eq!(s.accept(&c, Numbered(None, id(1)), Present, t), Turn::Now(vec![Numbered(None, id(1))]));
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
        // In any order, and nothing waits.
        for n in [1, 3, 2, 5] {
            assert_eq!(s.accept(&c, nth(n), Absent, t), now(&[n]));
        }
        assert_eq!(s.last_id("c").map(|id| &**id), Some("5"));
        s.joined("c", t + UNHELD / 2);
        s.expire(t + UNHELD * 2);
        assert_eq!(s.last_id("c").map(|id| &**id), Some("5"));
        // But not for long if nobody comes.
        s.accept(&Channel::from("d"), nth(1), Absent, t);
        s.expire(t + UNHELD);
        assert_eq!(s.last_id("d"), None);
        assert!(s.unheld.is_empty());
    }

    #[test]
    fn too_many_do_not_wait() {
        let (mut s, c, t) = sequences();
        s.accept(&c, nth(1), Present, t);
        for n in 0..100 {
            assert_eq!(s.accept(&c, nth(10 + 2 * n), Present, t), Turn::Later(vec![]));
        }
        assert_eq!(s.accept(&c, nth(1000), Present, t), Turn::Later(vec![nth(10)]));
    }

    proptest! {
        /// Delivers items that are late, lost and repeated in any way: each that comes is delivered once for each time it
        /// comes, and those of an unbroken run never out of order.
        #[test]
        fn nothing_that_comes_is_lost(order in prop::collection::vec((1u32..40, 0u64..3000), 1..120)) {
            let (mut s, c, mut t) = sequences();
            let mut out = Vec::new();
            for (n, pause) in &order {
                t += Duration::from_millis(*pause);
                out.extend(s.overdue(t).into_iter().map(|(_, item)| item));
                match s.accept(&c, nth(*n), Present, t) {
                    Turn::Now(items) | Turn::Later(items) => out.extend(items),
                }
            }
            out.extend(s.overdue(t + WAIT).into_iter().map(|(_, item)| item));
            let sorted = |mut v: Vec<u32>| { v.sort_unstable(); v };
            let numbers = |items: &[Numbered]| items.iter().map(|i| i.0.as_ref().unwrap().parse().unwrap()).collect();
            prop_assert_eq!(sorted(numbers(&out)), sorted(order.iter().map(|(n, _)| *n).collect()));
            prop_assert!(s.deadline().is_none());
        }

        /// Delivers items that come in any order in their own, within the time that they may wait.
        #[test]
        fn shuffled_items_come_out_in_order(shuffled in Just((2u32..60).collect::<Vec<_>>()).prop_shuffle()) {
            let (mut s, c, t) = sequences();
            let mut out = vec![1];
            s.accept(&c, nth(1), Present, t);
            for n in shuffled {
                if let Turn::Now(items) = s.accept(&c, nth(n), Present, t) {
                    out.extend(items.iter().map(|i| i.0.as_ref().unwrap().parse::<u32>().unwrap()));
                }
            }
            prop_assert_eq!(out, (1..60).collect::<Vec<_>>());
        }
    }
}
