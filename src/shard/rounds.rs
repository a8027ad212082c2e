//! Rounds: the items and commands that have been taken out of the inbox, and how far they have been carried out.

use super::pieces::Pieces;
use super::registry::Registry;
use super::{Command, Delivery, Inbox, Key, Metrics, Steps, command};
use crate::grip::Channel;
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Appends after which a round takes no further item.
const ROUND_APPENDS: usize = 100_000;
/// How long items are appended before other tasks have their turn.
pub(super) const SLICE: Duration = Duration::from_millis(2);

/// The work of a shard that is still to be done.
#[derive(Default)]
pub(super) struct Rounds {
    /// Items that are not in every outlet yet, in the order of acceptance.
    pub(super) backlog: VecDeque<Delivery>,
    /// Commands that are still to be carried out.
    pub(super) commands: VecDeque<Command>,
    /// The place where the first command goes on, once it was begun.
    pub(super) command: Option<command::Begun>,
    /// The round that is being appended.
    pub(super) round: Round,
}

impl Rounds {
    /// Takes everything out of an inbox. Returns whether every connection is to ask its origin again.
    pub(super) fn take_from(&mut self, inbox: &Inbox) -> bool {
        inbox.take(&mut self.backlog, &mut self.commands)
    }

    /// Returns whether items of a round are still to be appended.
    pub(super) const fn is_open(&self) -> bool {
        self.round.items_left > 0
    }

    /// Opens a round of the items that have waited longest. There must be some.
    pub(super) fn open(&mut self, steps: &Steps) {
        self.round.items_left = self.backlog.len().min(steps.round_items);
        self.round.appends_left = ROUND_APPENDS;
    }

    /// Returns whether all connections have been considered for the first item of the round.
    pub(super) fn has_front_ended(&self) -> bool {
        self.round.begun.as_ref().is_some_and(|begun| begun.position == 0)
    }

    /// Drops the first item, which every outlet that takes it has. The round ends with it, if it was the last one or enough
    /// was appended.
    pub(super) fn finish_front(&mut self, registry: &Registry, inbox: &Inbox) {
        self.round.begun = None;
        self.round.items_left -= 1;
        if let Some(item) = self.backlog.pop_front() {
            let appended = registry.subscribers(&item.channel).len();
            self.round.appends_left = self.round.appends_left.saturating_sub(appended);
            inbox.release(item.weight());
        }
        if self.round.appends_left == 0 {
            self.round.items_left = 0;
        }
    }
}

/// A number of items that are appended before the outlets are flushed.
#[derive(Default)]
pub(super) struct Round {
    items_left: usize,
    appends_left: usize,
    /// The first item of the backlog, once some of its subscribers have been considered.
    pub(super) begun: Option<Begun>,
}

/// The number of connections with terms of their own that are offered an item in one step. It begins with one and follows the
/// time that they take, which depends on the item and their filters.
pub(super) struct OffersPerStep(usize);

impl Default for OffersPerStep {
    fn default() -> Self {
        Self(1)
    }
}

impl OffersPerStep {
    /// Returns the number.
    pub(super) const fn count(&self) -> usize {
        self.0
    }

    /// Notes how long the last step took. The next one has `most` connections at most.
    pub(super) fn learn(&mut self, took: Duration, most: usize) {
        self.0 = if took > SLICE / 2 { (self.0 / 4).max(1) } else { (self.0 * 2).min(most) };
    }
}

/// An item that is being appended.
pub(super) struct Begun {
    /// The number of subscribers that have not been considered yet. Those at the end are considered first.
    pub(super) position: usize,
    pub(super) pieces: Pieces,
    pub(super) offers: OffersPerStep,
    /// The channel whose subscribers are considered, if it is not the item's own: another one that they must hold as well,
    /// and that has fewer subscribers.
    pub(super) through: Option<Channel>,
}

impl Begun {
    pub(super) fn new(item: &Delivery, registry: &Registry) -> Self {
        let through = match &item.selection {
            // Whoever follows the order of a channel must learn of each item in it.
            Some(selection) if !item.is_ordered() => Some(registry.fewest(&item.channel, Some(selection)).clone()),
            _ => None,
        };
        Self { position: usize::MAX, pieces: Pieces::default(), offers: OffersPerStep::default(), through }
    }
}

/// The results of appending an item. They are carried out when the list of subscribers is no longer in use.
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

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
