//! The profile of a connection's client, and the ids of connections.

use super::ConnectionKey;
use super::registry::Subscription;
use crate::grip::Rights;
use std::cell::Cell;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// The properties of a connection's client that decide how the connection is listed, reported and ended.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// The name of the route through which the connection came.
    pub route: Arc<str>,
    /// The user of the client, or `None` if the user is not known.
    pub user: Option<Arc<str>>,
    /// The client's own address, if the connection comes from another address: that of a proxy.
    pub client: Option<IpAddr>,
    /// The time at which the connection ends by itself, because the token of its user expires.
    pub until: Option<Instant>,
    /// The connection's position among the connections of its user, if it was added to them.
    pub(super) place: Cell<Option<Subscription>>,
}

impl Profile {
    /// Returns the profile of a client with these rights, whose connection came through `route`. `client` is the
    /// client's own address, if the connection comes from another address.
    pub fn new(route: &Arc<str>, rights: &Rights, client: Option<IpAddr>) -> Self {
        let until = rights.expires.map(instant);
        Self { route: Arc::clone(route), user: rights.user.clone(), client, until, place: Cell::default() }
    }

    /// Returns whether two profiles describe the same client. Times that differ by less than a second count as equal:
    /// they are given in whole seconds, so a smaller difference only comes from their conversion.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        const NEAR: Duration = Duration::from_secs(1);
        let near = |one: Instant, other: Instant| one.max(other).duration_since(one.min(other)) < NEAR;
        let until = match (self.until, other.until) {
            (Some(one), Some(other)) => near(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        self.route == other.route && self.user == other.user && self.client == other.client && until
    }

    /// Returns whether the profile contains nothing but the route, so that all such connections of the route can
    /// share it.
    pub(super) const fn is_common(&self) -> bool {
        self.user.is_none() && self.client.is_none() && self.until.is_none()
    }
}

/// Converts a time in seconds since 1970. A time in the past becomes the current time, and a time that is more than
/// ten years away becomes one that is ten years away.
fn instant(seconds: u64) -> Instant {
    const FAR: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    Instant::now() + Duration::from_secs(seconds).saturating_sub(since).min(FAR)
}

/// The identity of a connection in its shard. Unlike a `ConnectionKey`, it is not used again for a later connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionPlace {
    pub(super) key: ConnectionKey,
    /// The number of connections that were parked in the shard before this one, modulo 2^32.
    pub(super) serial: u32,
}

impl ConnectionPlace {
    /// Returns the number of the connection's key, by which the connections of a shard are ordered.
    pub const fn key(self) -> u32 {
        self.key.number()
    }
}

/// The id of a connection, which is written as `SHARD-KEY-SERIAL`. Connections are ordered by shard and key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionId {
    /// The index of the connection's shard.
    pub shard: usize,
    /// The identity of the connection in its shard.
    pub place: ConnectionPlace,
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.shard, self.place.key(), self.place.serial)
    }
}

/// The error for a text that is not the id of a connection.
#[derive(Debug, PartialEq, Eq)]
pub struct NoConnectionId;

impl FromStr for ConnectionId {
    type Err = NoConnectionId;

    fn from_str(text: &str) -> Result<Self, NoConnectionId> {
        let mut parts = text.split('-');
        let (Some(shard), Some(key), Some(serial), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NoConnectionId);
        };
        match (shard.parse(), key.parse(), serial.parse()) {
            (Ok(shard), Ok(key), Ok(serial)) => {
                Ok(Self { shard, place: ConnectionPlace { key: ConnectionKey::new(key), serial } })
            }
            _ => Err(NoConnectionId),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_called_by_its_place() {
        let id: ConnectionId = "1-20-300".parse().unwrap();
        assert_eq!((id.shard, id.place), (1, ConnectionPlace { key: ConnectionKey::new(20), serial: 300 }));
        assert_eq!(id.to_string(), "1-20-300");
        for wrong in ["", "1-2", "1-2-3-4", "a-2-3", "1--3", "1-2-4294967296", "-1-2-3"] {
            assert_eq!(wrong.parse::<ConnectionId>(), Err(NoConnectionId), "{wrong}");
        }
    }
}
