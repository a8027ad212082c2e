//! The assembly of a daemon's parts, before its threads are started.

use super::control_thread::ControlThread;
use super::demo_origin::DemoOrigin;
use super::listeners::{Addresses, Listeners};
use super::metrics::{self, Counters};
use super::reload::Reloader;
use super::replaceable_parts::{ReplaceableParts, ShardSettings};
use super::shard_thread::ShardThread;
use super::{configure, local, warn_of_ignored};
use crate::cluster::Cluster;
use crate::config::Config;
use crate::control::ControlApi;
use crate::hub::Hub;
use crate::net::Descriptors;
use crate::notify::Notifier;
use crate::origin::Shield;
use crate::route::RouteTable;
use crate::telemetry::metrics::MetricsRegistry;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// The parts of a daemon. Its listeners are bound, but no thread serves them yet.
pub(super) struct Assembly {
    pub(super) addresses: Addresses,
    pub(super) control: Arc<ControlApi>,
    pub(super) hub: Arc<Hub>,
    /// The signal that begins the drain, when `true` is sent.
    pub(super) drain: watch::Sender<bool>,
    pub(super) reloader: Reloader,
    pub(super) shards: Vec<ShardThread>,
    pub(super) control_thread: ControlThread,
    /// The signal that ends the control thread. The duration is the time that webhooks have to send their remaining
    /// events.
    pub(super) stop_control: oneshot::Sender<Duration>,
}

impl Assembly {
    /// Binds the addresses and builds the parts.
    ///
    /// # Errors
    /// An address cannot be used, the state on disk cannot be read, or the demo cannot be started. The error says
    /// which.
    pub(super) fn new(mut config: Config) -> io::Result<Self> {
        let hub = Hub::new(config.hub.clone(), config.shards);
        hub.load()?;
        let Listeners { clients, control: listeners, addresses } = Listeners::bind(&config)?;
        let (table, demo) = match &config.routes {
            Some(routes) => (Arc::clone(routes), None),
            None => {
                let demo = DemoOrigin::start(local(addresses.control))?;
                demo.admit(&mut config);
                (Arc::clone(&demo.routes), Some(demo))
            }
        };
        announce(&config, &addresses, &table);
        configure(&hub, &table);
        let registry = MetricsRegistry::new();
        let counters = Counters::new(&registry);
        let settings = Arc::new(ShardSettings::of(&config));
        let notifier = Notifier::new(config.notify, &counters.notify);
        let (in_use, current) = watch::channel(ReplaceableParts { routes: table, settings, notifier });
        let (drain, drained) = watch::channel(false);
        let shield = Shield::new(config.own_requests, &counters.origin);
        let descriptors = Descriptors::of_process(config.shards + 1);
        let shards = clients.into_iter().enumerate().map(|(index, listener)| ShardThread {
            index,
            listener,
            drained: drained.clone(),
            current: current.clone(),
            shield: Arc::clone(&shield),
            hub: Arc::clone(&hub),
            descriptors: Arc::clone(&descriptors),
            counters: counters.clone(),
        });
        let shards = shards.collect();
        metrics::register(&registry, &hub, &descriptors);
        let cluster = Cluster::alone(Arc::clone(&hub));
        let control = ControlApi::new(config.control, cluster, descriptors, counters.control, registry);
        let (stop_control, stopped) = oneshot::channel();
        let control_thread =
            ControlThread { control: Arc::clone(&control), hub: Arc::clone(&hub), current, listeners, stopped };
        let reloader = Reloader {
            in_use,
            written: Mutex::new(config.written),
            control: Arc::clone(&control),
            hub: Arc::clone(&hub),
            shield,
            webhook_metrics: counters.notify,
            demo,
        };
        Ok(Self { addresses, control, hub, drain, reloader, shards, control_thread, stop_control })
    }
}

fn announce(config: &Config, addresses: &Addresses, routes: &RouteTable) {
    warn_of_ignored(routes);
    let version = env!("CARGO_PKG_VERSION");
    let routes = routes.routes().count();
    let Addresses { clients, control, control_unix, health } = addresses;
    let unix = control_unix.as_ref().map(tracing::field::display);
    let health = health.map(tracing::field::display);
    tracing::info!(version, %clients, %control, unix, health, shards = config.shards, routes, "started");
    if !config.control.access.asks() && !control.ip().to_canonical().is_loopback() {
        tracing::warn!(
            "anyone who can reach {control} can publish messages and close connections: configure \
             [[control.token]], or listen on this machine only"
        );
    }
}
