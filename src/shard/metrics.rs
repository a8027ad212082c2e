//! The counters of a shard.

use crate::telemetry::metrics::{Counter, Gauge, MetricsRegistry};

/// The counters of all shards together. Most are increased once for many deliveries or once for a connection,
/// because a delivery must be cheap.
#[derive(Debug)]
pub struct Metrics {
    /// The number of connections that are parked now.
    pub parked: Gauge,
    /// The number of items that were put into outlets or answered long-polls, counted for each connection.
    pub delivered: Counter,
    /// The number of items that a connection did not get because of its filters, counted for each connection. Items
    /// whose selection excludes a connection are not counted.
    pub filtered: Counter,
    /// The number of times that so much waited for a connection that it had to ask its origin again, instead of
    /// getting more items.
    pub overflowed: Counter,
    /// The number of connections closed because the client did not read, or read too slowly.
    pub slow: Counter,
    /// The number of connections ended by a close.
    pub closed: Counter,
    /// The number of connections ended by a close that were reset, or whose client was gone, with bytes unsent.
    pub cut: Counter,
    /// The number of subscriptions that were refused because the channel is denied.
    pub denied: Counter,
    /// The number of subscriptions that were refused because the name of the channel is not allowed.
    pub not_allowed: Counter,
}

impl Metrics {
    /// Registers the counters.
    pub fn new(registry: &MetricsRegistry) -> Self {
        Self {
            parked: registry.gauge("parked", "Client connections that are held."),
            delivered: registry.counter("delivered_total", "Items delivered to connections."),
            filtered: registry.counter("filtered_total", "Items not delivered to a connection because of its filters."),
            overflowed: registry.counter(
                "overflowed_total",
                "Full output queues for which gripd asked the origin again instead of closing the connection.",
            ),
            slow: registry.counter("slow_total", "Connections closed because their output queue was full."),
            closed: registry.counter("closed_total", "Connections ended by a published close action."),
            cut: registry.counter(
                "cut_total",
                "Connections ended by a published close action that were reset before all their data was sent.",
            ),
            denied: registry.counter("denied_total", "Subscriptions refused because the channel is denied."),
            not_allowed: registry
                .counter("not_allowed_total", "Subscriptions refused because the name of the channel is not allowed."),
        }
    }
}

impl Default for Metrics {
    /// Returns counters in a registry of their own, which nobody reads.
    fn default() -> Self {
        Self::new(&MetricsRegistry::new())
    }
}
