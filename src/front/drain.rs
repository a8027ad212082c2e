//! The end of a shard's connections: the signal that it has begun, and the number of connections that are still
//! open.

use std::cell::Cell;
use std::rc::Rc;
use tokio::sync::Notify;

/// The signal that a shard stops serving clients, and the number of its open connections. A drain that has begun is
/// never undone.
#[derive(Debug, Default)]
pub struct Drain {
    begun: Cell<bool>,
    begins: Notify,
    open: Cell<usize>,
    closed: Notify,
}

impl Drain {
    /// Begins the drain, and wakes all tasks that wait for that.
    pub fn begin(&self) {
        self.begun.set(true);
        self.begins.notify_waiters();
    }

    /// Waits until the drain begins. Returns at once if it has begun already.
    pub async fn begins(&self) {
        // The signal cannot be missed: nothing else runs on this thread between the check and the wait.
        if !self.begun.get() {
            self.begins.notified().await;
        }
    }

    /// Waits until no connection is open.
    pub async fn ended(&self) {
        while self.open.get() > 0 {
            self.closed.notified().await;
        }
    }

    /// Counts a connection as open until the guard is dropped.
    pub(super) fn enter(self: &Rc<Self>) -> OpenGuard {
        self.open.set(self.open.get() + 1);
        OpenGuard(Rc::clone(self))
    }
}

/// A guard that counts a connection as open, until it is dropped.
pub(super) struct OpenGuard(Rc<Drain>);

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        if self.0.open.get() == 0 {
            self.0.closed.notify_one();
        }
    }
}
