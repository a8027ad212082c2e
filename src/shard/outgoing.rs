//! The bytes of all outlets of a shard: which outlets are to be flushed, and how much waits for clients that do not read.

use super::{Key, Settings};
use std::collections::VecDeque;
use std::rc::Rc;
use tokio::sync::Notify;

/// The multiple of the ceiling that may wait for clients that go on reading: most of what waits is shared by many.
pub(super) const CROWDED: usize = 4;

/// The account of what waits in the outlets of a shard.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// Connections with bytes to flush, in the order in which they got the first of them.
    dirty: VecDeque<Key>,
    /// Bytes in the outlets whose transports have refused some.
    waiting: usize,
    /// Bytes that filters have made for single connections since all outlets were flushed.
    made: usize,
    /// Bytes that may wait for one client after the piece that is being written.
    client_buffer: usize,
    /// Bytes that may wait for all slow clients together.
    ceiling: usize,
    /// Notified when more waits than the ceiling allows.
    crowded: Rc<Notify>,
}

impl Outgoing {
    /// Returns an account in which nothing waits.
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

    /// Adds a connection to those that are to be flushed. It must not be among them.
    #[inline]
    pub(super) fn add_dirty(&mut self, key: Key) {
        self.dirty.push_back(key);
    }

    /// Takes the connection that has waited longest to be flushed.
    pub(super) fn next_dirty(&mut self) -> Option<Key> {
        self.dirty.pop_front()
    }

    /// Returns whether no connection is to be flushed.
    pub(super) fn is_flushed(&self) -> bool {
        self.dirty.is_empty()
    }

    /// Returns how many bytes wait in outlets whose transports have refused some.
    #[inline]
    pub(super) const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Counts bytes that wait for a transport which refuses them.
    #[inline]
    pub(super) const fn add_waiting(&mut self, bytes: usize) {
        self.waiting += bytes;
    }

    /// Counts bytes that were added before and wait no longer.
    #[inline]
    pub(super) fn remove_waiting(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.waiting, "{bytes} bytes are gone, and only {} waited", self.waiting);
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

    /// Returns whether more waits than the ceiling allows.
    pub(super) const fn is_crowded(&self) -> bool {
        self.waiting > self.ceiling
    }

    /// Returns whether so much waits that clients are cut although they go on reading.
    pub(super) const fn is_overcrowded(&self) -> bool {
        self.waiting > self.ceiling.saturating_mul(CROWDED)
    }

    /// Notifies whoever keeps the ceiling, if more waits than it allows.
    pub(super) fn tell_if_crowded(&self) {
        if self.is_crowded() {
            self.crowded.notify_one();
        }
    }

    /// Returns the notice that more waits than the ceiling allows.
    pub(super) fn crowded(&self) -> Rc<Notify> {
        Rc::clone(&self.crowded)
    }

    /// Counts bytes that a filter has made for a single connection.
    pub(super) const fn add_made(&mut self, bytes: usize) {
        self.made += bytes;
    }

    /// Returns whether as much was made for single connections as `most` allows between two flushes of all outlets.
    pub(super) const fn has_made(&self, most: usize) -> bool {
        self.made >= most
    }

    /// Resets the count of bytes made for single connections, once all outlets are flushed.
    pub(super) const fn forget_made(&mut self) {
        self.made = 0;
    }
}
