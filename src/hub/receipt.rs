//! The outcomes of a publish, gathered from the shards.

use crate::grip::Channel;
use crate::shard::Tally;
use crate::shard::tally::Counts;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A function that gets the final outcomes of a batch. It is called on the thread that made them final.
pub type OnFinalOutcomes = Box<dyn FnOnce(Vec<Outcome>) + Send + Sync>;

/// The outcomes of a batch, as far as they are known.
#[derive(Clone, Debug)]
pub struct Receipt {
    items: Arc<[ReceiptLine]>,
    counts: Arc<[Counts]>,
}

/// The entry of a receipt for one item of a batch: the channel of the item, and the kinds of counts that it has.
#[derive(Debug)]
pub(super) struct ReceiptLine {
    pub(super) channel: Channel,
    pub(super) delivers: bool,
    pub(super) closes: bool,
    pub(super) subscribes: bool,
    pub(super) unsubscribes: bool,
}

/// The outcome of one item. Counts that do not apply to the item are `None`: a close without content has no
/// `delivered`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    /// The item's channel.
    pub channel: String,
    /// The number of connections in whose outlet the item was put, or whose long-poll it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivered: Option<u32>,
    /// The number of connections that hold the channel but did not get the item because of their filters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filtered: Option<u32>,
    /// The number of connections that were ended because they had no room for the item.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow: Option<u32>,
    /// The number of connections for which the outcome is not known yet, because the item waits in their queue, for
    /// example while they are asking their origin, or because their hold or session is deciding about it. `None` if
    /// there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<u32>,
    /// 1 if the item waits for the item before it, `None` if not. In a sum, the number of such items.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u32>,
    /// 1 if the item was published before, so that its content is not delivered again, `None` if not. In a sum, the
    /// number of such items.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate: Option<u32>,
    /// The number of connections that the item ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed: Option<u32>,
    /// The number of connections that the item ended and that were reset, or whose clients were gone, before everything
    /// was sent to them. `closed` counts them, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<u32>,
    /// The number of connections that the item subscribed to channels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscribed: Option<u32>,
    /// The number of connections that the item unsubscribed from channels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsubscribed: Option<u32>,
}

impl Receipt {
    /// Returns the receipt of items that are about to be accepted, and the tally in which their counts are kept.
    /// `finally` gets the outcomes when they are final.
    pub(super) fn begin(items: Arc<[ReceiptLine]>, finally: OnFinalOutcomes) -> (Self, Tally) {
        let told = Arc::clone(&items);
        let finally = Box::new(move |counts: &[Counts]| finally(outcomes(&told, counts)));
        let (tally, counts) = Tally::new(items.len(), finally);
        (Self { items, counts }, tally)
    }

    /// Returns the outcomes as they are known now.
    pub fn outcomes(&self) -> Vec<Outcome> {
        outcomes(&self.items, &self.counts)
    }
}

impl Outcome {
    /// Adds the counts of another outcome: that of the same item on another node, or that of another item. A count
    /// that is `None` in both stays `None`.
    pub fn add(&mut self, other: &Self) {
        let counts = [
            (&mut self.delivered, other.delivered),
            (&mut self.filtered, other.filtered),
            (&mut self.slow, other.slow),
            (&mut self.pending, other.pending),
            (&mut self.waiting, other.waiting),
            (&mut self.duplicate, other.duplicate),
            (&mut self.closed, other.closed),
            (&mut self.cut, other.cut),
            (&mut self.subscribed, other.subscribed),
            (&mut self.unsubscribed, other.unsubscribed),
        ];
        for (sum, count) in counts {
            if let Some(count) = count {
                *sum = Some(sum.unwrap_or_default().saturating_add(count));
            }
        }
    }
}

/// Returns the outcomes of items from their counts.
fn outcomes(items: &[ReceiptLine], counts: &[Counts]) -> Vec<Outcome> {
    items.iter().zip(counts).map(|(line, counts)| line.outcome(counts)).collect()
}

impl ReceiptLine {
    fn outcome(&self, counts: &Counts) -> Outcome {
        let delivers = |count: u32| self.delivers.then_some(count);
        let closes = |count: u32| self.closes.then_some(count);
        let subscribes = |count: u32| self.subscribes.then_some(count);
        let unsubscribes = |count: u32| self.unsubscribes.then_some(count);
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
            subscribed: subscribes(counts.subscribed.load(Relaxed)),
            unsubscribed: unsubscribes(counts.unsubscribed.load(Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn outcome(json: serde_json::Value) -> Outcome {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn outcomes_add_up_and_can_be_read_back() {
        let first = json!({ "channel": "a", "delivered": 2, "filtered": 0, "slow": 1, "waiting": 1 });
        let second = json!({ "channel": "b", "delivered": 3, "filtered": 1, "slow": 0, "closed": 4, "cut": 1 });
        let mut sum = outcome(first.clone());
        assert_eq!(serde_json::to_value(&sum).unwrap(), first);
        sum.add(&outcome(second));
        let expected = json!({
            "channel": "a", "delivered": 5, "filtered": 1, "slow": 1, "waiting": 1, "closed": 4, "cut": 1,
        });
        assert_eq!(serde_json::to_value(&sum).unwrap(), expected);
        let rest = json!({
            "channel": "c", "pending": 1, "duplicate": 2, "subscribed": 3, "unsubscribed": 4,
        });
        sum.add(&outcome(rest.clone()));
        sum.add(&outcome(rest));
        let Outcome { pending, duplicate, subscribed, unsubscribed, .. } = sum;
        assert_eq!((pending, duplicate, subscribed, unsubscribed), (Some(2), Some(4), Some(6), Some(8)));
        let (mut most, one) =
            (Outcome { closed: Some(u32::MAX), ..Outcome::default() }, outcome(json!({ "channel": "", "closed": 1 })));
        most.add(&one);
        assert_eq!(most.closed, Some(u32::MAX));
    }
}
