//! The operator's listener: publishing, and looking at what is held.

mod access;
mod allowed;
mod body;
mod channels;
mod connections;
mod denied;
mod error;
mod guard;
mod guesses;
mod places;
mod publish;
mod query;
mod reply;
mod scope;
mod serve;
mod token;

pub use access::Access;
pub use publish::Published;
pub use scope::Scope;
pub use serve::Purpose;
pub use token::Token;

use crate::cluster::Cluster;
use crate::net::{Descriptors, ListenAddress, Peer};
use crate::telemetry::metrics::{Counter, MEDIA_TYPE, Registry};
use access::{Grant, Refusal};
use error::ApiError;
use guard::Health;
use guesses::Guesses;
use hyper::body::Incoming;
use hyper::{Method, Request};
use places::Place;
use reply::{Media, Reply};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The limits of the control API, and who may use it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The largest body of a request, in bytes.
    pub max_body: usize,
    /// How long a reply waits for connections to end.
    pub receipt_wait: Duration,
    /// The tokens and their scopes.
    pub access: Access,
    /// The Unix socket on which it is served as well, or an address in memory.
    pub unix: Option<ListenAddress>,
    /// The address at which health alone is served.
    pub health: Option<SocketAddr>,
    /// Names of this machine by which requests to a loopback address may call it, besides the usual ones.
    pub hosts: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        let (max_body, receipt_wait) = (1_000_000, Duration::from_millis(1100));
        Self { max_body, receipt_wait, access: Access::default(), unix: None, health: None, hosts: Vec::new() }
    }
}

/// The counters of the control API.
#[derive(Debug)]
pub struct Metrics {
    /// Requests that could not be read.
    pub malformed: Counter,
    /// Requests refused because the token is missing or invalid, or lacks a required scope.
    pub refused: Counter,
    /// Idle connections that gave way to new ones.
    pub gave_way: Counter,
    /// Connections that found no place, as all others were busy.
    pub connections_refused: Counter,
}

impl Metrics {
    /// Registers the numbers.
    pub fn new(registry: &Registry) -> Self {
        Self {
            malformed: registry
                .counter("control_malformed_total", "Requests to the control API that are not HTTP/1.1."),
            refused: registry.counter(
                "control_refused_total",
                "Requests to the control API refused because the token is missing or invalid, or lacks a required scope.",
            ),
            gave_way: registry.counter(
                "control_gave_way_total",
                "Idle connections to the control API that were closed to make room for new ones.",
            ),
            connections_refused: registry.counter(
                "control_connections_refused_total",
                "Connections to the control API that were refused because all others were busy.",
            ),
        }
    }
}

/// The control API.
pub struct Control {
    settings: Settings,
    cluster: Cluster,
    descriptors: Arc<Descriptors>,
    metrics: Arc<Metrics>,
    registry: Registry,
    ready: AtomicBool,
    guesses: Guesses,
}

impl Control {
    /// Returns a control API for a cluster, ready for traffic.
    pub fn new(
        settings: Settings,
        cluster: Cluster,
        descriptors: Arc<Descriptors>,
        metrics: Arc<Metrics>,
        registry: Registry,
    ) -> Arc<Self> {
        let (ready, guesses) = (AtomicBool::new(true), Guesses::default());
        Arc::new(Self { settings, cluster, descriptors, metrics, registry, ready, guesses })
    }

    /// Makes `/readyz` say from now on that no further traffic is wanted.
    pub fn unready(&self) {
        self.ready.store(false, Ordering::Relaxed);
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Says how gripd is.
    fn health(&self, health: Health) -> Reply {
        match health {
            Health::Alive => Reply::text(200, "OK"),
            Health::Ready if self.is_ready() => Reply::text(200, "OK"),
            Health::Ready => Reply::text(503, "Draining"),
        }
    }

    /// Answers one request.
    async fn answer(&self, caller: Peer, seat: &Place, request: Request<Incoming>) -> Reply {
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
        let grant =
            match self.settings.access.admit(caller, path.trim_end_matches('/'), request.method(), request.headers()) {
                Ok(grant) => grant,
                Err(refusal) => {
                    let is_guess = refusal.may_be_a_guess();
                    // Told before anything is waited for: a guesser may not stay to hear it.
                    let refused = self.refuse(refusal);
                    // Meanwhile the connection is one that can be spared.
                    seat.rests();
                    if is_guess {
                        self.slow_down(caller).await;
                    }
                    body::discard(self, request).await;
                    seat.begins();
                    return refused;
                }
            };
        if !grant.shows_token()
            && let Some(refusal) = guard::refuse_host(caller, &request, &self.settings.hosts)
        {
            return refusal;
        }
        if grant.is_proof() {
            seat.is_proved();
        }
        let (place, name) = split(&path);
        let Some(methods) = methods(place, name) else {
            return ApiError::no_such_place().into();
        };
        if !methods.is_empty() && methods.split(", ").all(|method| method != request.method().as_str()) {
            return Reply::not_allowed(request.method(), methods);
        }
        // The other answers have one media type each, which is sent whatever a client would like better.
        let chooses = matches!(place, "publish" | "recover")
            || *request.method() == Method::DELETE
            || *request.method() == Method::PUT;
        let media = Media::negotiate(request.headers());
        let Some(media) = media.or(if chooses { None } else { Some(Media::Text) }) else {
            return Reply::not_acceptable();
        };
        self.carry_out(&grant, media, place, name, request).await.unwrap_or_else(Reply::from)
    }

    /// Does what a request asks for.
    async fn carry_out(
        &self,
        grant: &Grant<'_>,
        media: Media,
        place: &str,
        name: Option<&str>,
        request: Request<Incoming>,
    ) -> Result<Reply, ApiError> {
        let (cluster, query) = (&self.cluster, request.uri().query());
        match (place, name, request.method()) {
            ("", ..) => Ok(Reply::text(200, "Pushpin API")),
            ("publish", ..) => publish::publish(self, grant, media, request).await,
            ("recover", ..) => {
                cluster.recover().await;
                Ok(Reply::done(media, "Updated", &serde_json::json!({ "message": "Updated" })))
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
            ("metrics", ..) => Ok(Reply::other(MEDIA_TYPE, self.registry.render())),
            _ => Err(ApiError::no_such_place()),
        }
    }

    fn refuse(&self, refusal: Refusal) -> Reply {
        self.metrics.refused.inc();
        refusal.into_reply()
    }
}

/// Splits a path into a place and perhaps a name in that place. As in Pushpin, one slash at the end makes no difference.
fn split(path: &str) -> (&str, Option<&str>) {
    let path = path.strip_prefix('/').unwrap_or(path);
    match path.split_once('/') {
        None | Some((_, "")) => (path.strip_suffix('/').unwrap_or(path), None),
        Some((place, name)) => (place, Some(name)),
    }
}

/// Returns the methods that a place has; the empty text: any. `None`: there is no such place.
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

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("settings", &self.settings).finish_non_exhaustive()
    }
}
