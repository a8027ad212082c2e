//! The listeners of a daemon.

use crate::config::Config;
use crate::control::ListenerPurpose;
use crate::net::{BoundListener, BoundListeners, ListenAddress};
use std::io;
use std::net::SocketAddr;

/// The listeners of a daemon, before the threads that accept from them are started.
#[derive(Debug)]
pub(super) struct Listeners {
    /// Listeners for client connections, one per shard.
    pub(super) clients: Vec<BoundListener>,
    /// The listeners of the control API, each with the requests that it serves.
    pub(super) control: Vec<(BoundListener, ListenerPurpose)>,
    pub(super) addresses: Addresses,
}

/// The addresses on which a daemon listens.
#[derive(Debug)]
pub(super) struct Addresses {
    /// The address on which clients are served.
    pub(super) clients: ListenAddress,
    /// The TCP address of the control API.
    pub(super) control: SocketAddr,
    /// The Unix socket of the control API, if it has one.
    pub(super) control_unix: Option<ListenAddress>,
    /// The address on which only health probes are served, if there is one.
    pub(super) health: Option<SocketAddr>,
}

impl Listeners {
    /// Listens on every address that is configured.
    ///
    /// # Errors
    /// An address cannot be used. The error names it.
    pub(super) fn bind(config: &Config) -> io::Result<Self> {
        let clients = config.listen.bind("clients", config.shards)?;
        let control = ListenAddress::from(config.control_listen).bind(CONTROL, 1)?;
        let unix = config.control.unix.as_ref().map(|unix| unix.bind(CONTROL, 1)).transpose()?;
        let health = config.control.health.map(|health| ListenAddress::from(health).bind("health", 1)).transpose()?;
        let mut listeners = Self {
            clients: clients.listeners,
            control: Vec::new(),
            addresses: Addresses {
                clients: clients.address,
                control: control.address.tcp().unwrap_or(config.control_listen),
                control_unix: unix.as_ref().map(|unix| unix.address.clone()),
                health: health.as_ref().and_then(|health| health.address.tcp()),
            },
        };
        listeners.add_control(control, ListenerPurpose::Everything);
        if let Some(unix) = unix {
            listeners.add_control(unix, ListenerPurpose::Everything);
        }
        if let Some(health) = health {
            listeners.add_control(health, ListenerPurpose::Health);
        }
        Ok(listeners)
    }

    fn add_control(&mut self, bound: BoundListeners, purpose: ListenerPurpose) {
        self.control.extend(bound.listeners.into_iter().map(|listener| (listener, purpose)));
    }
}

/// The name of the control API in errors.
const CONTROL: &str = "the control API";
