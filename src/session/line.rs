//! The line from a session to its origin.

use super::Sessions;
use super::over_http::OverHttp;
use super::relayed::Relayed;
use super::side_message::{Leave, Piece, SideMessage, TooLarge};
use crate::grip::{CloseReason, MessageKind};
use crate::origin::{Opened, Origin};
use std::task::{Context, Poll};
use tokio::time::Instant;

/// The line from a session to its origin.
pub(super) enum Line {
    OverHttp(Box<OverHttp>),
    Relayed(Box<Relayed>),
    /// There is no origin: the client gets back what it says.
    Echo,
    /// The origin has left. Messages of the client go nowhere.
    Detached,
}

impl Line {
    /// Returns the line to an origin that has accepted, and channels of its own.
    pub(super) fn new(sessions: &Sessions, opened: Opened) -> (Self, Vec<String>) {
        match opened {
            Opened::Conversation { conversation, reply, .. } => {
                let share = sessions.unsent.share();
                let line = OverHttp::new(conversation, reply, sessions.settings.max_message, share);
                (Self::OverHttp(Box::new(line)), Vec::new())
            }
            Opened::Socket { socket, early, .. } => {
                let line = Relayed::new(socket, &early);
                (Self::Relayed(Box::new(line)), Vec::new())
            }
            Opened::Echo { channels, .. } => (Self::Echo, channels),
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

    /// Gives the origin what its connection takes.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) {
        if let Self::Relayed(line) = self {
            // An error is seen when reading.
            let _ = line.poll_write(cx);
        }
    }

    /// Brings what the origin is asked to its end, and says nothing of it yet: nobody could hear it.
    pub(super) fn poll_quietly(&mut self, cx: &mut Context<'_>) {
        if let Self::OverHttp(line) = self {
            line.poll_quietly(cx);
        }
    }

    /// Returns whether so much waits for the origin that the client is not to say more.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::OverHttp(line) => line.is_full(),
            Self::Relayed(line) => line.is_full(),
            Self::Echo | Self::Detached => false,
        }
    }

    /// Tells the origin a piece of a message.
    pub(super) fn data(&mut self, piece: Piece, sessions: &Sessions) -> Result<(), TooLarge> {
        match self {
            Self::OverHttp(line) => line.data(piece),
            Self::Relayed(line) => line.data(piece, sessions.settings.max_relayed_message),
            Self::Echo | Self::Detached => Ok(()),
        }
    }

    /// Tells the origin a ping or a pong.
    pub(super) fn control(&mut self, kind: MessageKind, content: Vec<u8>) {
        match self {
            Self::OverHttp(line) => line.control(kind, content),
            Self::Relayed(line) => line.control(kind, &content),
            Self::Echo | Self::Detached => {}
        }
    }

    /// Tells the origin that the client closes. `false`: there is nobody who could answer.
    pub(super) fn close(&mut self, reason: Option<&CloseReason>) -> bool {
        match self {
            Self::OverHttp(line) => line.close(reason),
            Self::Relayed(line) => line.close(reason),
            Self::Echo | Self::Detached => return false,
        }
        true
    }

    /// Asks the origin whether there is anything new, if it can be asked.
    pub(super) fn refresh(&mut self) {
        if let Self::OverHttp(line) = self {
            line.refresh();
        }
    }

    /// Returns when the origin is to hear again.
    pub(super) fn due_at(&self) -> Option<Instant> {
        if let Self::OverHttp(line) = self { line.due_at() } else { None }
    }

    /// Brings the line to its end in the background.
    pub(super) fn wind_up(self, leave: Leave, origin: &Origin) {
        match self {
            Self::OverHttp(line) if line.has_last_words(&leave) => origin.behind(async { line.wind_up(leave).await }),
            Self::Relayed(line) if line.has_last_words(&leave) => origin.behind(async { line.wind_up(leave).await }),
            Self::OverHttp(_) | Self::Relayed(_) | Self::Echo | Self::Detached => {}
        }
    }

    /// Returns whether there is somebody at its other end.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self, Self::OverHttp(_) | Self::Relayed(_))
    }
}
