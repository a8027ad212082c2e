//! The end of a shard's connections: the sign that it has begun, and how many are still open.

use std::cell::Cell;
use std::rc::Rc;
use tokio::sync::Notify;

/// Begins once and stays. It also counts the open connections, whose end it waits for.
#[derive(Debug, Default)]
pub struct Drain {
    begun: Cell<bool>,
    begins: Notify,
    open: Cell<usize>,
    closed: Notify,
}

impl Drain {
    /// Tells everyone who waits.
    pub fn begin(&self) {
        self.begun.set(true);
        self.begins.notify_waiters();
    }

    /// Waits until it begins.
    pub async fn begins(&self) {
        // Nothing else runs on this thread between the look and the wait.
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
    pub(super) fn enter(self: &Rc<Self>) -> Open {
        self.open.set(self.open.get() + 1);
        Open(Rc::clone(self))
    }
}

/// An open connection.
pub(super) struct Open(Rc<Drain>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        if self.0.open.get() == 0 {
            self.0.closed.notify_one();
        }
    }
}
