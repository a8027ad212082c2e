//! Requests to origins: the pool of connections, the form of forwarded requests, the failures, and the requests that
//! gripd makes itself on behalf of clients.

mod background;
mod connection_share;
mod conversation;
mod failure;
mod fair_queue;
mod filter;
mod forwarding;
mod gone_link;
mod handshake;
mod loopback;
mod metrics;
mod own_request;
mod own_request_limits;
mod pool;
mod request_body;
mod rewrite;
mod shield;
mod test_target;

pub use conversation::{OverHttpConversation, OverHttpReply, is_conversations_own};
use failure::FailedRequest;
pub use failure::{Failure, FailureKind, FailureSide};
pub use fair_queue::ClientNetwork;
pub use forwarding::{AcceptProto, Forwarding};
pub use gone_link::GoneLinkGuard;
pub use handshake::{Handshake, OriginSocket, RelayedSocket, accept_for};
pub use metrics::Metrics;
pub use own_request::{CollectedAnswer, MAX_BODY, OwnRequest, Requester, collect};
pub use own_request_limits::{Lane, OwnRequestPermit};
pub use pool::Lease;
pub use request_body::{ReadAhead, ReadAheadBudget, RequestBody, RequestBodyState, without_grip};
pub use rewrite::{
    ForwardedEdit, ForwardedFor, ForwardedProto, PUSHPIN_ROUTE, Via, has_passed, is_of_proxies, is_plainly_framed,
    is_reserved, names_too_many_headers, remove_hop_by_hop, remove_where,
};
pub use shield::Shield;

use crate::grip::item::ItemId;
use crate::grip::signature::Signer;
use crate::net::{ClientDelay, Descriptors, MemoryServer};
use crate::route::{Address, Route, RouteSigner, RouteTable, Target, TargetPlace};
use crate::telemetry::metrics::MetricsRegistry;
use crate::wire::{RequestPath, RequestSender};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::response;
use hyper::{Request, Response, StatusCode};
use pool::{Destination, Pool};
use std::cell::{Ref, RefCell};
use std::fmt;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::timeout;

/// The settings of connections and requests to origins.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The time that connecting may take. This includes the resolution of the host name.
    pub connect_timeout: Duration,
    /// The time that the head of a response may take, and then again the body of a response that gripd collects, such
    /// as one that holds. A route may have its own value.
    pub response_timeout: Duration,
    /// The time that a request may wait for one of the connections to its origin.
    pub connection_wait: Duration,
    /// The time for which an unused connection may be used again. An older one is closed when the next request to the
    /// same origin looks for a connection.
    pub idle_timeout: Duration,
    /// The number of unused connections that one shard keeps for one origin.
    pub idle_connections: usize,
    /// The number of connections that one shard may use at the same time to one origin.
    pub connections: usize,
    /// The number of WebSockets that one shard may relay at the same time to one origin.
    pub websockets: usize,
    /// The time that a request of an HTTP filter may take, once it has its turn.
    pub filter_timeout: Duration,
    /// The size in bytes of the largest body of events in an origin's response (WebSocket over HTTP).
    pub max_events: usize,
    /// The shortest keep-alive interval of WebSocket over HTTP. If an origin asks for a shorter one, this one is
    /// used.
    pub shortest_interval: Duration,
    /// The signer of requests on routes without a signer of their own. `None` means that those requests are not
    /// signed.
    pub signer: Option<Arc<Signer>>,
    /// The settings of the headers that tell origins through which proxies a request has come.
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
            // Pushpin has the same values for this and the next setting.
            max_events: 1_000_000,
            shortest_interval: Duration::from_secs(20),
            signer: None,
            forwarding: Forwarding::default(),
            memory: None,
        }
    }
}

impl Default for Metrics {
    /// Returns metrics in a registry of their own, which nobody reads.
    fn default() -> Self {
        Self::new(&MetricsRegistry::new())
    }
}

/// A request for an origin, with what is known about its sender.
#[derive(Clone, Copy, Debug)]
pub struct OriginRequest<'a> {
    /// The route of the request.
    pub route: &'a Route,
    /// The head of the request: one that gripd made, or the client's. The client's head may have been changed already,
    /// by JSON-P or because gripd removes the header that names the user.
    pub request: &'a Parts,
    /// The address from which the request was sent: that of the client, or of a proxy. `None` for gripd's own
    /// requests, and if the client's connection was over before gripd learned its address.
    pub peer: Option<IpAddr>,
    /// The client's address, if it is known. Requests of one address share the connections to an origin fairly with
    /// requests of other addresses.
    pub client: Option<IpAddr>,
    /// The address in `peer` as the value of a header, if the caller has it already. Otherwise it is formatted when
    /// it is needed.
    pub peer_text: Option<&'a HeaderValue>,
    /// The addresses from which the request has come, if the caller knows them already. Otherwise they are read from
    /// the headers of the request when they are needed.
    pub way: Option<&'a RequestPath>,
    /// The record of how long gripd has waited for the client, by which the connection of a slow client may be closed
    /// for waiting requests. `None` if there is no client to wait for.
    pub waiting: Option<&'a Rc<ClientDelay>>,
    /// Whether the client's request came over TLS.
    pub secure: bool,
    /// The kind of sender: a client, or a trusted GRIP proxy.
    pub sender: RequestSender,
    /// Whether gripd makes the request itself, for a link or an HTTP filter. Such a request gets no `Via` header, and
    /// its `Grip-*` headers are not removed as those of a client are.
    pub internal: bool,
    /// The purpose of the request.
    pub purpose: RequestPurpose,
    /// The id of the item that the client received last in each of its channels, for `Grip-Last`.
    pub last_ids: &'a [(String, ItemId)],
}

/// The purpose of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestPurpose {
    /// An ordinary HTTP request.
    Plain,
    /// The handshake of a WebSocket with the origin.
    WebSocket,
    /// A request that carries events of WebSocket over HTTP.
    Events,
}

/// The response of an origin.
#[derive(Debug)]
pub struct OriginAnswer {
    /// The head of the response.
    pub head: response::Parts,
    /// The body of the response.
    pub body: BodySource,
    /// The index of the route's target that has responded.
    pub target: usize,
}

/// The source of a response's body.
#[derive(Debug)]
pub enum BodySource {
    /// The body is read from a connection to the origin.
    Incoming(Incoming, Lease),
    /// The body is in memory.
    Whole(Bytes),
}

/// The second in which signatures were made, and these signatures, each with its signer.
type Signatures = (u64, Vec<(Arc<Signer>, HeaderValue)>);

/// One shard's access to all origins.
pub struct OriginClient {
    pool: Rc<Pool>,
    shield: Arc<Shield>,
    metrics: Arc<Metrics>,
    routes: RefCell<Arc<RouteTable>>,
    background: background::Background,
    /// The signatures of the current second. Requests of one second share a signature, because signing costs more
    /// than the rest of a request.
    signatures: RefCell<Signatures>,
}

impl OriginClient {
    /// Returns an `OriginClient` that has no connections yet. All shards share `shield`.
    pub fn new(
        settings: Settings,
        routes: Arc<RouteTable>,
        shield: Arc<Shield>,
        descriptors: Arc<Descriptors>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let pool = Pool::new(settings, descriptors, Arc::clone(&metrics));
        let (routes, background, signatures) = (RefCell::new(routes), Default::default(), RefCell::default());
        Self { pool, shield, metrics, routes, background, signatures }
    }

    /// Returns the routes in use.
    pub fn routes(&self) -> Ref<'_, RouteTable> {
        Ref::map(self.routes.borrow(), |routes| &**routes)
    }

    /// Replaces the routes for requests that come from now on.
    pub fn reroute(&self, routes: Arc<RouteTable>) {
        *self.routes.borrow_mut() = routes;
    }

    /// Replaces the settings. Requests that wait for a connection get one if there may be more of them now.
    pub fn change_settings(&self, settings: Settings) {
        self.pool.change_settings(settings);
    }

    fn settings(&self) -> Ref<'_, Settings> {
        self.pool.settings.borrow()
    }

    /// Closes the idle connections to origins if that makes room for clients, and returns the number of connections
    /// closed.
    pub fn spare_idle(&self) -> usize {
        self.pool.spare_idle()
    }

    /// Returns the time that the head or the collected body of a response may take on this route.
    pub fn response_timeout(&self, route: &Route) -> Duration {
        route.response_timeout.unwrap_or_else(|| self.settings().response_timeout)
    }

    /// Returns the settings of the headers that tell origins through which proxies a request has come.
    pub fn forwarding(&self) -> Ref<'_, Forwarding> {
        Ref::map(self.settings(), |settings| &settings.forwarding)
    }

    /// Forwards a request and returns the head of the response, with the connection on which its body comes.
    ///
    /// The targets of the route are tried in their order. The next one is tried if the request was not sent to the
    /// target before it, or if the connection broke before the response and the method is idempotent (RFC 9110
    /// 9.2.2). Under the same conditions, a request that was lost on a reused connection is sent again on a new one.
    /// In every case, the part of the body that was read must still be in memory.
    ///
    /// # Errors
    /// No target has given a usable response. The error says why the last one has not.
    pub async fn send(&self, origin_request: &OriginRequest<'_>, body: &RequestBody) -> Result<OriginAnswer, Failure> {
        let mut failed: Option<Failure> = None;
        let (mut upload, begun) = (body.clone(), body.progress());
        let targets = &origin_request.route.targets;
        for (index, target) in targets.iter().enumerate() {
            if failed.is_some() {
                self.metrics.fail_overs.inc();
            }
            let address = match &target.place {
                TargetPlace::Test => return Ok(test_target::answer(origin_request, index)),
                TargetPlace::Address(address) => address,
            };
            let lost = match self.send_to(origin_request, target, address, upload).await {
                Ok((response, lease)) => {
                    let (head, incoming) = response.into_parts();
                    return Ok(OriginAnswer { head, body: BodySource::Incoming(incoming, lease), target: index });
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
        Err(tried(origin_request.route, failed))
    }

    async fn send_to(
        &self,
        origin_request: &OriginRequest<'_>,
        target: &Target,
        address: &Address,
        body: RequestBody,
    ) -> Result<(Response<Incoming>, Lease), FailedRequest> {
        let to = destination(target, address);
        let source = ClientNetwork::of(origin_request.client);
        let waiting = origin_request.waiting.cloned().unwrap_or_default();
        let mut lease = self.pool.lease(&to, source, waiting).await.map_err(FailedRequest::unsent)?;
        let (mut upload, begun) = (body.clone(), body.progress());
        loop {
            let reused = lease.is_reused();
            match self.exchange(&mut lease, origin_request, target, upload).await {
                Ok(response) => {
                    body.note_answer();
                    return Ok((response, lease));
                }
                Err(_) if lease.gave_way() => return Err(FailedRequest::sent(Failure::new(FailureKind::GaveWay))),
                Err(lost) if reused && lost.may_retry(&origin_request.request.method) => {
                    match body.again_since(begun) {
                        Some(again) => upload = again,
                        None => return Err(lost),
                    }
                }
                Err(lost) => return Err(lost),
            }
            lease = self.pool.connect_instead(lease).await.map_err(FailedRequest::unsent)?;
        }
    }

    /// Sends one request on one connection and waits for the head of the answer.
    async fn exchange(
        &self,
        lease: &mut Lease,
        origin_request: &OriginRequest<'_>,
        target: &Target,
        body: RequestBody,
    ) -> Result<Response<Incoming>, FailedRequest> {
        self.metrics.requests.inc();
        let upload = body.clone();
        let mut answer = pin!(lease.send(self.outgoing(origin_request, target, body)));
        let limit = self.response_timeout(origin_request.route);
        loop {
            let sent = upload.progress();
            match timeout(limit, &mut answer).await {
                // The timeout begins anew if more of the request body was read meanwhile: a slow upload of the client
                // is not the origin's delay.
                Err(_) if upload.progress() != sent => {}
                Err(_) => {
                    return Err(FailedRequest::sent(Failure::over_time(
                        FailureKind::TimedOut,
                        "response_timeout",
                        limit,
                    )));
                }
                Ok(Ok(response)) => return usable(response, origin_request.purpose),
                Ok(Err(mut error)) => {
                    let unsent = error.take_message().is_some();
                    if upload.is_too_slow() {
                        return Err(FailedRequest::sent(Failure::new(FailureKind::RequestSlow)));
                    }
                    return Err(FailedRequest { failure: Failure::from_hyper(error.into_error()), unsent });
                }
            }
        }
    }

    fn outgoing(&self, origin_request: &OriginRequest<'_>, target: &Target, body: RequestBody) -> Request<RequestBody> {
        let mut outgoing = Request::new(body);
        *outgoing.method_mut() = origin_request.request.method.clone();
        *outgoing.uri_mut() = rewrite::target(&origin_request.request.uri, &origin_request.route.rewrite);
        let signature = self.signature(origin_request);
        *outgoing.headers_mut() = rewrite::headers(origin_request, target, &self.settings().forwarding, signature);
        let metrics = Arc::clone(&self.metrics);
        hyper::ext::on_informational(&mut outgoing, move |response| {
            if response.status() != StatusCode::CONTINUE {
                metrics.informational_dropped.inc();
            }
        });
        outgoing
    }

    /// Returns the `Grip-Sig` for a request that is sent now, or `None` if gripd does not sign it.
    fn signature(&self, origin_request: &OriginRequest<'_>) -> Option<HeaderValue> {
        // The signature of a trusted GRIP proxy is passed on with its request. A WebSocket may outlive that
        // signature, so gripd signs the requests of WebSocket over HTTP itself.
        let own = !origin_request.sender.is_trusted() || origin_request.purpose == RequestPurpose::Events;
        if !own || origin_request.route.no_grip {
            return None;
        }
        let settings = self.settings();
        let signer = match &origin_request.route.signer {
            RouteSigner::Common => settings.signer.as_ref()?,
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

impl fmt::Debug for OriginClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginClient").field("settings", &*self.settings()).finish_non_exhaustive()
    }
}

/// Returns the current time in seconds since 1970-01-01 00:00 UTC, as in the claims of tokens.
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

/// Returns the last failure. If the reason is that no connection could be made, the error lists all targets of the
/// route, in Pushpin's words.
fn tried(route: &Route, last: Option<Failure>) -> Failure {
    let last = last.unwrap_or(Failure::new(FailureKind::Unreachable));
    if last.kind != FailureKind::Unreachable {
        return last;
    }
    loopback::look_elsewhere(route, &last);
    let names: Vec<String> = route.targets.iter().map(Target::to_string).collect();
    let why = format!("Unable to connect to any targets. Tried: {} ({})", names.join(", "), last.explain());
    Failure::because(FailureKind::Unreachable, why)
}

/// Removes from a response everything that concerns only the origin's connection. Returns an error if the response
/// cannot be forwarded.
fn usable(response: Response<Incoming>, purpose: RequestPurpose) -> Result<Response<Incoming>, FailedRequest> {
    let taken = rewrite::take_over(response, purpose);
    taken.map_err(|why| FailedRequest::sent(Failure::because(FailureKind::Unusable, why)))
}
