//! Connections that nobody would miss: between two requests, or before the first.
//!
//! When descriptors are short, the one that has been idle the longest is closed for a new one. Nothing is kept in order
//! for that: the list is searched when it happens, which costs requests nothing.

use slab::Slab;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// How long a new connection may take to ask for something before it counts as idle.
const WELCOME: Duration = Duration::from_secs(2);

/// The connections of one shard that hyper serves, or will.
#[derive(Debug, Default)]
pub struct Idle {
    entries: RefCell<Slab<Rc<Entry>>>,
    /// Counts the times that connections became idle.
    clock: Cell<u64>,
}

#[derive(Debug)]
struct Entry {
    /// When it became idle, by the clock; 0: it is busy.
    since: Cell<u64>,
    came: Instant,
    /// Whether one of its requests was answered.
    is_answered: Cell<bool>,
    /// Whether hyper has nothing unsent.
    clean: RefCell<Option<Rc<Cell<bool>>>>,
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
        let entry = Rc::new(Entry {
            since: Cell::new(self.tick()),
            came: Instant::now(),
            is_answered: Cell::new(false),
            clean: RefCell::default(),
            leaves: Cell::new(false),
            waker: RefCell::default(),
        });
        let key = self.entries.borrow_mut().insert(Rc::clone(&entry));
        Listed { idle: Rc::clone(self), entry, key }
    }

    /// Tells the connection that has been idle the longest to leave. `false`: none is idle.
    pub(super) fn spare_one(&self) -> bool {
        let entries = self.entries.borrow();
        let idle = entries.iter().map(|(_, entry)| entry).filter(|entry| entry.can_be_spared());
        let Some(oldest) = idle.min_by_key(|entry| entry.since.get()) else { return false };
        oldest.leaves.set(true);
        if let Some(waker) = &*oldest.waker.borrow() {
            waker.wake_by_ref();
        }
        true
    }

    fn tick(&self) -> u64 {
        self.clock.set(self.clock.get() + 1);
        self.clock.get()
    }
}

impl Entry {
    /// Whether it is idle, has nothing unsent, and was there for long enough to ask for something.
    fn can_be_spared(&self) -> bool {
        let is_idle = self.since.get() > 0 && !self.leaves.get();
        let is_clean = self.clean.borrow().as_ref().is_none_or(|clean| clean.get());
        is_idle && is_clean && (self.is_answered.get() || self.came.elapsed() >= WELCOME)
    }
}

impl Listed {
    /// Names the sign that tells whether something is unsent.
    pub(super) fn is_clean_by(&self, clean: &Rc<Cell<bool>>) {
        *self.entry.clean.borrow_mut() = Some(Rc::clone(clean));
    }

    /// Marks the connection as busy until the returned guard is dropped.
    pub(super) fn begin(&self) -> Busy {
        self.entry.since.set(0);
        self.entry.leaves.set(false);
        Busy { idle: Rc::clone(&self.idle), entry: Rc::clone(&self.entry) }
    }

    /// Ready when the connection is to leave.
    pub(super) fn poll_leave(&self, cx: &Context<'_>) -> Poll<()> {
        let mut waker = self.entry.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        if self.entry.leaves.get() { Poll::Ready(()) } else { Poll::Pending }
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
        self.entry.is_answered.set(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(listed: &Listed) -> bool {
        listed.poll_leave(&Context::from_waker(Waker::noop())).is_ready()
    }

    /// A connection of which a request was answered.
    fn answered(idle: &Rc<Idle>) -> Listed {
        let listed = idle.enter();
        drop(listed.begin());
        listed
    }

    #[test]
    fn the_one_that_is_idle_the_longest_leaves() {
        let idle = Rc::new(Idle::default());
        let all: Vec<Listed> = (0..3).map(|_| answered(&idle)).collect();
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
        let one = answered(&idle);
        assert!(idle.spare_one());
        let busy = one.begin();
        assert!(!leaves(&one) && !idle.spare_one());
        drop(busy);
        assert!(idle.spare_one() && leaves(&one));
    }

    #[test]
    fn what_is_unsent_or_new_stays() {
        let idle = Rc::new(Idle::default());
        let (unsent, clean) = (answered(&idle), Rc::new(Cell::new(false)));
        unsent.is_clean_by(&clean);
        let _new = idle.enter();
        assert!(!idle.spare_one());
        clean.set(true);
        assert!(idle.spare_one() && leaves(&unsent) && !idle.spare_one());
    }
}
