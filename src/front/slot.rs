//! The things that the requests of a connection share with its loop.

use super::Gate;
use super::gate::Place;
use super::idle::Listed;
use crate::hold::{self, FinalAnswer, Retry};
use crate::net::ClientDelay;
use crate::session::Opening;
use hyper::header::HeaderValue;
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Why a connection leaves hyper.
pub(super) enum Leave {
    /// It is held, or ends as one that was.
    Hold(hold::Leave),
    /// It is a WebSocket from now on.
    Session(Box<Opening>),
}

/// An address that a connection comes from.
#[derive(Debug)]
pub(super) struct ClientAddress {
    pub(super) address: IpAddr,
    /// The same as text: most requests tell it to their origin and to the log.
    pub(super) text: HeaderValue,
}

impl ClientAddress {
    /// Returns the peer with an address, which may be an IPv4 address as IPv6 writes it.
    pub(super) fn new(address: IpAddr) -> Option<Rc<Self>> {
        let address = address.to_canonical();
        HeaderValue::try_from(address.to_string()).ok().map(|text| Rc::new(Self { address, text }))
    }
}

/// Where a request leaves word for the loop of its connection.
pub(super) struct Slot {
    leave: RefCell<Option<Leave>>,
    /// The reason why the first request is served again, if it is.
    retry: Cell<Option<Box<Retry>>>,
    /// The connection while its request is served again, and what it is answered if a close meets it.
    final_answer: RefCell<Option<Box<FinalAnswer>>>,
    /// The address that the connection comes from, if it has one.
    pub(super) peer: Option<Rc<ClientAddress>>,
    /// Tells since when gripd waits for the client.
    pub(super) waiting: Rc<ClientDelay>,
    /// The connection in the list of those that could be spared.
    pub(super) listed: Listed,
    /// The connection's place in the gate, until its first request is answered.
    place: Cell<Option<Place>>,
    /// Whether a request has begun.
    asked: Cell<bool>,
}

impl Slot {
    /// Returns an empty slot for a connection that has a place, or has given it up.
    pub(super) fn new(
        place: Option<Place>,
        retry: Option<Box<Retry>>,
        peer: Option<Rc<ClientAddress>>,
        waiting: Rc<ClientDelay>,
        listed: Listed,
    ) -> Self {
        Self {
            leave: RefCell::default(),
            retry: Cell::new(retry),
            final_answer: RefCell::default(),
            peer,
            waiting,
            listed,
            place: Cell::new(place),
            asked: Cell::new(false),
        }
    }

    /// Takes the reason why this request is served again, if it is the first and there is one.
    pub(super) fn take_retry(&self) -> Option<Box<Retry>> {
        self.retry.take()
    }

    /// Returns whether its first request was served before.
    pub(super) fn is_again(&self) -> bool {
        let retry = self.retry.take();
        let again = retry.is_some();
        self.retry.set(retry);
        again
    }

    /// Keeps the connection as it is while its request is served again.
    pub(super) fn keep(&self, final_answer: Option<Box<FinalAnswer>>) {
        *self.final_answer.borrow_mut() = final_answer;
    }

    /// Lets go of that: the request has its answer.
    pub(super) fn forget(&self) {
        if let Some(final_answer) = self.final_answer.borrow().as_deref() {
            final_answer.away.note_answer();
        }
        drop(self.final_answer.take());
    }

    /// Returns ready when a close has met it. Then the slot says that the connection is to end.
    pub(super) fn poll_closed(&self, cx: &Context<'_>) -> Poll<()> {
        let mut final_answer = self.final_answer.borrow_mut();
        let Some(FinalAnswer { away, .. }) = final_answer.as_deref() else { return Poll::Pending };
        ready!(away.poll_closed(cx));
        *self.leave.borrow_mut() = final_answer.take().map(|final_answer| Leave::Hold(hold::Leave::End(final_answer)));
        Poll::Ready(())
    }

    /// Leaves word that the connection is to leave. The request then stays pending, and is dropped when the
    /// connection leaves hyper.
    pub(super) fn put(&self, leave: Leave) {
        *self.leave.borrow_mut() = Some(leave);
    }

    /// Gives the connection's place to another: a request is answered, or the connection is over.
    pub(super) fn give_way(&self, gate: &Gate) {
        if let Some(place) = self.place.take() {
            gate.leave(&place);
        }
    }

    /// Says that a request has begun.
    pub(super) fn ask(&self) {
        self.asked.set(true);
    }

    /// Returns whether no request has begun.
    pub(super) fn is_unasked(&self) -> bool {
        !self.asked.get()
    }

    pub(super) fn is_full(&self) -> bool {
        self.leave.borrow().is_some()
    }

    /// Takes the word that was left. A connection that was held before is handed over with it.
    pub(super) fn take(&self) -> Option<Leave> {
        let mut leave = self.leave.take()?;
        let final_answer = self.final_answer.take();
        match (&mut leave, final_answer) {
            // Closed at the last moment.
            (Leave::Hold(hold::Leave::Hold(_)), Some(final_answer)) if final_answer.away.is_closed() => {
                leave = Leave::Hold(hold::Leave::End(final_answer));
            }
            (Leave::Hold(hold::Leave::Hold(hold)), Some(final_answer)) => hold.away = Some(final_answer.away),
            _ => {}
        }
        Some(leave)
    }
}
