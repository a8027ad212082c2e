//! The reports of a shard about its connections. They go to the hub, which sends items to the shard, and to the
//! webhooks.

use super::Profile;
use crate::grip::Channel;
use crate::grip::item::ItemId;
use std::fmt;
use std::time::Duration;

/// A receiver of a shard's reports about its connections and the channels that they hold.
pub trait Ledger {
    /// Notes that one connection of this shard holds more channels from now on.
    ///
    /// # Errors
    /// [`DeniedChannel`] if the connection may not hold all of these channels together with those that it holds
    /// already. Nothing is changed then.
    fn join(&self, entering: &JoinRequest<'_>) -> Result<JoinInfo, DeniedChannel>;

    /// Notes that one connection of this shard has left each of `channels`.
    fn left(&self, profile: &Profile, channels: &[Channel]);

    /// Takes back one connection of this shard in each of `channels`. The hub counted it in advance, when it
    /// accepted a command that subscribes connections to these channels; by now, [`Ledger::join`] has counted the
    /// connections themselves. See [`super::CommandEffect::Move`].
    fn release(&self, channels: &[Channel]);

    /// Notes that a connection belongs to a known user from now on.
    fn user_joined(&self, profile: &Profile);

    /// Notes that a connection no longer belongs to a known user: the connection has ended, or its profile has
    /// changed.
    fn user_left(&self, profile: &Profile);

    /// Notes that a connection is held no longer.
    fn ended(&self, profile: &Profile, ended: &EndReport);
}

/// The channels that a connection is about to hold.
#[derive(Clone, Copy, Debug)]
pub struct JoinRequest<'a> {
    /// The profile of the connection.
    pub profile: &'a Profile,
    /// The channels that the connection does not hold yet, and is about to enter.
    pub channels: &'a [Channel],
    /// The channels that the connection holds already.
    pub held: &'a [Channel],
    /// The channels whose last ids are to be compared, each with the id of the last item that the connection knows
    /// of.
    pub known: &'a [(Channel, ItemId)],
}

/// The information that a connection gets when it joins channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinInfo {
    /// The number of the last item accepted before the connection joined.
    pub number: u64,
    /// Whether the hub remembers, for one of the channels in [`JoinRequest::known`], another last item than the
    /// connection knows of.
    pub behind: bool,
}

/// The error that a connection may not hold this channel, because the channel is denied to it for a time that is
/// not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeniedChannel(pub Channel);

impl fmt::Display for DeniedChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the channel '{}' is denied to this connection", self.0)
    }
}

impl std::error::Error for DeniedChannel {}

/// The report about a connection that is held no longer.
#[derive(Clone, Debug)]
pub struct EndReport {
    /// The place of the connection in its shard: its [`super::ConnectionId`] without the shard.
    pub place: super::ConnectionPlace,
    /// The kind of the connection: `stream`, `response` or `websocket`.
    pub kind: &'static str,
    /// The reason for which the connection is held no longer.
    pub reason: EndReason,
    /// The time for which the connection was held.
    pub duration: Duration,
    /// The number of bytes that were sent to the client in this time.
    pub bytes: u64,
}

/// The reason for which a connection is held no longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndReason {
    /// The client left or closed its WebSocket, broke the protocol, or sent more than it may.
    #[default]
    Client,
    /// A publisher or an operator closed the connection, or a channel was denied to it.
    Kicked,
    /// The client did not read, or read too slowly for the bytes that waited.
    Slow,
    /// No item answered the long-poll in time.
    Timeout,
    /// gripd is shutting down.
    Drain,
    /// The origin ended the hold, or gripd lost the origin.
    Origin,
    /// An item answered the long-poll.
    Answered,
    /// The user's token expired.
    Expired,
}

impl EndReason {
    /// Returns the name of the reason, as webhooks show it.
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
