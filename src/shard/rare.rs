//! The parts that few connections have: terms, and items that wait until their origin was asked.

use super::inbox::Delivery;
use super::terms::{Term, Terms};
use crate::grip::Channel;
use crate::grip::item::Id;
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use tokio::time::Instant;

/// Channels that publishers have had a connection enter and leave: that stands over what its origin names later.
#[derive(Debug, Default)]
struct Moved {
    entered: Vec<Channel>,
    left: Vec<Channel>,
}

/// Channels of which it is remembered that they were left.
const MAX_LEFT: usize = 1000;

impl Moved {
    fn enter(&mut self, channels: &[Channel]) {
        self.left.retain(|channel| !channels.contains(channel));
        self.entered.extend_from_slice(channels);
    }

    fn leave(&mut self, channels: &[Channel]) {
        self.entered.retain(|channel| !channels.contains(channel));
        self.left.retain(|channel| !channels.contains(channel));
        self.left.extend_from_slice(channels);
        let oldest = self.left.len().saturating_sub(MAX_LEFT);
        self.left.drain(..oldest);
    }
}

/// The parts that few connections have. They share one box, so that other connections stay small.
pub(super) struct Rare {
    pub(super) terms: Terms,
    moved: Moved,
    pub(super) ways: Ways,
    /// Whether the origin is being asked: what arrives waits.
    pub(super) held: bool,
    /// When the origin was last to be asked again.
    pub(super) since: Instant,
    queue: VecDeque<Delivery>,
    /// Bytes of the items that wait.
    bytes: usize,
    /// For each piece in the outlet what is to be undone if it is not sent after all; `None`: it must be sent.
    undo: VecDeque<Option<Undo>>,
    /// One bit for each channel that had an item since all had one.
    active: u64,
    /// When all channels had had an item, by the shard's clock.
    pub(super) quiet_ms: u32,
    /// How often the terms have changed their places.
    era: u32,
}

/// The ways in which a connection's hold treats items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// It can ask the origin for what is missing.
    pub refreshes: bool,
    /// It asks about each item; it is told one at a time.
    pub asks: bool,
}

/// The id that a channel had before an item.
#[derive(Debug)]
pub(super) struct Undo {
    channel: usize,
    prev_id: Option<Id>,
    era: u32,
}

impl Rare {
    pub(super) fn new(terms: Terms, ways: Ways, now_ms: u32) -> Self {
        let (queue, undo) = (VecDeque::new(), VecDeque::new());
        let since = Instant::now();
        Self {
            terms,
            moved: Moved::default(),
            ways,
            held: false,
            since,
            queue,
            bytes: 0,
            undo,
            active: 0,
            quiet_ms: now_ms,
            era: 0,
        }
    }

    /// Takes items on other terms from now on; what was sent on the earlier ones is sent.
    pub(super) fn agree(&mut self, terms: Terms, ways: Ways, now_ms: u32) {
        let old = std::mem::replace(&mut self.terms, terms);
        self.terms.channels.retain(|term| !self.moved.left.contains(&term.channel));
        for term in old.channels {
            // Items that were accepted for a channel before it was left are still to be decided.
            let waits = self.terms.of(&term.channel).is_none() && self.queue.iter().any(|i| i.channel == term.channel);
            self.terms.channels.extend(waits.then_some(Term { left: true, ..term }));
        }
        let entered =
            self.moved.entered.iter().filter(|channel| self.terms.held().all(|term| term.channel != **channel));
        let entered: Vec<Channel> = entered.cloned().collect();
        self.enter(&entered);
        self.ways = ways;
        self.forget_places();
        self.quiet_ms = now_ms;
    }

    /// Notes that a publisher had the connection enter channels.
    pub(super) fn note_entered(&mut self, channels: &[Channel]) {
        self.moved.enter(channels);
    }

    /// Notes that a publisher had the connection leave channels.
    pub(super) fn note_left(&mut self, channels: &[Channel]) {
        self.moved.leave(channels);
    }

    /// Takes what is published in more channels, as it comes.
    pub(super) fn enter(&mut self, channels: &[Channel]) {
        // A prefix that all names have, theirs have too.
        let prefix = |channel: &Channel| {
            let own = self.terms.channels.iter().find_map(|term| term.channel.get(..term.prefix));
            own.filter(|prefix| channel.starts_with(prefix)).map_or(0, str::len)
        };
        let term = |channel: &Channel| Term { prefix: prefix(channel), ..Term::plain(channel) };
        let terms: Vec<Term> = channels.iter().map(term).collect();
        for term in terms {
            match self.terms.channels.iter_mut().find(|other| other.channel == term.channel) {
                Some(left) => *left = term,
                None => self.terms.channels.push(term),
            }
        }
    }

    /// Takes nothing more of channels, but what waits.
    pub(super) fn leave(&mut self, channels: &[Channel]) {
        let Self { terms, queue, .. } = self;
        let count = terms.channels.len();
        terms.channels.retain_mut(|term| {
            term.left |= channels.contains(&term.channel);
            !term.left || queue.iter().any(|item| item.channel == term.channel)
        });
        if terms.channels.len() < count {
            self.forget_places();
        }
    }

    /// Takes note that terms have other places than before.
    fn forget_places(&mut self) {
        self.era = self.era.wrapping_add(1);
        self.undo.iter_mut().for_each(|undo| *undo = None);
        self.active = 0;
    }

    /// Takes note that a channel is alive.
    fn mark_active(&mut self, channel: usize, now_ms: u32) {
        self.active |= 1_u64.checked_shl(u32::try_from(channel).unwrap_or(u32::MAX)).unwrap_or(0);
        if self.active.count_ones() as usize >= self.terms.held().count() {
            self.active = 0;
            self.quiet_ms = now_ms;
        }
    }

    /// Returns whether an item that arrives waits for the hold.
    pub(super) fn queues(&self) -> bool {
        self.held || self.ways.asks || self.waits()
    }

    /// Returns whether items wait.
    pub(super) fn waits(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Lets an item wait. Returns `false` if so much waits that it cannot.
    pub(super) fn push(&mut self, mut item: Delivery, most: usize) -> bool {
        let weight = item.weight();
        // One item alone always fits.
        if !self.queue.is_empty() && self.bytes.saturating_add(weight) > most {
            return false;
        }
        item.tally.of(item.index).pending.fetch_add(1, Relaxed);
        if self.held {
            // A publisher does not wait for an origin that tells what was missed.
            item.tally = item.tally.detached();
        }
        self.bytes += weight;
        self.queue.push_back(item);
        true
    }

    /// Returns the item that has waited longest.
    pub(super) fn pop(&mut self) -> Option<Delivery> {
        let item = self.queue.pop_front()?;
        item.tally.of(item.index).pending.fetch_sub(1, Relaxed);
        self.bytes -= item.weight();
        Some(item)
    }

    /// Drops what waits.
    pub(super) fn drop_all(&mut self) {
        while self.pop().is_some() {}
    }

    /// Drops of what waits that which comes again when the origin is asked: what has a place in an order.
    pub(super) fn clear(&mut self) {
        for _ in 0..self.queue.len() {
            let Some(item) = self.pop() else { return };
            if self.terms.of(&item.channel).is_some_and(|term| term.prev_id.is_none()) && item.hints.is_empty() {
                self.push(item, usize::MAX);
            }
        }
    }

    /// Notes what is to be undone if the piece that was just put into the outlet is not sent. `pieces`: how many
    /// are in it now.
    pub(super) fn note(&mut self, undo: Option<Undo>, pieces: usize, now_ms: u32) {
        if self.ways.refreshes {
            if let Some(undo) = undo.as_ref().filter(|undo| undo.era == self.era) {
                self.mark_active(undo.channel, now_ms);
            }
            self.undo.push_back(undo);
            while self.undo.len() > pieces {
                self.undo.pop_front();
            }
        }
    }

    /// Takes back the ids of the pieces at the end of an outlet of `pieces` that need not be sent, except for the first.
    /// Returns how many they are.
    pub(super) fn take_back(&mut self, pieces: usize) -> usize {
        let mut count = 0;
        while self.undo.len() > pieces {
            self.undo.pop_front();
        }
        while count + 1 < pieces && matches!(self.undo.back(), Some(Some(_))) {
            if let Some(Some(undo)) = self.undo.pop_back() {
                self.undo(undo);
            }
            count += 1;
        }
        count
    }

    /// Returns the change that takes back the id which the channel with this place is about to have.
    pub(super) fn undo_of(&self, channel: usize) -> Undo {
        let prev_id = self.terms.channels.get(channel).and_then(|term| term.prev_id.clone());
        Undo { channel, prev_id, era: self.era }
    }

    /// Takes back an id, if its channel has its place still.
    pub(super) fn undo(&mut self, undo: Undo) {
        if undo.era != self.era {
            return;
        }
        if let Some(term) = self.terms.channels.get_mut(undo.channel) {
            term.prev_id = undo.prev_id;
        }
    }
}

impl Drop for Rare {
    /// Drops the items that are undecided when the connection is over. They were not delivered.
    fn drop(&mut self) {
        self.drop_all();
    }
}
