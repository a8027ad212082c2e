//! The bytes of an item, as the connections of one shard send them.

use super::Rendered;
use super::conn::DeliveryForm;
use crate::wire::{Chunk, MessageForm, StreamForm, websocket};
use bytes::Bytes;
use std::cell::OnceCell;
use std::rc::Rc;

/// The bytes of an item for streams and WebSockets. The outlets of a shard share them by reference counts that are
/// not atomic. The cell of each form is filled when the first connection takes this form.
#[derive(Clone, Default)]
pub(super) struct Pieces {
    chunk: OnceCell<Rc<Bytes>>,
    content: OnceCell<Rc<Bytes>>,
    event_chunk: OnceCell<Rc<Bytes>>,
    event_content: OnceCell<Rc<Bytes>>,
    plain: OnceCell<Rc<Bytes>>,
    deflated: OnceCell<Rc<Bytes>>,
}

impl Pieces {
    /// Returns the bytes for connections that take items in the form `feed`, or `None` if the item has no content for
    /// them.
    #[inline]
    pub(super) fn select(&self, item: &Rendered, feed: DeliveryForm) -> Option<&Rc<Bytes>> {
        let cell = match feed {
            DeliveryForm::Stream(StreamForm::Chunked) => &self.chunk,
            DeliveryForm::Stream(StreamForm::Bare) => &self.content,
            DeliveryForm::Events(StreamForm::Chunked) => &self.event_chunk,
            DeliveryForm::Events(StreamForm::Bare) => &self.event_content,
            DeliveryForm::Messages(MessageForm::Plain) => &self.plain,
            DeliveryForm::Messages(MessageForm::Deflated) => &self.deflated,
            DeliveryForm::Response | DeliveryForm::Away => return None,
        };
        if cell.get().is_none() {
            let bytes = match feed {
                DeliveryForm::Stream(form) => item.stream.as_ref()?.select(form),
                DeliveryForm::Events(form) => item.event_content()?.select(form),
                DeliveryForm::Messages(form) => item.message.as_ref()?.select(form),
                DeliveryForm::Response | DeliveryForm::Away => return None,
            };
            // Setting the cell cannot fail: it was empty, and only this thread uses it.
            let _ = cell.set(Rc::new(bytes.clone()));
        }
        cell.get()
    }
}

/// Returns the bytes for a single connection whose filters have changed the item's content to `content`. They are not
/// compressed, because no other connection shares the cost. Returns `None` if the item has no message for a
/// WebSocket, or if `content` is not valid for its kind of message.
pub(super) fn render(item: &Rendered, feed: DeliveryForm, content: &[u8]) -> Option<Rc<Bytes>> {
    let bytes = match feed {
        DeliveryForm::Stream(form) | DeliveryForm::Events(form) => Chunk::new(content).select(form).clone(),
        DeliveryForm::Messages(_) => {
            let kind = item.message.as_ref()?.kind();
            if !kind.takes(content) {
                return None;
            }
            websocket::frame(kind, content)
        }
        DeliveryForm::Response | DeliveryForm::Away => return None,
    };
    Some(Rc::new(bytes))
}

impl Rendered {
    /// Returns the item's content for connections that take items in the form `feed`. It is empty if the item has
    /// none for them, and for long-polls.
    pub fn content(&self, feed: DeliveryForm) -> Bytes {
        match feed {
            DeliveryForm::Stream(_) => self.stream.as_ref().map(|chunk| chunk.content().clone()),
            DeliveryForm::Events(_) => self.event_content().map(|chunk| chunk.content().clone()),
            DeliveryForm::Messages(_) => self.message.as_ref().map(|message| message.content().clone()),
            DeliveryForm::Response | DeliveryForm::Away => None,
        }
        .unwrap_or_default()
    }
}
