//! The counts of one batch's items, to which every shard adds.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The counts of one item.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections in whose outlet it was put, or whose long-poll it answered.
    pub delivered: AtomicU32,
    /// Connections that hold the channel and did not want it.
    pub filtered: AtomicU32,
    /// Connections of which it is not known yet: they ask their origin, about it or about what came before.
    pub pending: AtomicU32,
    /// One while the item waits for the one before it.
    pub waiting: AtomicU32,
    /// One if it was published before.
    pub duplicate: AtomicU32,
    /// Connections cut because they had no room for it.
    pub slow: AtomicU32,
    /// Connections it ended: the last byte and FIN are with the kernel, or the connection was reset.
    pub closed: AtomicU32,
    /// Those of them that were reset with bytes unsent.
    pub cut: AtomicU32,
    /// Connections that it subscribed to channels.
    pub subscribed: AtomicU32,
    /// Connections that it unsubscribed from channels.
    pub unsubscribed: AtomicU32,
}

/// The counts of a batch while shards still add to them. When the last clone is dropped, they are final.
#[derive(Clone, Debug)]
pub struct Tally(Arc<Shared>);

/// A function that gets the final counts, on whichever thread made them final.
pub type Finally = Box<dyn FnOnce(&[Counts]) + Send + Sync>;

struct Shared {
    counts: Arc<[Counts]>,
    finally: Option<Finally>,
}

impl Tally {
    /// Returns a tally for this many items, and its counts.
    pub fn new(items: usize, finally: Finally) -> (Self, Arc<[Counts]>) {
        let counts: Arc<[Counts]> = (0..items).map(|_| Counts::default()).collect();
        (Self(Arc::new(Shared { counts: Arc::clone(&counts), finally: Some(finally) })), counts)
    }

    /// Returns the same counts, for which nobody waits.
    pub(super) fn detached(&self) -> Self {
        Self(Arc::new(Shared { counts: Arc::clone(&self.0.counts), finally: None }))
    }

    /// Returns the counts of the item with this index in its batch.
    pub fn of(&self, index: u32) -> &Counts {
        &self.0.counts[index as usize]
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(finally) = self.finally.take() {
            finally(&self.counts);
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.counts.fmt(f)
    }
}

/// The way in which a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// Everything that it was to be sent is with the kernel, the end of our bytes included.
    Cleanly,
    /// It was reset, or its client was gone, with bytes unsent.
    Cut,
}

/// A connection that is being ended, and the item that ends it.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) tally: Tally,
    pub(super) index: u32,
}

impl Ticket {
    /// Counts the connection as ended.
    pub(super) fn settle(self, way: Closed) {
        let counts = self.tally.of(self.index);
        counts.closed.fetch_add(1, Relaxed);
        if way == Closed::Cut {
            counts.cut.fetch_add(1, Relaxed);
        }
    }
}
