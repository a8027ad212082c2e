//! The connections to one origin that may be in use at the same time, and the order in which waiting requests get
//! them. A connection *gives way* if it is closed for a waiting request because its own client is slow.

use super::Metrics;
use super::fair_queue::{ClientNetwork, FairQueue};
use crate::net::ClientDelay;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{Instant, sleep};

/// The interval at which a task looks for connections that could give way, while requests wait.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The time that a client may keep gripd waiting before its connection may give way, if its source has at least a
/// quarter of all connections and a request of another source waits.
const CROWD_PATIENCE: Duration = Duration::from_millis(100);
/// The time that a client may keep gripd waiting before its connection may give way, if its source has at least a
/// quarter of all connections and the waiting requests are all of this source or gripd's own. There may be many
/// clients behind one address.
const OWN_PATIENCE: Duration = Duration::from_secs(1);
/// The time that a client may keep gripd waiting before its connection may give way, if its source has less than a
/// quarter of all connections.
const FAIR_USE_TIME: Duration = Duration::from_secs(5);

/// The connections to one origin that are in use, and the requests that wait for one.
#[derive(Debug)]
pub(super) struct ConnectionShare {
    most: Cell<usize>,
    users: RefCell<Slab<ConnectionUser>>,
    /// The serial number of the next connection.
    serial: Cell<u64>,
    metrics: Arc<Metrics>,
    /// The requests that wait for a connection.
    queue: RefCell<FairQueue<Waiter>>,
    /// Whether a task looks for connections that could give way.
    is_watched: Cell<bool>,
    /// The time of the last search for connections that could give way.
    looked: Cell<Option<Instant>>,
}

/// One connection in use.
#[derive(Debug)]
struct ConnectionUser {
    serial: u64,
    source: ClientNetwork,
    waiting: Rc<ClientDelay>,
    /// The handle by which the connection is ended. `None` while the connection is being opened.
    task: Option<AbortHandle>,
}

/// A request that waits for a connection.
#[derive(Debug)]
struct Waiter {
    waiting: Rc<ClientDelay>,
    granted: oneshot::Sender<ConnectionPermit>,
}

/// The right to use one connection. It ends when the permit is dropped, or when the connection has to give way.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    share: Rc<ConnectionShare>,
    waiting: Rc<ClientDelay>,
    key: usize,
    serial: u64,
}

impl ConnectionShare {
    /// Returns a share of at most `most` connections at the same time.
    pub(super) fn new(most: usize, metrics: Arc<Metrics>) -> Rc<Self> {
        let (serial, looked) = (Cell::new(0), Cell::new(None));
        let (users, queue, is_watched) = (RefCell::default(), RefCell::default(), Cell::new(false));
        Rc::new(Self { most: Cell::new(most), users, serial, metrics, queue, is_watched, looked })
    }

    /// Sets the number of connections at the same time. If more are in use, they stay in use.
    pub(super) fn set_limit(self: &Rc<Self>, most: usize) {
        self.most.set(most);
        self.grant();
    }

    /// Returns a permit if a connection is free and no request waits for one.
    pub(super) fn free(self: &Rc<Self>, source: ClientNetwork, waiting: &Rc<ClientDelay>) -> Option<ConnectionPermit> {
        let is_free = self.users.borrow().len() < self.most.get() && self.queue.borrow().is_empty();
        if is_free { Some(self.admit(source, Rc::clone(waiting))) } else { None }
    }

    /// Waits until a connection is free, or until one is closed because its client is slow. Returns the permit to use
    /// a connection. The sources of waiting requests take turns. `waiting` is the record of how long the client of
    /// the request has kept gripd waiting. It begins anew when the permit is granted.
    pub(super) async fn permit(
        self: &Rc<Self>,
        source: ClientNetwork,
        waiting: &Rc<ClientDelay>,
    ) -> Option<ConnectionPermit> {
        if let Some(permit) = self.free(source, waiting) {
            return Some(permit);
        }
        let (granted, permit) = oneshot::channel();
        self.queue.borrow_mut().push(source, Waiter { waiting: Rc::clone(waiting), granted });
        self.make_room();
        if !self.is_watched.replace(true) {
            spawn_local(Rc::clone(self).watch());
        }
        permit.await.ok()
    }

    fn admit(self: &Rc<Self>, source: ClientNetwork, waiting: Rc<ClientDelay>) -> ConnectionPermit {
        waiting.reset();
        let serial = self.serial.get();
        self.serial.set(serial + 1);
        let user = ConnectionUser { serial, source, waiting: Rc::clone(&waiting), task: None };
        let key = self.users.borrow_mut().insert(user);
        ConnectionPermit { share: Rc::clone(self), waiting, key, serial }
    }

    /// Grants free connections to requests that wait.
    fn grant(self: &Rc<Self>) {
        while self.users.borrow().len() < self.most.get() {
            let Some((source, waiter)) = self.queue.borrow_mut().pop() else { return };
            if !waiter.granted.is_closed() {
                // If the request no longer waits, sending fails and drops the permit, which frees the connection
                // again.
                let _ = waiter.granted.send(self.admit(source, waiter.waiting));
            }
        }
    }

    /// Looks for connections that could give way, for as long as requests wait.
    async fn watch(self: Rc<Self>) {
        loop {
            sleep(LOOK_EVERY).await;
            self.make_room();
            if self.queue.borrow().is_empty() {
                self.is_watched.set(false);
                return;
            }
        }
    }

    /// Ends connections whose clients keep gripd waiting, at most one for each waiting request, and grants the free
    /// connections to waiting requests. Forgets requests that no longer wait, for which no connection must end. Does
    /// nothing if the last search was less than a quarter of [`LOOK_EVERY`] ago.
    fn make_room(self: &Rc<Self>) {
        let now = Instant::now();
        if self.looked.get().is_some_and(|looked| now.duration_since(looked) < LOOK_EVERY / 4) {
            return;
        }
        self.looked.set(Some(now));
        self.queue.borrow_mut().retain(|waiter| !waiter.granted.is_closed());
        let chosen = self.choose(now);
        if chosen.is_empty() {
            return;
        }
        self.metrics.gave_way.inc_by(chosen.len() as u64);
        for key in &chosen {
            let user = self.users.borrow_mut().try_remove(*key);
            if let Some(task) = user.and_then(|user| user.task) {
                task.abort();
            }
        }
        tracing::debug!(
            count = chosen.len(),
            "connections to an origin were closed because their clients are slow and other requests wait for a \
             connection"
        );
        self.grant();
    }

    /// Chooses the connections that are to give way, at most one for each waiting request. Connections of the source
    /// with the most connections come first. Among those of one source, the ones whose clients have kept gripd
    /// waiting the longest come first.
    fn choose(&self, now: Instant) -> Vec<usize> {
        let (users, queue) = (self.users.borrow(), self.queue.borrow());
        let mut counts: HashMap<ClientNetwork, usize> = HashMap::new();
        for (_, user) in &*users {
            *counts.entry(user.source).or_default() += 1;
        }
        let patience = |user: &ConnectionUser| match counts.get(&user.source) {
            Some(count) if count * 4 < self.most.get() => FAIR_USE_TIME,
            // gripd's own requests do not count as another source, because they may be for clients of any source.
            _ if queue.sources().all(|waits| waits.is_own() || waits == user.source) => OWN_PATIENCE,
            _ => CROWD_PATIENCE,
        };
        let mut slow: Vec<(usize, Duration, usize)> = users
            .iter()
            .filter_map(|(key, user)| {
                let waited = user.waiting.waited(now);
                let count = counts.get(&user.source).copied().unwrap_or_default();
                (waited >= patience(user)).then_some((count, waited, key))
            })
            .collect();
        slow.sort_by(|one, other| other.cmp(one));
        slow.into_iter().take(queue.len()).map(|(_, _, key)| key).collect()
    }
}

impl ConnectionPermit {
    /// Sets the task of the connection, which is aborted when the connection has to give way.
    pub(super) fn is_used_by(&self, task: AbortHandle) {
        match self.share.users.borrow_mut().get_mut(self.key).filter(|user| user.serial == self.serial) {
            Some(user) => user.task = Some(task),
            // The connection had to give way while it was being opened.
            None => task.abort(),
        }
    }

    /// Returns whether the connection had to give way.
    pub(super) fn gave_way(&self) -> bool {
        self.share.users.borrow().get(self.key).is_none_or(|user| user.serial != self.serial)
    }

    /// Returns the record of how long gripd has waited for the client.
    pub(super) fn waiting(&self) -> &ClientDelay {
        &self.waiting
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        if !self.gave_way() {
            drop(self.share.users.borrow_mut().remove(self.key));
            if !self.share.queue.borrow().is_empty() {
                self.share.grant();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};
    use tokio::task::LocalSet;

    type PendingPermit = Pin<Box<dyn Future<Output = Option<ConnectionPermit>>>>;

    fn share(most: usize) -> Rc<ConnectionShare> {
        ConnectionShare::new(most, Arc::default())
    }

    fn source(last: u8) -> ClientNetwork {
        ClientNetwork::of(Some([10, 0, 0, last].into()))
    }

    /// Begins a request of a source. Returns the permit, if it is granted at once, and the future of the request.
    fn asks(
        share: &Rc<ConnectionShare>,
        last: u8,
        waiting: &Rc<ClientDelay>,
    ) -> (Option<ConnectionPermit>, PendingPermit) {
        let (share, waiting) = (Rc::clone(share), Rc::clone(waiting));
        let mut permit: PendingPermit = Box::pin(async move { share.permit(source(last), &waiting).await });
        (now(&mut permit), permit)
    }

    /// Returns the permit of a request that gets one at once.
    fn has(share: &Rc<ConnectionShare>, last: u8, waiting: &Rc<ClientDelay>) -> ConnectionPermit {
        asks(share, last, waiting).0.unwrap()
    }

    /// Returns the future of a request that has to wait for its permit.
    fn waits(share: &Rc<ConnectionShare>, last: u8) -> PendingPermit {
        let (permit, pending) = asks(share, last, &Rc::default());
        assert!(permit.is_none());
        pending
    }

    fn now(permit: &mut PendingPermit) -> Option<ConnectionPermit> {
        match permit.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(permit) => permit,
            Poll::Pending => None,
        }
    }

    /// Runs a test in a runtime where local tasks can be spawned.
    fn run(test: impl FnOnce()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        LocalSet::new().block_on(&runtime, async { test() });
    }

    /// Pretends that gripd has waited for the client for this many seconds.
    fn slow_down(permit: &ConnectionPermit, seconds: u64) {
        permit.waiting().wait_since(Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap());
    }

    /// Searches for connections that could give way, even if the last search was a moment ago.
    fn look(share: &Rc<ConnectionShare>) {
        share.looked.set(None);
        share.make_room();
    }

    #[test]
    fn sources_take_turns() {
        run(|| {
            let share = share(1);
            let first = has(&share, 1, &Rc::default());
            let wait = |last| waits(&share, last);
            let mut queue = vec![(1, wait(1)), (1, wait(1)), (1, wait(1)), (2, wait(2)), (3, wait(3))];
            drop(first);
            let mut order = Vec::new();
            while let Some((at, permit)) =
                queue.iter_mut().enumerate().find_map(|(at, (_, wait))| Some((at, now(wait)?)))
            {
                order.push(queue.remove(at).0);
                drop(permit);
            }
            assert_eq!(order, [1, 2, 3, 1, 1]);
        });
    }

    #[test]
    fn a_new_limit_holds_for_requests_that_wait() {
        run(|| {
            let share = share(1);
            let first = has(&share, 1, &Rc::default());
            let (mut second, mut third) = (waits(&share, 1), waits(&share, 1));
            share.set_limit(2);
            let second = now(&mut second);
            assert!(second.is_some() && now(&mut third).is_none());
            share.set_limit(1);
            drop(first);
            assert!(now(&mut third).is_none());
            drop(second);
            assert!(now(&mut third).is_some());
        });
    }

    #[test]
    fn a_request_that_waits_no_longer_takes_nothing() {
        run(|| {
            let share = share(1);
            let first = has(&share, 1, &Rc::default());
            drop(waits(&share, 2));
            let mut last = waits(&share, 3);
            drop(first);
            assert!(now(&mut last).is_some());
        });
    }

    #[test]
    fn the_slowest_of_the_largest_crowd_gives_way() {
        run(|| {
            let share = share(8);
            let crowd: Vec<_> = (0..6).map(|_| has(&share, 1, &Rc::default())).collect();
            (0..).zip(&crowd).for_each(|(n, permit)| slow_down(permit, 10 + n));
            let others = [has(&share, 2, &Rc::default()), has(&share, 3, &Rc::default())];
            slow_down(&others[0], 100);
            let permit = has(&share, 4, &Rc::default());
            assert!(crowd[5].gave_way() && crowd[..5].iter().all(|permit| !permit.gave_way()));
            assert!(others.iter().all(|permit| !permit.gave_way()));
            // A connection that gave way frees nothing a second time.
            drop((crowd, others, permit));
            assert_eq!(share.users.borrow().len(), 0);
        });
    }

    #[test]
    fn nobody_gives_way_who_is_not_waited_for() {
        run(|| {
            let share = share(4);
            let busy: Vec<_> = (0..4).map(|_| has(&share, 1, &Rc::default())).collect();
            let mut last = waits(&share, 2);
            look(&share);
            assert!(now(&mut last).is_none() && busy.iter().all(|permit| !permit.gave_way()));
        });
    }

    #[test]
    fn a_request_that_is_gone_has_nobody_give_way() {
        run(|| {
            let share = share(2);
            let slow: Vec<_> = (0..2).map(|_| has(&share, 1, &Rc::default())).collect();
            drop(waits(&share, 2));
            slow.iter().for_each(|permit| slow_down(permit, 60));
            look(&share);
            assert!(slow.iter().all(|permit| !permit.gave_way()) && share.queue.borrow().is_empty());
        });
    }

    #[test]
    fn few_connections_are_borne_with_for_longer() {
        run(|| {
            let share = share(16);
            let slow = has(&share, 1, &Rc::default());
            slow_down(&slow, 2);
            let _busy: Vec<_> = (0..15).map(|n| has(&share, 2 + n, &Rc::default())).collect();
            let mut last = waits(&share, 99);
            look(&share);
            assert!(now(&mut last).is_none() && !slow.gave_way());
            slow_down(&slow, 6);
            look(&share);
            assert!(now(&mut last).is_some() && slow.gave_way());
        });
    }

    #[test]
    fn a_network_is_one_source() {
        let of = |text: &str| ClientNetwork::of(Some(text.parse().unwrap()));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:1.2.3.4"), of("1.2.3.4"));
        assert_ne!(of("1.2.3.4"), of("1.2.3.5"));
    }
}
