//! The way to the application: connections, what a forwarded request looks like, what can go wrong.

mod failure;
mod pool;
mod rewrite;
mod upload;

pub use failure::{Failure, Kind, Side};
pub use pool::Lease;
pub use rewrite::{is_plainly_framed, remove_hop_by_hop, remove_where};
pub use upload::{BodyState, Upload};

use crate::grip::signature::Signer;
use crate::route::Target;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use pool::Pool;
use std::cell::RefCell;
use std::fmt;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::timeout;

/// How origins are spoken to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long the head of an answer may take, and then the body of one that holds.
    pub response_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// Unused connections kept for one origin by one shard.
    pub idle_connections: usize,
    /// Connections to one origin from one shard at the same time.
    pub connections: usize,
    /// Signs the requests.
    pub signer: Option<Signer>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            response_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(55),
            idle_connections: 128,
            connections: 1024,
            signer: None,
        }
    }
}

/// What is counted of origins.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Requests sent, retries included.
    pub requests: AtomicU64,
    /// Requests that failed.
    pub failures: AtomicU64,
    /// Informational answers (1xx but 100) that were dropped.
    pub informational_dropped: AtomicU64,
}

/// One shard's way to all origins.
pub struct Origin {
    settings: Settings,
    pool: Rc<Pool>,
    metrics: Arc<Metrics>,
    /// The signature of the current second.
    signature: RefCell<(u64, Option<hyper::header::HeaderValue>)>,
}

impl Origin {
    /// A way to origins, without connections yet.
    pub fn new(settings: Settings, metrics: Arc<Metrics>) -> Self {
        let pool = Pool::new(settings.clone());
        Self { settings, pool, metrics, signature: RefCell::default() }
    }

    /// How long an answer may take.
    pub const fn response_timeout(&self) -> Duration {
        self.settings.response_timeout
    }

    /// Forwards a request and returns the head of the answer, with the connection on which its body comes.
    ///
    /// A request that an idle connection lost is sent again on a new one, if its method is idempotent and
    /// its body is at hand (RFC 9110 9.2.2).
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn send(
        &self,
        target: &Target,
        request: &Parts,
        body: &Upload,
    ) -> Result<(Response<Incoming>, Lease), Failure> {
        let result = self.send_and_retry(target, request, body).await;
        if result.is_err() {
            self.metrics.failures.fetch_add(1, Relaxed);
        }
        result
    }

    async fn send_and_retry(
        &self,
        target: &Target,
        request: &Parts,
        body: &Upload,
    ) -> Result<(Response<Incoming>, Lease), Failure> {
        let mut lease = self.pool.lease(target).await?;
        let mut upload = body.clone();
        loop {
            let reused = lease.is_reused();
            match self.exchange(&mut lease, request, upload).await {
                Ok(response) => return Ok((response, lease)),
                Err(lost) if reused && lost.may_retry(&request.method) => match body.again() {
                    Some(again) => upload = again,
                    None => return Err(lost.failure),
                },
                Err(lost) => return Err(lost.failure),
            }
            lease = self.pool.connect_instead(lease).await?;
        }
    }

    /// Sends one request on one connection and waits for the head of the answer.
    async fn exchange(&self, lease: &mut Lease, request: &Parts, body: Upload) -> Result<Response<Incoming>, Lost> {
        self.metrics.requests.fetch_add(1, Relaxed);
        let upload = body.clone();
        let mut answer = pin!(lease.send(self.outgoing(request, body)));
        loop {
            let sent = upload.progress();
            match timeout(self.settings.response_timeout, &mut answer).await {
                // The clock runs while nothing is sent: a long upload is not a slow origin.
                Err(_) if upload.progress() != sent => {}
                Err(_) => return Err(Lost { failure: Failure::new(Kind::TimedOut), unsent: false }),
                Ok(Ok(response)) => return usable(response),
                Ok(Err(mut error)) => {
                    let unsent = error.take_message().is_some();
                    return Err(Lost { failure: Failure::from_hyper(error.into_error()), unsent });
                }
            }
        }
    }

    fn outgoing(&self, request: &Parts, body: Upload) -> Request<Upload> {
        let mut outgoing = Request::new(body);
        *outgoing.method_mut() = request.method.clone();
        *outgoing.uri_mut() = rewrite::target(&request.uri);
        *outgoing.headers_mut() = rewrite::headers(request, self.signature());
        let metrics = Arc::clone(&self.metrics);
        hyper::ext::on_informational(&mut outgoing, move |response| {
            if response.status() != StatusCode::CONTINUE {
                metrics.informational_dropped.fetch_add(1, Relaxed);
            }
        });
        outgoing
    }

    /// `Grip-Sig` for a request sent now.
    fn signature(&self) -> Option<hyper::header::HeaderValue> {
        let signer = self.settings.signer.as_ref()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let mut kept = self.signature.borrow_mut();
        if kept.0 != now {
            *kept = (now, signer.sign(now).try_into().ok());
        }
        kept.1.clone()
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Refuses an answer that cannot be forwarded: one in another protocol, which nobody asked for, or in a coding that is
/// for this connection only and was not undone.
fn usable(response: Response<Incoming>) -> Result<Response<Incoming>, Lost> {
    let why = if response.status().is_informational() {
        "it changes the protocol"
    } else if !is_plainly_framed(response.headers()) {
        "its Transfer-Encoding is not just 'chunked'"
    } else {
        return Ok(response);
    };
    Err(Lost { failure: Failure::because(Kind::Unusable, why), unsent: false })
}

/// A request that got no answer.
struct Lost {
    failure: Failure,
    /// The origin has not seen a byte of it.
    unsent: bool,
}

impl Lost {
    fn may_retry(&self, method: &Method) -> bool {
        self.unsent || (self.failure.kind == Kind::Broken && method.is_idempotent())
    }
}
