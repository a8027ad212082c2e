//! An item that waits for the decision of a hold or a session.

use super::inbox::Delivery;
use super::rare_parts::LastIdUndo;
use std::sync::atomic::Ordering::Relaxed;

/// An item that waits until a hold or a session has decided whether its connection gets it. As long as this value
/// exists, the connection counts as pending for the item. An item that is dropped undecided was not delivered.
#[derive(Debug)]
pub struct PendingItem {
    /// The item.
    pub item: Delivery,
    pub(super) undo: Option<LastIdUndo>,
}

impl PendingItem {
    /// Returns an item that waits for a decision, and counts the connection as pending.
    pub(super) fn new(item: Delivery, undo: Option<LastIdUndo>) -> Self {
        item.tally.of(item.index).pending.fetch_add(1, Relaxed);
        Self { item, undo }
    }
}

impl Drop for PendingItem {
    fn drop(&mut self) {
        self.item.tally.of(self.item.index).pending.fetch_sub(1, Relaxed);
    }
}
