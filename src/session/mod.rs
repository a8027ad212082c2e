//! Sessions: the WebSockets of clients. Their origins either speak WebSocket themselves, or take part by WebSocket
//! over HTTP.
//!
//! A session has two sides: the client's connection, which is parked in the shard like any held connection, and the
//! *line* to the origin. The shard writes published items to the connection itself, without waking the task of the
//! session. It wakes the task only in rare cases, for example if an HTTP filter has to decide about an item.

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
use crate::origin::{OriginClient, OriginSocket, Requester};
use crate::shard::{DeliveryForm, Parked, Profile, Shard, TimerSpread};
use crate::telemetry::metrics::{Counter, MetricsRegistry};
use crate::wire::answer::DENIED;
use crate::wire::deflate::{AgreedDeflate, Decompressor};
use crate::wire::websocket::FrameDecoder;
use crate::wire::{AnswerHead, Framing, MessageForm, Persistence, ResponseHead};
use bytes::Bytes;
use hyper::Version;
use line::OriginLine;
use live::{Session, SessionParts};
use side_message::OriginLeave;
use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use unsent::Unsent;

/// The limits of sessions.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The number of bytes of a client's events that may wait for an origin over HTTP before nothing more is read
    /// from the client. Every message to such an origin must be smaller than this.
    pub max_message: usize,
    /// The largest size of a message that is relayed to an origin, in bytes after decompression.
    pub max_relayed_message: usize,
    /// The number of bytes of messages that may wait for origins over HTTP, for all sessions of the shard together.
    /// Sessions with at most 4,096 waiting bytes are not counted.
    pub unsent_total: usize,
    /// Whether clients may send and get compressed messages (RFC 7692).
    pub compression: bool,
    /// Whether a client may keep its compression window from one message to the next (RFC 7692 7.1.1). This takes
    /// memory for each client.
    pub context_takeover: bool,
    /// Whether gripd itself answers the pings of clients, without forwarding them to the origin.
    pub auto_pong: bool,
    /// How long an origin that speaks WebSocket itself may take to answer the Close frame of a client.
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
    /// Sessions that have begun.
    pub sessions: Counter,
    /// Sessions that were closed because the client violated the protocol or sent a message that is too large.
    pub violations: Counter,
    /// Sessions that were closed because the connection to the origin was lost.
    pub lost: Counter,
    /// Sessions that were closed because the messages waiting for origins over HTTP reached the limit for all clients
    /// together.
    pub crowded: Counter,
    /// Subscriptions that were refused because the session already held the maximum number of channels.
    pub refused_subscriptions: Counter,
}

impl Metrics {
    /// Registers the counters of sessions.
    pub fn new(registry: &MetricsRegistry) -> Self {
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

/// A WebSocket that an origin has accepted and whose connection leaves hyper.
#[derive(Debug)]
pub struct AcceptedSocket {
    /// The way in which the origin takes part: by a connection of its own, over HTTP, or as the `test` handler.
    pub opened: OriginSocket,
    /// The head of the response to the client's handshake.
    pub head: ResponseHead,
    /// The prefix of the messages that are for the client, if the origin speaks GRIP. Messages without the prefix are
    /// not relayed.
    pub prefix: Option<Box<str>>,
    /// The agreement with the client about compression, if there is one.
    pub deflate: Option<AgreedDeflate>,
    /// The client and the route on whose behalf the origin is asked.
    pub about: Rc<Requester>,
    /// The rights of the client.
    pub rights: Rights,
}

/// The future that runs a session. It is ready when the session is over.
pub type SessionFuture<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// The settings, counters and parts of a shard that its sessions need.
pub struct Sessions {
    settings: Cell<Settings>,
    shard: Rc<Shard>,
    admission: Rc<Admission>,
    origin: Rc<OriginClient>,
    metrics: Arc<Metrics>,
    spread: TimerSpread,
    /// The memory of messages that wait for origins over HTTP.
    unsent: Unsent,
}

impl Sessions {
    /// Returns the value with which one shard runs its sessions.
    pub fn new(
        settings: Settings,
        shard: Rc<Shard>,
        admission: Rc<Admission>,
        origin: Rc<OriginClient>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let unsent = Unsent::new(settings.unsent_total);
        let (settings, spread) = (Cell::new(settings), TimerSpread::default());
        Self { settings, shard, admission, origin, metrics, spread, unsent }
    }

    /// Returns the limits.
    pub const fn settings(&self) -> Settings {
        self.settings.get()
    }

    /// Replaces the limits. Open WebSockets keep their agreement about compression, and their largest message if it is
    /// sent over HTTP.
    pub fn change_settings(&self, settings: Settings) {
        self.unsent.set_limit(settings.unsent_total);
        self.settings.set(settings);
    }

    /// Begins a session and returns the future that runs it. `early` is what the client has sent after its handshake.
    pub fn begin(&self, opening: Box<AcceptedSocket>, transport: Transport, early: Bytes) -> SessionFuture<'_> {
        self.metrics.sessions.inc();
        let AcceptedSocket { opened, head, prefix, deflate, about, rights } = *opening;
        let target = opened.target();
        let compresses = deflate.as_ref().is_some_and(|agreed| agreed.compresses);
        let feed = DeliveryForm::Messages(if compresses { MessageForm::Deflated } else { MessageForm::Plain });
        let profile = Profile::new(&about.route.name, &rights, about.client);
        let mut parked = Parked::new(&self.shard, transport, &[], feed, &profile);
        let (line, own) = OriginLine::new(self, opened);
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
            line.wind_up(OriginLeave::Disconnect, &self.origin);
            parked.refuse();
            parked.put([DENIED.render()]);
            return Box::pin(parked.finish());
        }
        let decoder = FrameDecoder::of_client(deflate.map(|agreed| Decompressor::new(agreed.window)));
        // The head waits in the outlet until the events that came with the origin's response are carried out, so that
        // the client is subscribed before it learns that the WebSocket is open.
        let version = Version::HTTP_11;
        let head = AnswerHead { head: &head, version, framing: Framing::None, persistence: Persistence::KeepAlive };
        parked.begin(&head, Bytes::new());
        let mut session = Session::new(self, SessionParts { parked, decoder, line, prefix, about, target });
        if rights != Rights::default() {
            session.rights = Some(Box::new(rights));
        }
        // The bytes are copied, because `early` keeps hyper's whole read buffer alive for as long as it exists.
        Box::pin(Box::new(session).run(early.to_vec()))
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("shard", &self.shard).finish_non_exhaustive()
    }
}

/// Returns the reason, or 1000 (normal closure) if there is none. As in Pushpin, a Close frame without a reason
/// stands for a normal end.
fn reason_or_normal(reason: Option<CloseReason>) -> CloseReason {
    reason.unwrap_or_else(|| CloseReason::new(1000, ""))
}
