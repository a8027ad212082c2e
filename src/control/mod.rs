//! The operator's listener: publishing, and looking at what is held.

mod channels;
mod guard;
mod metrics;
mod publish;
mod reply;

pub use metrics::Metric;

use crate::hub::Hub;
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper::{Method, Request};
use hyper_util::rt::{TokioIo, TokioTimer};
use reply::{Media, Reply};
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// How long a publisher may take for the head of a request, and be idle between two.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections at the same time; others wait.
const MAX_CONNECTIONS: usize = 1024;
/// How long to wait when no connection can be accepted: descriptors or memory are short.
const PAUSE: Duration = Duration::from_millis(100);

/// The limits of the control API.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The largest body of a request, in bytes.
    pub max_body: usize,
    /// How long a reply waits for connections to end.
    pub receipt_wait: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_body: 1_000_000, receipt_wait: Duration::from_millis(1100) }
    }
}

/// Reads all metrics.
pub type ReadMetrics = Box<dyn Fn() -> Vec<Metric> + Send + Sync>;

/// The control API.
pub struct Control {
    settings: Settings,
    hub: Arc<Hub>,
    read_metrics: ReadMetrics,
    ready: AtomicBool,
}

impl Control {
    /// A control API over `hub`, ready for traffic.
    pub fn new(settings: Settings, hub: Arc<Hub>, read_metrics: ReadMetrics) -> Arc<Self> {
        Arc::new(Self { settings, hub, read_metrics, ready: AtomicBool::new(true) })
    }

    /// Has `/readyz` say that no further traffic is wanted.
    pub fn unready(&self) {
        self.ready.store(false, Ordering::Relaxed);
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Serves `listener` for ever.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let control = Arc::clone(&self);
                    let permit = Arc::clone(&connections).acquire_owned().await;
                    tokio::spawn(async move {
                        let _permit = permit;
                        control.connection(stream).await;
                    });
                }
                Err(error) => {
                    tracing::error!(%error, "cannot accept connections to the control API");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream) {
        let Ok(local) = stream.local_addr() else { return };
        let service = service_fn(move |request| {
            let control = Arc::clone(&self);
            async move { Ok::<_, Infallible>(control.answer(local, request).await.into_response()) }
        });
        let mut builder = Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
        if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
            tracing::debug!(%error, "control connection ended");
        }
    }

    /// Answers one request. `local` is the address to which it came.
    async fn answer(&self, local: SocketAddr, request: Request<Incoming>) -> Reply {
        if let Some(refusal) = guard::refuse(local, request.headers()) {
            return refusal;
        }
        let Some(media) = Media::negotiate(request.headers()) else { return Reply::not_acceptable() };
        // As in Pushpin, one slash at the end makes no difference.
        let path = request.uri().path().to_owned();
        let path = path.strip_suffix('/').unwrap_or(&path);
        match (path, request.method()) {
            ("", _) => Reply::text(200, "Pushpin API"),
            ("/publish", &Method::POST) => publish::publish(self, media, request).await,
            ("/publish", method) => Reply::not_allowed(method, "POST"),
            ("/recover", &Method::POST) => {
                self.hub.recover();
                match media {
                    Media::Text => Reply::text(200, "Updated"),
                    Media::Json => Reply::json(&serde_json::json!({ "message": "Updated" })),
                }
            }
            ("/recover", method) => Reply::not_allowed(method, "POST"),
            ("/channels" | "/healthz" | "/readyz" | "/metrics", method) if !reads(method) => {
                Reply::not_allowed(method, "GET, HEAD")
            }
            ("/channels", _) => channels::list(&self.hub, request.uri().query()),
            ("/healthz", _) => Reply::text(200, "OK"),
            ("/readyz", _) if self.is_ready() => Reply::text(200, "OK"),
            ("/readyz", _) => Reply::text(503, "Draining"),
            ("/metrics", _) => metrics::render(&(self.read_metrics)()),
            _ => match request.uri().path().strip_prefix("/channels/") {
                Some(name) if reads(request.method()) => channels::one(&self.hub, name),
                Some(_) => Reply::not_allowed(request.method(), "GET, HEAD"),
                None => Reply::text(404, "Not Found"),
            },
        }
    }
}

fn reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("settings", &self.settings).finish_non_exhaustive()
    }
}
