//! The metrics of the traffic with origins.

use crate::telemetry::metrics::{Counter, Gauge, MetricsRegistry};

/// The counters of the traffic with origins.
#[derive(Debug)]
pub struct Metrics {
    /// The number of requests sent. A request that is sent again counts again.
    pub requests: Counter,
    /// The number of requests that got no usable response from any target of their route. Requests with events of
    /// WebSocket over HTTP are counted only until the WebSocket is open.
    pub failures: Counter,
    /// The number of times that a request went on to the next target of its route because the target before it failed.
    pub fail_overs: Counter,
    /// The number of connections that were closed for waiting requests because their clients were slow.
    pub gave_way: Counter,
    /// The number of requests sent for next links. A request that several streams share counts once.
    pub links: Counter,
    /// The number of streams that were served from the response to another stream's request.
    pub links_shared: Counter,
    /// The number of informational responses (1xx other than 100) that were dropped.
    pub informational_dropped: Counter,
    /// The number of requests of gripd itself that are waiting for their turn.
    pub own_requests_waiting: Gauge,
}

impl Metrics {
    /// Registers the metrics in `registry`.
    pub fn new(registry: &MetricsRegistry) -> Self {
        Self {
            requests: registry.counter("origin_requests_total", "Requests sent to origins, retries included."),
            failures: registry.counter("origin_failures_total", "Requests that got no answer from their origin."),
            fail_overs: registry
                .counter("origin_fail_overs_total", "Requests that went to the next target of their route."),
            gave_way: registry.counter(
                "origin_gave_way_total",
                "Connections to origins that were closed because their client was slow and other requests waited \
                 for a connection.",
            ),
            links: registry.counter("links_total", "Requests to links with rel=next."),
            links_shared: registry.counter(
                "links_shared_total",
                "Streams that were served from the response to another stream's request.",
            ),
            informational_dropped: registry.counter(
                "origin_informational_dropped_total",
                "Informational responses (1xx) from origins that were dropped.",
            ),
            own_requests_waiting: registry.gauge(
                "own_requests_waiting",
                "Requests by gripd itself (links, retries, disconnect notifications, filters) that are waiting \
                 for their turn.",
            ),
        }
    }
}
