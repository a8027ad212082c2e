//! The clients' side: accepting, HTTP, and the phases of a request.
//!
//! Each connection is one task and one loop: hyper serves requests until one of them is held; then the
//! connection leaves hyper and is parked; then it may go back.

mod accept;
mod access_log;
mod activity;
mod answer;
mod body;
mod connection;
mod cross_origin;
mod drain;
mod exchange;
mod gate;
mod head;
mod head_timer;
mod identity;
mod idle;
mod io;
mod jsonp;
mod replay;
mod request;
mod request_context;
mod request_line;
mod slot;
mod unreadable;
mod websocket;

pub use accept::serve;
pub use drain::Drain;
pub use gate::Gate;
pub use idle::Idle;

use crate::admission::Admission;
use crate::grip::signature::Verifier;
use crate::hold::Holds;
use crate::net::{Descriptors, Limits};
use crate::origin::{Ahead, Origin};
use crate::session::Sessions;
use crate::telemetry::metrics::{Counter, Registry};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How clients are served.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a client may take for the head of a request.
    pub header_timeout: Duration,
    /// How long a client may be idle between two requests.
    pub idle_timeout: Duration,
    /// How slowly a client may send the body of a request.
    pub body_pace: Limits,
    /// How slowly a client may read an answer.
    pub answer_pace: Limits,
    /// Bytes of a request body that are read before the origin is asked.
    pub body_buffer: usize,
    /// The same of all requests of one shard together.
    pub body_buffers: usize,
    /// Knows the requests of another GRIP proxy, which is trusted.
    pub trusted: Option<Verifier>,
    /// Whether every route tells its clients why an answer could not be used.
    pub debug: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(60),
            // Longer than the 60 s for which load balancers keep a connection: they would otherwise send a request on one
            // that is being closed.
            idle_timeout: Duration::from_secs(75),
            body_pace: Limits { total: Some(Duration::from_secs(3600)), ..Limits::default() },
            answer_pace: Limits::default(),
            body_buffer: 64 << 10,
            body_buffers: 64 << 20,
            trusted: None,
            debug: false,
        }
    }
}

/// The counters of clients.
#[derive(Debug)]
pub struct Metrics {
    /// Connections refused because descriptors are short.
    pub connections_refused: Counter,
    /// Idle connections closed for new ones because descriptors are short.
    pub connections_spared: Counter,
    /// Requests answered or held.
    pub requests: Counter,
    /// Holds begun.
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
    /// Registers the numbers.
    pub fn new(registry: &Registry) -> Self {
        Self {
            connections_refused: registry.counter(
                "connections_refused_total",
                "Client connections that were refused because too few file descriptors were available.",
            ),
            connections_spared: registry.counter(
                "connections_spared_total",
                "Idle client connections that were closed to make room for new ones because too few file descriptors were available.",
            ),
            requests: registry.counter("requests_total", "Requests received from clients."),
            holds: registry.counter("holds_total", "Requests that were held."),
            slow_bodies: registry.counter("slow_bodies_total", "Requests refused because their body arrived too slowly."),
            slow_readers: registry.counter(
                "slow_readers_total",
                "Connections closed because the client read an ordinary response too slowly.",
            ),
            malformed: registry.counter("requests_malformed_total", "Requests refused because they are not HTTP/1.1."),
            large_heads: registry
                .counter("requests_large_head_total", "Requests refused because their head is too large."),
            slow_heads: registry
                .counter("slow_heads_total", "Connections closed because the head of a request took too long."),
            unauthorized: registry
                .counter("unauthorized_total", "Requests refused because their token is missing or invalid."),
        }
    }
}

/// The things that the connections of one shard share.
#[derive(Debug)]
pub struct Front {
    /// The limits.
    pub settings: Settings,
    /// Where requests go, and the way there.
    pub origin: Rc<Origin>,
    /// Which channels clients may hold.
    pub admission: Rc<Admission>,
    /// Where connections are held.
    pub holds: Holds,
    /// Where they are WebSockets.
    pub sessions: Sessions,
    /// When to stop.
    pub drain: Rc<Drain>,
    /// Where new connections wait.
    pub gate: Gate,
    /// The connections that could be spared.
    pub idle: Rc<Idle>,
    /// Refused connections that are read for a moment.
    pub parting: Cell<usize>,
    /// How many descriptors clients may take.
    pub descriptors: Arc<Descriptors>,
    /// The room for request bodies that are read ahead.
    pub ahead: Ahead,
    /// The counters.
    pub metrics: Arc<Metrics>,
}
