//! The reports of a shard about its connections: to the one that sends it items, and to others that want to know.

use super::Profile;
use crate::grip::Channel;
use crate::grip::item::Id;
use std::fmt;
use std::time::Duration;

/// A receiver of reports about the channels that the connections of a shard hold.
pub trait Ledger {
    /// Notes that one connection of this shard holds more channels from now on.
    ///
    /// # Errors
    /// It may not; then nothing is changed.
    fn join(&self, entering: &Entering<'_>) -> Result<Joined, Denied>;

    /// Notes that one connection of this shard has left each of `channels`.
    fn left(&self, whose: &Profile, channels: &[Channel]);

    /// Takes back what was entered ahead for connections that were to be subscribed: they are entered by now. See
    /// [`super::Command`].
    fn release(&self, channels: &[Channel]);

    /// Notes that a connection of a known user is held.
    fn came(&self, whose: &Profile);

    /// Notes that a connection of a known user is held no longer.
    fn went(&self, whose: &Profile);

    /// Notes that a connection is held no longer.
    fn ended(&self, whose: &Profile, ended: &Ended);
}

/// The channels that a connection is about to hold.
#[derive(Clone, Copy, Debug)]
pub struct Entering<'a> {
    /// The profile of the connection.
    pub whose: &'a Profile,
    /// The channels that it does not hold yet.
    pub channels: &'a [Channel],
    /// Those that it holds already.
    pub held: &'a [Channel],
    /// Of some of them the id of the last item that it knows of.
    pub known: &'a [(Channel, Id)],
}

/// The information that a connection gets when it joins channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The number of the last item accepted before.
    pub number: u64,
    /// Whether the last item of a channel is not the one that the connection knows of.
    pub behind: bool,
}

/// A connection may not hold a channel: it was closed for a time that is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied(pub Channel);

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the channel '{}' is denied to this connection", self.0)
    }
}

impl std::error::Error for Denied {}

/// A connection that is held no longer.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The place of the connection in its shard: its [`super::ConnectionId`] without the shard.
    pub place: super::Place,
    /// The kind of the connection: `stream`, `response` or `websocket`.
    pub kind: &'static str,
    /// Why.
    pub reason: Reason,
    /// How long it was held.
    pub duration: Duration,
    /// Bytes that it was sent meanwhile.
    pub bytes: u64,
}

/// Why a connection is held no longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reason {
    /// The client left.
    #[default]
    Client,
    /// A publisher or an operator closed it.
    Kicked,
    /// Too much waited for a client that does not read.
    Slow,
    /// Nothing came in its time.
    Timeout,
    /// gripd ends.
    Drain,
    /// The origin ended it, or was lost.
    Origin,
    /// A long-poll got its item.
    Answered,
    /// The user's token expired.
    Expired,
}

impl Reason {
    /// Returns its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Kicked => "kicked",
            Self::Slow => "slow",
            Self::Timeout => "timeout",
            Self::Drain => "drain",
            Self::Origin => "origin",
            Self::Answered => "answered",
            Self::Expired => "expired",
        }
    }
}
