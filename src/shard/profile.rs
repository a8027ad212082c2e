//! The profile of a connection's client, and the names of connections.

use super::Key;
use super::registry::Subscription;
use crate::grip::Rights;
use std::cell::Cell;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// The profile of a connection's client.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// The name of its route.
    pub route: Arc<str>,
    /// The user, if that is known.
    pub user: Option<Arc<str>>,
    /// The client's address, if another one has connected: that of a proxy.
    pub client: Option<IpAddr>,
    /// When it ends by itself.
    pub until: Option<Instant>,
    /// Where it stands among the user's connections.
    pub(super) place: Cell<Option<Subscription>>,
}

impl Profile {
    /// Returns the profile of a connection through a route, whose client has these rights. `client`: its address, if
    /// another one has connected.
    pub fn new(route: &Arc<str>, rights: &Rights, client: Option<IpAddr>) -> Self {
        let until = rights.until.map(instant);
        Self { route: Arc::clone(route), user: rights.user.clone(), client, until, place: Cell::default() }
    }

    /// Returns whether it says the same. Of times that are told in whole seconds, what is less is none.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        const NEAR: Duration = Duration::from_secs(1);
        let near = |one: Instant, other: Instant| one.max(other).duration_since(one.min(other)) < NEAR;
        let until = match (self.until, other.until) {
            (Some(one), Some(other)) => near(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        self.route == other.route && self.user == other.user && self.client == other.client && until
    }

    /// Returns whether all connections of its route have the same.
    pub(super) const fn is_common(&self) -> bool {
        self.user.is_none() && self.client.is_none() && self.until.is_none()
    }
}

/// Returns when a time comes, in seconds since 1970; what is further away than years counts as that.
fn instant(seconds: u64) -> Instant {
    const FAR: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    Instant::now() + Duration::from_secs(seconds).saturating_sub(since).min(FAR)
}

/// A connection's place in its shard, which it alone has ever had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub(super) key: Key,
    /// How many connections were held before it.
    pub(super) serial: u32,
}

impl Place {
    /// Returns the number by which connections are in order.
    pub const fn key(self) -> u32 {
        self.key.number()
    }
}

/// The id of a connection: `SHARD-KEY-SERIAL`. Connections are in order by shard and key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionId {
    /// The index of its shard.
    pub shard: usize,
    /// Its place there.
    pub place: Place,
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.shard, self.place.key(), self.place.serial)
    }
}

/// A text is no connection's name.
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
            (Ok(shard), Ok(key), Ok(serial)) => Ok(Self { shard, place: Place { key: Key::new(key), serial } }),
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
        assert_eq!((id.shard, id.place), (1, Place { key: Key::new(20), serial: 300 }));
        assert_eq!(id.to_string(), "1-20-300");
        for wrong in ["", "1-2", "1-2-3-4", "a-2-3", "1--3", "1-2-4294967296", "-1-2-3"] {
            assert_eq!(wrong.parse::<ConnectionId>(), Err(NoConnectionId), "{wrong}");
        }
    }
}
