//! The terms of a parked connection, and the items that wait for the connection's task to decide them.

use super::conn::DeliveryForm;
use super::inbox::Delivery;
use super::offer::{AdmittedItem, ItemOffer};
use super::pending_item::PendingItem;
use super::pieces::Pieces;
use super::rare_parts::{ItemHandling, RareParts};
use super::rounds::AppendOutcome;
use super::terms::Terms;
use super::{DeniedChannel, Parked, ShardState};
use crate::grip::Channel;
use crate::grip::item::ItemId;
use bytes::Bytes;
use std::time::Duration;
use tokio::time::Instant;

/// The choice of channels whose last ids are compared with those that the hub knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdComparison {
    /// Only the channels that the connection enters now.
    Entered,
    /// All channels of the connection, including those that it holds already.
    All,
}

/// The result of [`Parked::take_next_item`].
#[derive(Debug)]
pub enum PendingDecision {
    /// No item waits, or the items are held back.
    Empty,
    /// The item needed no question: it was delivered or left out, or the origin is to be asked again because the
    /// item is a hint or an item before it is missing.
    Decided,
    /// The caller must pass the item through its filters, and then deliver it by [`Parked::deliver_pending`], leave it
    /// out by [`Parked::skip_pending`], or have the origin asked again and call [`Parked::undo_pending`]. The hold of a
    /// long-poll does not deliver it in this way: it answers with the item, and calls [`Parked::count`].
    Ask(PendingItem),
}

impl Parked {
    /// Sets the terms of the connection. They apply to every item that is decided from now on, including the items
    /// that wait. Only waiting items of a channel that the new terms do not have keep their old term. Channels that
    /// publishers have added to the connection or removed from it stay added or removed.
    pub fn set_terms(&mut self, terms: Terms, ways: ItemHandling) {
        let state = &mut *self.shard.state.borrow_mut();
        let now_ms = state.now_ms();
        let conn = state.conn(self.key);
        match &mut conn.rare {
            Some(rare) => rare.replace_terms(terms, ways, now_ms),
            None => conn.rare = Some(Box::new(RareParts::new(terms, ways, now_ms))),
        }
    }

    /// Removes the terms of the connection, unless items wait to be decided by them. Without terms, the connection
    /// takes every item of its channels as it comes.
    pub fn clear_terms(&mut self) {
        let state = &mut *self.shard.state.borrow_mut();
        let rare = &mut state.conn(self.key).rare;
        *rare = rare.take().filter(|rare| rare.waits());
    }

    /// Returns whether the connection takes items on terms.
    pub fn is_on_terms(&self) -> bool {
        self.shard.state.borrow().conns[self.key].rare.is_some()
    }

    /// Returns the time since the last moment at which all channels of the connection were known to be active. Such
    /// a moment is when the connection agrees to its terms, and then whenever each of its channels has had an item
    /// since the previous such moment.
    ///
    /// If the connection holds more than 64 channels, only the first kind of moment occurs.
    pub fn time_since_all_active(&self) -> Duration {
        let state = self.shard.state.borrow();
        let quiet = state.conns[self.key].rare.as_ref().map_or(0, |rare| rare.quiet_ms);
        Duration::from_millis(u64::from(state.now_ms().wrapping_sub(quiet)))
    }

    /// Makes items that arrive wait until [`Parked::resume`] or [`Parked::stop_queueing`] is called. This has no effect
    /// without terms.
    pub fn queue_items(&mut self) {
        if let Some(rare) = &mut self.shard.state.borrow_mut().conn(self.key).rare {
            rare.is_queueing = true;
        }
    }

    /// Stops holding items back. The items that wait already are taken by [`Parked::take_next_item`], and items that
    /// arrive before the last of them is taken are queued after them.
    pub fn stop_queueing(&mut self) {
        if let Some(rare) = &mut self.shard.state.borrow_mut().conn(self.key).rare {
            rare.is_queueing = false;
        }
    }

    /// Returns the time at which the connection was last made to ask its origin again, or at which it was first given
    /// terms if that has not happened. `None`: the connection has no terms.
    pub fn refresh_since(&self) -> Option<Instant> {
        self.shard.state.borrow().conns[self.key].rare.as_ref().map(|rare| rare.since)
    }

    /// Leaves the channels that the connection's terms do not name, and enters those that they name. The last ids
    /// in the terms, of the channels that `compare` selects, are compared with the last ids that the hub knows. If
    /// one of them differs, all that were compared are returned.
    ///
    /// # Errors
    /// [`DeniedChannel`] if the connection may not hold one of the channels that it enters. It has left the other
    /// channels even then.
    pub fn follow_terms(&mut self, compare: IdComparison) -> Result<Option<Vec<(Channel, ItemId)>>, DeniedChannel> {
        let (fresh, known) = {
            let state = &mut *self.shard.state.borrow_mut();
            let Some(rare) = &state.conns[self.key].rare else { return Ok(None) };
            let wanted: Vec<Channel> = rare.terms.held().map(|term| term.channel.clone()).collect();
            let held = state.channels(self.key);
            let known = rare.terms.known(|channel| compare == IdComparison::All || !held.contains(channel));
            (state.leave_others(self.key, &wanted), known)
        };
        let joined = self.enter_all(&fresh, &known)?;
        Ok(joined.behind.then_some(known))
    }

    /// Stops holding items back, offers the items that wait to the connection in their order, and flushes its
    /// outlet. If an item turns out to be missing, the items after it go on waiting, except for those that the origin's
    /// next response covers.
    pub fn resume(&mut self) {
        let state = &mut *self.shard.state.borrow_mut();
        state.offer_waiting(self.key);
        state.flush(self.key);
    }

    /// Returns the last id of each channel for which the connection knows one, with the channel's name as the
    /// origin uses it.
    pub fn last_ids(&self) -> Vec<(String, ItemId)> {
        self.terms(Terms::last_ids).unwrap_or_default()
    }

    /// Calls `look` with the connection's terms, and returns its result. Returns `None` if the connection has no
    /// terms.
    pub fn terms<T>(&self, look: impl FnOnce(&Terms) -> T) -> Option<T> {
        self.shard.state.borrow().conns[self.key].rare.as_ref().map(|rare| look(&rare.terms))
    }

    /// Removes the item that has waited longest from the queue, and decides it if nobody has to be asked about it.
    pub fn take_next_item(&mut self) -> PendingDecision {
        let state = &mut *self.shard.state.borrow_mut();
        let Some(rare) = state.conn(self.key).rare.as_mut().filter(|rare| !rare.is_queueing) else {
            return PendingDecision::Empty;
        };
        let Some(item) = rare.pop() else { return PendingDecision::Empty };
        let mut outcome = AppendOutcome::default();
        let Some(admitted) = state.admit(self.key, &item, &mut outcome) else {
            outcome.count(&item, &state.metrics);
            return PendingDecision::Decided;
        };
        let conn = state.conn(self.key);
        let term = conn.rare.as_ref().and_then(|rare| rare.terms.of(&item.channel));
        let is_poll = conn.feed == DeliveryForm::Response;
        if term.is_some_and(|term| term.asks() || (is_poll && term.changes_content())) {
            return PendingDecision::Ask(PendingItem::new(item, admitted.undo));
        }
        let offer = ItemOffer { item: &item, pieces: &Pieces::default() };
        state.decide(self.key, offer, admitted, &mut outcome);
        settle(state, self.key, &item, &outcome);
        PendingDecision::Decided
    }

    /// Delivers an item that was asked about. If `changed` is given, it replaces the item's own content.
    pub fn deliver_pending(&mut self, mut pending: PendingItem, changed: Option<Bytes>) {
        let state = &mut *self.shard.state.borrow_mut();
        let (admitted, item) = (AdmittedItem { undo: pending.undo.take() }, &pending.item);
        let mut outcome = AppendOutcome::default();
        state.deliver(self.key, ItemOffer { item, pieces: &Pieces::default() }, changed, admitted, &mut outcome);
        settle(state, self.key, item, &outcome);
    }

    /// Notes that the client did not get an item that was asked about, by restoring the last id of the item's
    /// channel. The caller has the origin asked again.
    pub fn undo_pending(&mut self, mut pending: PendingItem) {
        let state = &mut *self.shard.state.borrow_mut();
        if let (Some(rare), Some(undo)) = (&mut state.conn(self.key).rare, pending.undo.take()) {
            rare.undo(undo);
        }
    }

    /// Counts an item as delivered to the connection.
    pub fn count(&self, item: &Delivery) {
        let outcome = AppendOutcome { delivered: 1, ..AppendOutcome::default() };
        outcome.count(item, &self.shard.state.borrow().metrics);
    }

    /// Leaves out an item that was asked about, and counts it as filtered.
    pub fn skip_pending(&mut self, pending: &PendingItem) {
        let state = &mut *self.shard.state.borrow_mut();
        let outcome = AppendOutcome { filtered: 1, ..AppendOutcome::default() };
        settle(state, self.key, &pending.item, &outcome);
    }
}

fn settle(state: &mut ShardState, key: super::ConnectionKey, item: &Delivery, outcome: &AppendOutcome) {
    outcome.count(item, &state.metrics);
    state.carry_out_outcome(outcome);
    state.flush(key);
}
