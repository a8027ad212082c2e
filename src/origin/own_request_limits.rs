//! Turns: the bound on the number of gripd's own requests to each origin, and the order in which waiting requests are
//! sent. They are shared by all shards.

use super::fair_queue::{ClientNetwork, FairQueue};
use crate::telemetry::metrics::Gauge;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// The number of queues at which the unused ones are removed.
const MAX_LANES: usize = 1024;

/// The least number of waiting entries at which a queue removes those of requests that no longer wait.
const SWEEP_FROM: usize = 64;

/// A kind of gripd's own requests. Requests of different kinds do not wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Requests for whose response a held client waits: next links, long-polls that are asked again, hints, and
    /// requests without events in WebSocket over HTTP.
    Asking,
    /// Notifications that clients have left, by `DISCONNECT` events, last events or gone links. Many clients that
    /// leave at once must not delay the requests for the clients that stay.
    Leaving,
    /// Requests of HTTP filters.
    Filters,
}

/// The turns of gripd's own requests. Requests to an origin beyond the bound wait, and their clients take turns.
#[derive(Debug)]
pub(super) struct OwnRequestLimits {
    /// The number of requests of one lane to one origin that may be in progress at the same time.
    most: AtomicUsize,
    queues: Mutex<HashMap<(Lane, String), Arc<LaneQueue>>>,
    /// The number of requests that wait for their turn.
    waiting: Gauge,
}

/// The requests of one lane to one origin.
#[derive(Debug)]
struct LaneQueue {
    state: Mutex<LaneState>,
}

#[derive(Debug, Default)]
struct LaneState {
    /// The number of requests that may have a turn.
    most: usize,
    /// The number of requests that have a turn.
    running: usize,
    waiting: FairQueue<oneshot::Sender<OwnRequestPermit>>,
    /// The number of entries that were left in `waiting` when it was last cleared of requests that no longer wait.
    swept: usize,
}

/// A guard that counts one waiting request, until it is dropped.
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

/// The permission to send one request to an origin. When it is dropped, the next waiting request gets the turn.
#[derive(Debug)]
pub struct OwnRequestPermit(Option<Arc<LaneQueue>>);

impl OwnRequestLimits {
    pub(super) fn new(most: usize, waiting: Gauge) -> Self {
        Self { most: AtomicUsize::new(most), queues: Mutex::default(), waiting }
    }

    /// Sets the number of requests of one lane to one origin that may be in progress at the same time.
    pub(super) fn set_limit(&self, most: usize) {
        let queues = lock(&self.queues);
        self.most.store(most, Relaxed);
        queues.values().for_each(|queue| queue.set_limit(most));
    }

    /// Waits for a turn to send a request to an origin on behalf of a client. The request is counted as waiting
    /// meanwhile.
    pub(super) async fn next(&self, lane: Lane, origin: String, client: ClientNetwork) -> OwnRequestPermit {
        match self.queue(lane, origin).join(client) {
            Ok(turn) => turn,
            Err(granted) => {
                // The request is counted only after it has joined the queue, so that whoever reads the count can rely
                // on every counted request having its place in the queue.
                let _counted = CountedWait::new(&self.waiting);
                // The sender is not dropped while the request waits, because a turn that ends is passed on to the
                // next waiting request.
                granted.await.unwrap_or(OwnRequestPermit(None))
            }
        }
    }

    fn queue(&self, lane: Lane, origin: String) -> Arc<LaneQueue> {
        let mut queues = lock(&self.queues);
        if queues.len() >= MAX_LANES {
            queues.retain(|_, queue| lock(&queue.state).running > 0);
        }
        let fresh = || {
            let state = LaneState { most: self.most.load(Relaxed), ..LaneState::default() };
            Arc::new(LaneQueue { state: Mutex::new(state) })
        };
        Arc::clone(queues.entry((lane, origin)).or_insert_with(fresh))
    }
}

impl LaneQueue {
    /// Takes a turn if one is free. Otherwise adds the request to the queue, and returns the receiver for its turn.
    fn join(self: Arc<Self>, client: ClientNetwork) -> Result<OwnRequestPermit, oneshot::Receiver<OwnRequestPermit>> {
        let mut state = lock(&self.state);
        if state.running < state.most {
            state.running += 1;
            drop(state);
            return Ok(OwnRequestPermit(Some(self)));
        }
        if state.waiting.len() >= SWEEP_FROM.max(2 * state.swept) {
            state.waiting.retain(|grant| !grant.is_closed());
            state.swept = state.waiting.len();
        }
        let (grant, granted) = oneshot::channel();
        state.waiting.push(client, grant);
        Err(granted)
    }

    /// Sets the number of requests that may have a turn, and gives the new turns to requests that wait.
    fn set_limit(self: &Arc<Self>, most: usize) {
        lock(&self.state).most = most;
        loop {
            let mut state = lock(&self.state);
            let next = if state.running < state.most { state.waiting.pop() } else { None };
            let Some((_, grant)) = next else { return };
            state.running += 1;
            drop(state);
            // If the request no longer waits, its turn is dropped here and passed on.
            let _ = grant.send(OwnRequestPermit(Some(Arc::clone(self))));
        }
    }
}

impl Drop for OwnRequestPermit {
    fn drop(&mut self) {
        let Some(queue) = self.0.take() else { return };
        loop {
            let next = {
                let mut state = lock(&queue.state);
                let next = if state.running > state.most { None } else { state.waiting.pop() };
                if next.is_none() {
                    state.running -= 1;
                }
                next
            };
            let Some((_, grant)) = next else { return };
            match grant.send(Self(Some(Arc::clone(&queue)))) {
                Ok(()) => return,
                // The request no longer waits, so the loop passes the turn on to the next one.
                Err(mut unused) => drop(unused.0.take()),
            }
        }
    }
}

/// Locks a mutex even if it is poisoned. No code panics while the state is inconsistent, so the state can be used.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::Metrics;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    /// Returns turns that allow one request at a time.
    fn turns() -> OwnRequestLimits {
        OwnRequestLimits::new(1, Metrics::default().own_requests_waiting)
    }

    type PendingTurn<'a> = Pin<Box<dyn Future<Output = OwnRequestPermit> + 'a>>;

    fn asks(turns: &OwnRequestLimits, lane: Lane, client: u8) -> PendingTurn<'_> {
        let mut turn: PendingTurn<'_> =
            Box::pin(turns.next(lane, "o".to_owned(), ClientNetwork::of(Some([10, 0, 0, client].into()))));
        // The first poll adds the request to the queue.
        if let Some(turn) = now(&mut turn) {
            return Box::pin(std::future::ready(turn));
        }
        turn
    }

    fn now(turn: &mut PendingTurn<'_>) -> Option<OwnRequestPermit> {
        match turn.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_new_limit_holds_for_requests_that_wait() {
        let turns = turns();
        let running = now(&mut asks(&turns, Lane::Asking, 1)).unwrap();
        drop(asks(&turns, Lane::Asking, 1));
        let (mut second, mut third) = (asks(&turns, Lane::Asking, 1), asks(&turns, Lane::Asking, 1));
        turns.set_limit(2);
        let second = now(&mut second);
        assert!(second.is_some() && now(&mut third).is_none());
        turns.set_limit(1);
        drop(running);
        assert!(now(&mut third).is_none());
        drop(second);
        assert!(now(&mut third).is_some());
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
        assert!(lock(&queue.state).waiting.len() <= 2 * SWEEP_FROM);
    }

    #[test]
    fn lanes_do_not_wait_for_each_other() {
        let turns = turns();
        let lanes = [Lane::Asking, Lane::Leaving, Lane::Filters];
        let running: Vec<OwnRequestPermit> =
            lanes.iter().map(|lane| now(&mut asks(&turns, *lane, 1)).unwrap()).collect();
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
        // The other client's request has been granted the turn, but is dropped before it takes the turn.
        drop(running);
        assert!(now(&mut stays).is_none());
        drop(late);
        drop(now(&mut stays).unwrap());
        assert!(now(&mut asks(&turns, Lane::Asking, 3)).is_some());
    }
}
