//! Where new connections wait while many others are at their first request.
//!
//! A connection costs most memory while hyper serves it, and next to nothing before it does. When thousands come at
//! once, most of them therefore wait here. Nobody waits for a slow one: after [`PATIENCE`] a connection is not
//! counted any longer, whatever it does.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep};

/// Connections at their first request, per shard, before others have to wait.
const MOST: usize = 24;
/// How long a connection is counted.
const PATIENCE: Duration = Duration::from_millis(10);
/// How often those that need not be counted any longer are looked for, while somebody waits.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Lets connections in, in the order in which they come.
#[derive(Debug)]
pub struct Gate {
    permits: Semaphore,
    /// Those who were let in, the longest ago first.
    entered: RefCell<VecDeque<(Instant, Rc<Cell<bool>>)>>,
    /// Somebody has to wait.
    crowded: Notify,
}

impl Default for Gate {
    fn default() -> Self {
        Self { permits: Semaphore::new(MOST), entered: RefCell::default(), crowded: Notify::new() }
    }
}

impl Gate {
    /// Waits until there is a place. The connection takes it until it calls [`Gate::leave`], but not for long.
    pub(super) async fn enter(&self) -> Place {
        if self.permits.available_permits() == 0 {
            self.crowded.notify_one();
        }
        // Given back by hand; the semaphore is never closed, so there always is one.
        self.permits.acquire().await.into_iter().for_each(SemaphorePermit::forget);
        self.expire();
        let counted = Rc::new(Cell::new(true));
        self.entered.borrow_mut().push_back((Instant::now(), Rc::clone(&counted)));
        Place(counted)
    }

    /// Makes slow connections give way to those that wait, without end.
    pub async fn watch(&self) {
        loop {
            self.crowded.notified().await;
            while self.permits.available_permits() == 0 {
                sleep(LOOK_EVERY).await;
                self.expire();
            }
        }
    }

    /// Gives a place back, if it is still counted.
    pub(super) fn leave(&self, place: &Place) {
        if place.0.replace(false) {
            self.permits.add_permits(1);
        }
    }

    /// Forgets the places that were given back, and those that were held too long.
    fn expire(&self) {
        let mut entered = self.entered.borrow_mut();
        while let Some((since, counted)) = entered.front() {
            if counted.get() && since.elapsed() < PATIENCE {
                return;
            }
            if counted.replace(false) {
                self.permits.add_permits(1);
            }
            entered.pop_front();
        }
    }
}

/// A connection's place.
#[derive(Debug)]
pub(super) struct Place(Rc<Cell<bool>>);

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
            for _ in 0..MOST {
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
                for _ in 0..4 * MOST {
                    places.push(gate.enter().await);
                }
            };
            tokio::select! {
                () = all => {}
                () = gate.watch() => {}
                () = sleep(Duration::from_secs(10)) => panic!("not let in"),
            }
            // Leaving late gives nothing back a second time.
            for place in &places {
                gate.leave(place);
            }
            assert!(gate.permits.available_permits() <= MOST);
        });
    }
}
