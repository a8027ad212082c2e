//! The parked connections of a shard, each at a place of its own.

use super::conn::Conn;
use slab::Slab;
use std::ops::{Index, IndexMut};

/// The place of a connection in its shard. When a connection is gone, another one may get its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(u32);

impl Key {
    /// Returns the key of the place with this number.
    pub(super) const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Returns the number of the place, by which connections are in order.
    pub(super) const fn number(self) -> u32 {
        self.0
    }

    const fn index(self) -> usize {
        self.0 as usize
    }
}

impl From<usize> for Key {
    /// Makes a key of an index. Each connection has a descriptor, of which no process can have as many as a key can count.
    fn from(index: usize) -> Self {
        Self(u32::try_from(index).unwrap_or_else(|_| unreachable!("{index} connections in one shard")))
    }
}

/// The parked connections, by their keys.
#[derive(Default)]
pub(super) struct Connections {
    places: Slab<Conn>,
    /// How many connections there have been.
    serial: u32,
}

impl Connections {
    /// Gives a connection a place, and a serial number.
    pub(super) fn insert(&mut self, mut conn: Conn) -> Key {
        conn.serial = self.serial;
        self.serial = self.serial.wrapping_add(1);
        Key::from(self.places.insert(conn))
    }

    /// Returns the connection at a place, if there is one.
    pub(super) fn get(&self, key: Key) -> Option<&Conn> {
        self.places.get(key.index())
    }

    /// Removes a connection, which must be there.
    pub(super) fn remove(&mut self, key: Key) {
        self.places.remove(key.index());
    }

    /// Returns all connections, in the order of their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &Conn)> {
        self.places.iter().map(|(index, conn)| (Key::from(index), conn))
    }

    /// Returns how many connections there are.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Returns a number above those of all places that are taken.
    pub(super) fn end(&self) -> usize {
        self.places.capacity()
    }
}

/// A connection that is known to be there, as its [`Parked`](super::Parked) is.
impl Index<Key> for Connections {
    type Output = Conn;

    fn index(&self, key: Key) -> &Conn {
        &self.places[key.index()]
    }
}

impl IndexMut<Key> for Connections {
    fn index_mut(&mut self, key: Key) -> &mut Conn {
        &mut self.places[key.index()]
    }
}
