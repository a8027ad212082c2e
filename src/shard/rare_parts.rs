//! The state that few connections need: terms, and a queue of items that wait for their hold or session.

use super::inbox::Delivery;
use super::terms::{ChannelTerms, Terms};
use crate::grip::item::ItemId;
use crate::grip::{Channel, Format};
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use tokio::time::Instant;

/// The channels that publishers have made a connection enter and leave. This takes precedence over the channels that
/// the origin names later.
#[derive(Debug, Default)]
struct MovedChannels {
    entered: Vec<Channel>,
    left: Vec<Channel>,
}

/// The maximum number of left channels that are remembered for one connection. The oldest are forgotten.
const MAX_LEFT: usize = 1000;

impl MovedChannels {
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

/// The state that few connections need. It is in one box, so that other connections stay small.
pub(super) struct RareParts {
    pub(super) terms: Terms,
    moved: MovedChannels,
    pub(super) ways: ItemHandling,
    /// Whether all items that arrive wait in the queue, because the origin is being asked, or because a body or a
    /// message is being relayed.
    pub(super) is_queueing: bool,
    /// The time at which a request to the origin was last found to be needed. It begins as the time at which this
    /// state was created.
    pub(super) since: Instant,
    queue: VecDeque<Delivery>,
    /// The total weight of the items in the queue, in bytes.
    bytes: usize,
    /// For each of the last pieces in the outlet, the last id to restore if the piece is dropped unsent, or `None` if
    /// it must be sent. It is used only if the hold can refresh.
    undo: VecDeque<Option<LastIdUndo>>,
    /// The channels that have had an item since `quiet_ms`: one bit for each, by its index in the terms.
    active: u64,
    /// The time since which not all channels have had an item, in milliseconds by the shard's clock. It begins anew
    /// whenever all of them have had one, and with new terms.
    pub(super) quiet_ms: u32,
    /// The number of times that indexes of `terms.channels` have changed. A [`LastIdUndo`] is void if the number has
    /// changed since.
    era: u32,
}

/// The part that the hold or session of a connection takes in the delivery of items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ItemHandling {
    /// Whether the hold can ask the origin for missing items.
    pub can_refresh: bool,
    /// Whether the hold or session itself decides about items, or asks an HTTP filter. Items then wait in a queue,
    /// from which it takes one at a time.
    pub decides_items: bool,
}

/// The last id that a channel had before an item, to be restored if the item is not sent.
#[derive(Debug)]
pub(super) struct LastIdUndo {
    channel: usize,
    prev_id: Option<ItemId>,
    era: u32,
}

impl RareParts {
    pub(super) fn new(terms: Terms, ways: ItemHandling, now_ms: u32) -> Self {
        let (queue, undo) = (VecDeque::new(), VecDeque::new());
        let since = Instant::now();
        Self {
            terms,
            moved: MovedChannels::default(),
            ways,
            is_queueing: false,
            since,
            queue,
            bytes: 0,
            undo,
            active: 0,
            quiet_ms: now_ms,
            era: 0,
        }
    }

    /// Replaces the terms. The new ones apply to items that are decided from now on; items that are in the outlet are
    /// not affected.
    pub(super) fn replace_terms(&mut self, terms: Terms, ways: ItemHandling, now_ms: u32) {
        let old = std::mem::replace(&mut self.terms, terms);
        self.terms.channels.retain(|term| !self.moved.left.contains(&term.channel));
        for term in old.channels {
            // Items of a channel that the new terms do not have may still wait in the queue. They need the old term
            // of their channel.
            let waits = self.terms.of(&term.channel).is_none() && self.queue.iter().any(|i| i.channel == term.channel);
            self.terms.channels.extend(waits.then_some(ChannelTerms { left: true, ..term }));
        }
        let entered =
            self.moved.entered.iter().filter(|channel| self.terms.held().all(|term| term.channel != **channel));
        let entered: Vec<Channel> = entered.cloned().collect();
        self.enter(&entered);
        self.ways = ways;
        self.forget_places();
        self.quiet_ms = now_ms;
    }

    /// Notes that a publisher has made the connection enter these channels.
    pub(super) fn note_entered(&mut self, channels: &[Channel]) {
        self.moved.enter(channels);
    }

    /// Notes that a publisher has made the connection leave these channels.
    pub(super) fn note_left(&mut self, channels: &[Channel]) {
        self.moved.leave(channels);
    }

    /// Adds terms for these channels by which their items are taken in any order and without filters.
    pub(super) fn enter(&mut self, channels: &[Channel]) {
        // The route is not known here. If the name begins with the prefix of the first of the other terms, it has that
        // prefix as well.
        let prefix = |channel: &Channel| {
            let own = self.terms.channels.iter().find_map(|term| term.channel.get(..term.prefix));
            own.filter(|prefix| channel.starts_with(prefix)).map_or(0, str::len)
        };
        let term = |channel: &Channel| ChannelTerms { prefix: prefix(channel), ..ChannelTerms::plain(channel) };
        let terms: Vec<ChannelTerms> = channels.iter().map(term).collect();
        for term in terms {
            match self.terms.channels.iter_mut().find(|other| other.channel == term.channel) {
                Some(left) => *left = term,
                None => self.terms.channels.push(term),
            }
        }
    }

    /// Marks the terms of these channels as left. Then removes the terms of all left channels of which no item waits in
    /// the queue.
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

    /// Invalidates everything that refers to terms by their indexes, because these have changed.
    fn forget_places(&mut self) {
        self.era = self.era.wrapping_add(1);
        self.undo.iter_mut().for_each(|undo| *undo = None);
        self.active = 0;
    }

    /// Notes that the channel with this index has had an item.
    fn mark_active(&mut self, channel: usize, now_ms: u32) {
        self.active |= 1_u64.checked_shl(u32::try_from(channel).unwrap_or(u32::MAX)).unwrap_or(0);
        if self.active.count_ones() as usize >= self.terms.held().count() {
            self.active = 0;
            self.quiet_ms = now_ms;
        }
    }

    /// Returns whether an item that arrives has to wait in the queue.
    pub(super) fn queues(&self) -> bool {
        self.is_queueing || self.ways.decides_items || self.waits()
    }

    /// Returns whether items wait in the queue.
    pub(super) fn waits(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Puts an item into the queue. Returns `false` if it does not fit, because the items would weigh more than
    /// `most` bytes.
    pub(super) fn push(&mut self, mut item: Delivery, most: usize) -> bool {
        let weight = item.weight();
        // One item alone always fits.
        if !self.queue.is_empty() && self.bytes.saturating_add(weight) > most {
            return false;
        }
        item.tally.of(item.index).pending.fetch_add(1, Relaxed);
        if self.is_queueing {
            // The item may wait until the origin has responded. The publisher's reply does not wait for that.
            item.tally = item.tally.detached();
        }
        self.bytes += weight;
        self.queue.push_back(item);
        true
    }

    /// Removes and returns the item that has waited longest in the queue.
    pub(super) fn pop(&mut self) -> Option<Delivery> {
        let item = self.queue.pop_front()?;
        item.tally.of(item.index).pending.fetch_sub(1, Relaxed);
        self.bytes -= item.weight();
        Some(item)
    }

    /// Drops all items in the queue.
    pub(super) fn drop_all(&mut self) {
        while self.pop().is_some() {}
    }

    /// Drops the items in the queue that are not needed once the origin has been asked again: items with a hint for
    /// `format`, in which the connection takes items, and items of channels whose order is followed, because the
    /// origin's response covers those.
    pub(super) fn clear(&mut self, format: Format) {
        for _ in 0..self.queue.len() {
            let Some(item) = self.pop() else { return };
            if self.terms.of(&item.channel).is_some_and(|term| term.prev_id.is_none()) && !item.hints.contains(format) {
                self.push(item, usize::MAX);
            }
        }
    }

    /// Notes which last id to restore if the piece that was just put into the outlet is dropped unsent, or `None` if
    /// the piece must be sent. `pieces` is the number of pieces that are now in the outlet.
    pub(super) fn note(&mut self, undo: Option<LastIdUndo>, pieces: usize, now_ms: u32) {
        if self.ways.can_refresh {
            if let Some(undo) = undo.as_ref().filter(|undo| undo.era == self.era) {
                self.mark_active(undo.channel, now_ms);
            }
            self.undo.push_back(undo);
            while self.undo.len() > pieces {
                self.undo.pop_front();
            }
        }
    }

    /// Restores the last ids for the pieces at the end of the outlet that need not be sent, and returns the number of
    /// these pieces. The outlet has `pieces` pieces. The first one is never among them, because it may be half
    /// written.
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

    /// Returns the [`LastIdUndo`] that restores the current last id of the channel with this index.
    pub(super) fn undo_of(&self, channel: usize) -> LastIdUndo {
        let prev_id = self.terms.channels.get(channel).and_then(|term| term.prev_id.clone());
        LastIdUndo { channel, prev_id, era: self.era }
    }

    /// Restores the last id of a channel, unless the indexes of the channels have changed since.
    pub(super) fn undo(&mut self, undo: LastIdUndo) {
        if undo.era != self.era {
            return;
        }
        if let Some(term) = self.terms.channels.get_mut(undo.channel) {
            term.prev_id = undo.prev_id;
        }
    }
}

impl Drop for RareParts {
    /// Drops the items in the queue, so that the connection no longer counts as pending for them. They were not
    /// delivered.
    fn drop(&mut self) {
        self.drop_all();
    }
}
