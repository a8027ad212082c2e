//! The phases of a session.

use crate::grip::CloseReason;

/// The state of a session's end.
#[derive(Debug, Default)]
pub(super) enum Phase {
    /// Both sides may say more.
    #[default]
    Open,
    /// The client's side is closed. The origin may still say something, and its own Close is awaited.
    Closing(Box<Closing>),
    /// The shard wants to end the connection, which may have been closing before. A message that the client is being told is
    /// told first, if there is time.
    Ending(Option<Box<Closing>>),
}

/// The close of the client's side.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) reason: CloseReason,
    pub(super) by: ClosedBy,
}

/// The one who has closed the client's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClosedBy {
    /// The client has sent a Close frame. The origin may answer with another reason.
    Client,
    /// gripd has, as the client broke the protocol or too much waits for its origin. The reason stands, whatever the origin
    /// says.
    Gripd,
}

impl Phase {
    /// Returns whether both sides may say more.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    /// Returns whether the shard wants to end the connection.
    pub(super) const fn is_ending(&self) -> bool {
        matches!(self, Self::Ending(_))
    }

    /// Returns the close of the client's side, if it is closed.
    pub(super) fn closing(&self) -> Option<&Closing> {
        match self {
            Self::Open => None,
            Self::Closing(closing) => Some(closing),
            Self::Ending(closing) => closing.as_deref(),
        }
    }

    /// Closes the client's side.
    pub(super) fn close(&mut self, closing: Closing) {
        let closing = Box::new(closing);
        *self = if self.is_ending() { Self::Ending(Some(closing)) } else { Self::Closing(closing) };
    }

    /// Notes that the shard wants to end the connection.
    pub(super) fn end(&mut self) {
        *self = match std::mem::take(self) {
            Self::Open => Self::Ending(None),
            Self::Closing(closing) => Self::Ending(Some(closing)),
            Self::Ending(closing) => Self::Ending(closing),
        };
    }
}

/// The message that the origin is telling the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Relaying {
    /// There is none, or its first piece is still to come.
    #[default]
    Nothing,
    /// The client has got its beginning, and gets the rest. Whatever else there is for the client waits meanwhile.
    Passing,
    /// It does not begin with the prefix of messages for clients, and is left out to its end.
    Dropping,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_shard_keeps_how_the_client_closed() {
        let mut phase = Phase::default();
        assert!(phase.is_open() && phase.closing().is_none());
        phase.close(Closing { reason: CloseReason::new(1001, "bye"), by: ClosedBy::Client });
        assert!(!phase.is_open() && !phase.is_ending());
        phase.end();
        phase.end();
        assert!(phase.is_ending());
        assert_eq!(phase.closing().map(|closing| closing.reason.code), Some(1001));
        let mut phase = Phase::Ending(None);
        phase.close(Closing { reason: CloseReason::new(1002, ""), by: ClosedBy::Gripd });
        assert!(phase.is_ending() && phase.closing().is_some_and(|closing| closing.by == ClosedBy::Gripd));
    }
}
