//! The gate at which new connections wait while the first requests of many others are being served.
//!
//! A connection needs most of its memory while hyper serves it, and almost none before. When thousands of clients
//! connect at once, most of them therefore wait here. Slow clients do not keep others waiting: after [`ENTERED_FOR`],
//! a connection no longer counts, even if its request has not been answered.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep};

/// The number of connections of one shard whose first requests may be served at the same time. Further connections
/// wait.
const MAX_ENTERED: usize = 24;
/// How long a connection counts while others wait.
const ENTERED_FOR: Duration = Duration::from_millis(10);
/// How often the gate looks for connections that have counted for long enough, while others wait.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A gate that lets connections in, in the order in which they arrive.
#[derive(Debug)]
pub struct Gate {
    permits: Semaphore,
    /// The connections that were let in, oldest first: the time of entry, and whether the connection still counts.
    entered: RefCell<VecDeque<(Instant, Rc<Cell<bool>>)>>,
    /// The signal that a connection has to wait.
    crowded: Notify,
}

impl Default for Gate {
    fn default() -> Self {
        Self { permits: Semaphore::new(MAX_ENTERED), entered: RefCell::default(), crowded: Notify::new() }
    }
}

impl Gate {
    /// Waits until the gate lets a connection in. The connection then counts toward the limit [`MAX_ENTERED`] until
    /// [`Gate::leave`] is called. While other connections wait, it counts for at most [`ENTERED_FOR`].
    pub(super) async fn enter(&self) -> GatePermit {
        if self.permits.available_permits() == 0 {
            self.crowded.notify_one();
        }
        // Dropping the permit must not release it: `leave` and `expire` do that. The semaphore is never closed, so
        // there always is a permit.
        self.permits.acquire().await.into_iter().for_each(SemaphorePermit::forget);
        self.expire();
        let counted = Rc::new(Cell::new(true));
        self.entered.borrow_mut().push_back((Instant::now(), Rc::clone(&counted)));
        GatePermit(counted)
    }

    /// Lets waiting connections in as soon as others have counted for long enough. This never returns.
    pub async fn watch(&self) {
        loop {
            self.crowded.notified().await;
            while self.permits.available_permits() == 0 {
                sleep(LOOK_EVERY).await;
                self.expire();
            }
        }
    }

    /// Stops counting a connection, so that another one can enter. Nothing happens if the connection no longer
    /// counts.
    pub(super) fn leave(&self, place: &GatePermit) {
        if place.0.replace(false) {
            self.permits.add_permits(1);
        }
    }

    /// Removes the oldest connections that have left or have counted for [`ENTERED_FOR`].
    fn expire(&self) {
        let mut entered = self.entered.borrow_mut();
        while let Some((since, counted)) = entered.front() {
            if counted.get() && since.elapsed() < ENTERED_FOR {
                return;
            }
            if counted.replace(false) {
                self.permits.add_permits(1);
            }
            entered.pop_front();
        }
    }
}

/// A connection that the gate has let in. The flag is `true` while the connection counts.
#[derive(Debug)]
pub(super) struct GatePermit(Rc<Cell<bool>>);

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn run(f: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(f);
    }

    #[test]
    fn who_leaves_makes_room() {
        run(async {
            let gate = Gate::default();
            let mut places = Vec::new();
            for _ in 0..MAX_ENTERED {
                places.push(gate.enter().await);
            }
            let mut next = pin!(gate.enter());
            assert!(next.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            gate.leave(&places[5]);
            assert!(matches!(next.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(_)));
        });
    }

    #[test]
    fn who_stays_does_not_keep_others_out() {
        run(async {
            let gate = Gate::default();
            let mut places = Vec::new();
            let all = async {
                for _ in 0..4 * MAX_ENTERED {
                    places.push(gate.enter().await);
                }
            };
            tokio::select! {
                () = all => {}
                () = gate.watch() => {}
                () = sleep(Duration::from_secs(10)) => panic!("not let in"),
            }
            // A connection that has already expired does not release a second permit when it leaves.
            for place in &places {
                gate.leave(place);
            }
            assert!(gate.permits.available_permits() <= MAX_ENTERED);
        });
    }
}
