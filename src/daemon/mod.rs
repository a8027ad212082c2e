//! The one place where the parts are put together: bind, build, run, drain.

mod assembly;
mod books;
mod control_thread;
mod in_place;
mod listeners;
mod metrics;
mod shard_thread;

use crate::config::Config;
use crate::control::Control;
use crate::hub::Hub;
use crate::net::ListenAddress;
use crate::route::Table;
pub use in_place::run_in_place;

use assembly::Assembly;
use control_thread::LAST_EVENTS;
use listeners::Addresses;
use shard_thread::ShardThread;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::LocalRuntime;
use tokio::sync::{oneshot, watch};

/// A gripd that runs, on threads of its own.
#[derive(Debug)]
pub struct Daemon {
    addresses: Addresses,
    control: Arc<Control>,
    hub: Arc<Hub>,
    drain: watch::Sender<bool>,
    routes: watch::Sender<Arc<Table>>,
    shards: Vec<JoinHandle<Left>>,
    /// Ends the control thread. The duration is how long webhooks may take to tell what is left.
    stop_control: oneshot::Sender<Duration>,
    /// The longest time that a drain may take.
    longest_drain: Duration,
    /// The time at which the drain began.
    drained_at: OnceLock<Instant>,
    control_thread: JoinHandle<()>,
}

/// The connections that were left when a shard ended. There are none if all ended in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Connections still parked.
    pub connections: usize,
    /// Channels still held.
    pub channels: usize,
}

impl Daemon {
    /// Binds the addresses and begins to serve.
    ///
    /// # Errors
    /// An address cannot be used; the error names it.
    pub fn start(config: Config) -> io::Result<Self> {
        let longest_drain = config.drain + config.shard.close_grace;
        let Assembly { addresses, control, hub, drain, routes, shards, control_thread, stop_control } =
            Assembly::new(config)?;
        let shards = shards.into_iter().map(ShardThread::start).collect::<io::Result<Vec<_>>>()?;
        let control_thread = control_thread.start()?;
        let drained_at = OnceLock::new();
        Ok(Self {
            addresses,
            control,
            hub,
            drain,
            routes,
            shards,
            stop_control,
            longest_drain,
            drained_at,
            control_thread,
        })
    }

    /// Returns where clients connect.
    pub const fn listen(&self) -> &ListenAddress {
        &self.addresses.clients
    }

    /// Returns where publishers connect.
    pub const fn control_listen(&self) -> SocketAddr {
        self.addresses.control
    }

    /// Returns where probes connect that ask for the health alone, if they may.
    pub const fn health_listen(&self) -> Option<SocketAddr> {
        self.addresses.health
    }

    /// Returns where publishers on this machine connect.
    pub fn local_control(&self) -> SocketAddr {
        local(self.addresses.control)
    }

    /// Replaces the routes for requests that come from now on. Connections that are held already stay as they are.
    pub fn reroute(&self, routes: Arc<Table>) {
        tracing::info!(routes = routes.routes().count(), "the routes have changed");
        warn_of_ignored(&routes);
        configure(&self.hub, &routes);
        self.routes.send_replace(routes);
    }

    /// Begins to drain: no new connections, and an end to those there are.
    pub fn drain(&self) {
        tracing::info!("draining");
        // Only the first time counts.
        let _ = self.drained_at.set(Instant::now());
        self.control.unready();
        self.drain.send_replace(true);
    }

    /// Returns whether every shard has ended.
    pub fn is_over(&self) -> bool {
        self.shards.iter().all(JoinHandle::is_finished)
    }

    /// Waits until every shard has ended, then ends the control API. Returns what remained when the time was over.
    pub fn join(self) -> Left {
        let mut left = Left::default();
        for shard in self.shards {
            // A thread that panicked has told so, and has nothing left.
            let one = shard.join().unwrap_or_default();
            left.connections += one.connections;
            left.channels += one.channels;
        }
        left.channels = left.channels.max(self.hub.population());
        let begun = self.drained_at.get().map_or(Duration::ZERO, Instant::elapsed);
        let rest = self.longest_drain.saturating_sub(begun).max(LAST_EVENTS);
        // An error: the control thread has ended by itself.
        let _ = self.stop_control.send(rest);
        let _ = self.control_thread.join();
        tracing::info!(connections = left.connections, "stopped");
        left
    }
}

/// Tells the hub which names the clients of each route may hold.
fn configure(hub: &Hub, routes: &Table) {
    for route in hub.configure(routes.routes().map(|route| (Arc::clone(&route.name), route.channels.clone()))) {
        tracing::warn!(%route, "its list of channels was changed while gripd ran, and stays so: DELETE /allowed ends that");
    }
}

/// How a listener on `address` is reached from this machine.
fn local(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, address.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, address.port()).into(),
        _ => address,
    }
}

fn warn_of_ignored(routes: &Table) {
    for name in routes.routes().flat_map(|route| &route.ignored) {
        tracing::warn!("the route option '{name}' is not supported yet and has no effect");
    }
}

/// Returns a runtime for one thread, whose tasks stay on it.
fn local_runtime() -> io::Result<LocalRuntime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build_local(tokio::runtime::LocalOptions::default())
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} connections and {} channels left", self.connections, self.channels)
    }
}
