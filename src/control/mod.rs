//! The operator's listener: publishing, and looking at what is held.

mod access;
mod allowed;
mod body;
mod channels;
mod connections;
mod denied;
mod guard;
mod listen;
mod metrics;
mod publish;
mod query;
mod reply;
mod scope;
mod token;

pub use access::Access;
pub use listen::{Caller, Listener, SocketFile, UnixAddress};
pub use metrics::Metric;
pub use scope::Scope;
pub use token::Token;

use crate::hub::Hub;
use access::{Grant, Refusal};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper::{Method, Request};
use hyper_util::rt::{TokioIo, TokioTimer};
use reply::{Media, Reply};
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

/// How long a publisher may take for the head of a request, and be idle between two.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections at the same time; others wait.
const MAX_CONNECTIONS: usize = 1024;
/// How long to wait when no connection can be accepted: descriptors or memory are short.
const PAUSE: Duration = Duration::from_millis(100);

/// The limits of the control API, and who may use it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The largest body of a request, in bytes.
    pub max_body: usize,
    /// How long a reply waits for connections to end.
    pub receipt_wait: Duration,
    /// Who may do what.
    pub access: Access,
    /// The Unix socket on which it is served besides.
    pub unix: Option<UnixAddress>,
}

impl Default for Settings {
    fn default() -> Self {
        let (max_body, receipt_wait) = (1_000_000, Duration::from_millis(1100));
        Self { max_body, receipt_wait, access: Access::default(), unix: None }
    }
}

/// What is counted.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Requests refused for want of a token, or of its scopes.
    pub refused: AtomicU64,
}

/// Reads all metrics.
pub type ReadMetrics = Box<dyn Fn() -> Vec<Metric> + Send + Sync>;

/// The control API.
pub struct Control {
    settings: Settings,
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
    read_metrics: ReadMetrics,
    ready: AtomicBool,
}

impl Control {
    /// A control API over `hub`, ready for traffic.
    pub fn new(settings: Settings, hub: Arc<Hub>, metrics: Arc<Metrics>, read_metrics: ReadMetrics) -> Arc<Self> {
        Arc::new(Self { settings, hub, metrics, read_metrics, ready: AtomicBool::new(true) })
    }

    /// Has `/readyz` say that no further traffic is wanted.
    pub fn unready(&self) {
        self.ready.store(false, Ordering::Relaxed);
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Serves `listener` for ever.
    pub async fn serve(self: Arc<Self>, listener: impl Listener) {
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            match listener.accept().await {
                Ok((stream, caller)) => {
                    let control = Arc::clone(&self);
                    let permit = Arc::clone(&connections).acquire_owned().await;
                    tokio::spawn(async move {
                        let _permit = permit;
                        control.connection(stream, caller).await;
                    });
                }
                Err(error) => {
                    tracing::error!(%error, "cannot accept connections to the control API");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin, caller: Caller) {
        let service = service_fn(move |request| {
            let control = Arc::clone(&self);
            async move { Ok::<_, Infallible>(control.answer(caller, request).await.into_response()) }
        });
        let mut builder = Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
        if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
            tracing::debug!(%error, "control connection ended");
        }
    }

    /// Answers one request.
    async fn answer(&self, caller: Caller, request: Request<Incoming>) -> Reply {
        if let Some(refusal) = guard::refuse(caller, request.headers()) {
            return refusal;
        }
        let path = request.uri().path().to_owned();
        let grant =
            match self.settings.access.admit(caller, path.trim_end_matches('/'), request.method(), request.headers()) {
                Ok(grant) => grant,
                Err(refusal) => {
                    body::discard(self, request).await;
                    return self.refuse(refusal);
                }
            };
        let Some(media) = Media::negotiate(request.headers()) else { return Reply::not_acceptable() };
        let (place, name) = split(&path);
        let Some(methods) = methods(place, name) else { return Reply::text(404, "Not Found") };
        if !methods.is_empty() && methods.split(", ").all(|method| method != request.method().as_str()) {
            return Reply::not_allowed(request.method(), methods);
        }
        self.carry_out(&grant, media, place, name, request).await.unwrap_or_else(|refusal| refusal)
    }

    /// Does what a request asks for.
    async fn carry_out(
        &self,
        grant: &Grant<'_>,
        media: Media,
        place: &str,
        name: Option<&str>,
        request: Request<Incoming>,
    ) -> Result<Reply, Reply> {
        let (hub, query) = (&*self.hub, request.uri().query());
        match (place, name, request.method()) {
            ("", ..) => Ok(Reply::text(200, "Pushpin API")),
            ("publish", ..) => Ok(publish::publish(self, grant, media, request).await),
            ("recover", ..) => {
                hub.recover();
                Ok(Reply::done(media, "Updated", &serde_json::json!({ "message": "Updated" })))
            }
            ("allowed", None, &Method::GET | &Method::HEAD) => allowed::list(hub, query),
            ("allowed", pattern, _) => allowed::change(self, media, pattern, request).await,
            ("channels", None, _) => channels::list(hub, query),
            ("channels", Some(name), _) => channels::one(hub, name),
            ("connections", None, _) => connections::list(hub, query).await,
            ("connections", Some(name), &Method::DELETE) => connections::delete(self, media, name).await,
            ("connections", Some(name), _) => connections::one(hub, name).await,
            ("denied", None, _) => denied::list(hub, query),
            ("denied", Some(name), _) => denied::delete(hub, media, name).await,
            ("healthz", ..) => Ok(Reply::text(200, "OK")),
            ("readyz", ..) if self.is_ready() => Ok(Reply::text(200, "OK")),
            ("readyz", ..) => Ok(Reply::text(503, "Draining")),
            ("metrics", ..) => Ok(metrics::render(&(self.read_metrics)())),
            _ => Err(Reply::text(404, "Not Found")),
        }
    }

    fn refuse(&self, refusal: Refusal) -> Reply {
        self.metrics.refused.fetch_add(1, Ordering::Relaxed);
        refusal.into_reply()
    }
}

/// What a path names: a place, and perhaps something there. As in Pushpin, one slash at the end makes no difference.
fn split(path: &str) -> (&str, Option<&str>) {
    let path = path.strip_prefix('/').unwrap_or(path);
    match path.split_once('/') {
        None | Some((_, "")) => (path.strip_suffix('/').unwrap_or(path), None),
        Some((place, name)) => (place, Some(name)),
    }
}

/// The methods that a place has; the empty text: any. `None`: there is no such place.
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
