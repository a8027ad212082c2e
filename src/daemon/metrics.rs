//! The metrics of all parts.

use crate::hub::Hub;
use crate::net::Descriptors;
use crate::telemetry::metrics::MetricsRegistry;
use crate::{control, front, notify, origin, session, shard};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// The counters of all parts. The threads of the daemon share them.
#[derive(Clone, Debug)]
pub(super) struct Counters {
    pub(super) front: Arc<front::Metrics>,
    pub(super) origin: Arc<origin::Metrics>,
    pub(super) shard: Arc<shard::Metrics>,
    pub(super) session: Arc<session::Metrics>,
    pub(super) notify: Arc<notify::Metrics>,
    pub(super) control: Arc<control::Metrics>,
}

impl Counters {
    /// Registers the counters of each part.
    pub(super) fn new(registry: &MetricsRegistry) -> Self {
        Self {
            front: Arc::new(front::Metrics::new(registry)),
            origin: Arc::new(origin::Metrics::new(registry)),
            shard: Arc::new(shard::Metrics::new(registry)),
            session: Arc::new(session::Metrics::new(registry)),
            notify: Arc::new(notify::Metrics::new(registry)),
            control: Arc::new(control::Metrics::new(registry)),
        }
    }
}

/// Registers the metrics whose values are looked up when they are read.
pub(super) fn register(registry: &MetricsRegistry, hub: &Arc<Hub>, descriptors: &Arc<Descriptors>) {
    let counted = Arc::clone(hub);
    registry
        .look_up("channels", "Channels with at least one subscribed connection.", move || counted.population() as u64);
    let open = Arc::clone(descriptors);
    registry.look_up("connections", "Client connections that are open.", move || open.clients().load(Relaxed));
    let open = Arc::clone(descriptors);
    registry.look_up("open_files", "File descriptors that the process has open.", move || open.in_use());
    let limit = descriptors.limit();
    registry.look_up("open_files_limit", "File descriptors that the process may have open at most.", move || limit);
}
