//! What the requests of a connection and its loop share.

use super::Gate;
use super::gate::Place;
use crate::hold::{Hold, Retry};
use crate::shard::Away;
use std::cell::{Cell, RefCell};
use std::net::IpAddr;

/// Where a request leaves word for the loop of its connection.
pub(super) struct Slot {
    hold: RefCell<Option<Box<Hold>>>,
    /// What makes the first request be served again.
    retry: Cell<Option<Box<Retry>>>,
    /// A connection that a close met while its request was served again: closed when hyper is done with it.
    away: Cell<Option<Away>>,
    /// The client's address, if it has one.
    pub(super) address: Option<IpAddr>,
    /// The connection's place in the gate, until its first request is answered.
    place: Cell<Option<Place>>,
    /// Whether a request has begun.
    asked: Cell<bool>,
}

impl Slot {
    /// An empty slot for a connection that has a place, or has given it up.
    pub(super) fn new(place: Option<Place>, retry: Option<Box<Retry>>, address: Option<IpAddr>) -> Self {
        let (hold, retry) = (RefCell::default(), Cell::new(retry));
        Self { hold, retry, away: Cell::default(), address, place: Cell::new(place), asked: Cell::new(false) }
    }

    /// What makes this request be served again, if it is the first and anything does.
    pub(super) fn take_retry(&self) -> Option<Box<Retry>> {
        self.retry.take()
    }

    /// Whether its first request was served before.
    pub(super) fn is_again(&self) -> bool {
        let retry = self.retry.take();
        let again = retry.is_some();
        self.retry.set(retry);
        again
    }

    /// Keeps a connection until hyper is done with it.
    pub(super) fn keep(&self, away: Away) {
        self.away.set(Some(away));
    }

    /// Leaves word that the connection is to be held. The request then stays pending, and is dropped when the
    /// connection leaves hyper.
    pub(super) fn put(&self, hold: Box<Hold>) {
        *self.hold.borrow_mut() = Some(hold);
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

    /// Whether no request has begun.
    pub(super) fn is_unasked(&self) -> bool {
        !self.asked.get()
    }

    pub(super) fn is_full(&self) -> bool {
        self.hold.borrow().is_some()
    }

    pub(super) fn take(&self) -> Option<Box<Hold>> {
        self.hold.borrow_mut().take()
    }
}
