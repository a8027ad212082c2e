//! What `GET /metrics` shows.

use super::assembly::Counters;
use crate::control::{Metric, ReadMetrics};
use crate::hub::Hub;
use crate::net::Descriptors;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Reads the counters of all parts.
pub(super) fn reader(counters: Counters, hub: Arc<Hub>, descriptors: Arc<Descriptors>) -> ReadMetrics {
    Box::new(move || {
        let Counters { front, shard, session, notify, .. } = &counters;
        let channels = AtomicU64::new(hub.population() as u64);
        let open_files = AtomicU64::new(descriptors.in_use());
        let open_files_limit = AtomicU64::new(descriptors.limit());
        [
            ("connections", "Client connections that are open.", descriptors.clients()),
            ("parked", "Client connections that are held.", &shard.parked),
            ("channels", "Channels that are held.", &channels),
            (
                "connections_refused_total",
                "Client connections that were refused because descriptors are short.",
                &front.connections_refused,
            ),
            (
                "connections_spared_total",
                "Idle client connections that were closed for new ones because descriptors are short.",
                &front.connections_spared,
            ),
            ("open_files", "Descriptors that the process has open.", &open_files),
            ("open_files_limit", "Descriptors that the process may have open.", &open_files_limit),
            ("requests_total", "Requests of clients.", &front.requests),
            ("holds_total", "Requests that were held.", &front.holds),
            ("websockets_total", "WebSockets that an origin accepted.", &session.sessions),
            ("delivered_total", "Items given to connections.", &shard.delivered),
            ("filtered_total", "Items that a connection's filters kept from it.", &shard.filtered),
            (
                "overflowed_total",
                "Queues dropped because their connection could ask its origin instead.",
                &shard.overflowed,
            ),
            ("slow_total", "Connections cut because their outlet was full.", &shard.slow),
            ("closed_total", "Connections ended by a close.", &shard.closed),
            ("cut_total", "Connections ended by a close and reset with bytes unsent.", &shard.cut),
            ("unauthorized_total", "Requests refused because their token is missing or not good.", &front.unauthorized),
            ("requests_malformed_total", "Requests refused because they are not HTTP/1.1.", &front.malformed),
            ("requests_large_head_total", "Requests refused because their head is too large.", &front.large_heads),
            ("slow_heads_total", "Connections closed because the head of a request took too long.", &front.slow_heads),
            ("slow_bodies_total", "Requests refused because their body came too slowly.", &front.slow_bodies),
            (
                "slow_readers_total",
                "Connections cut because their client read an ordinary answer too slowly.",
                &front.slow_readers,
            ),
            ("not_allowed_total", "Subscriptions refused because the name is not allowed.", &shard.not_allowed),
            ("denied_total", "Subscriptions refused because the channel is denied.", &shard.denied),
            ("webhook_events_total", "Events that webhooks have taken.", &notify.delivered),
            ("webhook_failures_total", "Requests to webhooks that failed.", &notify.failures),
            ("webhook_dropped_total", "Events that no webhook was told.", &notify.dropped),
            ("webhook_queue", "Events that wait for webhooks.", &notify.queued),
            (
                "websocket_violations_total",
                "WebSockets closed because the client broke the protocol.",
                &session.violations,
            ),
            (
                "websockets_crowded_total",
                "WebSockets closed because the messages of all clients took too much memory.",
                &session.crowded,
            ),
            ("websocket_origins_lost_total", "WebSockets closed because their origin was lost.", &session.lost),
            (
                "subscriptions_refused_total",
                "Subscriptions of WebSockets that held as many channels as they may.",
                &session.refused_subscriptions,
            ),
        ]
        .into_iter()
        .chain(behind_the_front(&counters))
        .map(|(name, help, counter)| Metric { name, help, value: counter.load(Relaxed) })
        .collect()
    })
}

/// A name, its meaning, and the counter.
type Named<'a> = (&'static str, &'static str, &'a AtomicU64);

/// The counters of origins and of the control API.
fn behind_the_front(Counters { origin, control, .. }: &Counters) -> [Named<'_>; 12] {
    [
        ("origin_requests_total", "Requests sent to origins, retries included.", &origin.requests),
        ("origin_failures_total", "Requests that got no answer from their origin.", &origin.failures),
        ("origin_fail_overs_total", "Requests that went to the next target of their route.", &origin.fail_overs),
        (
            "origin_gave_way_total",
            "Connections to origins whose client was slow, and that gave way to requests that were waiting.",
            &origin.gave_way,
        ),
        (
            "own_requests_waiting",
            "Requests of gripd's own (links, retries, last words, filters) that wait for their turn.",
            &origin.own_requests_waiting,
        ),
        ("links_total", "Requests for next links.", &origin.links),
        ("links_shared_total", "Streams that were served by what another had asked.", &origin.links_shared),
        (
            "origin_informational_dropped_total",
            "Informational answers that were dropped.",
            &origin.informational_dropped,
        ),
        (
            "control_refused_total",
            "Requests to the control API refused for want of a token, or of its scopes.",
            &control.refused,
        ),
        ("control_malformed_total", "Requests to the control API that are not HTTP/1.1.", &control.malformed),
        ("control_gave_way_total", "Idle connections to the control API that gave way to new ones.", &control.gave_way),
        (
            "control_connections_refused_total",
            "Connections to the control API that found no place, as all others were busy.",
            &control.connections_refused,
        ),
    ]
}
