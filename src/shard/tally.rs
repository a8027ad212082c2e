//! The counts of one batch's items, to which every shard adds.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The counts of one item.
#[derive(Debug, Default)]
pub struct Counts {
    /// The number of connections to whose outlet the item was appended, or whose long-poll it answered.
    pub delivered: AtomicU32,
    /// The number of connections that hold the channel but did not get the item because of their filters.
    pub filtered: AtomicU32,
    /// The number of connections for which it is not decided yet whether they get the item. For these, the item waits
    /// in a queue, or their hold or session is deciding about it.
    pub pending: AtomicU32,
    /// 1 while the item waits in the hub for the item before it, otherwise 0.
    pub waiting: AtomicU32,
    /// 1 if an item with the same id was published in the channel lately, so that the content of this one was dropped,
    /// otherwise 0.
    pub duplicate: AtomicU32,
    /// The number of connections that were ended because they had no room for the item.
    pub slow: AtomicU32,
    /// The number of connections that the item ended: the last byte and FIN are with the kernel, or the connection
    /// was reset, or its client was gone.
    pub closed: AtomicU32,
    /// The number of connections among `closed` that were reset, or whose clients were gone, before the last byte and
    /// FIN were with the kernel.
    pub cut: AtomicU32,
    /// The number of connections that the item subscribed to channels.
    pub subscribed: AtomicU32,
    /// The number of connections that the item unsubscribed from channels.
    pub unsubscribed: AtomicU32,
}

/// The counts of a batch while shards still add to them. When the last clone is dropped, they are final.
#[derive(Clone, Debug)]
pub struct Tally(Arc<SharedCounts>);

/// A function that is called with the final counts, on the thread that drops the last clone of the [`Tally`].
pub type OnFinalCounts = Box<dyn FnOnce(&[Counts]) + Send + Sync>;

struct SharedCounts {
    counts: Arc<[Counts]>,
    finally: Option<OnFinalCounts>,
}

impl Tally {
    /// Returns a tally for a batch of this many items, and its counts. `finally` is called when the counts are final.
    pub fn new(items: usize, finally: OnFinalCounts) -> (Self, Arc<[Counts]>) {
        let counts: Arc<[Counts]> = (0..items).map(|_| Counts::default()).collect();
        (Self(Arc::new(SharedCounts { counts: Arc::clone(&counts), finally: Some(finally) })), counts)
    }

    /// Returns a tally that adds to the same counts. The function of the batch may be called while this tally still
    /// exists.
    pub(super) fn detached(&self) -> Self {
        Self(Arc::new(SharedCounts { counts: Arc::clone(&self.0.counts), finally: None }))
    }

    /// Returns the counts of the item with this index in its batch.
    pub fn of(&self, index: u32) -> &Counts {
        &self.0.counts[index as usize]
    }
}

impl Drop for SharedCounts {
    fn drop(&mut self) {
        if let Some(finally) = self.finally.take() {
            finally(&self.counts);
        }
    }
}

impl fmt::Debug for SharedCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.counts.fmt(f)
    }
}

/// The way in which a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseOutcome {
    /// The kernel has taken all bytes for the client, and also the end that follows the bytes (FIN over TCP).
    Cleanly,
    /// The connection was reset, or its client was gone, before the kernel had taken all bytes and the end.
    Cut,
}

/// The item that ends a connection. It is kept until the connection can be counted as ended.
#[derive(Debug)]
pub(super) struct CloseTicket {
    pub(super) tally: Tally,
    pub(super) index: u32,
}

impl CloseTicket {
    /// Counts the connection as ended in this way.
    pub(super) fn settle(self, way: CloseOutcome) {
        let counts = self.tally.of(self.index);
        counts.closed.fetch_add(1, Relaxed);
        if way == CloseOutcome::Cut {
            counts.cut.fetch_add(1, Relaxed);
        }
    }
}
