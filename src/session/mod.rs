//! Sessions: WebSockets whose origin has them over HTTP, or speaks WebSocket itself.
//!
//! A session has two sides: the client's connection, which is parked in the shard like any that is held, and the *line* to
//! the origin. Published items go from the shard to the connection, and wake nobody here.

mod control;
mod extras;
mod filtered;
mod line;
mod live;
mod over_http;
mod phase;
mod relayed;
mod side_message;
mod talk;
mod timed;
mod unsent;

use crate::admission::Admission;
use crate::grip::{Channel, CloseReason, Rights};
use crate::net::Transport;
use crate::origin::{Asking, Opened, Origin};
use crate::shard::{Feed, Parked, Profile, Shard, Spread};
use crate::telemetry::metrics::{Counter, Registry};
use crate::wire::answer::DENIED;
use crate::wire::deflate::{Agreed, Inflate};
use crate::wire::websocket::Decoder;
use crate::wire::{AnswerHead, Framing, Head, MessageForm, Persistence};
use bytes::Bytes;
use hyper::Version;
use line::Line;
use live::{Beginning, Session};
use side_message::Leave;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use unsent::Unsent;

/// The limits of sessions.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bytes of messages that may wait for an origin that has the session over HTTP; the largest message is smaller.
    pub max_message: usize,
    /// Bytes that a message may have that is relayed to an origin, after it was inflated.
    pub max_relayed_message: usize,
    /// Bytes of messages that may wait for all origins of the shard together that have sessions over HTTP.
    pub unsent_total: usize,
    /// Whether clients may send and get compressed messages (RFC 7692).
    pub compression: bool,
    /// Whether a client may keep the window of its compression from message to message.
    pub context_takeover: bool,
    /// Whether pings of clients are answered here and the origin does not hear of them.
    pub auto_pong: bool,
    /// How long an origin may take to answer a client's Close frame.
    pub close_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_message: 200_000,
            max_relayed_message: 16 << 20,
            unsent_total: 64 << 20,
            compression: false,
            context_takeover: false,
            auto_pong: false,
            close_timeout: Duration::from_secs(10),
        }
    }
}

/// The counters of sessions.
#[derive(Debug)]
pub struct Metrics {
    /// Sessions begun.
    pub sessions: Counter,
    /// Sessions that ended because the client broke the protocol.
    pub violations: Counter,
    /// Sessions that ended because the origin was lost.
    pub lost: Counter,
    /// Sessions that ended because the messages of all clients together took too much memory.
    pub crowded: Counter,
    /// Subscriptions that were refused: one session may hold no more.
    pub refused_subscriptions: Counter,
}

impl Metrics {
    /// Registers the numbers.
    pub fn new(registry: &Registry) -> Self {
        Self {
            sessions: registry.counter("websockets_total", "WebSockets that an origin accepted."),
            violations: registry
                .counter("websocket_violations_total", "WebSockets closed because the client broke the protocol."),
            lost: registry.counter(
                "websocket_origins_lost_total",
                "WebSockets closed because the connection to their origin was lost.",
            ),
            crowded: registry.counter(
                "websockets_crowded_total",
                "WebSockets closed because the messages of all clients took too much memory.",
            ),
            refused_subscriptions: registry.counter(
                "subscriptions_refused_total",
                "Subscriptions refused because the WebSocket had reached its maximum number of channels.",
            ),
        }
    }
}

/// A WebSocket that an origin has accepted, as it leaves hyper.
#[derive(Debug)]
pub struct Opening {
    /// How the origin has it.
    pub opened: Opened,
    /// The answer to the client.
    pub head: Head,
    /// The prefix of messages for the client, if the origin speaks GRIP: other messages are for gripd.
    pub prefix: Option<Box<str>>,
    /// The agreement about compression.
    pub deflate: Option<Agreed>,
    /// On whose behalf the origin is asked.
    pub about: Rc<Asking>,
    /// The rights of the client.
    pub rights: Rights,
}

/// A session; ready when it is over.
pub type Living<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// The parts of a shard that sessions need.
pub struct Sessions {
    settings: Settings,
    shard: Rc<Shard>,
    admission: Rc<Admission>,
    origin: Rc<Origin>,
    metrics: Arc<Metrics>,
    spread: Spread,
    /// The memory of messages that wait for origins over HTTP.
    unsent: Unsent,
}

impl Sessions {
    /// Returns the sessions of one shard.
    pub fn new(
        settings: Settings,
        shard: Rc<Shard>,
        admission: Rc<Admission>,
        origin: Rc<Origin>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let unsent = Unsent::new(settings.unsent_total);
        Self { settings, shard, admission, origin, metrics, spread: Spread::default(), unsent }
    }

    /// Returns the limits.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Begins a session; what is returned is the rest of it. `early`: what the client sent after its handshake.
    pub fn begin(&self, opening: Box<Opening>, transport: Transport, early: Bytes) -> Living<'_> {
        self.metrics.sessions.inc();
        let Opening { opened, head, prefix, deflate, about, rights } = *opening;
        let target = opened.target();
        let compresses = deflate.as_ref().is_some_and(|agreed| agreed.compresses);
        let feed = Feed::Messages(if compresses { MessageForm::Deflated } else { MessageForm::Plain });
        let whose = Profile::new(&about.route.name, &rights, about.client);
        let mut parked = Parked::new(&self.shard, transport, &[], feed, &whose);
        let (line, own) = Line::new(self, opened);
        let named = about.route.implicit(target, &rights).into_iter().chain(own);
        let mut channels: Vec<Channel> = Vec::new();
        for channel in named.map(|name| Channel::from(name.as_str())) {
            if !channels.contains(&channel) {
                channels.push(channel);
            }
        }
        if let Err(denied) = parked.subscribe(&channels, &[]) {
            self.admission.note_denied(&denied);
            tracing::info!(uri = %about.shown(), %denied, "a WebSocket was refused");
            line.wind_up(Leave::Disconnect, &self.origin);
            parked.refuse();
            parked.put([DENIED.render()]);
            return Box::pin(parked.finish());
        }
        let decoder = Decoder::of_client(deflate.map(|agreed| Inflate::new(agreed.window)));
        // It leaves when all is done that the origin has said already: the client is subscribed before it reads that it is
        // welcome.
        let version = Version::HTTP_11;
        let head = AnswerHead { head: &head, version, framing: Framing::None, persistence: Persistence::KeepAlive };
        parked.begin(&head, Bytes::new());
        let mut session = Session::new(self, Beginning { parked, decoder, line, prefix, about, target });
        if rights != Rights::default() {
            session.rights = Some(Box::new(rights));
        }
        // A copy: the buffer of hyper that it is a part of is not to live as long.
        Box::pin(Box::new(session).run(early.to_vec()))
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("shard", &self.shard).finish_non_exhaustive()
    }
}

/// Returns a reason that is always given: a Close frame without one stands for a normal end, as in Pushpin.
fn given(reason: Option<CloseReason>) -> CloseReason {
    reason.unwrap_or_else(|| CloseReason::new(1000, ""))
}
