//! The serving of connections to the control API, and to the address for health probes.

use super::connection_places::{ConnectionPlaces, PlaceGuard};
use super::error::ApiError;
use super::reply::ApiReply;
use super::{ControlApi, guard};
use crate::net::{Acceptor, Listener, Peer, Transport, accept};
use crate::telemetry::{Hint, RateLimitedLine};
use crate::wire::ForeignProtocol;
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper::{Method, Request};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

/// How long a client may take to send the head of a request, and how long a connection may be idle between two
/// requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection may be idle on which no request was authorized yet. It is longer than the usual interval of
/// probes that reuse their connection.
const UNPROVEN_TIMEOUT: Duration = Duration::from_secs(15);
/// The number of concurrent connections to a listener of the whole control API.
const MAX_CONNECTIONS: usize = 1024;
/// The number of these connections that may be unproven, which means that no request on them was authorized yet.
const MOST_UNPROVEN: usize = 256;
/// The number of concurrent connections to a listener for health probes.
const MOST_PROBES: usize = 64;

/// The requests that a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerPurpose {
    /// All requests of the control API.
    Everything,
    /// `/healthz` and `/readyz`, for probes that cannot reach the control API.
    Health,
}

/// The acceptor of connections to one listener of the control API.
struct ControlAcceptor {
    control: Arc<ControlApi>,
    places: Arc<ConnectionPlaces>,
    purpose: ListenerPurpose,
}

impl Acceptor for ControlAcceptor {
    async fn admit(&self, transport: Transport) {
        let Self { control, places, purpose } = self;
        // A connection without a peer has ended already.
        let Some(peer) = transport.peer() else { return };
        if !control.descriptors.has_room_for_control() {
            places.spare_one();
        }
        let Some(place) = places.enter() else {
            control.metrics.connections_refused.inc();
            return tracing::debug!(
                remote = %peer,
                "a connection to the control API was refused: the limit of connections is reached and all of them \
                 are busy"
            );
        };
        tokio::spawn(Arc::clone(control).connection(transport, peer, place, *purpose));
        // The task of the connection runs now. If its request has arrived, the connection becomes busy and cannot be
        // closed in favor of the next one.
        yield_now().await;
    }

    fn make_room(&self, error: &io::Error) {
        static LINE: RateLimitedLine = RateLimitedLine::new();
        // An idle connection is closed, so that its descriptor is free for the next connection.
        self.places.spare_one();
        LINE.log(|left_out| tracing::error!(%error, left_out, "cannot accept connections to the control API"));
    }
}

impl ControlApi {
    /// Serves `listener` forever.
    pub async fn serve(self: Arc<Self>, listener: Listener, purpose: ListenerPurpose) {
        // A process with a low limit of open files gets fewer places.
        let bounded =
            |most: usize, share: u64| most.min(usize::try_from(self.descriptors.limit() / share).unwrap_or(most));
        let places = match purpose {
            ListenerPurpose::Everything => {
                ConnectionPlaces::new(bounded(MAX_CONNECTIONS, 2), bounded(MOST_UNPROVEN, 8))
            }
            ListenerPurpose::Health => ConnectionPlaces::new(bounded(MOST_PROBES, 16), bounded(MOST_PROBES, 16)),
        };
        let acceptor = ControlAcceptor { control: self, places, purpose };
        accept(&listener, &acceptor, pending()).await;
    }

    async fn connection(
        self: Arc<Self>,
        transport: Transport,
        caller: Peer,
        place: PlaceGuard,
        purpose: ListenerPurpose,
    ) {
        let _counted = self.descriptors.control();
        let place = &place;
        let control = &self;
        let service = service_fn(move |request: Request<Incoming>| async move {
            place.mark_busy();
            let reply = match purpose {
                ListenerPurpose::Everything => control.answer(caller, place, request).await,
                ListenerPurpose::Health => {
                    place.mark_authorized();
                    control.answer_probe(&request)
                }
            };
            place.mark_idle();
            Ok::<_, Infallible>(reply.into_response())
        });
        let mut builder = Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
        let mut serving = builder.serve_connection(TokioIo::new(transport), service);
        loop {
            tokio::select! {
                served = &mut serving => {
                    match served {
                        Err(error) if error.is_parse() => {
                            self.metrics.malformed.inc();
                            tracing::info!(
                                remote = %caller,
                                %error,
                                "a control request was refused: it could not be parsed"
                            );
                            hint(caller, &serving.into_parts().read_buf);
                        }
                        Err(error) => tracing::debug!(%error, "a connection to the control API ended with an error"),
                        Ok(()) => {}
                    }
                    return;
                }
                () = place.has_to_give_way() => {
                    // A request that arrived at the same moment is still answered.
                    if place.is_idle() {
                        self.metrics.gave_way.inc();
                        tracing::debug!(
                            remote = %caller,
                            "an idle control connection was closed to make room for a new one"
                        );
                        return;
                    }
                }
                () = unproven_for_too_long(place) => {
                    tracing::debug!(
                        remote = %caller,
                        "an idle control connection was closed: it had not authenticated"
                    );
                    return;
                }
            }
        }
    }

    /// Returns the reply to a request on a listener for health probes.
    fn answer_probe(&self, request: &Request<Incoming>) -> ApiReply {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return ApiReply::not_allowed(request.method(), "GET, HEAD");
        }
        guard::health_of(request.uri().path())
            .map_or_else(|| ApiError::no_such_place().into(), |health| self.health(health))
    }

    /// Delays the refusal of a token that may be a guess.
    pub(super) async fn slow_down(&self, caller: Peer) {
        // Callers over the Unix socket are not delayed. They usually need no token, and have no addresses that could
        // tell them apart.
        let Peer::Tcp { remote, .. } = caller else { return };
        let delay = self.guesses.delay(remote.ip().to_canonical(), Instant::now());
        if !delay.is_zero() {
            sleep(delay).await;
        }
    }
}

/// Gives a hint if a caller speaks another protocol that can be recognized. `begin` is the beginning of what it has
/// sent.
fn hint(caller: Peer, begin: &[u8]) {
    match ForeignProtocol::of(begin) {
        Some(ForeignProtocol::ZeroMq) => Hint::ZeroMqToControl.log(None, || {
            format!(
                "Somebody at {caller} speaks ZeroMQ to the control port, where gripd speaks HTTP. gripd has no ZeroMQ \
                 sockets: publish by HTTP instead, as GRIP libraries do with an http:// URL."
            )
        }),
        Some(ForeignProtocol::Tls) => Hint::TlsToControl.log(None, || {
            format!(
                "Somebody at {caller} speaks TLS to the control port, where gripd speaks HTTP without TLS. Write http:// \
                 instead of https:// in GRIP_URL, or put a proxy with TLS in front of the control port."
            )
        }),
        None => {}
    }
}

/// Waits until a connection has been idle for [`UNPROVEN_TIMEOUT`] without an authorized request.
async fn unproven_for_too_long(place: &PlaceGuard) {
    loop {
        let left = UNPROVEN_TIMEOUT.saturating_sub(place.idle_for());
        if left.is_zero() && place.is_idle() && !place.has_proof() {
            return;
        }
        // The connection may be busy now and become idle without having been authorized, so it is looked at again.
        sleep(if left.is_zero() { UNPROVEN_TIMEOUT } else { left }).await;
    }
}
