//! The order in which gripd's own requests reach an origin, for all shards together.

use super::fair::{FairQueue, Sharer};
use crate::telemetry::metrics::Gauge;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Lanes after which those that nobody uses are forgotten.
const MAX_LANES: usize = 1024;

/// The number of waiting requests from which on those that no longer wait are looked for and forgotten.
const SWEEP: usize = 64;

/// The kinds of gripd's own requests that do not wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Links, retries and hints: a client that is held waits for them.
    Asking,
    /// Words about clients that are gone (`DISCONNECT`, gone links). A crowd that leaves at once must not keep
    /// those who stay from being served.
    Leaving,
    /// HTTP filters.
    Filters,
}

/// Bounds gripd's own requests to each origin. Those beyond the bound wait, and clients take turns.
#[derive(Debug)]
pub(super) struct Turns {
    /// Requests of one lane to one origin at the same time.
    most: usize,
    queues: Mutex<HashMap<(Lane, String), Arc<Queue>>>,
    /// The requests that wait for their turn.
    waiting: Gauge,
}

/// The requests of one lane to one origin.
#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    most: usize,
}

#[derive(Debug, Default)]
struct State {
    /// Requests that have their turn.
    running: usize,
    waiting: FairQueue<oneshot::Sender<Turn>>,
    /// The number of requests that were left when those that no longer waited were last forgotten.
    swept: usize,
}

/// A request that waits for its turn, and is counted until this is dropped.
struct CountedWait<'a>(&'a Gauge);

impl<'a> CountedWait<'a> {
    fn new(gauge: &'a Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for CountedWait<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Leave to ask an origin, until it is dropped.
#[derive(Debug)]
pub struct Turn(Option<Arc<Queue>>);

impl Turns {
    pub(super) fn new(most: usize, waiting: Gauge) -> Self {
        Self { most, queues: Mutex::default(), waiting }
    }

    /// Waits until an origin may be asked once more on behalf of a client. While it waits it is counted.
    pub(super) async fn next(&self, lane: Lane, origin: String, client: Sharer) -> Turn {
        match self.queue(lane, origin).join(client) {
            Ok(turn) => turn,
            Err(granted) => {
                // Only now, when it has its place in the queue: whoever looks at the number relies on that.
                let _counted = CountedWait::new(&self.waiting);
                // A turn that ends goes to the next request that waits, so that this one gets its turn.
                granted.await.unwrap_or(Turn(None))
            }
        }
    }

    fn queue(&self, lane: Lane, origin: String) -> Arc<Queue> {
        let mut queues = lock(&self.queues);
        if queues.len() >= MAX_LANES {
            queues.retain(|_, queue| lock(&queue.state).running > 0);
        }
        let fresh = || Arc::new(Queue { state: Mutex::default(), most: self.most });
        Arc::clone(queues.entry((lane, origin)).or_insert_with(fresh))
    }
}

impl Queue {
    /// Takes a turn if one is free, or begins to wait for one.
    fn join(self: Arc<Self>, client: Sharer) -> Result<Turn, oneshot::Receiver<Turn>> {
        let mut state = lock(&self.state);
        if state.running < self.most {
            state.running += 1;
            drop(state);
            return Ok(Turn(Some(self)));
        }
        if state.waiting.len() >= SWEEP.max(2 * state.swept) {
            state.waiting.retain(|grant| !grant.is_closed());
            state.swept = state.waiting.len();
        }
        let (grant, granted) = oneshot::channel();
        state.waiting.push(client, grant);
        Err(granted)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(queue) = self.0.take() else { return };
        loop {
            let next = {
                let mut state = lock(&queue.state);
                let next = state.waiting.pop();
                if next.is_none() {
                    state.running -= 1;
                }
                next
            };
            let Some((_, grant)) = next else { return };
            match grant.send(Self(Some(Arc::clone(&queue)))) {
                Ok(()) => return,
                // It waits no longer: the next one has the turn.
                Err(mut unused) => drop(unused.0.take()),
            }
        }
    }
}

/// Locks a state in which nothing panics halfway, so that a poisoned one is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::Metrics;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    /// Returns turns of which there is one at a time.
    fn turns() -> Turns {
        Turns::new(1, Metrics::default().own_requests_waiting)
    }

    type Pending<'a> = Pin<Box<dyn Future<Output = Turn> + 'a>>;

    fn asks(turns: &Turns, lane: Lane, client: u8) -> Pending<'_> {
        let mut turn: Pending<'_> =
            Box::pin(turns.next(lane, "o".to_owned(), Sharer::of(Some([10, 0, 0, client].into()))));
        // It begins to wait now.
        if let Some(turn) = now(&mut turn) {
            return Box::pin(std::future::ready(turn));
        }
        turn
    }

    fn now(turn: &mut Pending<'_>) -> Option<Turn> {
        match turn.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_client_with_many_requests_waits_for_the_others() {
        let turns = turns();
        let running = now(&mut asks(&turns, Lane::Asking, 1)).unwrap();
        let mut crowd: Vec<_> = (0..5).map(|_| asks(&turns, Lane::Asking, 1)).collect();
        let mut other = asks(&turns, Lane::Asking, 2);
        drop(running);
        let first = now(&mut crowd[0]).unwrap();
        assert!(now(&mut other).is_none());
        drop(first);
        assert!(now(&mut crowd[1]).is_none());
        drop(now(&mut other).unwrap());
        assert!(now(&mut crowd[1]).is_some());
    }

    #[test]
    fn those_who_wait_no_longer_are_forgotten() {
        let turns = turns();
        let _running = now(&mut asks(&turns, Lane::Asking, 1)).unwrap();
        let _stays = asks(&turns, Lane::Asking, 1);
        for _ in 0..10_000 {
            drop(asks(&turns, Lane::Asking, 1));
        }
        let queue = turns.queue(Lane::Asking, "o".to_owned());
        assert!(lock(&queue.state).waiting.len() <= 2 * SWEEP);
    }

    #[test]
    fn lanes_do_not_wait_for_each_other() {
        let turns = turns();
        let lanes = [Lane::Asking, Lane::Leaving, Lane::Filters];
        let running: Vec<Turn> = lanes.iter().map(|lane| now(&mut asks(&turns, *lane, 1)).unwrap()).collect();
        assert!(lanes.iter().all(|lane| now(&mut asks(&turns, *lane, 2)).is_none()));
        drop(running);
    }

    #[test]
    fn a_turn_is_not_lost_with_those_who_wait_no_longer() {
        let turns = turns();
        let running = now(&mut asks(&turns, Lane::Asking, 1)).unwrap();
        let gone: Vec<_> = (0..3).map(|_| asks(&turns, Lane::Asking, 1)).collect();
        let mut stays = asks(&turns, Lane::Asking, 1);
        let late = asks(&turns, Lane::Asking, 2);
        drop(gone);
        // The other client's request has the turn already when it is given up.
        drop(running);
        assert!(now(&mut stays).is_none());
        drop(late);
        drop(now(&mut stays).unwrap());
        assert!(now(&mut asks(&turns, Lane::Asking, 3)).is_some());
    }
}
