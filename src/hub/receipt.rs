//! What a publish did, gathered from the shards.

use crate::grip::Channel;
use crate::shard::Tally;
use crate::shard::tally::Counts;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// What is done with the outcomes of a batch when they are final, on whichever thread made them so.
pub type Finally = Box<dyn FnOnce(Vec<Outcome>) + Send + Sync>;

/// What became of a batch, as far as it is known.
#[derive(Debug)]
pub struct Receipt {
    items: Arc<[Line]>,
    counts: Arc<[Counts]>,
}

/// One item of a batch.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) channel: Channel,
    pub(super) delivers: bool,
    pub(super) closes: bool,
    pub(super) subscribes: bool,
    pub(super) unsubscribes: bool,
}

/// What became of one item. Only what it asked for is said: a close has no `delivered`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The item's channel.
    pub channel: String,
    /// Connections in whose outlet it is, or whose long-poll it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivered: Option<u32>,
    /// Connections whose filters kept it from them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filtered: Option<u32>,
    /// Connections cut because they had no room for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow: Option<u32>,
    /// Connections of which it is not known yet, if there are any: they are asking their origin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<u32>,
    /// Whether it waits for the item before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u32>,
    /// Whether it was published before, and is not published again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate: Option<u32>,
    /// Connections it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed: Option<u32>,
    /// Those of them that were reset with bytes unsent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<u32>,
    /// Connections that it subscribed to channels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscribed: Option<u32>,
    /// Connections that left channels by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsubscribed: Option<u32>,
}

impl Receipt {
    /// The receipt of what is about to be done, and the tally by which it is counted. `finally` gets the outcomes when
    /// they are final.
    pub(super) fn begin(items: Arc<[Line]>, finally: Finally) -> (Self, Tally) {
        let told = Arc::clone(&items);
        let finally = Box::new(move |counts: &[Counts]| finally(outcomes(&told, counts)));
        let (tally, counts) = Tally::new(items.len(), finally);
        (Self { items, counts }, tally)
    }

    /// What is known now.
    pub fn outcomes(&self) -> Vec<Outcome> {
        outcomes(&self.items, &self.counts)
    }
}

/// What the counts say of the items.
fn outcomes(items: &[Line], counts: &[Counts]) -> Vec<Outcome> {
    items.iter().zip(counts).map(|(line, counts)| line.outcome(counts)).collect()
}

impl Line {
    fn outcome(&self, counts: &Counts) -> Outcome {
        let delivers = |count: u32| self.delivers.then_some(count);
        let closes = |count: u32| self.closes.then_some(count);
        let some = |count: u32| (count > 0).then_some(count);
        Outcome {
            channel: self.channel.to_string(),
            delivered: delivers(counts.delivered.load(Relaxed)),
            filtered: delivers(counts.filtered.load(Relaxed)),
            slow: delivers(counts.slow.load(Relaxed)),
            pending: some(counts.pending.load(Relaxed)),
            waiting: some(counts.waiting.load(Relaxed)),
            duplicate: some(counts.duplicate.load(Relaxed)),
            closed: closes(counts.closed.load(Relaxed)),
            cut: closes(counts.cut.load(Relaxed)),
            subscribed: self.subscribes.then(|| counts.subscribed.load(Relaxed)),
            unsubscribed: self.unsubscribes.then(|| counts.unsubscribed.load(Relaxed)),
        }
    }
}
