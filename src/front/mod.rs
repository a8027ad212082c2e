//! The side of the clients: accepting connections, serving HTTP, and the phases of a request.
//!
//! Each connection is one task with one loop. hyper serves requests until one of them is held. The connection then
//! leaves hyper and is parked. After the hold, hyper may serve the connection again.

mod accept;
mod access_log;
mod activity;
mod answer;
mod connection;
mod connection_slot;
mod cross_origin;
mod drain;
mod exchange;
mod explanation;
mod gate;
mod head;
mod head_timer;
mod hints;
mod identity;
mod idle;
mod io;
mod jsonp;
mod replay;
mod request;
mod request_context;
mod request_line;
mod response_body;
mod unreadable;
mod websocket;

pub use accept::serve;
pub use drain::Drain;
pub use gate::Gate;
pub use idle::IdleList;

use crate::admission::Admission;
use crate::grip::signature::ProxyVerifier;
use crate::hold::Holds;
use crate::net::{Descriptors, PaceLimits};
use crate::origin::{OriginClient, ReadAheadBudget};
use crate::session::Sessions;
use crate::telemetry::metrics::{Counter, MetricsRegistry};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// The settings for serving clients.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a client may take to send the head of a request, and to send anything at all on a new connection.
    pub header_timeout: Duration,
    /// How long a client may be idle between two requests.
    pub idle_timeout: Duration,
    /// How slowly a client may send the body of a request.
    pub body_pace: PaceLimits,
    /// How slowly a client may read a response.
    pub answer_pace: PaceLimits,
    /// The number of bytes of a request body that are read before the request is forwarded.
    pub body_buffer: usize,
    /// The number of bytes of request bodies that one shard may read ahead for all of its requests together.
    pub body_buffers: usize,
    /// The verifier of the requests of another GRIP proxy, which is trusted.
    pub trusted: Option<ProxyVerifier>,
    /// Whether every route tells its clients why a request has failed.
    pub debug: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(60),
            // Load balancers commonly keep an idle connection for 60 seconds. With a shorter timeout, gripd could
            // close a connection while a load balancer sends a request on it.
            idle_timeout: Duration::from_secs(75),
            body_pace: PaceLimits { total: Some(Duration::from_secs(3600)), ..PaceLimits::default() },
            answer_pace: PaceLimits::default(),
            body_buffer: 64 << 10,
            body_buffers: 64 << 20,
            trusted: None,
            debug: false,
        }
    }
}

/// The counters of client connections and requests.
#[derive(Debug)]
pub struct Metrics {
    /// Connections refused because too few file descriptors were available.
    pub connections_refused: Counter,
    /// Idle connections closed to make room for accepted ones because too few file descriptors were available.
    /// Connections that are closed because accepting has failed are not counted.
    pub connections_spared: Counter,
    /// Requests received from clients. A request that is served again after a hold counts again.
    pub requests: Counter,
    /// Requests that were held.
    pub holds: Counter,
    /// Requests refused because their body arrived too slowly.
    pub slow_bodies: Counter,
    /// Connections closed because the client read an ordinary response too slowly.
    pub slow_readers: Counter,
    /// Requests refused because hyper could not read them.
    pub malformed: Counter,
    /// Requests refused because their head is too large.
    pub large_heads: Counter,
    /// Connections closed because the head of a request took too long.
    pub slow_heads: Counter,
    /// Requests refused because their token is missing or invalid.
    pub unauthorized: Counter,
}

impl Metrics {
    /// Registers the counters.
    pub fn new(registry: &MetricsRegistry) -> Self {
        Self {
            connections_refused: registry.counter(
                "connections_refused_total",
                "Client connections that were refused because too few file descriptors were available.",
            ),
            connections_spared: registry.counter(
                "connections_spared_total",
                "Idle client connections that were closed to make room for new ones because too few file \
                 descriptors were available.",
            ),
            requests: registry.counter("requests_total", "Requests received from clients."),
            holds: registry.counter("holds_total", "Requests that were held."),
            slow_bodies: registry
                .counter("slow_bodies_total", "Requests refused because their body arrived too slowly."),
            slow_readers: registry.counter(
                "slow_readers_total",
                "Connections closed because the client read an ordinary response too slowly.",
            ),
            malformed: registry
                .counter("requests_malformed_total", "Requests refused because they are not valid HTTP/1.1."),
            large_heads: registry
                .counter("requests_large_head_total", "Requests refused because their head is too large."),
            slow_heads: registry
                .counter("slow_heads_total", "Connections closed because the head of a request took too long."),
            unauthorized: registry
                .counter("unauthorized_total", "Requests refused because their token is missing or invalid."),
        }
    }
}

/// The state that all client connections of one shard share.
#[derive(Debug)]
pub struct Front {
    /// The settings for serving clients, which may be replaced. They are borrowed only for a moment.
    pub settings: RefCell<Settings>,
    /// The connections to origins, and the table of routes.
    pub origin: Rc<OriginClient>,
    /// The rules for the channels that clients may hold.
    pub admission: Rc<Admission>,
    /// The holds of the shard.
    pub holds: Holds,
    /// The sessions of the shard.
    pub sessions: Sessions,
    /// The signal to stop, and the number of open connections.
    pub drain: Rc<Drain>,
    /// The gate at which new connections wait.
    pub gate: Gate,
    /// The list of connections that can be closed while they are idle, to make room for new ones.
    pub idle: Rc<IdleList>,
    /// The number of refused connections that are still read.
    pub parting: Cell<usize>,
    /// The file descriptors of the process, some of which clients may not take.
    pub descriptors: Arc<Descriptors>,
    /// The memory for request bodies that are read before their request is forwarded.
    pub ahead: ReadAheadBudget,
    /// The counters.
    pub metrics: Arc<Metrics>,
}

impl Front {
    /// Replaces the settings for requests and connections that come from now on. Open connections keep their timeouts
    /// and the pace at which their clients must read.
    pub fn change_settings(&self, settings: Settings) {
        self.ahead.set_limit(settings.body_buffers);
        *self.settings.borrow_mut() = settings;
    }
}
