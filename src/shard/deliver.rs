//! Delivery in two steps, never mixed: a round of items is appended to outlets, then the outlets are flushed.
//!
//! What arrives meanwhile waits in the inbox. An outlet therefore grows past one round only if its socket
//! refuses bytes, and under load many items leave in one system call.

use super::conn::{Conn, Feed, Notice};
use super::offer::Offer;
use super::rounds::{Begun, Outcome, Rounds, SLICE};
use super::{Inbox, Key, Shard, State};
use crate::grip::Formats;
use crate::grip::filter::MAX_ADDED;
use std::time::Instant;

/// The thing to do after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Wait for the inbox.
    Idle,
    /// Go on at once.
    Again,
    /// Let others run, then go on.
    Yield,
}

impl Shard {
    /// Delivers what arrives in the inbox, forever.
    pub async fn deliver(&self) {
        loop {
            self.inbox.arrived().await;
            let mut begun = Instant::now();
            loop {
                match self.step() {
                    Step::Idle => break,
                    Step::Again if begun.elapsed() < SLICE => {}
                    Step::Again | Step::Yield => {
                        tokio::task::yield_now().await;
                        begun = Instant::now();
                    }
                }
            }
        }
    }

    /// Commands first, then the round that is open, then the flush, and only then another round. A round in which much is
    /// made for single connections is flushed in between.
    pub(super) fn step(&self) -> Step {
        let state = &mut *self.state.borrow_mut();
        for question in self.inbox.questions() {
            state.answer(question);
        }
        state.outgoing.tell_if_crowded();
        if state.rounds.take_from(&self.inbox) {
            state.refresh_all();
        }
        if !state.rounds.commands.is_empty() {
            return if state.carry_out_commands(u64::MAX) { Step::Again } else { Step::Yield };
        }
        if state.rounds.is_open() && !state.has_made_much() {
            state.append_some(&self.inbox);
            return Step::Again;
        }
        if !state.outgoing.is_flushed() {
            state.flush_some();
            return Step::Yield;
        }
        state.outgoing.forget_made();
        if state.rounds.is_open() {
            return Step::Again;
        }
        if state.rounds.backlog.is_empty() {
            debug_assert!(state.is_whole(), "internal error: the counters of the shard are inconsistent");
            return Step::Idle;
        }
        state.rounds.open(&state.settings.steps);
        Step::Again
    }
}

impl State {
    /// Returns whether so much was made for single connections that the outlets are to be flushed before anything else is
    /// appended.
    const fn has_made_much(&self) -> bool {
        self.outgoing.has_made(self.settings.steps.made_bytes)
    }

    /// Appends items of the round until it is through or it is time to look at the closes.
    fn append_some(&mut self, inbox: &Inbox) {
        let now_ms = self.now_ms();
        let mut budget = self.settings.steps.look_every;
        while budget > 0 && self.rounds.is_open() && !self.has_made_much() {
            let used = self.append_front(budget, now_ms);
            budget -= used.min(budget);
            if self.rounds.has_front_ended() {
                self.rounds.finish_front(&self.registry, inbox);
            }
        }
    }

    /// Appends the first item of the backlog to at most `budget` outlets. Returns how many it considered, plus one.
    fn append_front(&mut self, budget: usize, now_ms: u32) -> usize {
        let Self { rounds: Rounds { backlog, round, .. }, registry, conns, settings, outgoing, .. } = self;
        let Some(item) = backlog.front() else { return budget };
        let begun = round.begun.get_or_insert_with(|| Begun::new(item, registry));
        let subscribers = registry.subscribers(begun.through.as_ref().unwrap_or(&item.channel));
        let chosen = item.selection.as_deref().map(|selection| registry.choose(&item.channel, selection));
        // Backwards: a connection that leaves meanwhile moves one that was considered already to its place.
        let end = begun.position.min(subscribers.len());
        let start = end.saturating_sub(budget);
        let mut outcome = Outcome::default();
        let is_special = item.is_special();
        // Each of them may get content of its own that is a little larger than the item.
        let most_special = (settings.steps.made_bytes / (item.weight() + MAX_ADDED)).clamp(1, begun.offers.count());
        let mut at = end;
        while at > start && outcome.special.len() < most_special {
            at -= 1;
            let key = subscribers[at];
            let conn = &mut conns[key];
            if conn.seen >= item.number {
                continue;
            }
            conn.seen = item.number;
            if is_special || conn.rare.is_some() {
                outcome.special.push(key);
                continue;
            }
            if chosen.as_ref().is_some_and(|chosen| !chosen.admits(&conn.subscriptions)) {
                continue;
            }
            if let Some(piece) = begun.pieces.select(item, conn.feed) {
                if conn.take(piece, key, now_ms, outgoing).is_ok() {
                    outcome.delivered += 1;
                } else {
                    outcome.slow.push(key);
                }
            } else if conn.feed == Feed::Response
                && let Some(response) = &item.response
            {
                conn.notice = Notice::Item(response.clone());
                outcome.answered.push(key);
                outcome.delivered += 1;
            }
        }
        begun.position = at;
        let used = if at > start { budget } else { end - at + 1 };
        self.settle_front(outcome);
        used
    }

    /// Offers the item to those who do not take it as everybody does, counts what appending did, and carries out what
    /// it found.
    fn settle_front(&mut self, mut outcome: Outcome) {
        let special = std::mem::take(&mut outcome.special);
        if !special.is_empty()
            && let Some(item) = self.rounds.backlog.front().cloned()
        {
            let pieces = self.rounds.round.begun.as_ref().map(|begun| begun.pieces.clone()).unwrap_or_default();
            let begin = Instant::now();
            for key in special {
                self.offer(key, Offer { item: &item, pieces: &pieces }, &mut outcome);
            }
            if let Some(begun) = &mut self.rounds.round.begun {
                begun.offers.learn(begin.elapsed(), self.settings.steps.special);
            }
        }
        if let Some(item) = self.rounds.backlog.front() {
            outcome.count(item, &self.metrics);
        }
        self.carry_out_outcome(&outcome);
    }

    /// Ends what appending found to be at its end.
    pub(super) fn carry_out_outcome(&mut self, outcome: &Outcome) {
        for &key in &outcome.answered {
            self.unsubscribe(key);
            self.conn(key).wake();
        }
        for &key in &outcome.slow {
            self.shed(key);
        }
    }

    /// Makes every connection that waits for answers ask its origin again.
    pub(super) fn refresh_all(&mut self) {
        let waits = |conn: &Conn| conn.ending.is_none() && Formats::ANSWERS.contains(conn.feed.format());
        let keys: Vec<Key> = self.conns.iter().filter(|(_, c)| waits(c)).map(|(key, _)| key).collect();
        for key in keys {
            self.refresh(key);
        }
    }
}
