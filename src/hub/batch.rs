//! A batch on its way through acceptance.

use super::denial::Denial;
use super::receipt::{Finally, Line, Receipt};
use super::sequence::Sequenced;
use super::table::Table;
use crate::grip::item::{Id, Move};
use crate::grip::{Channel, CloseReason, Format, Formats, Item};
use crate::shard::tally::Counts;
use crate::shard::{Command, CommandEffect, Delivery, Rendered, Tally, Whom};
use crate::wire::{Chunk, Message, websocket};
use bytes::Bytes;
use smallvec::SmallVec;
use std::sync::Arc;

/// Messages of this size are compressed ahead.
const LARGE: usize = 16 << 10;

/// Items that are rendered, and still to be accepted by the hub.
#[derive(Debug)]
pub struct Batch {
    /// The items; none, once they are accepted.
    pub(super) entries: Vec<Entry>,
    pub(super) receipt: Receipt,
    has_command: bool,
    /// If nobody holds the channels, this is the last clone, and dropping it tells the outcomes. So it is kept until the lock
    /// is released.
    _tally: Tally,
}

/// One item, and what it does.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) item: Arc<Rendered>,
    /// The command that follows the content of the item.
    pub(super) effect: Option<CommandEffect>,
    /// Seconds for which the channel is denied to those whom it means.
    pub(super) deny_for: Option<u32>,
    pub(super) no_seq: bool,
    tally: Tally,
    index: u32,
}

/// The deliveries and commands that go to one shard.
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
        let has_command = items.iter().any(Item::is_command);
        let numbered = items.into_iter().zip(0..);
        let entries = numbered.map(|(item, index)| Entry::new(item, tally.clone(), index)).collect();
        Self { entries, receipt, has_command, _tally: tally }
    }

    /// Returns whether one of the items does something to connections besides what it delivers.
    pub const fn has_command(&self) -> bool {
        self.has_command
    }

    /// Compresses what would keep a shard from its other connections.
    pub(super) fn compress(&self) {
        for message in self.entries.iter().filter_map(|entry| entry.item.message.as_ref()) {
            if message.len() >= LARGE {
                message.deflated();
            }
        }
    }

    /// Returns the channels that its items deny for a time, from `now` on, in seconds since 1970.
    pub(super) fn denials(&self, now: u64) -> Vec<Denial> {
        self.entries.iter().filter_map(|entry| entry.denial(now)).collect()
    }

    /// Returns the room it needs in the inbox of each shard, if none of it waits or was published before.
    pub(super) fn loads(&self, table: &Table, shards: usize) -> Vec<Load> {
        let mut loads = vec![Load::default(); shards];
        for Entry { item, .. } in self.entries.iter().filter(|entry| entry.item.delivers()) {
            let weight = item.weight();
            for shard in table.shards(&item.channel) {
                loads[shard].items += 1;
                loads[shard].bytes += weight;
            }
        }
        loads
    }
}

/// Returns the line of an item in the receipt. An item that is nothing for anybody counts as delivered to nobody.
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
        let effect = if item.closes.is_empty() {
            item.moves.map(|moved| CommandEffect::Move(Arc::new(moved)))
        } else {
            Some(CommandEffect::Close { formats: item.closes, frame: close_frame(item.closes, item.close_reason) })
        };
        let (stream, stream_filters) = match item.stream {
            Some(stream) => (Some(Chunk::new(&stream.content)), stream.content_filters),
            None => (None, None),
        };
        let (message, message_filters) = match item.message {
            Some(message) => (Some(Message::new(message.kind, &message.content)), message.content_filters),
            None => (None, None),
        };
        let rendered = Rendered {
            channel: item.channel,
            stream,
            response: item.response.map(Arc::new),
            message: message.map(Arc::new),
            hints: item.hints,
            id: item.id,
            prev_id: item.prev_id,
            meta: item.meta,
            stream_filters,
            message_filters,
            selection: item.selection,
        };
        Self { item: Arc::new(rendered), effect, deny_for: item.deny_for, no_seq: item.no_seq, tally, index }
    }

    /// Returns an item that has the connections of a channel ask their origin again.
    pub(super) fn hint(channel: Channel) -> Self {
        let item = Rendered { hints: Formats::ANSWERS, ..Rendered::empty(channel) };
        let (tally, _) = Tally::new(1, Box::new(|_| {}));
        Self { item: Arc::new(item), effect: None, deny_for: None, no_seq: true, tally, index: 0 }
    }

    /// Takes what is done to connections out of an item that has an id and is something besides. Without an id, all of it
    /// is one.
    pub(super) fn split_command(&mut self) -> Option<Self> {
        let bare = self.item.has_no_content() && self.item.hints.is_empty();
        if bare || !self.item.is_ordered() {
            return None;
        }
        let effect = self.effect.take()?;
        let Rendered { channel, meta, selection, .. } = &*self.item;
        let item = Rendered { meta: meta.clone(), selection: selection.clone(), ..Rendered::empty(channel.clone()) };
        Some(Self {
            item: Arc::new(item),
            effect: Some(effect),
            deny_for: self.deny_for.take(),
            no_seq: true,
            tally: self.tally.clone(),
            index: self.index,
        })
    }

    /// Returns where it is counted.
    pub(super) fn counts(&self) -> &Counts {
        self.tally.of(self.index)
    }

    /// Puts it into the parcel of each shard that holds its channel, under a number.
    pub(super) fn address(&self, table: &mut Table, parcels: &mut [Parcel]) {
        // An item that delivers and closes takes two numbers: the close comes after what it delivers.
        let number = table.number + 1;
        table.number += 2;
        let shards: SmallVec<[usize; 4]> = table.shards(&self.item.channel).collect();
        for shard in shards {
            let selection = self.item.selection.as_ref();
            let is_meant = selection.is_none_or(|s| s.with.iter().all(|with| table.is_held(with, shard)));
            // A connection that follows the order of a channel must learn of each item in it.
            if self.item.delivers() && (is_meant || self.item.is_ordered()) {
                parcels[shard].deliveries.push(self.delivery(number));
            }
            if let Some(effect) = &self.effect
                && is_meant
            {
                if let CommandEffect::Move(moved) = effect
                    && let Move::Subscribe(channels) = &**moved
                {
                    // Everything accepted from now on is for the connections that are about to be subscribed, too.
                    table.join(shard, channels);
                }
                parcels[shard].commands.push(self.command(number + 1, effect.clone()));
            }
        }
    }

    /// Returns the denial that the item decides, if it decides one.
    pub(super) fn denial(&self, now: u64) -> Option<Denial> {
        let until = now + u64::from(self.deny_for?);
        Some(Denial::new(&self.item.channel, self.item.selection.as_deref(), until))
    }

    fn delivery(&self, number: u64) -> Delivery {
        Delivery { number, item: Arc::clone(&self.item), tally: self.tally.clone(), index: self.index }
    }

    fn command(&self, number: u64, effect: CommandEffect) -> Command {
        let Rendered { channel, meta, selection, .. } = &*self.item;
        let whom = Whom::Members { channel: channel.clone(), selection: selection.clone(), meta: meta.clone() };
        Command { number, whom, effect, tally: self.tally.clone(), index: self.index }
    }
}

/// Returns the Close frame of an item that closes; nothing, if it does not.
pub(super) fn close_frame(closes: Formats, reason: Option<CloseReason>) -> Bytes {
    if closes.contains(Format::WsMessage) {
        return websocket::close(Some(&reason.unwrap_or_else(|| CloseReason::new(1000, ""))));
    }
    Bytes::new()
}

impl Sequenced for Entry {
    fn id(&self) -> Option<&Id> {
        self.item.id.as_ref()
    }

    fn prev_id(&self) -> Option<&Id> {
        self.item.prev_id.as_ref()
    }
}
