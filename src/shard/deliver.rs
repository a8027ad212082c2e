//! Delivery in two steps, never mixed: a round of items is appended to outlets, then the outlets are flushed.
//!
//! What arrives meanwhile waits in the inbox. An outlet therefore grows past one round only if its socket
//! refuses bytes, and under load many items leave in one system call.

use super::conn::{Conn, Feed, News};
use super::ending::Phase;
use super::inbox::Delivery;
use super::pieces::Pieces;
use super::registry::Registry;
use super::{Inbox, Key, Metrics, Shard, State, millis_since};
use crate::grip::filter::MAX_ADDED;
use crate::grip::{Channel, Formats};
use crate::net::Flushed;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Appends after which a round takes no further item.
const ROUND_APPENDS: usize = 100_000;
/// How long items are appended before other tasks have their turn.
const SLICE: Duration = Duration::from_millis(2);
/// Bytes flushed before others have their turn.
const FLUSH_BYTES: usize = 1 << 20;

/// The round that is being appended.
#[derive(Default)]
pub(super) struct Round {
    items_left: usize,
    appends_left: usize,
    /// The first item of the backlog, begun.
    begun: Option<Begun>,
}

/// How many connections with terms of their own are offered an item in one step. It begins with one and follows the time
/// that they take, which depends on the item and their filters.
struct Batch(usize);

impl Default for Batch {
    fn default() -> Self {
        Self(1)
    }
}

impl Batch {
    /// Takes note of how long the last step took. The next has `most` connections at most.
    fn learn(&mut self, took: Duration, most: usize) {
        self.0 = if took > SLICE / 2 { (self.0 / 4).max(1) } else { (self.0 * 2).min(most) };
    }
}

/// An item of which the subscribers before `position` have not been considered yet.
struct Begun {
    position: usize,
    pieces: Pieces,
    batch: Batch,
    /// The channel whose subscribers they are, if not its own: one that they must hold as well, with fewer of them.
    through: Option<Channel>,
}

impl Begun {
    fn new(item: &Delivery, registry: &Registry) -> Self {
        let through = match &item.selection {
            // Whoever follows the order of a channel must learn of each item in it.
            Some(selection) if !item.is_ordered() => Some(registry.fewest(&item.channel, Some(selection)).clone()),
            _ => None,
        };
        Self { position: usize::MAX, pieces: Pieces::default(), batch: Batch::default(), through }
    }
}

/// What appending met with, to be carried out when the list of subscribers is no longer in use.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) delivered: usize,
    pub(super) filtered: usize,
    pub(super) answered: Vec<Key>,
    pub(super) slow: Vec<Key>,
    /// Connections that do not take the item as everybody does.
    pub(super) special: Vec<Key>,
}

impl Outcome {
    /// Counts it.
    pub(super) fn count(&self, item: &Delivery, metrics: &Metrics) {
        let counts = item.tally.of(item.index);
        counts.delivered.fetch_add(count(self.delivered), Relaxed);
        counts.filtered.fetch_add(count(self.filtered), Relaxed);
        counts.slow.fetch_add(count(self.slow.len()), Relaxed);
        metrics.delivered.inc_by(self.delivered as u64);
        metrics.filtered.inc_by(self.filtered as u64);
        metrics.slow.inc_by(self.slow.len() as u64);
    }
}

/// What to do after a step.
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
    /// Delivers what arrives in the inbox, for ever.
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
        if state.is_crowded() {
            state.crowded.notify_one();
        }
        if self.inbox.take(&mut state.backlog, &mut state.commands) {
            state.refresh_all();
        }
        if !state.commands.is_empty() {
            return if state.carry_out_commands(u64::MAX) { Step::Again } else { Step::Yield };
        }
        if state.round.items_left > 0 && !state.has_made_much() {
            state.append_some(&self.inbox);
            return Step::Again;
        }
        if !state.dirty.is_empty() {
            state.flush_some();
            return Step::Yield;
        }
        state.made_bytes = 0;
        if state.round.items_left > 0 {
            return Step::Again;
        }
        if state.backlog.is_empty() {
            debug_assert!(state.is_whole(), "the shard has lost count of something");
            return Step::Idle;
        }
        state.round.items_left = state.backlog.len().min(state.settings.steps.round_items);
        state.round.appends_left = ROUND_APPENDS;
        Step::Again
    }
}

impl State {
    /// Whether so much was made for single connections that the outlets are to be flushed before anything else is appended.
    const fn has_made_much(&self) -> bool {
        self.made_bytes >= self.settings.steps.made_bytes
    }

    /// Appends items of the round until it is through or it is time to look at the closes.
    fn append_some(&mut self, inbox: &Inbox) {
        let now_ms = self.now_ms();
        let mut budget = self.settings.steps.look_every;
        while budget > 0 && self.round.items_left > 0 && !self.has_made_much() {
            let used = self.append_front(budget, now_ms);
            budget -= used.min(budget);
            if self.round.begun.as_ref().is_some_and(|b| b.position == 0) {
                self.finish_front(inbox);
            }
        }
    }

    /// Appends the first item of the backlog to at most `budget` outlets. Says how many it considered, plus one.
    fn append_front(&mut self, budget: usize, now_ms: u32) -> usize {
        let Self { backlog, registry, conns, round, settings, dirty, waiting_bytes, .. } = self;
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
        let most_special = (settings.steps.made_bytes / (item.weight() + MAX_ADDED)).clamp(1, begun.batch.0);
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
                if conn.take(piece, key, now_ms, settings, dirty, waiting_bytes) {
                    outcome.delivered += 1;
                } else {
                    outcome.slow.push(key);
                }
            } else if conn.feed == Feed::Response
                && let Some(response) = &item.response
            {
                conn.news = News::Item(response.clone());
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
            && let Some(item) = self.backlog.front().cloned()
        {
            let pieces = self.round.begun.as_ref().map(|begun| begun.pieces.clone()).unwrap_or_default();
            let begin = Instant::now();
            for key in special {
                self.offer(key, &item, &pieces, &mut outcome);
            }
            if let Some(begun) = &mut self.round.begun {
                begun.batch.learn(begin.elapsed(), self.settings.steps.special);
            }
        }
        if let Some(item) = self.backlog.front() {
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

    /// Has every connection that waits for answers ask its origin again.
    pub(super) fn refresh_all(&mut self) {
        let waits = |conn: &Conn| conn.ending.is_none() && Formats::ANSWERS.contains(conn.feed.format());
        let keys: Vec<Key> = self.conns.iter().filter(|(_, c)| waits(c)).map(|(key, _)| key).collect();
        for key in keys {
            self.refresh(key);
        }
    }

    /// Drops the first item of the backlog: every outlet that takes it has it.
    fn finish_front(&mut self, inbox: &Inbox) {
        self.round.begun = None;
        self.round.items_left -= 1;
        if let Some(item) = self.backlog.pop_front() {
            let appended = self.registry.subscribers(&item.channel).len();
            self.round.appends_left = self.round.appends_left.saturating_sub(appended);
            inbox.release(item.weight());
        }
        if self.round.appends_left == 0 {
            self.round.items_left = 0;
        }
    }

    /// Flushes a chunk of the connections that need it.
    fn flush_some(&mut self) {
        let mut bytes = 0;
        for _ in 0..self.settings.steps.flush_connections {
            let Some(key) = self.dirty.pop_front() else { break };
            let Some(conn) = self.conns.get(key) else { continue };
            bytes += conn.outlet.bytes();
            self.flush(key);
            if bytes >= FLUSH_BYTES {
                break;
            }
        }
        if self.is_overcrowded() {
            self.relieve();
        }
    }

    /// Gives the transport what it takes of a connection's outlet, and the end of our bytes when it is time.
    pub(super) fn flush(&mut self, key: Key) {
        let conn = &mut self.conns[key];
        conn.dirty = false;
        let last = conn.is_complete();
        let Some(transport) = &mut conn.transport else { return };
        let waiting = conn.outlet.bytes();
        let before = if conn.blocked { waiting } else { 0 };
        let written = conn.outlet.write_to(transport, last);
        conn.sent += (waiting - conn.outlet.bytes()) as u64;
        match written {
            Ok(Flushed::All) => {
                self.waiting_bytes -= before;
                conn.blocked = false;
                self.finish_if_complete(key);
            }
            Ok(Flushed::Blocked) => {
                let after = conn.outlet.bytes();
                self.waiting_bytes = self.waiting_bytes + after - before;
                if !conn.blocked || after < before {
                    conn.progress_ms = millis_since(self.started);
                }
                if !conn.blocked {
                    conn.blocked = true;
                    conn.wake();
                }
                if self.is_crowded() {
                    self.crowded.notify_one();
                }
            }
            Err(_) => {
                self.waiting_bytes -= before;
                conn.blocked = false;
                self.disconnect(key);
            }
        }
    }

    /// Sends the end of our bytes after the last byte of a connection that is being ended.
    fn finish_if_complete(&mut self, key: Key) {
        let conn = self.conn(key);
        let (Some(ending), Some(transport)) = (&mut conn.ending, &mut conn.transport) else { return };
        if ending.phase != Phase::Finishing {
            return;
        }
        if matches!(transport.finish(), Ok(Flushed::Blocked)) {
            conn.blocked = true;
            return conn.wake();
        }
        // An error means that the client is gone, which its task is about to see.
        ending.phase = Phase::Finished;
        if conn.settle(false) {
            self.metrics.closed.inc();
        }
    }
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
