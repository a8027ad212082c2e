//! A parked connection that takes items on terms, as its hold sees it.

use super::conn::Feed;
use super::inbox::Delivery;
use super::offer::{Admitted, Offer};
use super::pending_item::PendingItem;
use super::pieces::Pieces;
use super::rare::{Rare, Ways};
use super::rounds::Outcome;
use super::terms::Terms;
use super::{Denied, Parked, State};
use crate::grip::Channel;
use crate::grip::item::Id;
use bytes::Bytes;
use std::time::Duration;
use tokio::time::Instant;

/// The channels of which last ids are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// Those that the connection enters.
    Entered,
    /// All of them, those that it has held before included.
    All,
}

/// The decision about the item that has waited longest.
#[derive(Debug)]
pub enum Turn {
    /// None waits.
    Empty,
    /// It was decided.
    Decided,
    /// The hold is to say: [`Parked::give`], or [`Parked::pass_over`].
    Ask(PendingItem),
}

impl Parked {
    /// Applies these terms to the items that come from now on.
    pub fn agree(&mut self, terms: Terms, ways: Ways) {
        let state = &mut *self.shard.state.borrow_mut();
        let now_ms = state.now_ms();
        let conn = state.conn(self.key);
        match &mut conn.rare {
            Some(rare) => rare.agree(terms, ways, now_ms),
            None => conn.rare = Some(Box::new(Rare::new(terms, ways, now_ms))),
        }
    }

    /// Takes items without terms from now on, unless some wait.
    pub fn agree_to_nothing(&mut self) {
        let state = &mut *self.shard.state.borrow_mut();
        let rare = &mut state.conn(self.key).rare;
        *rare = rare.take().filter(|rare| rare.waits());
    }

    /// Returns whether it takes items on terms.
    pub fn is_on_terms(&self) -> bool {
        self.shard.state.borrow().conns[self.key].rare.is_some()
    }

    /// Returns how long it is ago that all of its channels had had an item, or that it agreed to its terms.
    pub fn all_quiet(&self) -> Duration {
        let state = self.shard.state.borrow();
        let quiet = state.conns[self.key].rare.as_ref().map_or(0, |rare| rare.quiet_ms);
        Duration::from_millis(u64::from(state.now_ms().wrapping_sub(quiet)))
    }

    /// Lets items that arrive wait, until [`Parked::resume`].
    pub fn hold_back(&mut self) {
        if let Some(rare) = &mut self.shard.state.borrow_mut().conn(self.key).rare {
            rare.held = true;
        }
    }

    /// Lets items that arrive wait no longer. Those that have waited are for [`Parked::turn`].
    pub fn let_go(&mut self) {
        if let Some(rare) = &mut self.shard.state.borrow_mut().conn(self.key).rare {
            rare.held = false;
        }
    }

    /// Returns when it was last said that the origin is to be asked again.
    pub fn refresh_since(&self) -> Option<Instant> {
        self.shard.state.borrow().conns[self.key].rare.as_ref().map(|rare| rare.since)
    }

    /// Leaves the channels that its terms do not name, and enters those that they do. The last ids in the terms are compared
    /// with what is known. Returns them, if others are known.
    ///
    /// # Errors
    /// It may not hold them.
    pub fn follow_terms(&mut self, compare: Compare) -> Result<Option<Vec<(Channel, Id)>>, Denied> {
        let state = &mut *self.shard.state.borrow_mut();
        let Some(rare) = &state.conns[self.key].rare else { return Ok(None) };
        let wanted: Vec<Channel> = rare.terms.held().map(|term| term.channel.clone()).collect();
        let held = state.channels(self.key);
        let known = rare.terms.known(|channel| compare == Compare::All || !held.contains(channel));
        let joined = state.hold_only(self.key, &wanted, &known)?;
        Ok(joined.behind.then_some(known))
    }

    /// Lets items that arrive wait no longer, and takes those that have waited.
    pub fn resume(&mut self) {
        let state = &mut *self.shard.state.borrow_mut();
        state.offer_waiting(self.key);
        state.flush(self.key);
    }

    /// Returns the last ids that it knows of, by the names that its origin uses.
    pub fn last_ids(&self) -> Vec<(String, Id)> {
        self.terms(Terms::last_ids).unwrap_or_default()
    }

    /// Looks at its terms, if it has any.
    pub fn terms<T>(&self, look: impl FnOnce(&Terms) -> T) -> Option<T> {
        self.shard.state.borrow().conns[self.key].rare.as_ref().map(|rare| look(&rare.terms))
    }

    /// Takes the item that has waited longest, and decides it if that can be done without asking.
    pub fn turn(&mut self) -> Turn {
        let state = &mut *self.shard.state.borrow_mut();
        let Some(rare) = state.conn(self.key).rare.as_mut().filter(|rare| !rare.held) else { return Turn::Empty };
        let Some(item) = rare.pop() else { return Turn::Empty };
        let mut outcome = Outcome::default();
        let Some(admitted) = state.admit(self.key, &item, &mut outcome) else {
            outcome.count(&item, &state.metrics);
            return Turn::Decided;
        };
        let conn = state.conn(self.key);
        let term = conn.rare.as_ref().and_then(|rare| rare.terms.of(&item.channel));
        let is_poll = conn.feed == Feed::Response;
        if term.is_some_and(|term| term.asks() || (is_poll && term.changes_content())) {
            return Turn::Ask(PendingItem::new(item, admitted.undo));
        }
        let offer = Offer { item: &item, pieces: &Pieces::default() };
        state.decide(self.key, offer, admitted, &mut outcome);
        settle(state, self.key, &item, &outcome);
        Turn::Decided
    }

    /// Gives it an item; `changed`: with this content.
    pub fn give(&mut self, mut pending: PendingItem, changed: Option<Bytes>) {
        let state = &mut *self.shard.state.borrow_mut();
        let (admitted, item) = (Admitted { undo: pending.undo.take() }, &pending.item);
        let mut outcome = Outcome::default();
        state.give(self.key, Offer { item, pieces: &Pieces::default() }, changed, admitted, &mut outcome);
        settle(state, self.key, item, &outcome);
    }

    /// Says that an item was not had after all: the origin is asked again.
    pub fn put_off(&mut self, mut pending: PendingItem) {
        let state = &mut *self.shard.state.borrow_mut();
        if let (Some(rare), Some(undo)) = (&mut state.conn(self.key).rare, pending.undo.take()) {
            rare.undo(undo);
        }
    }

    /// Counts an item as delivered.
    pub fn count(&self, item: &Delivery) {
        let outcome = Outcome { delivered: 1, ..Outcome::default() };
        outcome.count(item, &self.shard.state.borrow().metrics);
    }

    /// Leaves an item out.
    pub fn pass_over(&mut self, pending: &PendingItem) {
        let state = &mut *self.shard.state.borrow_mut();
        let outcome = Outcome { filtered: 1, ..Outcome::default() };
        settle(state, self.key, &pending.item, &outcome);
    }
}

fn settle(state: &mut State, key: super::Key, item: &Delivery, outcome: &Outcome) {
    outcome.count(item, &state.metrics);
    state.carry_out_outcome(outcome);
    state.flush(key);
}
