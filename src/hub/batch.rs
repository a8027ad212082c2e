//! A batch on its way through acceptance.

use super::receipt::{Line, Outcome, Receipt, outcomes};
use super::table::Table;
use crate::grip::item::Response;
use crate::grip::{Channel, Formats, Item};
use crate::shard::tally::Counts;
use crate::shard::{Close, Delivery, Tally};
use crate::wire::Chunk;
use std::sync::Arc;

/// Items rendered once, before the critical section.
pub(super) struct Batch {
    entries: Vec<Entry>,
    finally: Finally,
}

/// What is done with the outcomes of a batch when they are final, on whichever thread made them so.
pub type Finally = Box<dyn FnOnce(Vec<Outcome>) + Send + Sync>;

struct Entry {
    channel: Channel,
    stream: Option<Chunk>,
    response: Option<Arc<Response>>,
    closes: Formats,
}

/// A batch that was accepted.
pub(super) struct Accepted {
    pub(super) receipt: Receipt,
    /// Of a batch for nobody the last one, whose end runs `finally`: it is to outlive the critical section.
    _tally: Tally,
}

/// What of a batch goes to one shard.
#[derive(Default)]
pub(super) struct Parcel {
    pub(super) deliveries: Vec<Delivery>,
    pub(super) closes: Vec<Close>,
}

impl Parcel {
    pub(super) const fn is_empty(&self) -> bool {
        self.deliveries.is_empty() && self.closes.is_empty()
    }
}

/// How much room a batch needs in one inbox.
#[derive(Clone, Copy, Default)]
pub(super) struct Load {
    pub(super) items: usize,
    pub(super) bytes: usize,
}

impl Load {
    pub(super) const fn is_empty(self) -> bool {
        self.items == 0
    }
}

impl Batch {
    pub(super) fn new(items: Vec<Item>, finally: Finally) -> Self {
        let entry = |item: Item| Entry {
            channel: item.channel,
            stream: item.stream.map(|content| Chunk::new(&content)),
            response: item.response.map(Arc::new),
            closes: item.closes,
        };
        Self { entries: items.into_iter().map(entry).collect(), finally }
    }

    /// Whether one of the items closes.
    pub(super) fn closes(&self) -> bool {
        self.entries.iter().any(|e| !e.closes.is_empty())
    }

    /// The room it needs in the inbox of each shard.
    pub(super) fn loads(&self, table: &Table, shards: usize) -> Vec<Load> {
        let mut loads = vec![Load::default(); shards];
        for entry in self.entries.iter().filter(|e| e.delivers()) {
            let weight = entry.weight();
            for shard in table.shards(&entry.channel) {
                loads[shard].items += 1;
                loads[shard].bytes += weight;
            }
        }
        loads
    }

    /// Numbers the items and makes out the parcel of each shard, with the receipt that they are counted on.
    pub(super) fn address(self, table: &mut Table, shards: usize) -> (Vec<Parcel>, Accepted) {
        let Self { entries, finally } = self;
        let lines: Arc<[Line]> = entries.iter().map(Entry::line).collect();
        let for_tally = Arc::clone(&lines);
        let finally = Box::new(move |counts: &[Counts]| finally(outcomes(&for_tally, counts)));
        let (tally, counts) = Tally::new(entries.len(), finally);
        let mut parcels: Vec<Parcel> = (0..shards).map(|_| Parcel::default()).collect();
        for (index, entry) in entries.iter().enumerate() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            // An item that delivers and closes takes two numbers: the close comes after what it delivers.
            let number = table.number + 1;
            table.number += 2;
            for shard in table.shards(&entry.channel) {
                if entry.delivers() {
                    parcels[shard].deliveries.push(entry.delivery(number, tally.clone(), index));
                }
                if !entry.closes.is_empty() {
                    parcels[shard].closes.push(entry.close(number + 1, tally.clone(), index));
                }
            }
        }
        (parcels, Accepted { receipt: Receipt::new(lines, counts), _tally: tally })
    }
}

impl Entry {
    /// What the receipt says of it: an item that is nothing for anybody was delivered to nobody.
    fn line(&self) -> Line {
        let closes = !self.closes.is_empty();
        Line { channel: self.channel.clone(), delivers: self.delivers() || !closes, closes }
    }

    const fn delivers(&self) -> bool {
        self.stream.is_some() || self.response.is_some()
    }

    fn weight(&self) -> usize {
        Delivery::weigh(self.stream.as_ref(), self.response.as_deref())
    }

    fn delivery(&self, number: u64, tally: Tally, index: u32) -> Delivery {
        let (stream, response) = (self.stream.clone(), self.response.clone());
        Delivery { number, channel: self.channel.clone(), stream, response, tally, index }
    }

    fn close(&self, number: u64, tally: Tally, index: u32) -> Close {
        Close { number, channel: self.channel.clone(), formats: self.closes, tally, index }
    }
}
