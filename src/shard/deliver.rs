//! Delivery in two steps that never mix: a round of items is appended to the outlets, and then the outlets are
//! flushed.
//!
//! Items that arrive meanwhile wait in the inbox or the backlog. An outlet therefore grows beyond one round only if its
//! transport refuses bytes, and under load many items leave in one system call.

use super::conn::{Conn, DeliveryForm, Notice};
use super::offer::ItemOffer;
use super::rounds::{AppendOutcome, AppendProgress, Rounds, TIME_SLICE};
use super::{ConnectionKey, Inbox, Shard, ShardState};
use crate::grip::Formats;
use crate::grip::filter::MAX_ADDED;
use std::time::Instant;

/// The way in which the delivery loop continues after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextStep {
    /// Nothing is left to do, and the loop waits for the inbox.
    Idle,
    /// The loop does the next step at once, unless its time slice is over.
    Again,
    /// The loop lets other tasks run before the next step.
    Yield,
}

impl Shard {
    /// Delivers the items that arrive in the inbox, carries out the commands, and answers the questions. It never
    /// returns.
    pub async fn deliver(&self) {
        loop {
            self.inbox.arrived().await;
            let mut begun = Instant::now();
            loop {
                match self.step() {
                    NextStep::Idle => break,
                    NextStep::Again if begun.elapsed() < TIME_SLICE => {}
                    NextStep::Again | NextStep::Yield => {
                        tokio::task::yield_now().await;
                        begun = Instant::now();
                    }
                }
            }
        }
    }

    /// Does one step of delivery. Questions and commands come first, then the items of the open round, then the flush,
    /// and only then another round is opened. If many bytes are made for single connections, the outlets are flushed
    /// before the round goes on.
    pub(super) fn step(&self) -> NextStep {
        let state = &mut *self.state.borrow_mut();
        for question in self.inbox.questions() {
            state.answer(question);
        }
        state.outgoing.tell_if_crowded();
        if state.rounds.take_from(&self.inbox) {
            state.refresh_all();
        }
        if !state.rounds.commands.is_empty() {
            return if state.carry_out_commands(u64::MAX) { NextStep::Again } else { NextStep::Yield };
        }
        if state.rounds.is_open() && !state.has_made_much() {
            state.append_some(&self.inbox);
            return NextStep::Again;
        }
        if !state.outgoing.is_flushed() {
            state.flush_some();
            return NextStep::Yield;
        }
        state.outgoing.forget_made();
        if state.rounds.is_open() {
            return NextStep::Again;
        }
        if state.rounds.backlog.is_empty() {
            debug_assert!(state.is_whole(), "internal error: the counters of the shard are inconsistent");
            return NextStep::Idle;
        }
        state.rounds.open(&state.settings.steps);
        NextStep::Again
    }
}

impl ShardState {
    /// Returns whether so many bytes were made for single connections that the outlets must be flushed before
    /// anything else is appended.
    const fn has_made_much(&self) -> bool {
        self.outgoing.has_made(self.settings.steps.made_bytes)
    }

    /// Appends items of the round, until the round is over, the budget of the step is used up, or the outlets must
    /// be flushed.
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

    /// Appends the first item of the backlog to the outlets of at most `budget` subscribers. Returns how much of
    /// the budget was used: one more than the number of subscribers considered, or all of it if the limit for
    /// connections to which the item is offered one after another was reached first.
    fn append_front(&mut self, budget: usize, now_ms: u32) -> usize {
        let Self { rounds: Rounds { backlog, round, .. }, registry, conns, settings, outgoing, .. } = self;
        let Some(item) = backlog.front() else { return budget };
        let begun = round.begun.get_or_insert_with(|| AppendProgress::new(item, registry));
        let subscribers = registry.subscribers(begun.scanned_channel.as_ref().unwrap_or(&item.channel));
        let chosen = item.selection.as_deref().map(|selection| registry.choose(&item.channel, selection));
        // The last subscriber comes first: when a connection leaves meanwhile, the last subscriber takes its index,
        // and that one has been considered already.
        let end = begun.position.min(subscribers.len());
        let start = end.saturating_sub(budget);
        let mut outcome = AppendOutcome::default();
        let is_special = item.is_special();
        let ends_within_line = item.ends_within_line();
        // Each of these connections may get content of its own, which may be larger than the item: one filter adds at
        // most `MAX_ADDED` bytes.
        let most_special = (settings.steps.made_bytes / (item.weight() + MAX_ADDED)).clamp(1, begun.offers.count());
        let mut at = end;
        while at > start && outcome.special.len() < most_special {
            at -= 1;
            let key = subscribers[at];
            let conn = &mut conns[key];
            if conn.last_item >= item.number {
                continue;
            }
            conn.last_item = item.number;
            if is_special || conn.rare.is_some() {
                outcome.special.push(key);
                continue;
            }
            if chosen.as_ref().is_some_and(|chosen| !chosen.admits(&conn.subscriptions)) {
                continue;
            }
            if let Some(piece) = begun.pieces.select(item, conn.feed) {
                if conn.take(piece, key, now_ms, outgoing).is_ok() {
                    conn.is_within_line |= ends_within_line;
                    outcome.delivered += 1;
                } else {
                    outcome.slow.push(key);
                }
            } else if conn.feed == DeliveryForm::Response
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

    /// Offers the first item of the backlog to the connections that need a decision of their own about it, counts
    /// the results of appending the item, and carries them out.
    fn settle_front(&mut self, mut outcome: AppendOutcome) {
        let special = std::mem::take(&mut outcome.special);
        if !special.is_empty()
            && let Some(item) = self.rounds.backlog.front().cloned()
        {
            let pieces = self.rounds.round.begun.as_ref().map(|begun| begun.pieces.clone()).unwrap_or_default();
            let begin = Instant::now();
            for key in special {
                self.offer(key, ItemOffer { item: &item, pieces: &pieces }, &mut outcome);
            }
            if let Some(begun) = &mut self.rounds.round.begun {
                begun.offers.learn(begin.elapsed(), self.settings.steps.single_offers);
            }
        }
        if let Some(item) = self.rounds.backlog.front() {
            outcome.count(item, &self.metrics);
        }
        self.carry_out_outcome(&outcome);
    }

    /// Carries out an outcome: unsubscribes the long-polls that got their response and wakes their tasks, and
    /// closes the connections that are too slow.
    pub(super) fn carry_out_outcome(&mut self, outcome: &AppendOutcome) {
        for &key in &outcome.answered {
            self.unsubscribe(key);
            self.conn(key).wake();
        }
        for &key in &outcome.slow {
            self.shed(key);
        }
    }

    /// Makes every stream and every long-poll that is not ending ask its origin again, if it can.
    pub(super) fn refresh_all(&mut self) {
        let waits = |conn: &Conn| conn.ending.is_none() && Formats::HTTP.contains(conn.feed.format());
        let keys: Vec<ConnectionKey> = self.conns.iter().filter(|(_, c)| waits(c)).map(|(key, _)| key).collect();
        for key in keys {
            self.refresh(key);
        }
    }
}
