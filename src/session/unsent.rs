//! The memory of messages that wait for origins over HTTP, and its limit for all sessions of a shard together.
//!
//! Sessions with few waiting bytes are not counted. They are the majority, and counting them would take memory for
//! each.

use slab::Slab;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};

/// The number of waiting bytes up to which a session is neither counted nor closed to make room.
const NOT_COUNTED: usize = 4 << 10;

/// The memory of waiting messages of all sessions of a shard, and its limit.
#[derive(Debug)]
pub(super) struct Unsent(Rc<UnsentTotal>);

#[derive(Debug)]
struct UnsentTotal {
    bytes: Cell<usize>,
    most: Cell<usize>,
    /// The sessions that are counted: those with more than [`NOT_COUNTED`] waiting bytes.
    large: RefCell<Slab<Rc<LargeSession>>>,
}

/// A session with more than [`NOT_COUNTED`] waiting bytes.
#[derive(Debug, Default)]
struct LargeSession {
    key: usize,
    bytes: Cell<usize>,
    gives_way: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// The share of one session in the memory of waiting messages. Dropping it returns the memory.
#[derive(Debug)]
pub(super) struct UnsentShare {
    total: Rc<UnsentTotal>,
    large: Option<Rc<LargeSession>>,
}

impl Unsent {
    /// Returns an accounting that allows `most` bytes for all sessions together.
    pub(super) fn new(most: usize) -> Self {
        Self(Rc::new(UnsentTotal { bytes: Cell::new(0), most: Cell::new(most), large: RefCell::default() }))
    }

    /// Allows `most` bytes from now on. If more bytes wait, the sessions with the most of them give way.
    pub(super) fn set_limit(&self, most: usize) {
        self.0.most.set(most);
        self.0.make_room();
    }

    /// Returns the share of one more session, for which nothing waits yet.
    pub(super) fn share(&self) -> UnsentShare {
        UnsentShare { total: Rc::clone(&self.0), large: None }
    }
}

impl UnsentTotal {
    /// Makes the sessions with the most waiting bytes give way, until the bytes of the others are within the limit.
    fn make_room(&self) {
        let large = self.large.borrow();
        let giving_way = large.iter().filter(|(_, one)| one.gives_way.get()).map(|(_, one)| one.bytes.get());
        let mut left = self.bytes.get().saturating_sub(giving_way.sum());
        while left > self.most.get() {
            let staying = large.iter().map(|(_, one)| one).filter(|one| !one.gives_way.get());
            let Some(largest) = staying.max_by_key(|one| one.bytes.get()) else { return };
            largest.gives_way.set(true);
            left = left.saturating_sub(largest.bytes.get());
            if let Some(waker) = &*largest.waker.borrow() {
                waker.wake_by_ref();
            }
        }
    }
}

impl UnsentShare {
    /// Sets the number of bytes that wait for the session's origin.
    pub(super) fn set(&mut self, bytes: usize) {
        let (before, bytes) =
            (self.large.as_ref().map_or(0, |large| large.bytes.get()), if bytes > NOT_COUNTED { bytes } else { 0 });
        self.total.bytes.set(self.total.bytes.get() - before + bytes);
        match &self.large {
            Some(large) if bytes > 0 => large.bytes.set(bytes),
            Some(large) => {
                self.total.large.borrow_mut().remove(large.key);
                self.large = None;
            }
            None if bytes > 0 => {
                let mut all = self.total.large.borrow_mut();
                let entry = all.vacant_entry();
                let large =
                    Rc::new(LargeSession { key: entry.key(), bytes: Cell::new(bytes), ..LargeSession::default() });
                entry.insert(Rc::clone(&large));
                self.large = Some(large);
            }
            None => {}
        }
        if bytes > before && self.total.bytes.get() > self.total.most.get() {
            self.total.make_room();
        }
    }

    /// Returns whether the session must be closed to make room. If not, the current task is woken when it must.
    pub(super) fn gives_way(&self, cx: &Context<'_>) -> bool {
        let Some(large) = &self.large else { return false };
        let mut waker = large.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        large.gives_way.get()
    }
}

impl Drop for UnsentShare {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gives_way(share: &UnsentShare) -> bool {
        share.gives_way(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn those_with_most_give_way_until_it_is_enough() {
        let unsent = Unsent::new(100_000);
        let mut shares: Vec<UnsentShare> = (0..4).map(|_| unsent.share()).collect();
        for (share, bytes) in shares.iter_mut().zip([30_000, 60_000, 10_000, 5000]) {
            share.set(bytes);
        }
        // It was the fourth session that exceeded the limit, but the second session has the most bytes.
        assert_eq!(shares.iter().map(gives_way).collect::<Vec<_>>(), [false, true, false, false]);
        // The bytes of a session that gives way no longer count against the limit.
        shares[2].set(60_000);
        assert!(!gives_way(&shares[0]) && !gives_way(&shares[2]));
        shares[3].set(40_000);
        assert!(gives_way(&shares[2]) && !gives_way(&shares[3]));
    }

    #[test]
    fn small_shares_stay_and_what_is_gone_counts_no_more() {
        let unsent = Unsent::new(10_000);
        let mut small: Vec<UnsentShare> = (0..10).map(|_| unsent.share()).collect();
        small.iter_mut().for_each(|share| share.set(4096));
        let (mut large, mut other) = (unsent.share(), unsent.share());
        large.set(10_000);
        assert!(!small.iter().any(gives_way) && !gives_way(&large));
        other.set(5000);
        assert!(gives_way(&large) && !gives_way(&other));
        large.set(0);
        assert!(!gives_way(&large));
        drop((small, other));
        large.set(10_000);
        assert!(!gives_way(&large) && unsent.0.large.borrow().len() == 1);
        drop(large);
        assert_eq!((unsent.0.bytes.get(), unsent.0.large.borrow().len()), (0, 0));
    }
}
