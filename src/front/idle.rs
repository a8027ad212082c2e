//! Connections that nobody would miss: between two requests, or before the first.
//!
//! When descriptors are short, the one that has been idle the longest is closed for a new one. Nothing is kept in order
//! for that: the list is searched when it happens, which costs requests nothing.

use slab::Slab;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// The connections of one shard that hyper serves, or will.
#[derive(Debug, Default)]
pub struct Idle {
    entries: RefCell<Slab<Rc<Entry>>>,
    /// Counts the times that connections became idle.
    clock: Cell<u64>,
}

#[derive(Debug, Default)]
struct Entry {
    /// When it became idle, by the clock; 0: it is busy.
    since: Cell<u64>,
    leaves: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// A connection in the list, until this is dropped.
#[derive(Debug)]
pub(super) struct Listed {
    idle: Rc<Idle>,
    entry: Rc<Entry>,
    key: usize,
}

/// A request in progress, until this is dropped.
#[derive(Debug)]
pub(super) struct Busy {
    idle: Rc<Idle>,
    entry: Rc<Entry>,
}

impl Idle {
    /// Lists a connection as idle.
    pub(super) fn enter(self: &Rc<Self>) -> Listed {
        let entry = Rc::new(Entry { since: Cell::new(self.tick()), ..Entry::default() });
        let key = self.entries.borrow_mut().insert(Rc::clone(&entry));
        Listed { idle: Rc::clone(self), entry, key }
    }

    /// Has the connection leave that has been idle the longest. `false`: none is idle.
    pub(super) fn spare_one(&self) -> bool {
        let entries = self.entries.borrow();
        let idle = entries.iter().map(|(_, entry)| entry).filter(|entry| entry.since.get() > 0 && !entry.leaves.get());
        let Some(oldest) = idle.min_by_key(|entry| entry.since.get()) else { return false };
        oldest.leaves.set(true);
        if let Some(waker) = oldest.waker.borrow_mut().take() {
            waker.wake();
        }
        true
    }

    fn tick(&self) -> u64 {
        self.clock.set(self.clock.get() + 1);
        self.clock.get()
    }
}

impl Listed {
    /// Marks the connection as busy until the returned guard is dropped.
    pub(super) fn begin(&self) -> Busy {
        self.entry.since.set(0);
        self.entry.leaves.set(false);
        Busy { idle: Rc::clone(&self.idle), entry: Rc::clone(&self.entry) }
    }

    /// Ready when the connection is to leave.
    pub(super) fn poll_leave(&self, cx: &Context<'_>) -> Poll<()> {
        if self.entry.leaves.get() {
            return Poll::Ready(());
        }
        let mut waker = self.entry.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Lets the connection stay after all: its last answer is not with the kernel yet.
    pub(super) fn stay(&self) {
        self.entry.leaves.set(false);
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.idle.entries.borrow_mut().remove(self.key);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.entry.since.set(self.idle.tick());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(listed: &Listed) -> bool {
        listed.poll_leave(&Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_one_that_is_idle_the_longest_leaves() {
        let idle = Rc::new(Idle::default());
        let all: Vec<Listed> = (0..3).map(|_| idle.enter()).collect();
        let busy = all[0].begin();
        drop(all[1].begin());
        assert!(idle.spare_one() && leaves(&all[2]) && !leaves(&all[1]));
        assert!(idle.spare_one() && leaves(&all[1]));
        assert!(!idle.spare_one() && !leaves(&all[0]));
        drop(busy);
        assert!(idle.spare_one() && leaves(&all[0]));
        drop(all);
        assert!(!idle.spare_one() && idle.entries.borrow().is_empty());
    }

    #[test]
    fn a_request_that_begins_keeps_its_connection() {
        let idle = Rc::new(Idle::default());
        let one = idle.enter();
        assert!(idle.spare_one());
        let busy = one.begin();
        assert!(!leaves(&one) && !idle.spare_one());
        drop(busy);
        assert!(idle.spare_one() && leaves(&one));
    }
}
