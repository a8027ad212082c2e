//! One client's connection: hyper, then a hold, then hyper again.

use super::body::Reply;
use super::io::Io;
use super::{Front, request};
use crate::hold::Hold;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http1::{Builder, Connection};
use hyper::service::HttpService;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use tokio::net::TcpStream;

/// The largest head of a request.
const MAX_HEAD: usize = 64 << 10;
/// The most headers of a request.
const MAX_HEADERS: usize = 128;

/// Where a request leaves word that its connection is to be held.
#[derive(Debug, Default)]
pub(super) struct Slot(RefCell<Option<Box<Hold>>>);

impl Slot {
    /// Leaves word. The request then stays pending, and is dropped when the connection leaves hyper.
    pub(super) fn put(&self, hold: Box<Hold>) {
        *self.0.borrow_mut() = Some(hold);
    }

    fn is_full(&self) -> bool {
        self.0.borrow().is_some()
    }

    fn take(&self) -> Option<Box<Hold>> {
        self.0.borrow_mut().take()
    }
}

/// Serves a connection to its end.
pub(super) async fn run(front: &Rc<Front>, socket: TcpStream) {
    let mut next = Some((socket, Bytes::new()));
    while let Some((socket, early)) = next.take() {
        // Each phase is boxed and gone before the next begins: a parked connection keeps nothing of hyper.
        let Some((hold, socket, early)) = Box::pin(serve(front, socket, early)).await else { return };
        next = Box::pin(front.holds.park(*hold, socket, early)).await;
    }
}

/// Lets hyper serve requests. Returns the connection when one of them is held.
async fn serve(front: &Rc<Front>, socket: TcpStream, early: Bytes) -> Option<(Box<Hold>, TcpStream, Bytes)> {
    let slot = Rc::new(Slot::default());
    let (io, clean) = Io::new(socket, early);
    let service = service_fn(|request| request::serve(Rc::clone(front), Rc::clone(&slot), request));
    let mut connection = Box::new(builder(front).serve_connection(TokioIo::new(io), service));
    let mut drain = pin!(front.drain.begins());
    let mut draining = false;
    let left = poll_fn(|cx| {
        // A request that is there already is read before the drain could shut it out.
        let mut result = Pin::new(&mut *connection).poll(cx);
        if result.is_pending() && !draining && drain.as_mut().poll(cx).is_ready() {
            draining = true;
            Pin::new(&mut *connection).graceful_shutdown();
            result = Pin::new(&mut *connection).poll(cx);
        }
        // The result first, the slot second: a connection that is over cannot be held.
        match result {
            Poll::Ready(result) => {
                log_end(result);
                Poll::Ready(false)
            }
            Poll::Pending if slot.is_full() && clean.get() => Poll::Ready(true),
            Poll::Pending => Poll::Pending,
        }
    });
    if !left.await {
        return None;
    }
    let hold = slot.take()?;
    let (socket, early) = leave(*connection);
    Some((hold, socket, early))
}

fn builder(front: &Front) -> Builder {
    let mut builder = Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(front.settings.header_timeout)
        .max_header_size(MAX_HEAD)
        .max_headers(MAX_HEADERS);
    builder
}

/// Takes the socket back from hyper, with what was read beyond the request.
fn leave<S>(connection: Connection<TokioIo<Io>, S>) -> (TcpStream, Bytes)
where
    S: HttpService<Incoming, ResBody = Reply, Error = Infallible>,
{
    let parts = connection.into_parts();
    let (socket, unread) = parts.io.into_inner().into_parts();
    if unread.is_empty() {
        return (socket, parts.read_buf);
    }
    (socket, Bytes::from([parts.read_buf, unread].concat()))
}

/// What hyper refuses by itself is the client's doing, and worth a line for who looks for it.
fn log_end(result: hyper::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "client connection ended");
    }
}
