//! An item about which a hold is asked.

use super::inbox::Delivery;
use super::rare::Undo;
use std::sync::atomic::Ordering::Relaxed;

/// An item that the hold is to decide. An item that is never decided was not delivered.
#[derive(Debug)]
pub struct PendingItem {
    /// The item.
    pub item: Delivery,
    pub(super) undo: Option<Undo>,
}

impl PendingItem {
    /// Returns an item about which a hold is asked from now on.
    pub(super) fn new(item: Delivery, undo: Option<Undo>) -> Self {
        item.tally.of(item.index).pending.fetch_add(1, Relaxed);
        Self { item, undo }
    }
}

impl Drop for PendingItem {
    fn drop(&mut self) {
        self.item.tally.of(self.item.index).pending.fetch_sub(1, Relaxed);
    }
}
