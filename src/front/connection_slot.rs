//! The slot: the state that the requests of a connection share with the loop that serves the connection.

use super::Gate;
use super::gate::GatePermit;
use super::idle::IdleEntry;
use crate::hold::{self, FinalAnswer, ServedAgain};
use crate::net::ClientDelay;
use crate::session::AcceptedSocket;
use hyper::header::HeaderValue;
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// The reason why a connection leaves hyper.
pub(super) enum LeaveReason {
    /// The connection is to be held, or must end because a close or a drain has reached it while its request was served
    /// again.
    Hold(hold::LeavingConnection),
    /// The connection becomes a session.
    Session(Box<AcceptedSocket>),
}

/// The address that a connection comes from, or that of the client for which a trusted proxy has connected.
#[derive(Debug)]
pub(super) struct ClientAddress {
    pub(super) address: IpAddr,
    /// The address as text, which most requests pass on to their origin and to the log.
    pub(super) text: HeaderValue,
}

impl ClientAddress {
    /// Returns an address in its canonical form: an IPv4 address that is mapped to IPv6 becomes an IPv4 address
    /// again.
    pub(super) fn new(address: IpAddr) -> Option<Rc<Self>> {
        let address = address.to_canonical();
        HeaderValue::try_from(address.to_string()).ok().map(|text| Rc::new(Self { address, text }))
    }
}

/// The state that the requests of a connection share with the loop of the connection. A request puts the reason to
/// leave hyper here, and the loop takes it.
pub(super) struct ConnectionSlot {
    leave: RefCell<Option<LeaveReason>>,
    /// The state of the first request, if that request is served again after a hold.
    retry: Cell<Option<Box<ServedAgain>>>,
    /// The connection as its shard knows it while its request is served again, and the response to send if a close or
    /// a drain ends it.
    final_answer: RefCell<Option<Box<FinalAnswer>>>,
    /// The address that the connection comes from, if it has one.
    pub(super) peer: Option<Rc<ClientAddress>>,
    /// The time that gripd has waited for the client during the request.
    pub(super) waiting: Rc<ClientDelay>,
    /// The entry of the connection in the list of idle connections.
    pub(super) listed: IdleEntry,
    /// The permit with which the gate has let the connection in, until it is given back: see
    /// [`ConnectionSlot::give_way`].
    place: Cell<Option<GatePermit>>,
    /// Whether a request has begun.
    asked: Cell<bool>,
}

impl ConnectionSlot {
    /// Returns an empty slot. `place` is `None` for a connection that has left the gate already, and `retry` is
    /// present if its first request is served again.
    pub(super) fn new(
        place: Option<GatePermit>,
        retry: Option<Box<ServedAgain>>,
        peer: Option<Rc<ClientAddress>>,
        waiting: Rc<ClientDelay>,
        listed: IdleEntry,
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

    /// Takes the state of a request that is served again after a hold. Returns `None` for any later request.
    pub(super) fn take_retry(&self) -> Option<Box<ServedAgain>> {
        self.retry.take()
    }

    /// Returns whether the first request of the connection is served again and has not begun.
    pub(super) fn is_again(&self) -> bool {
        let retry = self.retry.take();
        let again = retry.is_some();
        self.retry.set(retry);
        again
    }

    /// Keeps the response to send if a close or a drain ends the connection while its request is served again.
    pub(super) fn keep_final_answer(&self, final_answer: Option<Box<FinalAnswer>>) {
        *self.final_answer.borrow_mut() = final_answer;
    }

    /// Drops the response that was kept in case a close ends the connection, because the request has been answered.
    /// The shard learns that the answer was not a hold.
    pub(super) fn drop_final_answer(&self) {
        if let Some(final_answer) = self.final_answer.borrow().as_deref() {
            final_answer.away.note_answer();
        }
        drop(self.final_answer.take());
    }

    /// Returns `Poll::Ready` if a close or a drain has reached the connection while its request was served again. The
    /// slot then says that the connection must end.
    pub(super) fn poll_closed(&self, cx: &Context<'_>) -> Poll<()> {
        let mut final_answer = self.final_answer.borrow_mut();
        let Some(FinalAnswer { away, .. }) = final_answer.as_deref() else { return Poll::Pending };
        ready!(away.poll_closed(cx));
        *self.leave.borrow_mut() =
            final_answer.take().map(|final_answer| LeaveReason::Hold(hold::LeavingConnection::End(final_answer)));
        Poll::Ready(())
    }

    /// Puts the reason to leave hyper into the slot. The request must stay pending, and is dropped when the
    /// connection leaves hyper.
    pub(super) fn put(&self, leave: LeaveReason) {
        *self.leave.borrow_mut() = Some(leave);
    }

    /// Lets another connection through the gate, if this one still counts there. This is called when a request has
    /// been answered, when the connection has ended or has left hyper, or when its client has not sent a complete head
    /// at once.
    pub(super) fn give_way(&self, gate: &Gate) {
        if let Some(place) = self.place.take() {
            gate.leave(&place);
        }
    }

    /// Notes that a request has begun.
    pub(super) fn ask(&self) {
        self.asked.set(true);
    }

    /// Returns whether no request has begun.
    pub(super) fn has_no_request(&self) -> bool {
        !self.asked.get()
    }

    pub(super) fn is_full(&self) -> bool {
        self.leave.borrow().is_some()
    }

    /// Takes the reason to leave hyper, if there is one. If the connection was held before, its entry in the shard
    /// is handed over with the reason.
    pub(super) fn take(&self) -> Option<LeaveReason> {
        let mut leave = self.leave.take()?;
        let final_answer = self.final_answer.take();
        match (&mut leave, final_answer) {
            // A close or a drain has reached the connection after its request was answered with another hold.
            (LeaveReason::Hold(hold::LeavingConnection::Hold(_)), Some(final_answer))
                if final_answer.away.is_closed() =>
            {
                leave = LeaveReason::Hold(hold::LeavingConnection::End(final_answer));
            }
            (LeaveReason::Hold(hold::LeavingConnection::Hold(hold)), Some(final_answer)) => {
                hold.away = Some(final_answer.away)
            }
            _ => {}
        }
        Some(leave)
    }
}
