//! A batch on its way through acceptance.

use super::receipt::{Line, Outcome, Receipt, outcomes};
use super::sequence::Sequenced;
use super::table::Table;
use crate::grip::item::{Id, Response};
use crate::grip::{Channel, CloseReason, Format, Formats, Item};
use crate::shard::inbox::Extras;
use crate::shard::tally::Counts;
use crate::shard::{Close, Delivery, Tally};
use crate::wire::{Chunk, Message, websocket};
use bytes::Bytes;
use std::sync::Arc;

/// Messages of this size are compressed ahead.
const LARGE: usize = 16 << 10;

/// Items rendered once, before the critical section.
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
    pub(super) receipt: Receipt,
    /// Of a batch for nobody the last one, whose end runs `finally`: it is to outlive the critical section.
    pub(super) tally: Tally,
}

/// What is done with the outcomes of a batch when they are final, on whichever thread made them so.
pub type Finally = Box<dyn FnOnce(Vec<Outcome>) + Send + Sync>;

/// One item.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) channel: Channel,
    stream: Option<Chunk>,
    response: Option<Arc<Response>>,
    message: Option<Arc<Message>>,
    pub(super) closes: Formats,
    /// The Close frame with which it ends WebSockets.
    frame: Bytes,
    hints: Formats,
    pub(super) no_seq: bool,
    extras: Option<Arc<Extras>>,
    tally: Tally,
    index: u32,
}

/// What goes to one shard.
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
        let lines: Arc<[Line]> = items.iter().map(line).collect();
        let for_tally = Arc::clone(&lines);
        let finally = Box::new(move |counts: &[Counts]| finally(outcomes(&for_tally, counts)));
        let (tally, counts) = Tally::new(items.len(), finally);
        let numbered = items.into_iter().zip(0..);
        let entries = numbered.map(|(item, index)| Entry::new(item, tally.clone(), index)).collect();
        Self { entries, receipt: Receipt::new(lines, counts), tally }
    }

    /// Compresses what would keep a shard from its other connections.
    pub(super) fn compress(&self) {
        for message in self.entries.iter().filter_map(|entry| entry.message.as_ref()) {
            if message.len() >= LARGE {
                message.deflated();
            }
        }
    }

    /// Whether one of the items closes.
    pub(super) fn closes(&self) -> bool {
        self.entries.iter().any(|e| !e.closes.is_empty())
    }

    /// The room it needs in the inbox of each shard, if none of it waits or was published before.
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
}

/// What the receipt says of an item: one that is nothing for anybody was delivered to nobody.
fn line(item: &Item) -> Line {
    let closes = !item.closes.is_empty();
    let delivers = item.stream.is_some() || item.response.is_some() || item.message.is_some();
    Line { channel: item.channel.clone(), delivers: delivers || !closes, closes }
}

impl Entry {
    fn new(item: Item, tally: Tally, index: u32) -> Self {
        let (stream, stream_filters) = item.stream.map_or((None, None), |s| (Some(s.content), s.content_filters));
        let (message, message_filters) = item
            .message
            .map_or((None, None), |m| (Some(Arc::new(Message::new(m.kind, &m.content))), m.content_filters));
        let frame = close_frame(item.closes, item.close_reason);
        let extras = Extras { id: item.id, prev_id: item.prev_id, meta: item.meta, stream_filters, message_filters };
        Self {
            channel: item.channel,
            stream: stream.map(|content| Chunk::new(&content)),
            response: item.response.map(Arc::new),
            message,
            closes: item.closes,
            frame,
            hints: item.hints,
            no_seq: item.no_seq,
            extras: (extras != Extras::default()).then(|| Arc::new(extras)),
            tally,
            index,
        }
    }

    /// An item that has the connections of a channel ask their origin again.
    pub(super) fn hint(channel: Channel) -> Self {
        Self {
            channel,
            stream: None,
            response: None,
            message: None,
            closes: Formats::NONE,
            frame: Bytes::new(),
            hints: Formats::ANSWERS,
            no_seq: true,
            extras: None,
            tally: Tally::new(1, Box::new(|_| {})).0,
            index: 0,
        }
    }

    /// Takes the close out of an item that has an id and is something besides. Without an id, all of it is one.
    pub(super) fn split_close(&mut self) -> Option<Self> {
        let ordered = self.extras.as_ref().is_some_and(|extras| extras.id.is_some() || extras.prev_id.is_some());
        let bare = self.has_no_format() && self.hints.is_empty();
        if self.closes.is_empty() || bare || !ordered {
            return None;
        }
        let closes = std::mem::replace(&mut self.closes, Formats::NONE);
        let meta = self.extras.as_ref().and_then(|extras| extras.meta.clone());
        Some(Self {
            channel: self.channel.clone(),
            stream: None,
            response: None,
            message: None,
            closes,
            frame: std::mem::take(&mut self.frame),
            hints: Formats::NONE,
            no_seq: true,
            extras: meta.map(|meta| Arc::new(Extras { meta: Some(meta), ..Extras::default() })),
            tally: self.tally.clone(),
            index: self.index,
        })
    }

    /// Where it is counted.
    pub(super) fn counts(&self) -> &Counts {
        self.tally.of(self.index)
    }

    /// Puts it into the parcel of each shard that holds its channel, under a number. What is returned is to be
    /// dropped outside of the critical section.
    pub(super) fn address(self, table: &mut Table, parcels: &mut [Parcel]) -> Tally {
        // An item that delivers and closes takes two numbers: the close comes after what it delivers.
        let number = table.number + 1;
        table.number += 2;
        for shard in table.shards(&self.channel) {
            if self.delivers() {
                parcels[shard].deliveries.push(self.delivery(number));
            }
            if !self.closes.is_empty() {
                parcels[shard].closes.push(self.close(number + 1));
            }
        }
        self.tally
    }

    /// Whether it is to reach connections; one that only has a place in its channel's order is.
    fn delivers(&self) -> bool {
        let ordered = self.extras.as_ref().is_some_and(|extras| extras.id.is_some());
        !self.has_no_format() || !self.hints.is_empty() || ordered
    }

    const fn has_no_format(&self) -> bool {
        self.stream.is_none() && self.response.is_none() && self.message.is_none()
    }

    fn weight(&self) -> usize {
        Delivery::weigh(self.stream.as_ref(), self.response.as_deref(), self.message.as_deref())
    }

    fn delivery(&self, number: u64) -> Delivery {
        Delivery {
            number,
            channel: self.channel.clone(),
            stream: self.stream.clone(),
            response: self.response.clone(),
            message: self.message.clone(),
            hints: self.hints,
            extras: self.extras.clone(),
            tally: self.tally.clone(),
            index: self.index,
        }
    }

    fn close(&self, number: u64) -> Close {
        let meta = self.extras.as_ref().and_then(|extras| extras.meta.clone());
        let (channel, tally) = (self.channel.clone(), self.tally.clone());
        Close { number, channel, formats: self.closes, frame: self.frame.clone(), meta, tally, index: self.index }
    }
}

/// The Close frame of an item that closes; nothing, if it does not.
fn close_frame(closes: Formats, reason: Option<CloseReason>) -> Bytes {
    if closes.contains(Format::WsMessage) {
        return websocket::close(Some(&reason.unwrap_or_else(|| CloseReason::new(1000, ""))));
    }
    Bytes::new()
}

impl Sequenced for Entry {
    fn id(&self) -> Option<&Id> {
        self.extras.as_ref()?.id.as_ref()
    }

    fn prev_id(&self) -> Option<&Id> {
        self.extras.as_ref()?.prev_id.as_ref()
    }
}
