//! The control API: publishing, and inspecting and changing what is held.

mod access;
mod allowed;
mod body;
mod channels;
mod connection_places;
mod connections;
mod denied;
mod error;
mod guard;
mod guess_delays;
mod publish;
mod query;
mod reply;
mod scope;
mod serve;
mod token;

pub use crate::hub::Outcome;
pub use access::{ControlAccess, random_secret};
pub use publish::Published;
pub use scope::Scope;
pub use serve::ListenerPurpose;
pub use token::ControlToken;

use crate::cluster::Cluster;
use crate::net::{Descriptors, ListenAddress, Peer};
use crate::telemetry::metrics::{Counter, MEDIA_TYPE, MetricsRegistry};
use access::{AccessRefusal, Grant};
use connection_places::PlaceGuard;
use error::ApiError;
use guard::HealthProbe;
use guess_delays::GuessDelays;
use hyper::body::Incoming;
use hyper::{Method, Request};
use reply::{ApiReply, MediaType};
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// The limits of the control API, and the access to it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The largest body of a request, in bytes.
    pub max_body: usize,
    /// How long a JSON reply waits for the outcomes of its items to be final.
    pub receipt_wait: Duration,
    /// The tokens, and the callers that need none.
    pub access: ControlAccess,
    /// The Unix socket on which the control API is served as well. In tests it may be an address in memory.
    pub unix: Option<ListenAddress>,
    /// The address on which only health probes are served.
    pub health: Option<SocketAddr>,
    /// The host names that requests to a loopback address may use, besides localhost and loopback addresses.
    pub hosts: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        let (max_body, receipt_wait) = (1_000_000, Duration::from_millis(1100));
        Self { max_body, receipt_wait, access: ControlAccess::default(), unix: None, health: None, hosts: Vec::new() }
    }
}

/// The counters of the control API.
#[derive(Debug)]
pub struct Metrics {
    /// Requests that could not be parsed as HTTP/1.1.
    pub malformed: Counter,
    /// Requests refused because the token is missing or invalid, or lacks a required scope.
    pub refused: Counter,
    /// Idle connections that were closed to make room for new ones.
    pub gave_way: Counter,
    /// Connections that were refused because all others were busy.
    pub connections_refused: Counter,
}

impl Metrics {
    /// Registers the counters of the control API.
    pub fn new(registry: &MetricsRegistry) -> Self {
        Self {
            malformed: registry.counter(
                "control_malformed_total",
                "Requests to the control API refused because they are not valid HTTP/1.1.",
            ),
            refused: registry.counter(
                "control_refused_total",
                "Requests to the control API refused because the token is missing or invalid, or lacks a required \
                 scope.",
            ),
            gave_way: registry.counter(
                "control_gave_way_total",
                "Idle connections to the control API that were closed to make room for new ones.",
            ),
            connections_refused: registry.counter(
                "control_connections_refused_total",
                "Connections to the control API that were refused because the limit of connections was reached \
                 and all of them were busy.",
            ),
        }
    }
}

/// The control API of a cluster, with its settings and counters.
pub struct ControlApi {
    /// The settings in use, which may be replaced.
    settings: RwLock<Arc<Settings>>,
    cluster: Cluster,
    descriptors: Arc<Descriptors>,
    metrics: Arc<Metrics>,
    registry: MetricsRegistry,
    ready: AtomicBool,
    guesses: GuessDelays,
}

impl ControlApi {
    /// Returns the control API of a cluster. Its `/readyz` answers 200 until `unready` is called.
    pub fn new(
        settings: Settings,
        cluster: Cluster,
        descriptors: Arc<Descriptors>,
        metrics: Arc<Metrics>,
        registry: MetricsRegistry,
    ) -> Arc<Self> {
        let settings = RwLock::new(Arc::new(settings));
        let (ready, guesses) = (AtomicBool::new(true), GuessDelays::default());
        Arc::new(Self { settings, cluster, descriptors, metrics, registry, ready, guesses })
    }

    /// Replaces the settings for requests that come from now on, also on open connections. The Unix socket and the
    /// address for health probes stay as they are.
    pub fn change_settings(&self, settings: Settings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes `/readyz` answer 503 from now on, so that load balancers send no further traffic.
    pub fn unready(&self) {
        self.ready.store(false, Ordering::Relaxed);
    }

    /// Returns whether requests from the addresses of this machine itself need a token.
    pub fn needs_token(&self) -> bool {
        let access = &self.settings().access;
        access.asks() && !access.loopback
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Returns the reply to a health probe.
    fn health(&self, health: HealthProbe) -> ApiReply {
        match health {
            HealthProbe::Alive => ApiReply::text(200, "OK"),
            HealthProbe::Ready if self.is_ready() => ApiReply::text(200, "OK"),
            HealthProbe::Ready => ApiReply::text(503, "Draining"),
        }
    }

    /// Returns the reply to a request.
    async fn answer(&self, caller: Peer, seat: &PlaceGuard, request: Request<Incoming>) -> ApiReply {
        if let Some(refusal) = guard::refuse_malformed(&request) {
            return refusal;
        }
        let path = request.uri().path().to_owned();
        if let Some(health) = guard::health_of(&path)
            && matches!(*request.method(), Method::GET | Method::HEAD)
        {
            return self.health(health);
        }
        if let Some(refusal) = guard::refuse_pages(request.headers()) {
            return refusal;
        }
        let settings = self.settings();
        let grant = match settings.access.admit(caller, path.trim_end_matches('/'), request.method(), request.headers())
        {
            Ok(grant) => grant,
            Err(refusal) => {
                let is_guess = refusal.may_be_a_guess();
                // The refusal is counted and logged before the delay, because a client that guesses tokens may
                // not wait for it.
                let refused = self.refuse(refusal);
                // During the delay the connection counts as idle, so that it may be closed to make room.
                seat.mark_idle();
                if is_guess {
                    self.slow_down(caller).await;
                }
                body::discard(self, request).await;
                seat.mark_busy();
                return refused;
            }
        };
        if !grant.shows_token()
            && let Some(refusal) = guard::refuse_host(caller, &request, &settings.hosts)
        {
            return refusal;
        }
        if grant.is_proof() {
            seat.mark_authorized();
        }
        let (place, name) = split(&path);
        let Some(methods) = methods(place, name) else {
            return ApiError::no_such_place().into();
        };
        if !methods.is_empty() && methods.split(", ").all(|method| method != request.method().as_str()) {
            return ApiReply::not_allowed(request.method(), methods);
        }
        // All other replies have a single media type, which is sent whatever the client prefers.
        let chooses = matches!(place, "publish" | "recover")
            || *request.method() == Method::DELETE
            || *request.method() == Method::PUT;
        let media = MediaType::negotiate(request.headers());
        let Some(media) = media.or(if chooses { None } else { Some(MediaType::Text) }) else {
            return ApiReply::not_acceptable();
        };
        self.carry_out(&grant, media, place, name, request).await.unwrap_or_else(ApiReply::from)
    }

    /// Carries out a request that is authorized, and returns the reply.
    async fn carry_out(
        &self,
        grant: &Grant<'_>,
        media: MediaType,
        place: &str,
        name: Option<&str>,
        request: Request<Incoming>,
    ) -> Result<ApiReply, ApiError> {
        let (cluster, query) = (&self.cluster, request.uri().query());
        match (place, name, request.method()) {
            ("", ..) => Ok(ApiReply::text(200, "Pushpin API")),
            ("publish", ..) => publish::publish(self, grant, media, request).await,
            ("recover", ..) => {
                cluster.recover().await;
                Ok(ApiReply::done(media, "Updated", &serde_json::json!({ "message": "Updated" })))
            }
            ("allowed", None, &Method::GET | &Method::HEAD) => allowed::list(cluster, query),
            ("allowed", pattern, _) => allowed::change(self, media, pattern, request).await,
            ("channels", None, _) => channels::list(cluster, query).await,
            ("channels", Some(name), _) => channels::one(cluster, name).await,
            ("connections", None, _) => connections::list(cluster, query).await,
            ("connections", Some(name), &Method::DELETE) => connections::delete(self, media, name).await,
            ("connections", Some(name), _) => connections::one(cluster, name).await,
            ("denied", None, _) => denied::list(cluster, query),
            ("denied", Some(name), _) => denied::delete(cluster, media, name).await,
            ("metrics", ..) => Ok(ApiReply::other(MEDIA_TYPE, self.registry.render())),
            _ => Err(ApiError::no_such_place()),
        }
    }

    fn refuse(&self, refusal: AccessRefusal) -> ApiReply {
        self.metrics.refused.inc();
        refusal.into_reply()
    }
}

/// Splits a path into its first segment and the name that follows it, if there is one. As in Pushpin, one slash at
/// the end makes no difference.
fn split(path: &str) -> (&str, Option<&str>) {
    let path = path.strip_prefix('/').unwrap_or(path);
    match path.split_once('/') {
        None | Some((_, "")) => (path.strip_suffix('/').unwrap_or(path), None),
        Some((place, name)) => (place, Some(name)),
    }
}

/// Returns the methods that a path allows, or an empty text if it allows all. Returns `None` if the path does not
/// exist.
const fn methods(place: &str, name: Option<&str>) -> Option<&'static str> {
    Some(match (place.as_bytes(), name.is_some()) {
        (b"", false) => "",
        (b"publish" | b"recover", false) => "POST",
        (b"channels", _) | (b"connections" | b"denied" | b"healthz" | b"readyz" | b"metrics", false) => "GET, HEAD",
        (b"connections", true) => "GET, HEAD, DELETE",
        (b"denied", true) => "DELETE",
        (b"allowed", false) => "GET, HEAD, PUT, DELETE",
        (b"allowed", true) => "PUT, DELETE",
        _ => return None,
    })
}

impl fmt::Debug for ControlApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlApi").field("settings", &self.settings).finish_non_exhaustive()
    }
}
