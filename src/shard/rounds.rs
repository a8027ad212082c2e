//! The rounds of a shard: the items and commands that were taken out of its inbox, and how far they have been carried
//! out.

use super::pieces::Pieces;
use super::registry::SubscriberRegistry;
use super::{Command, ConnectionKey, Delivery, Inbox, Metrics, StepSizes, command};
use crate::grip::Channel;
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// The number of appends to outlets after which a round takes no further item.
const ROUND_APPENDS: usize = 100_000;
/// The time for which a shard works on deliveries before other tasks of its thread run.
pub(super) const TIME_SLICE: Duration = Duration::from_millis(2);

/// The work of a shard that is still to be done.
#[derive(Default)]
pub(super) struct Rounds {
    /// Items that have not been appended to all outlets yet, in the order of acceptance.
    pub(super) backlog: VecDeque<Delivery>,
    /// Commands that are still to be carried out.
    pub(super) commands: VecDeque<Command>,
    /// The progress of the first command, if it was begun and is not finished.
    pub(super) command: Option<command::CommandProgress>,
    /// The round that is being appended.
    pub(super) round: Round,
}

impl Rounds {
    /// Moves all items and commands from an inbox to the end of these queues. Returns whether every stream and every
    /// long-poll is to ask its origin again.
    pub(super) fn take_from(&mut self, inbox: &Inbox) -> bool {
        inbox.take(&mut self.backlog, &mut self.commands)
    }

    /// Returns whether items of a round are still to be appended.
    pub(super) const fn is_open(&self) -> bool {
        self.round.items_left > 0
    }

    /// Opens a round with the items that have waited longest. The backlog must not be empty.
    pub(super) fn open(&mut self, steps: &StepSizes) {
        self.round.items_left = self.backlog.len().min(steps.round_items);
        self.round.appends_left = ROUND_APPENDS;
    }

    /// Returns whether all connections have been considered for the first item of the round.
    pub(super) fn has_front_ended(&self) -> bool {
        self.round.begun.as_ref().is_some_and(|begun| begun.position == 0)
    }

    /// Removes the first item of the backlog, which has been appended to every outlet that takes it. If this was the
    /// last item of the round, or if enough was appended, the round ends.
    pub(super) fn finish_front(&mut self, registry: &SubscriberRegistry, inbox: &Inbox) {
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

/// A group of items that are appended before the outlets are flushed.
#[derive(Default)]
pub(super) struct Round {
    items_left: usize,
    appends_left: usize,
    /// The progress of the first item of the backlog, once some of its subscribers have been considered.
    pub(super) begun: Option<AppendProgress>,
}

/// The maximum number of connections to which an item is offered one after another in a single step. It begins with
/// one, and adapts to the time that the offers take, which depends on the item and on the connections' filters.
pub(super) struct OffersPerStep(usize);

impl Default for OffersPerStep {
    fn default() -> Self {
        Self(1)
    }
}

impl OffersPerStep {
    /// Returns the maximum number of connections for the next step.
    pub(super) const fn count(&self) -> usize {
        self.0
    }

    /// Adapts the number to the time that the last step took. The number never exceeds `most`.
    pub(super) fn learn(&mut self, took: Duration, most: usize) {
        self.0 = if took > TIME_SLICE / 2 { (self.0 / 4).max(1) } else { (self.0 * 2).min(most) };
    }
}

/// The progress of an item that is being appended.
pub(super) struct AppendProgress {
    /// The number of subscribers that have not been considered yet. Those at the end are considered first.
    pub(super) position: usize,
    pub(super) pieces: Pieces,
    pub(super) offers: OffersPerStep,
    /// The channel whose subscribers are considered if the item has a selection: of the channels that a connection
    /// must hold, the one with the fewest subscribers. `None`: the subscribers of the item's own channel are
    /// considered.
    pub(super) scanned_channel: Option<Channel>,
}

impl AppendProgress {
    pub(super) fn new(item: &Delivery, registry: &SubscriberRegistry) -> Self {
        let scanned_channel = match &item.selection {
            // Connections that follow the order of a channel must learn of each item in it, even if its selection
            // excludes them.
            Some(selection) if !item.is_ordered() => Some(registry.fewest(&item.channel, Some(selection)).clone()),
            _ => None,
        };
        Self { position: usize::MAX, pieces: Pieces::default(), offers: OffersPerStep::default(), scanned_channel }
    }
}

/// The results of appending an item: counts, and the connections that need more work. That work is done after the
/// appending, because it changes the list of subscribers that the appending reads.
#[derive(Default)]
pub(super) struct AppendOutcome {
    pub(super) delivered: usize,
    pub(super) filtered: usize,
    pub(super) answered: Vec<ConnectionKey>,
    pub(super) slow: Vec<ConnectionKey>,
    /// Connections to which the item has to be offered one after another, because they have terms or the item is
    /// special.
    pub(super) special: Vec<ConnectionKey>,
}

impl AppendOutcome {
    /// Adds the results to the counts of the item and to the metrics.
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
