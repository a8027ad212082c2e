//! The bytes of all outlets of a shard: which outlets are to be flushed, and how many bytes wait for clients that do
//! not read.

use super::{ConnectionKey, Settings};
use std::collections::VecDeque;
use std::rc::Rc;
use tokio::sync::Notify;

/// The factor by which the waiting bytes may exceed the ceiling as long as clients go on reading. Most of these bytes
/// are shared by many outlets, so they take less memory than they count.
pub(super) const CROWDED_FACTOR: usize = 4;

/// The account of the bytes that wait in the outlets of a shard.
#[derive(Debug)]
pub(super) struct UnsentAccount {
    /// The connections whose outlets are to be flushed, in the order in which they were added.
    dirty: VecDeque<ConnectionKey>,
    /// The number of bytes in the outlets of blocked connections, whose transports have refused bytes.
    waiting: usize,
    /// The number of bytes that filters have made for single connections since all outlets were last flushed.
    made: usize,
    /// The number of bytes that may wait for one client after the piece that is being written.
    client_buffer: usize,
    /// The number of bytes that may wait for all slow clients together.
    ceiling: usize,
    /// Notified when more bytes wait than `ceiling` allows.
    crowded: Rc<Notify>,
}

impl UnsentAccount {
    /// Returns an account in which no bytes wait.
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            dirty: VecDeque::new(),
            waiting: 0,
            made: 0,
            client_buffer: settings.client_buffer,
            ceiling: settings.outlets_total,
            crowded: Rc::default(),
        }
    }

    /// Takes the limits of these settings. If more bytes wait than they allow, connections are ended.
    pub(super) fn set_limits(&mut self, settings: &Settings) {
        (self.client_buffer, self.ceiling) = (settings.client_buffer, settings.outlets_total);
        self.tell_if_crowded();
    }

    /// Adds a connection, whose `dirty` must have been `false`, to those that are to be flushed. If the connection was
    /// flushed out of its turn, its key may be among them still. Then the connection is flushed twice.
    #[inline]
    pub(super) fn add_dirty(&mut self, key: ConnectionKey) {
        self.dirty.push_back(key);
    }

    /// Removes and returns the connection that has waited longest to be flushed.
    pub(super) fn next_dirty(&mut self) -> Option<ConnectionKey> {
        self.dirty.pop_front()
    }

    /// Returns whether no connection is to be flushed.
    pub(super) fn is_flushed(&self) -> bool {
        self.dirty.is_empty()
    }

    /// Returns the number of bytes in the outlets of blocked connections, whose transports have refused bytes.
    #[inline]
    pub(super) const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Adds bytes that wait in the outlet of a blocked connection.
    #[inline]
    pub(super) const fn add_waiting(&mut self, bytes: usize) {
        self.waiting += bytes;
    }

    /// Subtracts bytes that were added before and no longer wait, because they were written or dropped.
    #[inline]
    pub(super) fn remove_waiting(&mut self, bytes: usize) {
        debug_assert!(
            bytes <= self.waiting,
            "internal error: {bytes} bytes were removed, but only {} were waiting",
            self.waiting
        );
        self.waiting -= bytes;
    }

    /// Returns how many bytes may wait for one client after the piece that is being written.
    #[inline]
    pub(super) const fn client_buffer(&self) -> usize {
        self.client_buffer
    }

    /// Returns how many bytes may wait for all slow clients together.
    #[inline]
    pub(super) const fn ceiling(&self) -> usize {
        self.ceiling
    }

    /// Returns whether more bytes wait than the ceiling allows.
    pub(super) const fn is_crowded(&self) -> bool {
        self.waiting > self.ceiling
    }

    /// Returns whether so many bytes wait that connections are ended even if their clients go on reading.
    pub(super) const fn is_overcrowded(&self) -> bool {
        self.waiting > self.ceiling.saturating_mul(CROWDED_FACTOR)
    }

    /// Wakes `Shard::keep_ceiling` if more bytes wait than the ceiling allows.
    pub(super) fn tell_if_crowded(&self) {
        if self.is_crowded() {
            self.crowded.notify_one();
        }
    }

    /// Returns the [`Notify`] that is notified when more bytes wait than the ceiling allows.
    pub(super) fn crowded(&self) -> Rc<Notify> {
        Rc::clone(&self.crowded)
    }

    /// Counts bytes that a filter has made for a single connection.
    pub(super) const fn add_made(&mut self, bytes: usize) {
        self.made += bytes;
    }

    /// Returns whether filters have made at least `most` bytes for single connections since all outlets were last
    /// flushed.
    pub(super) const fn has_made(&self, most: usize) -> bool {
        self.made >= most
    }

    /// Resets the number of bytes made for single connections. It is called when all outlets are flushed.
    pub(super) const fn forget_made(&mut self) {
        self.made = 0;
    }
}
