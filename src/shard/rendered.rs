//! An item as it is sent, rendered once for all connections.

use super::DeliveryForm;
use crate::grip::item::{ContentFilters, ItemBody, ItemId, MemberSelection, ResponseFormat};
use crate::grip::{Channel, Formats, Meta};
use crate::wire::{Chunk, RenderedMessage};
use std::sync::Arc;

/// An item in all of its formats, with the properties that decide which connections get it. It is made once, and
/// shared by all shards and by all connections for which it waits.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The channel.
    pub channel: Channel,
    /// The content for streams.
    pub stream: Option<Chunk>,
    /// The content for event streams, which get it instead of `stream`.
    pub events: Option<Chunk>,
    /// The response for long-polls.
    pub response: Option<Arc<ResponseFormat>>,
    /// The message for WebSockets.
    pub message: Option<Arc<RenderedMessage>>,
    /// The formats whose connections are to ask their origin again.
    pub hints: Formats,
    /// The id within the channel.
    pub id: Option<ItemId>,
    /// The id of the item before it in the channel.
    pub prev_id: Option<ItemId>,
    /// The meta that the publisher gave, for filters.
    pub meta: Option<Arc<Meta>>,
    /// The content filters that the subscription of a stream must have to get the content. `None`: any.
    pub stream_filters: ContentFilters,
    /// The content filters that the subscription of an event stream must have to get `events`. `None`: any.
    pub event_filters: ContentFilters,
    /// The content filters that the subscription of a WebSocket must have to get the message. `None`: any.
    pub message_filters: ContentFilters,
    /// The selection of connections that the item is for. `None`: all connections of the channel.
    pub selection: Option<Arc<MemberSelection>>,
}

impl Rendered {
    /// Returns an item of a channel that has no content and no effect.
    pub const fn empty(channel: Channel) -> Self {
        Self {
            channel,
            stream: None,
            events: None,
            response: None,
            message: None,
            hints: Formats::NONE,
            id: None,
            prev_id: None,
            meta: None,
            stream_filters: None,
            event_filters: None,
            message_filters: None,
            selection: None,
        }
    }

    /// Returns whether there is no content in any format.
    pub const fn has_no_content(&self) -> bool {
        self.stream.is_none() && self.events.is_none() && self.response.is_none() && self.message.is_none()
    }

    /// Returns whether the item is to reach connections, because it has content, hints or an id. An item that has
    /// only an id is needed by connections that follow the order of its channel.
    pub fn delivers(&self) -> bool {
        !self.has_no_content() || !self.hints.is_empty() || self.id.is_some()
    }

    /// Returns whether the item has a position in the order of its channel: it has an id, or it names the item before
    /// it.
    pub const fn is_ordered(&self) -> bool {
        self.id.is_some() || self.prev_id.is_some()
    }

    /// Returns whether the item has to be decided for each connection separately, because it has hints, a patch, or
    /// content that is made for certain filters.
    pub(super) fn is_special(&self) -> bool {
        let names_filters = |filters: &ContentFilters| filters.as_ref().is_some_and(|names| !names.is_empty());
        let patches = |response: &Arc<ResponseFormat>| {
            names_filters(&response.content_filters) || matches!(response.body, ItemBody::Patch(_))
        };
        !self.hints.is_empty()
            || names_filters(&self.stream_filters)
            || names_filters(&self.event_filters)
            || names_filters(&self.message_filters)
            || self.response.as_ref().is_some_and(patches)
    }

    /// Returns whether the content for event streams ends within a line.
    pub(super) fn ends_within_line(&self) -> bool {
        self.event_content().and_then(|chunk| chunk.content().last()).is_some_and(|last| *last != b'\n')
    }

    /// Returns the content for event streams: the event or, if there is none, the content for streams.
    pub(super) fn event_content(&self) -> Option<&Chunk> {
        self.events.as_ref().or(self.stream.as_ref())
    }

    /// Returns the filters that a connection must have to get the item in the form `feed`, or `None` if the item has
    /// no content in this form.
    pub(super) fn content_filters(&self, feed: DeliveryForm) -> Option<&ContentFilters> {
        match feed {
            DeliveryForm::Response | DeliveryForm::Away => self.response.as_ref().map(|r| &r.content_filters),
            DeliveryForm::Events(_) if self.events.is_some() => Some(&self.event_filters),
            DeliveryForm::Stream(_) | DeliveryForm::Events(_) => self.stream.as_ref().map(|_| &self.stream_filters),
            DeliveryForm::Messages(_) => self.message.as_ref().map(|_| &self.message_filters),
        }
    }

    /// Returns the item without content and hints. It is for connections that the selection excludes, but that follow
    /// the order of the channel.
    pub(super) fn without_content(&self) -> Self {
        Self { stream: None, events: None, response: None, message: None, hints: Formats::NONE, ..self.clone() }
    }

    /// Returns the number of bytes for which the item counts towards the limit of an inbox, and of the queue of a
    /// connection.
    pub fn weight(&self) -> usize {
        let response = self.response.as_ref().map_or(0, |response| response.body.weight());
        let message = self.message.as_ref().map_or(0, |message| message.len());
        let streams = [&self.stream, &self.events].into_iter().flatten().map(Chunk::len).sum::<usize>();
        streams + response + message + size_of::<Self>()
    }
}
