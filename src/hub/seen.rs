//! Which items were published lately, so that none is published twice.

use std::collections::hash_map::RandomState;
use std::collections::{HashSet, VecDeque};
use std::hash::BuildHasher;
use std::time::Duration;
use tokio::time::Instant;

/// Items that are remembered. Beyond it the oldest are forgotten before their time.
const MAX_ITEMS: usize = 1_000_000;

/// The channel and id of items, remembered for a time as 128 keyed bits: nobody finds two that are alike.
#[derive(Debug)]
pub(super) struct Seen {
    ttl: Duration,
    keys: [RandomState; 2],
    items: HashSet<(u64, u64), foldhash::fast::RandomState>,
    order: VecDeque<(Instant, (u64, u64))>,
}

impl Seen {
    /// Remembers for `ttl`; not at all if that is zero.
    pub(super) fn new(ttl: Duration) -> Self {
        Self { ttl, keys: Default::default(), items: HashSet::default(), order: VecDeque::new() }
    }

    /// Remembers an item. Returns whether it is new: not if it is remembered already.
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
        let (mut seen, t) = (Seen::new(Duration::from_secs(60)), Instant::now());
        assert!(seen.remember("a", "1", t) && seen.remember("b", "1", t) && seen.remember("a", "2", t));
        // An item that comes again is not remembered longer for it.
        assert!(!seen.remember("a", "1", t + Duration::from_secs(59)));
        assert!(seen.remember("a", "1", t + Duration::from_secs(60)));
        assert_eq!((seen.items.len(), seen.order.len()), (1, 1));
        // Parts are not run together.
        assert!(seen.remember("ab", "c", t) && seen.remember("a", "bc", t));
    }

    #[test]
    fn without_a_time_nothing_is_remembered() {
        let (mut seen, t) = (Seen::new(Duration::ZERO), Instant::now());
        assert!(seen.remember("a", "1", t) && seen.remember("a", "1", t));
    }
}
