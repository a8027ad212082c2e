//! The state of a client's connection while hyper serves it. The connection's transport and timer and the list of
//! idle connections share it.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::Instant;

/// The time after which a new connection that has not been busy yet may be closed as idle.
const PROTECTED_FOR: Duration = Duration::from_secs(2);

/// The state of a connection that hyper serves, or will serve once the gate lets the connection in.
#[derive(Debug)]
pub(super) struct Activity {
    /// The time at which the connection became idle, by the clock of the list of idle connections, or 0 while the
    /// connection is busy: while a request is in progress, or while the connection waits at the gate.
    since: Cell<u64>,
    /// The time since which the connection has been idle with all of its bytes sent.
    idle_since: Cell<Instant>,
    came: Instant,
    /// Whether the connection was busy before: a request on it has been answered, or it has passed the gate.
    is_answered: Cell<bool>,
    /// Whether hyper has no unsent bytes.
    is_clean: Cell<bool>,
    /// Whether the client has sent something since the last request was answered.
    has_received: Cell<bool>,
    /// Whether a response may still be owed to the client. This is so from the beginning of a request until hyper next
    /// has written all of its bytes while no request is in progress.
    is_owed: Cell<bool>,
    /// Whether a request on this connection had a body.
    has_carried_body: Cell<bool>,
    /// Whether the connection must close to make room for another one.
    must_close: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Activity {
    /// Returns the state of a new connection, which has been idle since `since` by the clock of the list of idle
    /// connections.
    pub(super) fn new(since: u64) -> Self {
        let now = Instant::now();
        Self {
            since: Cell::new(since),
            idle_since: Cell::new(now),
            came: now,
            is_answered: Cell::new(false),
            is_clean: Cell::new(true),
            has_received: Cell::new(false),
            is_owed: Cell::new(false),
            has_carried_body: Cell::new(false),
            must_close: Cell::new(false),
            waker: RefCell::default(),
        }
    }

    /// Notes that hyper has read the head of a request. This must be called before hyper reads on, because the
    /// bytes that follow may be a body.
    pub(super) fn begin(&self) {
        self.occupy();
        self.is_owed.set(true);
    }

    /// Notes that a request on this connection has a body.
    pub(super) fn note_body(&self) {
        self.has_carried_body.set(true);
    }

    /// Notes that the connection is not idle, although no request may have begun yet. If the connection was told to
    /// close, it no longer must.
    pub(super) fn occupy(&self) {
        self.since.set(0);
        self.must_close.set(false);
    }

    /// Notes that the connection is idle since `since`, by the clock of the list of idle connections, because its
    /// request has been answered, or because the gate has let it in.
    pub(super) fn end(&self, since: u64) {
        self.since.set(since);
        self.idle_since.set(Instant::now());
        self.is_answered.set(true);
        self.has_received.set(false);
    }

    /// Returns whether a request on this connection had a body.
    pub(super) const fn has_carried_body(&self) -> bool {
        self.has_carried_body.get()
    }

    /// Notes that the client has sent something.
    pub(super) fn note_received(&self) {
        self.has_received.set(true);
    }

    /// Notes that hyper is about to write bytes.
    pub(super) fn write(&self) {
        self.is_clean.set(false);
    }

    /// Notes that hyper has written all of its bytes.
    pub(super) fn flush(&self) {
        if !self.is_clean.replace(true) {
            self.idle_since.set(Instant::now());
        }
        if !self.is_busy() {
            self.is_owed.set(false);
        }
    }

    /// Returns whether a request is in progress, or the connection waits at the gate.
    pub(super) const fn is_busy(&self) -> bool {
        self.since.get() == 0
    }

    /// Returns the time at which the connection became idle, by the clock of the list of idle connections, or 0
    /// while it is busy.
    pub(super) const fn since(&self) -> u64 {
        self.since.get()
    }

    /// Returns the time since which the connection has been idle with all of its bytes sent.
    pub(super) const fn idle_since(&self) -> Instant {
        self.idle_since.get()
    }

    /// Returns whether hyper has no unsent bytes.
    pub(super) const fn is_clean(&self) -> bool {
        self.is_clean.get()
    }

    /// Returns whether no request is in progress and no bytes wait to be sent.
    pub(super) const fn is_idle(&self) -> bool {
        !self.is_busy() && self.is_clean()
    }

    /// Returns whether the client has begun to send the head of a request that hyper has not read completely.
    pub(super) const fn has_begun_head(&self) -> bool {
        self.has_received.get() && self.is_idle()
    }

    /// Returns whether the bytes that hyper writes may be the response to a request. Otherwise they are hyper's own
    /// refusal of a request that it cannot parse.
    pub(super) const fn has_unsent_response(&self) -> bool {
        self.is_owed.get()
    }

    /// Returns whether the connection may be closed to make room: it is idle, has not been told to close, and was busy
    /// before or has existed for long enough to send a first request.
    pub(super) fn can_be_spared(&self) -> bool {
        self.is_idle() && !self.must_close.get() && (self.is_answered.get() || self.came.elapsed() >= PROTECTED_FOR)
    }

    /// Tells the connection to close, and wakes its task.
    pub(super) fn request_close(&self) {
        self.must_close.set(true);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Returns `Poll::Ready` if the connection must close. Otherwise, registers the current task to be woken when
    /// it must.
    pub(super) fn poll_must_close(&self, cx: &Context<'_>) -> Poll<()> {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        if self.must_close.get() { Poll::Ready(()) } else { Poll::Pending }
    }
}
