//! The state of a client's connection while hyper serves it, as far as others must know it.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::Instant;

/// How long a new connection may take to ask for something before it counts as idle.
const WELCOME: Duration = Duration::from_secs(2);

/// The state of a connection that hyper serves, or will.
#[derive(Debug)]
pub(super) struct Activity {
    /// When it became idle, by the clock of all connections; 0: a request is in progress.
    since: Cell<u64>,
    /// When it became idle and everything was sent, by the clock of the machine.
    idle_since: Cell<Instant>,
    came: Instant,
    /// Whether at least one request on the connection has been answered.
    is_answered: Cell<bool>,
    /// Whether hyper has nothing unsent.
    is_clean: Cell<bool>,
    /// Whether the client has sent something since the last request was answered.
    is_heard: Cell<bool>,
    /// Whether a request has begun since everything was sent.
    is_owed: Cell<bool>,
    /// Whether one of its requests had a body.
    has_carried_body: Cell<bool>,
    /// Whether the connection is to make room for another.
    leaves: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Activity {
    /// Returns a connection that is new, and idle since this time by the clock of all.
    pub(super) fn new(since: u64) -> Self {
        let now = Instant::now();
        Self {
            since: Cell::new(since),
            idle_since: Cell::new(now),
            came: now,
            is_answered: Cell::new(false),
            is_clean: Cell::new(true),
            is_heard: Cell::new(false),
            is_owed: Cell::new(false),
            has_carried_body: Cell::new(false),
            leaves: Cell::new(false),
            waker: RefCell::default(),
        }
    }

    /// Notes that hyper has read the head of a request. It must be noted before hyper reads on: what follows may be a body.
    pub(super) fn begin(&self) {
        self.occupy();
        self.is_owed.set(true);
    }

    /// Notes that the request has a body.
    pub(super) fn note_body(&self) {
        self.has_carried_body.set(true);
    }

    /// Notes that the connection is not idle, although nothing is known of a request yet.
    pub(super) fn occupy(&self) {
        self.since.set(0);
        self.leaves.set(false);
    }

    /// Notes that the request is answered, at this time by the clock of all.
    pub(super) fn end(&self, since: u64) {
        self.since.set(since);
        self.idle_since.set(Instant::now());
        self.is_answered.set(true);
        self.is_heard.set(false);
    }

    /// Returns whether one of its requests had a body.
    pub(super) const fn has_carried_body(&self) -> bool {
        self.has_carried_body.get()
    }

    /// Notes that the client has sent something.
    pub(super) fn hear(&self) {
        self.is_heard.set(true);
    }

    /// Notes that something is about to be written.
    pub(super) fn write(&self) {
        self.is_clean.set(false);
    }

    /// Notes that all was written.
    pub(super) fn flush(&self) {
        if !self.is_clean.replace(true) {
            self.idle_since.set(Instant::now());
        }
        if !self.is_busy() {
            self.is_owed.set(false);
        }
    }

    /// Returns whether a request is in progress.
    pub(super) const fn is_busy(&self) -> bool {
        self.since.get() == 0
    }

    /// Returns when it became idle, by the clock of all connections.
    pub(super) const fn since(&self) -> u64 {
        self.since.get()
    }

    /// Returns when it became idle, and everything was sent.
    pub(super) const fn idle_since(&self) -> Instant {
        self.idle_since.get()
    }

    /// Returns whether hyper has nothing unsent.
    pub(super) const fn is_clean(&self) -> bool {
        self.is_clean.get()
    }

    /// Returns whether nothing is done for the client, nor sent to it.
    pub(super) const fn is_idle(&self) -> bool {
        !self.is_busy() && self.is_clean()
    }

    /// Returns whether the client has begun to send a head, which hyper has not read whole.
    pub(super) const fn has_begun_head(&self) -> bool {
        self.is_heard.get() && self.is_idle()
    }

    /// Returns whether the bytes that hyper writes may answer a request. Otherwise hyper refuses, by itself, a request that
    /// it cannot read.
    pub(super) const fn is_owed(&self) -> bool {
        self.is_owed.get()
    }

    /// Returns whether it is idle, has nothing unsent, and was there for long enough to ask for something.
    pub(super) fn can_be_spared(&self) -> bool {
        self.is_idle() && !self.leaves.get() && (self.is_answered.get() || self.came.elapsed() >= WELCOME)
    }

    /// Tells the connection to leave.
    pub(super) fn leave(&self) {
        self.leaves.set(true);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Returns ready when the connection is to leave.
    pub(super) fn poll_leave(&self, cx: &Context<'_>) -> Poll<()> {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        if self.leaves.get() { Poll::Ready(()) } else { Poll::Pending }
    }
}
