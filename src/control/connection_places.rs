//! The limit of concurrent connections to a listener of the control API.
//!
//! A connection occupies a file descriptor and a place, and whoever opens it has not authenticated yet. Idle
//! connections are therefore closed to make room for new ones. Unproven connections, on which no request was
//! authorized yet, are closed first, and among equals the one that has been idle for the longest time. A client that
//! sends a request at once after connecting can therefore nearly always be served.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The places for connections to one listener.
#[derive(Debug)]
pub(super) struct ConnectionPlaces {
    most: usize,
    most_unproven: usize,
    /// The number of the next connection.
    next: AtomicU64,
    began: Instant,
    seats: Mutex<HashMap<u64, Arc<PlaceHolder>>>,
}

/// The state of one connection, which the listener and all other connections can see.
#[derive(Debug)]
struct PlaceHolder {
    /// Whether a request on the connection is being answered.
    is_busy: AtomicBool,
    /// Whether at least one request on the connection has been authorized.
    is_proven: AtomicBool,
    /// The time since which the connection is idle: the end of its last request, or its beginning. In nanoseconds
    /// since the listener began.
    idle_since: AtomicU64,
    give_way: Notify,
}

/// The place of a connection. Dropping it frees the place.
#[derive(Debug)]
pub(super) struct PlaceGuard {
    places: Arc<ConnectionPlaces>,
    number: u64,
    seat: Arc<PlaceHolder>,
}

impl ConnectionPlaces {
    /// Returns places for `most` connections. At most `most_unproven` of them may be connections on which no request
    /// was authorized yet.
    pub(super) fn new(most: usize, most_unproven: usize) -> Arc<Self> {
        Arc::new(Self { most, most_unproven, next: AtomicU64::new(0), began: Instant::now(), seats: Mutex::default() })
    }

    /// Returns a place for a new connection. If there is no free place, an idle connection is told to close. It must be
    /// an unproven one if there are too many of these. Returns `None` if all connections that may be closed are busy.
    pub(super) fn enter(self: &Arc<Self>) -> Option<PlaceGuard> {
        let number = self.next.fetch_add(1, Relaxed);
        let seat = Arc::new(PlaceHolder {
            is_busy: AtomicBool::new(false),
            is_proven: AtomicBool::new(false),
            idle_since: AtomicU64::new(self.now()),
            give_way: Notify::new(),
        });
        let mut seats = self.seats();
        let unproven = seats.values().filter(|seat| !seat.is_proven.load(Relaxed)).count();
        if unproven >= self.most_unproven || seats.len() >= self.most {
            // An unproven connection counts as idle until its request is being answered, so it gives way even while
            // it sends the head of a request.
            let from = if unproven >= self.most_unproven { EvictionGroup::Unproven } else { EvictionGroup::All };
            let leaving = idle_longest(&seats, from)?;
            if let Some(seat) = seats.remove(&leaving) {
                seat.give_way.notify_one();
            }
        }
        seats.insert(number, Arc::clone(&seat));
        Some(PlaceGuard { places: Arc::clone(self), number, seat })
    }

    /// Tells an idle connection to close. Returns `false` if all are busy.
    pub(super) fn spare_one(&self) -> bool {
        let mut seats = self.seats();
        let leaving = idle_longest(&seats, EvictionGroup::All).and_then(|number| seats.remove(&number));
        if let Some(seat) = &leaving {
            seat.give_way.notify_one();
        }
        leaving.is_some()
    }

    /// Returns the nanoseconds since the listener began.
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn seats(&self) -> MutexGuard<'_, HashMap<u64, Arc<PlaceHolder>>> {
        // No code panics while it holds the lock with a change half done, so a poisoned map is still consistent.
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connections among which one is chosen to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EvictionGroup {
    /// All connections.
    All,
    /// The connections on which no request was authorized yet.
    Unproven,
}

/// Returns the number of the idle connection that is to close first: an unproven one if there is one, and of these
/// the one that has been idle for the longest time.
fn idle_longest(seats: &HashMap<u64, Arc<PlaceHolder>>, from: EvictionGroup) -> Option<u64> {
    let idle = seats.iter().filter(|(_, seat)| !seat.is_busy.load(Relaxed));
    let idle = idle.filter(|(_, seat)| from == EvictionGroup::All || !seat.is_proven.load(Relaxed));
    idle.map(|(number, seat)| (seat.is_proven.load(Relaxed), seat.idle_since.load(Relaxed), *number))
        .min()
        .map(|(_, _, number)| number)
}

impl PlaceGuard {
    /// Waits until the connection is told to close.
    pub(super) async fn has_to_give_way(&self) {
        self.seat.give_way.notified().await;
    }

    /// Records that a request on the connection is being answered.
    pub(super) fn mark_busy(&self) {
        self.seat.is_busy.store(true, Relaxed);
    }

    /// Records that no request on the connection is being answered, so that the connection is idle from now on.
    pub(super) fn mark_idle(&self) {
        self.seat.idle_since.store(self.places.now(), Relaxed);
        self.seat.is_busy.store(false, Relaxed);
    }

    /// Records that a request on the connection has been authorized.
    pub(super) fn mark_authorized(&self) {
        self.seat.is_proven.store(true, Relaxed);
    }

    /// Returns whether a request on the connection has been authorized.
    pub(super) fn has_proof(&self) -> bool {
        self.seat.is_proven.load(Relaxed)
    }

    /// Returns whether no request on the connection is being answered.
    pub(super) fn is_idle(&self) -> bool {
        !self.seat.is_busy.load(Relaxed)
    }

    /// Returns the time since the last request on the connection ended, or since the connection was accepted if it
    /// has had none.
    pub(super) fn idle_for(&self) -> Duration {
        Duration::from_nanos(self.places.now().saturating_sub(self.seat.idle_since.load(Relaxed)))
    }
}

impl Drop for PlaceGuard {
    fn drop(&mut self) {
        self.places.seats().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    fn gives_way(place: &PlaceGuard) -> bool {
        pin!(place.has_to_give_way()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_unproven_one_that_is_idle_the_longest_gives_way() {
        let places = ConnectionPlaces::new(4, 2);
        let first = places.enter().unwrap();
        let second = places.enter().unwrap();
        let third = places.enter().unwrap();
        assert!(gives_way(&first) && !gives_way(&second) && !gives_way(&third));
        // A connection whose request is being answered is not closed.
        second.mark_busy();
        let fourth = places.enter().unwrap();
        assert!(gives_way(&third) && !gives_way(&second) && !gives_way(&fourth));
    }

    #[test]
    fn proof_keeps_a_place_against_those_without() {
        let places = ConnectionPlaces::new(3, 2);
        let proven: Vec<PlaceGuard> = (0..2).map(|_| places.enter().unwrap()).collect();
        proven.iter().for_each(PlaceGuard::mark_authorized);
        let stranger = places.enter().unwrap();
        let another = places.enter().unwrap();
        assert!(gives_way(&stranger) && proven.iter().all(|place| !gives_way(place)));
        another.mark_authorized();
        let last = places.enter().unwrap();
        assert!(gives_way(&proven[0]) && !gives_way(&proven[1]) && !gives_way(&last));
    }

    #[test]
    fn where_all_are_busy_nobody_gives_way() {
        let places = ConnectionPlaces::new(2, 2);
        let busy: Vec<PlaceGuard> = (0..2).map(|_| places.enter().unwrap()).collect();
        busy.iter().for_each(PlaceGuard::mark_busy);
        assert!(places.enter().is_none() && !places.spare_one());
        busy[1].mark_idle();
        assert!(places.spare_one() && gives_way(&busy[1]));
        drop(busy);
        assert!(places.seats().is_empty());
    }
}
