//! The daemon: the threads of a gripd process. This is the only part that puts all others together.

mod assembly;
mod control_thread;
mod demo_origin;
mod listeners;
mod metrics;
mod reload;
mod replaceable_parts;
mod shard_ledger;
mod shard_thread;
mod single_thread;
mod trial;

use crate::config::Config;
use crate::control::ControlApi;
use crate::hub::Hub;
use crate::net::ListenAddress;
use crate::route::RouteTable;
pub use single_thread::run_in_single_thread;
pub use trial::{TrialFinding, try_out};

use assembly::Assembly;
use control_thread::LAST_EVENTS;
use listeners::Addresses;
use reload::Reloader;
use shard_thread::ShardThread;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::LocalRuntime;
use tokio::sync::{oneshot, watch};

/// A running gripd, on threads of its own.
#[derive(Debug)]
pub struct Daemon {
    addresses: Addresses,
    control: Arc<ControlApi>,
    hub: Arc<Hub>,
    drain: watch::Sender<bool>,
    reloader: Reloader,
    shards: Vec<JoinHandle<RemainingConnections>>,
    /// The signal that ends the control thread. The duration is the time that webhooks have to send their remaining
    /// events.
    stop_control: oneshot::Sender<Duration>,
    /// The time at which the drain began.
    drained_at: OnceLock<Instant>,
    control_thread: JoinHandle<()>,
}

/// The connections and channels that were left when the shards had ended. There are none if all connections ended in
/// time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemainingConnections {
    /// The number of connections that were still parked.
    pub connections: usize,
    /// The number of channels that were still held.
    pub channels: usize,
}

impl Daemon {
    /// Builds the parts of a gripd and starts its threads.
    ///
    /// # Errors
    /// An address cannot be used, the state on disk cannot be read, a thread cannot be created, or the process may
    /// open no more files. The error says which.
    pub fn start(config: Config) -> io::Result<Self> {
        let Assembly { addresses, control, hub, drain, reloader, shards, control_thread, stop_control } =
            Assembly::new(config)?;
        let shards = shards.into_iter().map(ShardThread::start).collect::<io::Result<Vec<_>>>()?;
        let control_thread = control_thread.start()?;
        let drained_at = OnceLock::new();
        Ok(Self { addresses, control, hub, drain, reloader, shards, stop_control, drained_at, control_thread })
    }

    /// Returns the address on which clients are served.
    pub const fn listen(&self) -> &ListenAddress {
        &self.addresses.clients
    }

    /// Returns the address on which publishers are served.
    pub const fn control_listen(&self) -> SocketAddr {
        self.addresses.control
    }

    /// Returns the address on which only health probes are served, if there is one.
    pub const fn health_listen(&self) -> Option<SocketAddr> {
        self.addresses.health
    }

    /// Returns the address at which publishers on this machine reach the control API.
    pub fn local_control(&self) -> SocketAddr {
        local(self.addresses.control)
    }

    /// Returns whether publishers on this machine need a token.
    pub fn needs_token(&self) -> bool {
        self.control.needs_token()
    }

    /// Replaces the routes for requests that come from now on. Connections that are held already stay as they are.
    pub fn reroute(&self, routes: Arc<RouteTable>) {
        self.reloader.reroute(routes);
    }

    /// Replaces the routes and all settings that can be changed while gripd runs. Logs the names of the changed
    /// settings, and of those that need a restart.
    pub fn reload(&self, config: Config) {
        self.reloader.reload(config);
    }

    /// Returns the time that a drain may take: the time over which streams are ended, and the grace of the last one.
    pub fn longest_drain(&self) -> Duration {
        self.reloader.longest_drain()
    }

    /// Begins the drain: no new connections are accepted, and all open connections are ended.
    pub fn drain(&self) {
        tracing::info!("draining");
        // If the drain has begun before, the first time is kept.
        let _ = self.drained_at.set(Instant::now());
        self.control.unready();
        self.drain.send_replace(true);
    }

    /// Returns whether every shard has ended.
    pub fn is_over(&self) -> bool {
        self.shards.iter().all(JoinHandle::is_finished)
    }

    /// Waits until every shard has ended, then ends the control API. Returns the connections and channels that were
    /// left.
    pub fn join(self) -> RemainingConnections {
        let longest_drain = self.longest_drain();
        let mut left = RemainingConnections::default();
        for shard in self.shards {
            // A thread that panicked has printed that to standard error, and its connections are closed.
            let one = shard.join().unwrap_or_default();
            left.connections += one.connections;
            left.channels += one.channels;
        }
        left.channels = left.channels.max(self.hub.population());
        let begun = self.drained_at.get().map_or(Duration::ZERO, Instant::elapsed);
        let rest = longest_drain.saturating_sub(begun).max(LAST_EVENTS);
        // An error means that the control thread has ended by itself.
        let _ = self.stop_control.send(rest);
        let _ = self.control_thread.join();
        tracing::info!(connections = left.connections, "stopped");
        left
    }
}

/// Passes the lists of allowed channels of all routes to the hub. Logs the routes whose lists have been changed over
/// the control API, as those changes stay in force.
fn configure(hub: &Hub, routes: &RouteTable) {
    for route in hub.configure(routes.routes().map(|route| (Arc::clone(&route.name), route.channels.clone()))) {
        tracing::warn!(
            %route,
            "the allowed channels of this route were changed by the control API and stay changed: DELETE /allowed \
             restores the configured ones"
        );
    }
}

/// Returns the address at which a listener on `address` is reached from this machine.
fn local(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, address.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, address.port()).into(),
        _ => address,
    }
}

fn warn_of_ignored(routes: &RouteTable) {
    for name in routes.routes().flat_map(|route| &route.ignored) {
        tracing::warn!("the route option '{name}' is not supported yet and has no effect");
    }
}

/// Returns a single-threaded runtime, whose tasks stay on its thread.
fn local_runtime() -> io::Result<LocalRuntime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build_local(tokio::runtime::LocalOptions::default())
}

impl fmt::Display for RemainingConnections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} connections and {} channels left", self.connections, self.channels)
    }
}
