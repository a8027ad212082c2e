//! A batch on its way through acceptance.

use super::denial::Denial;
use super::receipt::{Line, Outcome, Receipt};
use super::sequence::Sequenced;
use super::table::Table;
use crate::grip::item::{Id, Response};
use crate::grip::item::{Move, Selection};
use crate::grip::{Channel, CloseReason, Format, Formats, Item};
use crate::shard::inbox::Extras;
use crate::shard::tally::Counts;
use crate::shard::{Command, Deed, Delivery, Tally, Whom};
use crate::wire::{Chunk, Message, websocket};
use bytes::Bytes;
use smallvec::SmallVec;
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
    /// What is done to connections, behind what it delivers.
    pub(super) deed: Option<Deed>,
    /// Seconds for which the channel is denied to those whom it means.
    pub(super) deny_for: Option<u32>,
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
    pub(super) commands: Vec<Command>,
}

impl Parcel {
    pub(super) const fn is_empty(&self) -> bool {
        self.deliveries.is_empty() && self.commands.is_empty()
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
        let (receipt, tally) = Receipt::begin(items.iter().map(line).collect(), finally);
        let numbered = items.into_iter().zip(0..);
        let entries = numbered.map(|(item, index)| Entry::new(item, tally.clone(), index)).collect();
        Self { entries, receipt, tally }
    }

    /// Compresses what would keep a shard from its other connections.
    pub(super) fn compress(&self) {
        for message in self.entries.iter().filter_map(|entry| entry.message.as_ref()) {
            if message.len() >= LARGE {
                message.deflated();
            }
        }
    }

    /// Whether one of the items does something to connections.
    pub(super) fn commands(&self) -> bool {
        self.entries.iter().any(|entry| entry.deed.is_some())
    }

    /// The channels that its items deny for a time, from `now` on, in seconds since 1970.
    pub(super) fn denials(&self, now: u64) -> Vec<Denial> {
        self.entries.iter().filter_map(|entry| entry.denial(now)).collect()
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
    let (subscribes, unsubscribes) = match item.moves {
        None => (false, false),
        Some(Move::Subscribe(_)) => (true, false),
        Some(Move::Unsubscribe(_)) => (false, true),
    };
    let delivers = item.stream.is_some() || item.response.is_some() || item.message.is_some();
    let delivers = delivers || !(closes || subscribes || unsubscribes);
    Line { channel: item.channel.clone(), delivers, closes, subscribes, unsubscribes }
}

impl Entry {
    fn new(item: Item, tally: Tally, index: u32) -> Self {
        let (stream, stream_filters) = item.stream.map_or((None, None), |s| (Some(s.content), s.content_filters));
        let (message, message_filters) = item
            .message
            .map_or((None, None), |m| (Some(Arc::new(Message::new(m.kind, &m.content))), m.content_filters));
        let close = (!item.closes.is_empty())
            .then(|| Deed::Close { formats: item.closes, frame: close_frame(item.closes, item.close_reason) });
        let deed = close.or_else(|| item.moves.map(|moved| Deed::Move(Arc::new(moved))));
        let (id, prev_id, meta, selection) = (item.id, item.prev_id, item.meta, item.selection);
        let extras = Extras { id, prev_id, meta, stream_filters, message_filters, selection };
        Self {
            channel: item.channel,
            stream: stream.map(|content| Chunk::new(&content)),
            response: item.response.map(Arc::new),
            message,
            deed,
            deny_for: item.deny_for,
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
            deed: None,
            deny_for: None,
            hints: Formats::ANSWERS,
            no_seq: true,
            extras: None,
            tally: Tally::new(1, Box::new(|_| {})).0,
            index: 0,
        }
    }

    /// Takes what is done to connections out of an item that has an id and is something besides. Without an id, all of it
    /// is one.
    pub(super) fn split_command(&mut self) -> Option<Self> {
        let ordered = self.is_ordered();
        let bare = self.has_no_format() && self.hints.is_empty();
        if self.deed.is_none() || bare || !ordered {
            return None;
        }
        let deed = self.deed.take();
        let extras = self.extras.as_deref();
        let (meta, selection) = extras.map(|e| (e.meta.clone(), e.selection.clone())).unwrap_or_default();
        let extras = Extras { meta, selection, ..Extras::default() };
        Some(Self {
            channel: self.channel.clone(),
            stream: None,
            response: None,
            message: None,
            deed,
            deny_for: self.deny_for.take(),
            hints: Formats::NONE,
            no_seq: true,
            extras: (extras != Extras::default()).then(|| Arc::new(extras)),
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
        let shards: SmallVec<[usize; 4]> = table.shards(&self.channel).collect();
        for shard in shards {
            let is_meant = self.selection().is_none_or(|s| s.with.iter().all(|with| table.is_held(with, shard)));
            // Who follows the order of a channel must learn of each item in it.
            if self.delivers() && (is_meant || self.is_ordered()) {
                parcels[shard].deliveries.push(self.delivery(number));
            }
            if let Some(deed) = self.deed.as_ref().filter(|_| is_meant) {
                if let Deed::Move(moved) = deed
                    && let Move::Subscribe(channels) = &**moved
                {
                    // What is accepted from now on is for those who are to be subscribed.
                    table.join(shard, channels);
                }
                parcels[shard].commands.push(self.command(number + 1, deed.clone()));
            }
        }
        self.tally
    }

    /// What it denies, and to whom.
    pub(super) fn denial(&self, now: u64) -> Option<Denial> {
        let until = now + u64::from(self.deny_for?);
        Some(Denial::new(&self.channel, self.selection().map(|selection| &**selection), until))
    }

    /// Which connections of its channel it means, if not all.
    fn selection(&self) -> Option<&Arc<Selection>> {
        self.extras.as_ref()?.selection.as_ref()
    }

    /// Whether it is to reach connections; one that only has a place in its channel's order is.
    fn delivers(&self) -> bool {
        let ordered = self.extras.as_ref().is_some_and(|extras| extras.id.is_some());
        !self.has_no_format() || !self.hints.is_empty() || ordered
    }

    /// Whether it has a place in the order of its channel.
    fn is_ordered(&self) -> bool {
        self.extras.as_ref().is_some_and(|extras| extras.id.is_some() || extras.prev_id.is_some())
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

    fn command(&self, number: u64, deed: Deed) -> Command {
        let meta = self.extras.as_ref().and_then(|extras| extras.meta.clone());
        let whom = Whom::Members { channel: self.channel.clone(), selection: self.selection().cloned(), meta };
        Command { number, whom, deed, tally: self.tally.clone(), index: self.index }
    }
}

/// The Close frame of an item that closes; nothing, if it does not.
pub(super) fn close_frame(closes: Formats, reason: Option<CloseReason>) -> Bytes {
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
