//! The table of a shard's parked connections.

use super::conn::Conn;
use slab::Slab;
use std::ops::{Index, IndexMut};

/// The index of a connection in the table of its shard. When the connection is gone, another one may get the same
/// key. A [`ConnectionPlace`](super::ConnectionPlace), which has a serial number as well, is not used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConnectionKey(u32);

impl ConnectionKey {
    /// Returns the key with this number.
    pub(super) const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Returns the number of the key. Connections are listed in the order of these numbers.
    pub(super) const fn number(self) -> u32 {
        self.0
    }

    const fn index(self) -> usize {
        self.0 as usize
    }
}

impl From<usize> for ConnectionKey {
    /// Converts an index of the table. Every index fits: each connection needs a file descriptor, and no process
    /// can have 2^32 of them.
    fn from(index: usize) -> Self {
        Self(
            u32::try_from(index).unwrap_or_else(|_| {
                unreachable!("internal error: the connection number {index} of a shard is too large")
            }),
        )
    }
}

/// The parked connections, by their keys.
#[derive(Default)]
pub(super) struct Connections {
    places: Slab<Conn>,
    /// The number of connections that have been inserted so far. It wraps around at 2^32.
    serial: u32,
}

impl Connections {
    /// Inserts a connection, and gives it a serial number. Returns the key of the connection.
    pub(super) fn insert(&mut self, mut conn: Conn) -> ConnectionKey {
        conn.serial = self.serial;
        self.serial = self.serial.wrapping_add(1);
        ConnectionKey::from(self.places.insert(conn))
    }

    /// Returns the connection with this key, if there is one.
    pub(super) fn get(&self, key: ConnectionKey) -> Option<&Conn> {
        self.places.get(key.index())
    }

    /// Removes the connection with this key, which must exist.
    pub(super) fn remove(&mut self, key: ConnectionKey) {
        self.places.remove(key.index());
    }

    /// Returns all connections, in the order of their keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ConnectionKey, &Conn)> {
        self.places.iter().map(|(index, conn)| (ConnectionKey::from(index), conn))
    }

    /// Returns how many connections there are.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Returns a number that is greater than the number of every key in use.
    pub(super) fn end(&self) -> usize {
        self.places.capacity()
    }
}

/// Access to a connection that is known to exist, because its [`Parked`](super::Parked) exists. It panics if there
/// is no such connection.
impl Index<ConnectionKey> for Connections {
    type Output = Conn;

    fn index(&self, key: ConnectionKey) -> &Conn {
        &self.places[key.index()]
    }
}

impl IndexMut<ConnectionKey> for Connections {
    fn index_mut(&mut self, key: ConnectionKey) -> &mut Conn {
        &mut self.places[key.index()]
    }
}
