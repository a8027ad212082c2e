//! The line of a session: the way to its origin.

use super::Sessions;
use super::over_http::OverHttpLine;
use super::relayed::RelayedLine;
use super::side_message::{OriginLeave, Piece, SideMessage, TooLarge};
use crate::grip::{CloseReason, MessageKind};
use crate::origin::{OriginClient, OriginSocket};
use std::task::{Context, Poll};
use tokio::time::Instant;

/// The line of a session: the way to its origin.
pub(super) enum OriginLine {
    OverHttp(Box<OverHttpLine>),
    Relayed(Box<RelayedLine>),
    /// The target is the `test` handler instead of an origin: the client receives its own messages.
    Echo,
    /// The origin has detached itself from the WebSocket. Messages of the client are dropped.
    Detached,
}

impl OriginLine {
    /// Returns the line to an origin that has accepted the WebSocket, and the channels that the line itself
    /// subscribes the client to. Only the `test` handler has such channels.
    pub(super) fn new(sessions: &Sessions, opened: OriginSocket) -> (Self, Vec<String>) {
        match opened {
            OriginSocket::Conversation { conversation, reply, .. } => {
                let share = sessions.unsent.share();
                let line = OverHttpLine::new(conversation, reply, sessions.settings.get().max_message, share);
                (Self::OverHttp(Box::new(line)), Vec::new())
            }
            OriginSocket::Socket { socket, early, .. } => {
                let line = RelayedLine::new(socket, &early);
                (Self::Relayed(Box::new(line)), Vec::new())
            }
            OriginSocket::Echo { channels, .. } => (Self::Echo, channels),
        }
    }

    /// Returns the next message or event of the origin.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<SideMessage> {
        match self {
            Self::OverHttp(line) => line.poll_next(cx),
            Self::Relayed(line) => line.poll_next(cx),
            Self::Echo | Self::Detached => Poll::Pending,
        }
    }

    /// Writes queued bytes to the connection of a relayed WebSocket, as far as the connection takes them.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) {
        if let Self::Relayed(line) = self {
            // The next read from the connection fails as well, and reports the error.
            let _ = line.poll_write(cx);
        }
    }

    /// Polls the request that is in progress, if the origin is asked over HTTP, and keeps its events: the client does
    /// not read, so that nothing can be sent to it now. Ready only when the session has to be closed.
    pub(super) fn poll_quietly(&mut self, cx: &mut Context<'_>) -> Poll<SideMessage> {
        match self {
            Self::OverHttp(line) => line.poll_quietly(cx),
            Self::Relayed(_) | Self::Echo | Self::Detached => Poll::Pending,
        }
    }

    /// Returns whether so much waits for the origin that no more is to be read from the client.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::OverHttp(line) => line.is_full(),
            Self::Relayed(line) => line.is_full(),
            Self::Echo | Self::Detached => false,
        }
    }

    /// Queues a piece of a message for the origin.
    ///
    /// # Errors
    /// The message is larger than this line allows.
    pub(super) fn data(&mut self, piece: Piece, sessions: &Sessions) -> Result<(), TooLarge> {
        match self {
            Self::OverHttp(line) => line.data(piece),
            Self::Relayed(line) => line.data(piece, sessions.settings.get().max_relayed_message),
            Self::Echo | Self::Detached => Ok(()),
        }
    }

    /// Queues a ping or a pong for the origin.
    pub(super) fn control(&mut self, kind: MessageKind, content: Vec<u8>) {
        match self {
            Self::OverHttp(line) => line.control(kind, content),
            Self::Relayed(line) => line.control(kind, &content),
            Self::Echo | Self::Detached => {}
        }
    }

    /// Queues the client's Close for the origin. Returns `false` if there is no origin that could answer it.
    pub(super) fn close(&mut self, reason: Option<&CloseReason>) -> bool {
        match self {
            Self::OverHttp(line) => line.close(reason),
            Self::Relayed(line) => line.close(reason),
            Self::Echo | Self::Detached => return false,
        }
        true
    }

    /// Asks an origin over HTTP whether it has new events, even if there are none to send to it. Other lines ignore
    /// the call.
    pub(super) fn refresh(&mut self) {
        if let Self::OverHttp(line) = self {
            line.refresh();
        }
    }

    /// Returns the time at which an origin over HTTP is to be asked again, if it has set an interval.
    pub(super) fn due_at(&self) -> Option<Instant> {
        if let Self::OverHttp(line) = self { line.due_at() } else { None }
    }

    /// Sends what the origin still has to receive, in the background, and drops the line.
    pub(super) fn wind_up(self, leave: OriginLeave, origin: &OriginClient) {
        match self {
            Self::OverHttp(line) if line.has_last_words(&leave) => {
                origin.run_in_background(async { line.wind_up(leave).await })
            }
            Self::Relayed(line) if line.has_last_words(&leave) => {
                origin.run_in_background(async { line.wind_up(leave).await })
            }
            Self::OverHttp(_) | Self::Relayed(_) | Self::Echo | Self::Detached => {}
        }
    }

    /// Returns whether the line leads to an origin.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self, Self::OverHttp(_) | Self::Relayed(_))
    }
}
