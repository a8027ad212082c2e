//! The messages and events that the origin's side of a session passes to the client's side, and the ways to leave an
//! origin.

use crate::grip::{CloseReason, MessageKind};
use crate::origin::Failure;
use crate::wire::websocket::Fragment;
use bytes::Bytes;

/// A message or event from the line to the client's side of a session.
#[derive(Debug)]
pub(super) enum SideMessage {
    /// A text or binary message, or a piece of such a message.
    Data(Piece),
    /// A ping or a pong.
    Control(MessageKind, Bytes),
    /// The origin closes the WebSocket, with this reason if it names one.
    Close(Option<CloseReason>),
    /// The origin has received the client's Close, and neither answers it nor wants to be asked again.
    Over,
    /// The connection to the origin failed, or the origin violated the protocol.
    Lost(Failure),
    /// The messages that wait for origins exceed the limit for all clients together, and this client has one of the
    /// largest shares. The WebSocket must be closed.
    Crowded,
}

/// A piece of a message. Most messages consist of a single piece.
#[derive(Debug)]
pub(super) struct Piece {
    /// The kind of the message, which is text or binary.
    pub(super) kind: MessageKind,
    pub(super) content: Bytes,
    pub(super) first: bool,
    pub(super) last: bool,
}

impl Piece {
    /// Returns the piece as the content of a WebSocket frame.
    pub(super) fn as_fragment(&self) -> Fragment<'_> {
        Fragment { kind: self.kind, content: &self.content, first: self.first, last: self.last }
    }
}

/// The error for a message that is larger than the line allows.
#[derive(Debug)]
pub(super) struct TooLarge;

/// The way in which a session leaves its origin.
#[derive(Clone, Debug)]
pub(super) enum OriginLeave {
    /// The origin receives a Close with this reason, sent by the client or by gripd on its behalf.
    Close(Option<CloseReason>),
    /// The client is gone without a Close.
    Disconnect,
}
