//! An item as it is sent, rendered once for all connections.

use crate::grip::item::{ContentFilters, ItemBody, ItemId, MemberSelection, ResponseFormat};
use crate::grip::{Channel, Format, Formats, Meta};
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
            response: None,
            message: None,
            hints: Formats::NONE,
            id: None,
            prev_id: None,
            meta: None,
            stream_filters: None,
            message_filters: None,
            selection: None,
        }
    }

    /// Returns whether there is no content in any format.
    pub const fn has_no_content(&self) -> bool {
        self.stream.is_none() && self.response.is_none() && self.message.is_none()
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
            || names_filters(&self.message_filters)
            || self.response.as_ref().is_some_and(patches)
    }

    /// Returns the filters that a connection must have to get the item in this format, or `None` if the item has no
    /// content in this format.
    pub(super) fn content_filters(&self, format: Format) -> Option<&ContentFilters> {
        match format {
            Format::HttpResponse => self.response.as_ref().map(|response| &response.content_filters),
            Format::HttpStream => self.stream.as_ref().map(|_| &self.stream_filters),
            Format::WsMessage => self.message.as_ref().map(|_| &self.message_filters),
        }
    }

    /// Returns the item without content and hints. It is for connections that the selection excludes, but that follow
    /// the order of the channel.
    pub(super) fn without_content(&self) -> Self {
        Self { stream: None, response: None, message: None, hints: Formats::NONE, ..self.clone() }
    }

    /// Returns the number of bytes for which the item counts towards the limit of an inbox, and of the queue of a
    /// connection.
    pub fn weight(&self) -> usize {
        let response = self.response.as_ref().map_or(0, |response| response.body.weight());
        let message = self.message.as_ref().map_or(0, |message| message.len());
        self.stream.as_ref().map_or(0, Chunk::len) + response + message + size_of::<Self>()
    }
}
