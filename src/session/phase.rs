//! The phases of a session, from the open WebSocket to its end.

use crate::grip::CloseReason;

/// The phase in which a session is.
#[derive(Debug, Default)]
pub(super) enum SessionPhase {
    /// Neither side has closed.
    #[default]
    Open,
    /// The client's side is closed: bytes that the client still sends are ignored. The origin may still send messages,
    /// and its own Close is awaited.
    Closing(Box<ClientClose>),
    /// The shard is ending the connection. If the client's side was closed before, its close is kept. A message that
    /// is being relayed to the client may be completed before the grace is over.
    Ending(Option<Box<ClientClose>>),
}

/// The close of the client's side: its reason, and who has closed it.
#[derive(Debug)]
pub(super) struct ClientClose {
    pub(super) reason: CloseReason,
    pub(super) by: ClosedBy,
}

/// The side that has closed the client's side of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClosedBy {
    /// The client has sent a Close frame. The origin may answer with another reason.
    Client,
    /// gripd has closed the WebSocket, because the client violated the protocol or because too much waits for its
    /// origin. The reason cannot be changed by the origin.
    Gripd,
}

impl SessionPhase {
    /// Returns whether neither side has closed.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    /// Returns whether the shard is ending the connection.
    pub(super) const fn is_ending(&self) -> bool {
        matches!(self, Self::Ending(_))
    }

    /// Returns the close of the client's side, if it is closed.
    pub(super) fn closing(&self) -> Option<&ClientClose> {
        match self {
            Self::Open => None,
            Self::Closing(closing) => Some(closing),
            Self::Ending(closing) => closing.as_deref(),
        }
    }

    /// Records that the client's side is closed.
    pub(super) fn close(&mut self, closing: ClientClose) {
        let closing = Box::new(closing);
        *self = if self.is_ending() { Self::Ending(Some(closing)) } else { Self::Closing(closing) };
    }

    /// Records that the shard is ending the connection.
    pub(super) fn end(&mut self) {
        *self = match std::mem::take(self) {
            Self::Open => Self::Ending(None),
            Self::Closing(closing) => Self::Ending(Some(closing)),
            Self::Ending(closing) => Self::Ending(closing),
        };
    }
}

/// The state of a message that arrives from the origin in pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Relaying {
    /// No message is being relayed in pieces.
    #[default]
    Nothing,
    /// The client has received the beginning of the message, and the remaining pieces are relayed. Items and delayed
    /// messages wait until the message is complete. Pings and pongs do not wait.
    Passing,
    /// The message does not begin with the prefix of messages for the client. All of its pieces are dropped.
    Dropping,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_shard_keeps_how_the_client_closed() {
        let mut phase = SessionPhase::default();
        assert!(phase.is_open() && phase.closing().is_none());
        phase.close(ClientClose { reason: CloseReason::new(1001, "bye"), by: ClosedBy::Client });
        assert!(!phase.is_open() && !phase.is_ending());
        phase.end();
        phase.end();
        assert!(phase.is_ending());
        assert_eq!(phase.closing().map(|closing| closing.reason.code), Some(1001));
        let mut phase = SessionPhase::Ending(None);
        phase.close(ClientClose { reason: CloseReason::new(1002, ""), by: ClosedBy::Gripd });
        assert!(phase.is_ending() && phase.closing().is_some_and(|closing| closing.by == ClosedBy::Gripd));
    }
}
