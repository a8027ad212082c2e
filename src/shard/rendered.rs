//! An item as it is sent, rendered once for everybody.

use crate::grip::item::{Body, ContentFilters, Id, Response, Selection};
use crate::grip::{Channel, Format, Formats, Meta};
use crate::wire::{Chunk, Message};
use std::sync::Arc;

/// An item in all of its formats, and what decides for whom it is. It is made once, and shared by all shards and by all
/// connections that it waits for.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The channel.
    pub channel: Channel,
    /// The content for streams.
    pub stream: Option<Chunk>,
    /// The answer for long-polls.
    pub response: Option<Arc<Response>>,
    /// The message for WebSockets.
    pub message: Option<Arc<Message>>,
    /// The formats whose connections are to ask their origin again.
    pub hints: Formats,
    /// The id within the channel.
    pub id: Option<Id>,
    /// The id of the item before it in the channel.
    pub prev_id: Option<Id>,
    /// The meta that the publisher gave, for filters.
    pub meta: Option<Arc<Meta>>,
    /// The filters that a stream must have to get the content.
    pub stream_filters: ContentFilters,
    /// The filters that a WebSocket must have to get the message.
    pub message_filters: ContentFilters,
    /// The connections of the channel that are meant, if not all of them are.
    pub selection: Option<Arc<Selection>>,
}

impl Rendered {
    /// Returns an item of a channel with nothing for anybody.
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

    /// Returns whether the item is to reach connections. One that only has a place in the order of its channel is, too.
    pub fn delivers(&self) -> bool {
        !self.has_no_content() || !self.hints.is_empty() || self.id.is_some()
    }

    /// Returns whether the item has a place in the order of its channel.
    pub const fn is_ordered(&self) -> bool {
        self.id.is_some() || self.prev_id.is_some()
    }

    /// Returns whether not everybody who holds the channel takes the item in the same way.
    pub(super) fn is_special(&self) -> bool {
        let names_filters = |filters: &ContentFilters| filters.as_ref().is_some_and(|names| !names.is_empty());
        let patches = |response: &Arc<Response>| {
            names_filters(&response.content_filters) || matches!(response.body, Body::Patch(_))
        };
        !self.hints.is_empty()
            || names_filters(&self.stream_filters)
            || names_filters(&self.message_filters)
            || self.response.as_ref().is_some_and(patches)
    }

    /// Returns the filters that a connection must have to get the item in this format, or `None` if there is nothing in it.
    pub(super) fn content_filters(&self, format: Format) -> Option<&ContentFilters> {
        match format {
            Format::HttpResponse => self.response.as_ref().map(|response| &response.content_filters),
            Format::HttpStream => self.stream.as_ref().map(|_| &self.stream_filters),
            Format::WsMessage => self.message.as_ref().map(|_| &self.message_filters),
        }
    }

    /// Returns the same item for a connection that is not meant: nothing but its place in the order.
    pub(super) fn hollow(&self) -> Self {
        Self { stream: None, response: None, message: None, hints: Formats::NONE, ..self.clone() }
    }

    /// Returns for how many bytes the item counts in the bound of an inbox.
    pub fn weight(&self) -> usize {
        let response = self.response.as_ref().map_or(0, |response| response.body.weight());
        let message = self.message.as_ref().map_or(0, |message| message.len());
        self.stream.as_ref().map_or(0, Chunk::len) + response + message + size_of::<Self>()
    }
}
