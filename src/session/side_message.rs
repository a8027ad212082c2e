//! The words that the two sides of a session have for each other.

use crate::grip::{CloseReason, MessageKind};
use crate::origin::Failure;
use crate::wire::websocket::Fragment;
use bytes::Bytes;

/// A message from one side of a session to the other.
#[derive(Debug)]
pub(super) enum SideMessage {
    /// A text or binary message, or a piece of one.
    Data(Piece),
    /// A ping or a pong.
    Control(MessageKind, Bytes),
    /// The end, and why.
    Close(Option<CloseReason>),
    /// The end: the origin has heard the client's Close and says nothing to it.
    Over,
    /// The origin is lost.
    Lost(Failure),
    /// The messages of all clients together take too much memory, and this client has most of it.
    Crowded,
}

/// A piece of a message, mostly all of it.
#[derive(Debug)]
pub(super) struct Piece {
    /// Text or binary.
    pub(super) kind: MessageKind,
    pub(super) content: Bytes,
    pub(super) first: bool,
    pub(super) last: bool,
}

impl Piece {
    /// Returns it as a frame has it.
    pub(super) fn as_fragment(&self) -> Fragment<'_> {
        Fragment { kind: self.kind, content: &self.content, first: self.first, last: self.last }
    }
}

/// A message is larger than messages may be.
#[derive(Debug)]
pub(super) struct TooLarge;

/// How a session's origin is left.
#[derive(Clone, Debug)]
pub(super) enum Leave {
    /// The client, or gripd on its behalf, closes.
    Close(Option<CloseReason>),
    /// The client is gone without a word.
    Disconnect,
}
