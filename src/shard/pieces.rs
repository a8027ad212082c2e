//! An item's bytes as connections of this shard send them.

use super::Rendered;
use super::conn::Feed;
use crate::wire::{Chunk, MessageForm, StreamForm, websocket};
use bytes::Bytes;
use std::cell::OnceCell;
use std::rc::Rc;

/// An item's bytes for streams and WebSockets, shared by the outlets of this shard without atomic counting. Those of a
/// wire form are there once a connection took them.
#[derive(Clone, Default)]
pub(super) struct Pieces {
    chunk: OnceCell<Rc<Bytes>>,
    content: OnceCell<Rc<Bytes>>,
    plain: OnceCell<Rc<Bytes>>,
    deflated: OnceCell<Rc<Bytes>>,
}

impl Pieces {
    /// Returns the bytes for a connection; `None`: the item has none for it.
    #[inline]
    pub(super) fn select(&self, item: &Rendered, feed: Feed) -> Option<&Rc<Bytes>> {
        let cell = match feed {
            Feed::Stream(StreamForm::Chunked) => &self.chunk,
            Feed::Stream(StreamForm::Bare) => &self.content,
            Feed::Messages(MessageForm::Plain) => &self.plain,
            Feed::Messages(MessageForm::Deflated) => &self.deflated,
            Feed::Response | Feed::Away => return None,
        };
        if cell.get().is_none() {
            let bytes = match feed {
                Feed::Stream(form) => item.stream.as_ref()?.select(form),
                Feed::Messages(form) => item.message.as_ref()?.select(form),
                Feed::Response | Feed::Away => return None,
            };
            // It was empty a moment ago.
            let _ = cell.set(Rc::new(bytes.clone()));
        }
        cell.get()
    }
}

/// Returns the bytes for one connection, whose filters made `content` of the item's own. They are for nobody else, and not
/// worth compressing here. `None`: no such message may have this content.
pub(super) fn render(item: &Rendered, feed: Feed, content: &[u8]) -> Option<Rc<Bytes>> {
    let bytes = match feed {
        Feed::Stream(form) => Chunk::new(content).select(form).clone(),
        Feed::Messages(_) => {
            let kind = item.message.as_ref()?.kind();
            if !kind.takes(content) {
                return None;
            }
            websocket::frame(kind, content)
        }
        Feed::Response | Feed::Away => return None,
    };
    Some(Rc::new(bytes))
}

impl Rendered {
    /// Returns its content for connections of this kind.
    pub(super) fn content(&self, feed: Feed) -> Bytes {
        match feed {
            Feed::Stream(_) => self.stream.as_ref().map(|chunk| chunk.content().clone()),
            Feed::Messages(_) => self.message.as_ref().map(|message| message.content().clone()),
            Feed::Response | Feed::Away => None,
        }
        .unwrap_or_default()
    }
}
