//! The way to the application: connections, what a forwarded request looks like, what can go wrong; and asking it
//! again without a client.

mod ask;
mod background;
mod conversation;
mod failure;
mod fair;
mod filter;
mod forwarding;
mod gone;
mod handshake;
mod pool;
mod rewrite;
mod share;
mod shield;
mod test_target;
mod turns;
mod upload;

pub use ask::{Ask, Asking, CollectedAnswer, MAX_BODY, collect};
pub use conversation::{Conversation, Reply, is_conversations_own};
pub use failure::{Failure, Kind, Side};
pub use fair::Sharer;
pub use forwarding::{AcceptProto, Forwarding};
pub use gone::Gone;
pub use handshake::{Handshake, Opened, RelayedSocket, accept_for};
pub use pool::Lease;
pub use rewrite::{
    Edit, ForwardedFor, ForwardedProto, PUSHPIN_ROUTE, Via, has_passed, is_of_proxies, is_plainly_framed, is_reserved,
    names_a_crowd, remove_hop_by_hop, remove_where,
};
pub use shield::Shield;
pub use turns::{Lane, Turn};
pub use upload::{Ahead, BodyState, ReadAhead, Upload, without_grip};

use crate::grip::item::Id;
use crate::grip::signature::Signer;
use crate::net::{ClientDelay, Descriptors, MemoryServer};
use crate::route::{Address, Place, Route, RouteSigner, Table, Target};
use crate::telemetry::metrics::{Counter, Gauge, Registry};
use crate::wire::{Sender, Way};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::response;
use hyper::{Method, Request, Response, StatusCode};
use pool::{Destination, Pool};
use std::cell::{Ref, RefCell};
use std::fmt;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::timeout;

/// How origins are spoken to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long the head of an answer may take, and then the body of one that holds.
    pub response_timeout: Duration,
    /// How long a request may wait for one of the connections to its origin.
    pub connection_wait: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// Unused connections kept for one origin by one shard.
    pub idle_connections: usize,
    /// Connections to one origin from one shard at the same time.
    pub connections: usize,
    /// WebSockets that are relayed to one origin at the same time.
    pub websockets: usize,
    /// How long an HTTP filter may take.
    pub filter_timeout: Duration,
    /// The largest body of events that an origin may answer.
    pub max_events: usize,
    /// The shortest time after which an origin may want to hear from a WebSocket again that it has over HTTP.
    pub shortest_interval: Duration,
    /// Signs the requests.
    pub signer: Option<Arc<Signer>>,
    /// The headers that tell origins about the way of a request.
    pub forwarding: Forwarding,
    /// A server in memory that stands for all origins, in tests.
    pub memory: Option<MemoryServer>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            response_timeout: Duration::from_secs(300),
            connection_wait: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(55),
            idle_connections: 128,
            connections: 1024,
            websockets: 100_000,
            filter_timeout: Duration::from_secs(10),
            // Both as Pushpin has it.
            max_events: 1_000_000,
            shortest_interval: Duration::from_secs(20),
            signer: None,
            forwarding: Forwarding::default(),
            memory: None,
        }
    }
}

/// The counters of the traffic with origins.
#[derive(Debug)]
pub struct Metrics {
    /// Requests sent, retries included.
    pub requests: Counter,
    /// Requests that failed.
    pub failures: Counter,
    /// Requests that went to another target because one could not be reached.
    pub fail_overs: Counter,
    /// Connections whose client was slow, and that gave way to requests that were waiting.
    pub gave_way: Counter,
    /// Links asked, on behalf of one stream or of many.
    pub links: Counter,
    /// Streams that were served from the response to another stream's request.
    pub links_shared: Counter,
    /// Informational answers (1xx but 100) that were dropped.
    pub informational_dropped: Counter,
    /// The number of requests of gripd itself that are waiting for their turn.
    pub own_requests_waiting: Gauge,
}

impl Metrics {
    /// Registers the numbers.
    pub fn new(registry: &Registry) -> Self {
        Self {
            requests: registry.counter("origin_requests_total", "Requests sent to origins, retries included."),
            failures: registry.counter("origin_failures_total", "Requests that got no answer from their origin."),
            fail_overs: registry
                .counter("origin_fail_overs_total", "Requests that went to the next target of their route."),
            gave_way: registry.counter(
                "origin_gave_way_total",
                "Connections to origins that were closed for waiting requests because their client was slow.",
            ),
            links: registry.counter("links_total", "Requests for next links."),
            links_shared: registry.counter("links_shared_total", "Streams that were served from the response to another stream's request."),
            informational_dropped: registry
                .counter("origin_informational_dropped_total", "Informational answers that were dropped."),
            own_requests_waiting: registry.gauge(
                "own_requests_waiting",
                "Requests by gripd itself (links, retries, disconnect notifications, filters) that are waiting for their turn.",
            ),
        }
    }
}

impl Default for Metrics {
    /// Returns numbers in a registry of their own, which nobody reads.
    fn default() -> Self {
        Self::new(&Registry::new())
    }
}

/// A request to be forwarded, and on whose behalf.
#[derive(Clone, Copy, Debug)]
pub struct OriginRequest<'a> {
    /// Its route.
    pub route: &'a Route,
    /// The request that the client has sent, or that stands for it.
    pub request: &'a Parts,
    /// The address that it was sent from, if it has one: the client's, or that of a proxy.
    pub peer: Option<IpAddr>,
    /// The client's address, if it has one.
    pub client: Option<IpAddr>,
    /// The address in `peer` as text, if it is at hand.
    pub peer_text: Option<&'a HeaderValue>,
    /// The way that it has come, if that is known: else it is read from its headers.
    pub way: Option<&'a Way>,
    /// Tells since when gripd waits for the client. `None`: there is nobody to wait for.
    pub waiting: Option<&'a Rc<ClientDelay>>,
    /// Whether it came over TLS.
    pub secure: bool,
    /// The one who has sent it.
    pub sender: Sender,
    /// Whether it is gripd's own.
    pub internal: bool,
    /// The purpose of the request.
    pub purpose: Purpose,
    /// The last ids that its client has had of its channels.
    pub last_ids: &'a [(String, Id)],
}

/// The purpose of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A request with an answer.
    Plain,
    /// A WebSocket to the origin.
    WebSocket,
    /// A part of a WebSocket that the origin has over HTTP.
    Events,
}

/// The answer of an origin.
#[derive(Debug)]
pub struct OriginAnswer {
    /// Its head.
    pub head: response::Parts,
    /// Its body.
    pub body: Source,
    /// Which target of the route gave it.
    pub target: usize,
}

/// Where the body of an answer comes from.
#[derive(Debug)]
pub enum Source {
    /// From a connection.
    Incoming(Incoming, Lease),
    /// It is at hand.
    Whole(Bytes),
}

/// A second, and the signatures made in it, each with its signer.
type Signatures = (u64, Vec<(Arc<Signer>, HeaderValue)>);

/// One shard's way to all origins.
pub struct Origin {
    settings: Settings,
    pool: Rc<Pool>,
    shield: Arc<Shield>,
    metrics: Arc<Metrics>,
    routes: RefCell<Arc<Table>>,
    background: background::Background,
    /// Signing anew for each request would cost more than the request.
    signatures: RefCell<Signatures>,
}

impl Origin {
    /// Returns a way to origins, without connections yet. `shield` is that of all shards.
    pub fn new(
        settings: Settings,
        routes: Arc<Table>,
        shield: Arc<Shield>,
        descriptors: Arc<Descriptors>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let pool = Pool::new(settings.clone(), descriptors, Arc::clone(&metrics));
        let (routes, background, signatures) = (RefCell::new(routes), Default::default(), RefCell::default());
        Self { settings, pool, shield, metrics, routes, background, signatures }
    }

    /// Returns the routes in use.
    pub fn routes(&self) -> Ref<'_, Table> {
        Ref::map(self.routes.borrow(), |routes| &**routes)
    }

    /// Replaces the routes for requests that come from now on.
    pub fn reroute(&self, routes: Arc<Table>) {
        *self.routes.borrow_mut() = routes;
    }

    /// Closes the connections to origins that are not in use, and returns how many there were.
    pub fn spare_idle(&self) -> usize {
        self.pool.spare_idle()
    }

    /// Returns how long an answer may take.
    pub fn response_timeout(&self, route: &Route) -> Duration {
        route.response_timeout.unwrap_or(self.settings.response_timeout)
    }

    /// Returns the settings of the headers that tell origins about the way of a request.
    pub const fn forwarding(&self) -> &Forwarding {
        &self.settings.forwarding
    }

    /// Forwards a request and returns the head of the answer, with the connection on which its body comes.
    ///
    /// A target that cannot be reached, or whose connection breaks before it answers, is passed over for the next one. A
    /// request that was lost on an idle connection is sent again on a new one. A request that an origin may have seen is
    /// only sent again if its method is idempotent and its body is at hand (RFC 9110 9.2.2).
    ///
    /// # Errors
    /// There is no answer. The error says why.
    pub async fn send(&self, origin_request: &OriginRequest<'_>, body: &Upload) -> Result<OriginAnswer, Failure> {
        let mut failed: Option<Failure> = None;
        let (mut upload, begun) = (body.clone(), body.progress());
        let targets = &origin_request.route.targets;
        for (index, target) in targets.iter().enumerate() {
            if failed.is_some() {
                self.metrics.fail_overs.inc();
            }
            let address = match &target.place {
                Place::Test => return Ok(test_target::answer(origin_request, index)),
                Place::Address(address) => address,
            };
            let lost = match self.send_to(origin_request, target, address, upload).await {
                Ok((response, lease)) => {
                    let (head, incoming) = response.into_parts();
                    return Ok(OriginAnswer { head, body: Source::Incoming(incoming, lease), target: index });
                }
                Err(lost) => lost,
            };
            if index + 1 == targets.len() || !lost.may_retry(&origin_request.request.method) {
                failed = Some(lost.failure);
                break;
            }
            failed = Some(lost.failure);
            match body.again_since(begun) {
                Some(again) => upload = again,
                None => break,
            }
        }
        self.metrics.failures.inc();
        Err(tried(targets, failed))
    }

    async fn send_to(
        &self,
        origin_request: &OriginRequest<'_>,
        target: &Target,
        address: &Address,
        body: Upload,
    ) -> Result<(Response<Incoming>, Lease), Lost> {
        let to = destination(target, address);
        let source = Sharer::of(origin_request.client);
        let waiting = origin_request.waiting.cloned().unwrap_or_default();
        let mut lease = self.pool.lease(&to, source, waiting).await.map_err(Lost::unsent)?;
        let (mut upload, begun) = (body.clone(), body.progress());
        loop {
            let reused = lease.is_reused();
            match self.exchange(&mut lease, origin_request, target, upload).await {
                Ok(response) => {
                    body.note_answer();
                    return Ok((response, lease));
                }
                Err(_) if lease.gave_way() => return Err(Lost::sent(Failure::new(Kind::GaveWay))),
                Err(lost) if reused && lost.may_retry(&origin_request.request.method) => {
                    match body.again_since(begun) {
                        Some(again) => upload = again,
                        None => return Err(lost),
                    }
                }
                Err(lost) => return Err(lost),
            }
            lease = self.pool.connect_instead(lease).await.map_err(Lost::unsent)?;
        }
    }

    /// Sends one request on one connection and waits for the head of the answer.
    async fn exchange(
        &self,
        lease: &mut Lease,
        origin_request: &OriginRequest<'_>,
        target: &Target,
        body: Upload,
    ) -> Result<Response<Incoming>, Lost> {
        self.metrics.requests.inc();
        let upload = body.clone();
        let mut answer = pin!(lease.send(self.outgoing(origin_request, target, body)));
        let limit = self.response_timeout(origin_request.route);
        loop {
            let sent = upload.progress();
            match timeout(limit, &mut answer).await {
                // The clock runs while nothing is sent: a long upload is not a slow origin.
                Err(_) if upload.progress() != sent => {}
                Err(_) => return Err(Lost::sent(Failure::over_time(Kind::TimedOut, "response_timeout", limit))),
                Ok(Ok(response)) => return usable(response, origin_request.purpose),
                Ok(Err(mut error)) => {
                    let unsent = error.take_message().is_some();
                    if upload.is_too_slow() {
                        return Err(Lost::sent(Failure::new(Kind::RequestSlow)));
                    }
                    return Err(Lost { failure: Failure::from_hyper(error.into_error()), unsent });
                }
            }
        }
    }

    fn outgoing(&self, origin_request: &OriginRequest<'_>, target: &Target, body: Upload) -> Request<Upload> {
        let mut outgoing = Request::new(body);
        *outgoing.method_mut() = origin_request.request.method.clone();
        *outgoing.uri_mut() = rewrite::target(&origin_request.request.uri, &origin_request.route.rewrite);
        let signature = self.signature(origin_request);
        *outgoing.headers_mut() = rewrite::headers(origin_request, target, &self.settings.forwarding, signature);
        let metrics = Arc::clone(&self.metrics);
        hyper::ext::on_informational(&mut outgoing, move |response| {
            if response.status() != StatusCode::CONTINUE {
                metrics.informational_dropped.inc();
            }
        });
        outgoing
    }

    /// Returns the `Grip-Sig` for a request that is sent now.
    fn signature(&self, origin_request: &OriginRequest<'_>) -> Option<HeaderValue> {
        // A WebSocket may live longer than the signature of the proxy before this one.
        let own = !origin_request.sender.is_trusted() || origin_request.purpose == Purpose::Events;
        if !own || origin_request.route.no_grip {
            return None;
        }
        let signer = match &origin_request.route.signer {
            RouteSigner::Common => self.settings.signer.as_ref()?,
            RouteSigner::Nobody => return None,
            RouteSigner::Own(signer) => signer,
        };
        let now = now();
        let mut kept = self.signatures.borrow_mut();
        if kept.0 != now {
            *kept = (now, Vec::new());
        }
        if let Some((_, signature)) = kept.1.iter().find(|(other, _)| Arc::ptr_eq(other, signer)) {
            return Some(signature.clone());
        }
        let signature: HeaderValue = signer.sign(now)?.try_into().ok()?;
        kept.1.push((Arc::clone(signer), signature.clone()));
        Some(signature)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Returns the seconds since 1970, as tokens have them.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Returns the host that a request names, with its port if it names one.
pub fn named_host(request: &Parts) -> Option<&[u8]> {
    let authority = request.uri.authority().map(|a| a.as_str().as_bytes());
    authority.or_else(|| request.headers.get(HOST).map(HeaderValue::as_bytes))
}

/// Returns the destination of the connections for a target.
fn destination(target: &Target, address: &Address) -> Destination {
    Destination { address: address.clone(), public_only: target.untrusted }
}

/// Returns the last failure; if nothing could be reached, with the names of what was tried, in Pushpin's words.
fn tried(targets: &[Target], last: Option<Failure>) -> Failure {
    let last = last.unwrap_or(Failure::new(Kind::Unreachable));
    if last.kind != Kind::Unreachable {
        return last;
    }
    let names: Vec<String> = targets.iter().map(Target::to_string).collect();
    let why = format!("Unable to connect to any targets. Tried: {} ({})", names.join(", "), last.explain());
    Failure::because(Kind::Unreachable, why)
}

/// Takes over an answer, or says why it cannot be forwarded.
fn usable(response: Response<Incoming>, purpose: Purpose) -> Result<Response<Incoming>, Lost> {
    let taken = rewrite::take_over(response, purpose);
    taken.map_err(|why| Lost::sent(Failure::because(Kind::Unusable, why)))
}

/// A request that got no answer.
struct Lost {
    failure: Failure,
    /// The origin has not seen a byte of it.
    unsent: bool,
}

impl Lost {
    const fn unsent(failure: Failure) -> Self {
        Self { failure, unsent: true }
    }

    const fn sent(failure: Failure) -> Self {
        Self { failure, unsent: false }
    }

    fn may_retry(&self, method: &Method) -> bool {
        self.unsent || (self.failure.kind == Kind::Broken && method.is_idempotent())
    }
}
