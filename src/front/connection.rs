//! The life of one client's connection: hyper serves it, a hold parks it, and hyper may serve it again. A session
//! is always the last phase.

use super::connection_slot::{ClientAddress, ConnectionSlot, LeaveReason};
use super::gate::GatePermit;
use super::head_timer::{HeadTimer, ReachedLimit};
use super::idle::IdleEntry;
use super::io::Io;
use super::response_body::ResponseBody;
use super::{Front, Settings, request, unreadable};
use crate::hold::{AfterHold, HoldFuture, ServedAgain};
use crate::net::{ClientDelay, Transport};
use crate::session::SessionFuture;
use bytes::Bytes;
use hyper::Request;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1::{Builder, Connection};
use hyper::service::HttpService;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Poll, ready};
use tokio::time::timeout;

/// The largest head of a request, in bytes.
const MAX_HEAD: usize = 64 << 10;
/// The largest number of headers in a request.
const MAX_HEADERS: usize = 128;

/// A future in which hyper serves a connection. It returns the connection if that leaves hyper for a hold or a session,
/// or `None` if the connection has ended.
type ServingFuture<'a> = Pin<Box<dyn Future<Output = Option<ConnectionToHold>> + 'a>>;

/// The reason why a connection leaves hyper, its transport, and the bytes that the client sent after its request.
type ConnectionToHold = (LeaveReason, Transport, Bytes);

/// Serves a connection to its end.
///
/// Each phase is boxed, and dropped before the next one begins. A parked connection therefore keeps nothing of
/// hyper, and its task is little larger than a pointer.
pub(super) async fn run(front: &Rc<Front>, first: ServingFuture<'_>) {
    let mut serving = first;
    loop {
        let after = match serving.await.map(|held| next_phase(front, held)) {
            Some(ConnectionPhase::Hold(waiting)) => waiting.await,
            Some(ConnectionPhase::Session(living)) => return living.await,
            None => return,
        };
        let Some(after) = after else { return };
        serving = match after {
            AfterHold::Next(transport, early) => {
                Box::pin(serve(front, transport, early, front.idle.enter(), None, None))
            }
            AfterHold::Again(transport, early, retry) => {
                Box::pin(serve(front, transport, early, front.idle.enter(), None, Some(retry)))
            }
        };
    }
}

/// The state of a connection that has left hyper.
enum ConnectionPhase<'a> {
    Hold(HoldFuture<'a>),
    Session(SessionFuture<'a>),
}

/// Begins the hold or the session for which a connection has left hyper.
fn next_phase(front: &Front, (leave, transport, early): ConnectionToHold) -> ConnectionPhase<'_> {
    match leave {
        LeaveReason::Hold(leave) => ConnectionPhase::Hold(front.holds.park(leave, transport, early)),
        LeaveReason::Session(opening) => ConnectionPhase::Session(front.sessions.begin(opening, transport, early)),
    }
}

/// Serves a new connection as soon as its client has sent something, or a drain begins, and the gate lets the
/// connection in. A connection on which nothing arrives within `header_timeout` is closed.
pub(super) async fn first(front: Rc<Front>, transport: Transport, listed: IdleEntry) -> Option<ConnectionToHold> {
    let header_timeout = front.settings.borrow().header_timeout;
    tokio::select! {
        begun = timeout(header_timeout, transport.wait_for_first_byte()) => {
            if !begun.is_ok_and(|begun| begun) {
                return None;
            }
        }
        () = front.drain.begins() => {}
        () = poll_fn(|cx| listed.activity().poll_must_close(cx)) => return None,
    }
    let busy = listed.occupy();
    let place = front.gate.enter().await;
    drop(busy);
    Box::pin(serve(&front, transport, Bytes::new(), listed, Some(place), None)).await
}

/// Lets hyper serve requests. Returns the connection if it leaves hyper for a hold or a session. `retry` is present if
/// the first request is being served again after a hold.
async fn serve(
    front: &Rc<Front>,
    transport: Transport,
    early: Bytes,
    listed: IdleEntry,
    place: Option<GatePermit>,
    retry: Option<Box<ServedAgain>>,
) -> Option<ConnectionToHold> {
    let peer = transport.peer().and_then(|peer| ClientAddress::new(peer.address()));
    let waiting = Rc::<ClientDelay>::default();
    let activity = Rc::clone(listed.activity());
    let slot = Rc::new(ConnectionSlot::new(place, retry, peer, Rc::clone(&waiting), listed));
    let Settings { answer_pace, header_timeout, idle_timeout, .. } = *front.settings.borrow();
    let io = Io::new(transport, early, answer_pace, waiting, Rc::clone(&activity));
    let mut timer = HeadTimer::new(header_timeout, idle_timeout);
    let service = service_fn(|request: Request<Incoming>| {
        activity.begin();
        if !request.body().is_end_stream() {
            activity.note_body();
        }
        request::serve(Rc::clone(front), Rc::clone(&slot), request)
    });
    // A request that is served again may be a little longer than the one that the client sent, because it may have the
    // headers `Content-Length` and `Connection` in place of `Transfer-Encoding`: see `replay`.
    let more = if slot.is_again() { 1 } else { 0 };
    let mut connection = Box::new(builder(more).serve_connection(TokioIo::new(io), service));
    let mut drain = pin!(front.drain.begins());
    let (mut draining, mut ended) = (false, Ok(()));
    let left = poll_fn(|cx| {
        // hyper is polled before the drain, so that a request that has already arrived is still served.
        let mut result = Pin::new(&mut *connection).poll(cx);
        if result.is_pending() && !draining && drain.as_mut().poll(cx).is_ready() {
            draining = true;
            Pin::new(&mut *connection).graceful_shutdown();
            result = Pin::new(&mut *connection).poll(cx);
            if slot.has_no_request() && result.is_pending() {
                // A head that is incomplete does not count as a request in progress.
                return Poll::Ready(false);
            }
        }
        // A client that has not sent a complete head must not keep other connections waiting at the gate.
        if slot.has_no_request() {
            slot.give_way(&front.gate);
        }
        if activity.poll_must_close(cx).is_ready() && result.is_pending() && activity.is_clean() {
            return Poll::Ready(false);
        }
        // The result is checked before the slot, because a connection that has ended cannot be held.
        match result {
            Poll::Ready(result) => {
                ended = result;
                Poll::Ready(false)
            }
            Poll::Pending if slot.is_full() && activity.is_clean() => Poll::Ready(true),
            Poll::Pending => {
                let overdue = ready!(timer.poll(cx, &activity));
                if overdue == ReachedLimit::Head {
                    unreadable::note_slow(front, slot.peer.as_deref());
                }
                Poll::Ready(false)
            }
        }
    });
    let left = left.await;
    slot.give_way(&front.gate);
    if !left {
        if let Err(error) = ended {
            log_end(front, &slot, &error, *connection);
        }
        return None;
    }
    let word = slot.take()?;
    let (transport, early) = leave(*connection);
    Some((word, transport, early))
}

/// Returns hyper's settings. They allow `more` KiB of head and `more` pairs of headers beyond the limits for
/// clients.
fn builder(more: usize) -> Builder {
    let mut builder = Builder::new();
    builder
        // hyper's own timer has one limit for both heads and idle connections, so `HeadTimer` is used instead.
        .header_read_timeout(None)
        .max_header_size(MAX_HEAD + more * 1024)
        .max_headers(MAX_HEADERS + more * 2);
    builder
}

/// Takes the transport back from hyper, with the bytes that were read beyond the request.
fn leave<S>(connection: Connection<TokioIo<Io>, S>) -> (Transport, Bytes)
where
    S: HttpService<Incoming, ResBody = ResponseBody, Error = Infallible>,
{
    let parts = connection.into_parts();
    let (transport, unread) = parts.io.into_inner().into_parts();
    if unread.is_empty() {
        return (transport, parts.read_buf);
    }
    (transport, Bytes::from([parts.read_buf, unread].concat()))
}

/// Counts and logs the error with which a connection has ended while hyper served it.
fn log_end<S>(front: &Front, slot: &ConnectionSlot, error: &hyper::Error, connection: Connection<TokioIo<Io>, S>)
where
    S: HttpService<Incoming, ResBody = ResponseBody, Error = Infallible>,
{
    let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    if cause.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut && error.get_ref().is_some()) {
        front.metrics.slow_readers.inc();
    }
    if error.is_parse() {
        return unreadable::note(front, slot.peer.as_deref(), error, &leave(connection).1);
    }
    tracing::debug!(%error, "a client connection ended with an error");
}
