//! The counters of a shard.

use crate::telemetry::metrics::{Counter, Gauge, Registry};

/// Counters of all shards together. Each is added to once a round or once a connection, not once a delivery.
#[derive(Debug)]
pub struct Metrics {
    /// Connections parked now.
    pub parked: Gauge,
    /// Items put in outlets, or given as the answer of a long-poll.
    pub delivered: Counter,
    /// Items that were not for a connection that holds their channel.
    pub filtered: Counter,
    /// Times that so much waited for a connection that it asked its origin again instead.
    pub overflowed: Counter,
    /// Connections closed because their output queue was full.
    pub slow: Counter,
    /// Connections ended by a close.
    pub closed: Counter,
    /// Those of them that were reset with bytes unsent.
    pub cut: Counter,
    /// Subscriptions that were refused because the channel is denied.
    pub denied: Counter,
    /// Subscriptions that were refused because the name of the channel is not allowed.
    pub not_allowed: Counter,
}

impl Metrics {
    /// Registers the numbers.
    pub fn new(registry: &Registry) -> Self {
        Self {
            parked: registry.gauge("parked", "Client connections that are held."),
            delivered: registry.counter("delivered_total", "Items delivered to connections."),
            filtered: registry.counter("filtered_total", "Items not delivered to a connection because of its filters."),
            overflowed: registry.counter(
                "overflowed_total",
                "Queues dropped because the connection could get the items from its origin instead.",
            ),
            slow: registry.counter("slow_total", "Connections closed because their output queue was full."),
            closed: registry.counter("closed_total", "Connections ended by a close."),
            cut: registry.counter("cut_total", "Connections ended by a close that were reset with data unsent."),
            denied: registry.counter("denied_total", "Subscriptions refused because the channel is denied."),
            not_allowed: registry
                .counter("not_allowed_total", "Subscriptions refused because the name is not allowed."),
        }
    }
}

impl Default for Metrics {
    /// Returns numbers in a registry of their own, which nobody reads.
    fn default() -> Self {
        Self::new(&Registry::new())
    }
}
