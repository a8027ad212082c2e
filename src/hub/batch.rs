//! Batches of items that the hub is about to accept.

use super::channel_table::ChannelTable;
use super::denial::Denial;
use super::receipt::{OnFinalOutcomes, Receipt, ReceiptLine};
use super::sequence::Sequenced;
use crate::grip::item::{ChannelMove, ContentFilters, ItemId, StreamFormat};
use crate::grip::{Channel, CloseReason, Format, Formats, Item};
use crate::shard::tally::Counts;
use crate::shard::{Command, CommandEffect, CommandTarget, Delivery, Rendered, Tally};
use crate::wire::{Chunk, RenderedMessage, websocket};
use bytes::Bytes;
use smallvec::SmallVec;
use std::sync::Arc;

/// The size in bytes from which a message is compressed before its batch is accepted.
const LARGE_MESSAGE: usize = 16 << 10;

/// Rendered items that the hub is still to accept.
#[derive(Debug)]
pub struct Batch {
    /// The items of the batch. There are none left once the batch is accepted.
    pub(super) entries: Vec<BatchEntry>,
    pub(super) receipt: Receipt,
    has_command: bool,
    /// A clone of the counts of the batch. The outcomes are reported when the last clone is dropped. If nobody holds
    /// the channels, that is this clone. The batch keeps it so that it is dropped after the lock of the hub is
    /// released.
    _tally: Tally,
}

/// One item and its command.
#[derive(Debug)]
pub(super) struct BatchEntry {
    pub(super) item: Arc<Rendered>,
    /// The command of the item. It takes effect after the content of the item is delivered.
    pub(super) effect: Option<CommandEffect>,
    /// The number of seconds after the close for which nobody may hold the channel, or nobody whom the close selects.
    pub(super) deny_for: Option<u32>,
    pub(super) no_seq: bool,
    tally: Tally,
    index: u32,
}

/// The deliveries and commands that go to one shard.
#[derive(Default)]
pub(super) struct ShardParcel {
    pub(super) deliveries: Vec<Delivery>,
    pub(super) commands: Vec<Command>,
}

impl ShardParcel {
    pub(super) const fn is_empty(&self) -> bool {
        self.deliveries.is_empty() && self.commands.is_empty()
    }
}

/// The room that a batch needs in one inbox.
#[derive(Clone, Copy, Default)]
pub(super) struct InboxLoad {
    pub(super) items: usize,
    pub(super) bytes: usize,
}

impl InboxLoad {
    pub(super) const fn is_empty(self) -> bool {
        self.items == 0
    }
}

impl Batch {
    pub(super) fn new(items: Vec<Item>, finally: OnFinalOutcomes) -> Self {
        let (receipt, tally) = Receipt::begin(items.iter().map(line).collect(), finally);
        let has_command = items.iter().any(Item::is_command);
        let numbered = items.into_iter().zip(0..);
        let entries = numbered.map(|(item, index)| BatchEntry::new(item, tally.clone(), index)).collect();
        Self { entries, receipt, has_command, _tally: tally }
    }

    /// Returns whether one of the items is a command: whether it closes connections or changes their channels.
    pub const fn has_command(&self) -> bool {
        self.has_command
    }

    /// Compresses large messages now, because compressing them in a shard would delay its other connections.
    pub(super) fn compress(&self) {
        for message in self.entries.iter().filter_map(|entry| entry.item.message.as_ref()) {
            if message.len() >= LARGE_MESSAGE {
                message.deflated();
            }
        }
    }

    /// Returns the denials that the items of the batch make. `now` is in seconds since 1970.
    pub(super) fn denials(&self, now: u64) -> Vec<Denial> {
        self.entries.iter().filter_map(|entry| entry.denial(now)).collect()
    }

    /// Returns the room that the batch needs in the inbox of each shard, assuming that none of its items waits or
    /// was published before.
    pub(super) fn loads(&self, table: &ChannelTable, shards: usize) -> Vec<InboxLoad> {
        let mut loads = vec![InboxLoad::default(); shards];
        for BatchEntry { item, .. } in self.entries.iter().filter(|entry| entry.item.delivers()) {
            let weight = item.weight();
            for shard in table.shards(&item.channel) {
                loads[shard].items += 1;
                loads[shard].bytes += weight;
            }
        }
        loads
    }
}

/// Returns the line of an item in the receipt. An item with neither content nor a command, such as a hint, has a
/// count of deliveries as well.
fn line(item: &Item) -> ReceiptLine {
    let closes = !item.closes.is_empty();
    let (subscribes, unsubscribes) = match item.moves {
        None => (false, false),
        Some(ChannelMove::Subscribe(_)) => (true, false),
        Some(ChannelMove::Unsubscribe(_)) => (false, true),
    };
    let delivers = item.has_content() || !(closes || subscribes || unsubscribes);
    ReceiptLine { channel: item.channel.clone(), delivers, closes, subscribes, unsubscribes }
}

/// Returns the content of a format for streams as a chunk, and its content filters.
fn chunk(format: Option<StreamFormat>) -> (Option<Chunk>, ContentFilters) {
    match format {
        Some(format) => (Some(Chunk::new(&format.content)), format.content_filters),
        None => (None, None),
    }
}

impl BatchEntry {
    fn new(item: Item, tally: Tally, index: u32) -> Self {
        let effect = if item.closes.is_empty() {
            item.moves.map(|moved| CommandEffect::Move(Arc::new(moved)))
        } else {
            Some(CommandEffect::Close { formats: item.closes, frame: close_frame(item.closes, item.close_reason) })
        };
        let (stream, stream_filters) = chunk(item.stream);
        let (events, event_filters) = chunk(item.events);
        let (message, message_filters) = match item.message {
            Some(message) => (Some(RenderedMessage::new(message.kind, &message.content)), message.content_filters),
            None => (None, None),
        };
        let rendered = Rendered {
            channel: item.channel,
            stream,
            events,
            response: item.response.map(Arc::new),
            message: message.map(Arc::new),
            hints: item.refreshes,
            id: item.id,
            prev_id: item.prev_id,
            meta: item.meta,
            stream_filters,
            event_filters,
            message_filters,
            selection: item.selection,
        };
        Self { item: Arc::new(rendered), effect, deny_for: item.deny_for, no_seq: item.no_seq, tally, index }
    }

    /// Returns an item that makes the streams and long-polls of a channel ask their origin again.
    pub(super) fn hint(channel: Channel) -> Self {
        let item = Rendered { hints: Formats::HTTP, ..Rendered::empty(channel) };
        let (tally, _) = Tally::new(1, Box::new(|_| {}));
        Self { item: Arc::new(item), effect: None, deny_for: None, no_seq: true, tally, index: 0 }
    }

    /// Splits the command off an item that has an id or a `prev-id` and also has content or hints. The rest of the
    /// item may have to wait for another item, and the command does not. Returns `None` for any other item, which is
    /// accepted as a whole.
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

    /// Returns the counts of the item.
    pub(super) fn counts(&self) -> &Counts {
        self.tally.of(self.index)
    }

    /// Numbers the item, and adds it to the parcel of each shard that holds its channel.
    pub(super) fn address(&self, table: &mut ChannelTable, parcels: &mut [ShardParcel]) {
        // Every item takes two numbers. The second one is for its command, which comes after its content.
        let number = table.number + 1;
        table.number += 2;
        let shards: SmallVec<[usize; 4]> = table.shards(&self.item.channel).collect();
        for shard in shards {
            let selection = self.item.selection.as_ref();
            let is_meant = selection.is_none_or(|s| s.with.iter().all(|with| table.is_held(with, shard)));
            // A connection that follows the ids of a channel must learn of each of its items, even of those that are
            // not meant for it.
            if self.item.delivers() && (is_meant || self.item.is_ordered()) {
                parcels[shard].deliveries.push(self.delivery(number));
            }
            if let Some(effect) = &self.effect
                && is_meant
            {
                if let CommandEffect::Move(moved) = effect
                    && let ChannelMove::Subscribe(channels) = &**moved
                {
                    // Items accepted from now on must reach the connections that this command will subscribe. So the
                    // shard counts as a holder of the channels before it carries out the command.
                    table.join(shard, channels);
                }
                parcels[shard].commands.push(self.command(number + 1, effect.clone()));
            }
        }
    }

    /// Returns the denial that the item makes, or `None` if it makes none. `now` is in seconds since 1970.
    pub(super) fn denial(&self, now: u64) -> Option<Denial> {
        let until = now + u64::from(self.deny_for?);
        Some(Denial::new(&self.item.channel, self.item.selection.as_deref(), until))
    }

    fn delivery(&self, number: u64) -> Delivery {
        Delivery { number, item: Arc::clone(&self.item), tally: self.tally.clone(), index: self.index }
    }

    fn command(&self, number: u64, effect: CommandEffect) -> Command {
        let Rendered { channel, meta, selection, .. } = &*self.item;
        let whom =
            CommandTarget::Members { channel: channel.clone(), selection: selection.clone(), meta: meta.clone() };
        Command { number, whom, effect, tally: self.tally.clone(), index: self.index }
    }
}

/// Returns the Close frame that an item sends to the WebSockets that it closes. The frame is empty if it closes
/// none. Without a reason, its code is 1000.
pub(super) fn close_frame(closes: Formats, reason: Option<CloseReason>) -> Bytes {
    if closes.contains(Format::WsMessage) {
        return websocket::close(Some(&reason.unwrap_or_else(|| CloseReason::new(1000, ""))));
    }
    Bytes::new()
}

impl Sequenced for BatchEntry {
    fn id(&self) -> Option<&ItemId> {
        self.item.id.as_ref()
    }

    fn prev_id(&self) -> Option<&ItemId> {
        self.item.prev_id.as_ref()
    }
}
