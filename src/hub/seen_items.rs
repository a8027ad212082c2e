//! The items that were published lately, remembered so that no item is published twice.

use std::collections::hash_map::RandomState;
use std::collections::{HashSet, VecDeque};
use std::hash::BuildHasher;
use std::time::Duration;
use tokio::time::Instant;

/// The number of items that are remembered. Beyond it, the oldest items are forgotten early.
const MAX_ITEMS: usize = 1_000_000;

/// The set of items that were published lately. Each is remembered for a time as a 128-bit hash of its channel and
/// id. The keys of the hash are random, so nobody can choose two items with the same hash.
#[derive(Debug)]
pub(super) struct SeenItems {
    ttl: Duration,
    keys: [RandomState; 2],
    items: HashSet<(u64, u64), foldhash::fast::RandomState>,
    order: VecDeque<(Instant, (u64, u64))>,
}

impl SeenItems {
    /// Returns an empty set that remembers items for `ttl`. If `ttl` is zero, it remembers nothing.
    pub(super) fn new(ttl: Duration) -> Self {
        Self { ttl, keys: Default::default(), items: HashSet::default(), order: VecDeque::new() }
    }

    /// Sets the time for which items are remembered. It counts from when each item came. If it is zero, all items are
    /// forgotten at once.
    pub(super) fn set_ttl(&mut self, ttl: Duration) {
        self.ttl = ttl;
        if ttl.is_zero() {
            self.items.clear();
            self.order.clear();
        }
    }

    /// Remembers an item. Returns `false` if it was remembered already, and `true` if it is new.
    pub(super) fn remember(&mut self, channel: &str, id: &str, now: Instant) -> bool {
        if self.ttl.is_zero() {
            return true;
        }
        let over = |(at, _): &(Instant, _)| *at + self.ttl <= now;
        while self.order.front().is_some_and(over) || self.order.len() >= MAX_ITEMS {
            if let Some((_, key)) = self.order.pop_front() {
                self.items.remove(&key);
            }
        }
        let [first, second] = &self.keys;
        let key = (first.hash_one((channel, id)), second.hash_one((channel, id)));
        let new = self.items.insert(key);
        if new {
            self.order.push_back((now, key));
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_new_once_in_its_time() {
        let (mut seen, t) = (SeenItems::new(Duration::from_secs(60)), Instant::now());
        assert!(seen.remember("a", "1", t) && seen.remember("b", "1", t) && seen.remember("a", "2", t));
        // The second publication of an item does not prolong the time for which it is remembered.
        assert!(!seen.remember("a", "1", t + Duration::from_secs(59)));
        assert!(seen.remember("a", "1", t + Duration::from_secs(60)));
        assert_eq!((seen.items.len(), seen.order.len()), (1, 1));
        // The channel and the id are hashed separately, not as one joined text.
        assert!(seen.remember("ab", "c", t) && seen.remember("a", "bc", t));
    }

    #[test]
    fn the_time_may_be_changed() {
        let (mut seen, t) = (SeenItems::new(Duration::from_secs(60)), Instant::now());
        assert!(seen.remember("a", "1", t) && seen.remember("a", "2", t));
        seen.set_ttl(Duration::from_secs(120));
        assert!(!seen.remember("a", "1", t + Duration::from_secs(119)));
        seen.set_ttl(Duration::from_secs(10));
        assert!(seen.remember("a", "1", t + Duration::from_secs(10)));
        seen.set_ttl(Duration::ZERO);
        assert!(seen.remember("a", "1", t) && seen.items.is_empty() && seen.order.is_empty());
    }

    #[test]
    fn without_a_time_nothing_is_remembered() {
        let (mut seen, t) = (SeenItems::new(Duration::ZERO), Instant::now());
        assert!(seen.remember("a", "1", t) && seen.remember("a", "1", t));
    }
}
