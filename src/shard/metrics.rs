//! What a shard counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of all shards together. Each is added to once a round or once a connection, not once a delivery.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Connections parked now.
    pub parked: AtomicU64,
    /// Items put in outlets, or given as the answer of a long-poll.
    pub delivered: AtomicU64,
    /// Items that were not for a connection that holds their channel.
    pub filtered: AtomicU64,
    /// Times that so much waited for a connection that it asked its origin again instead.
    pub overflowed: AtomicU64,
    /// Connections cut because their outlet was full.
    pub slow: AtomicU64,
    /// Connections ended by a close.
    pub closed: AtomicU64,
    /// Those of them that were reset with bytes unsent.
    pub cut: AtomicU64,
    /// Subscriptions that were refused because the channel is denied,
    pub denied: AtomicU64,
    /// or because its name is not allowed.
    pub not_allowed: AtomicU64,
}

impl Metrics {
    pub(super) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Relaxed);
    }
}
