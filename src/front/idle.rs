//! Connections that can be closed to make room for others: those between two requests, and those before their
//! first.
//!
//! When file descriptors are short, the connection that has been idle for the longest time is closed for a new one.
//! The list is not kept in order for this purpose. It is searched when the need arises, so that requests cost
//! nothing.

use super::activity::Activity;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// The connections of one shard that hyper serves, or will serve once the gate lets them in.
#[derive(Debug, Default)]
pub struct IdleList {
    entries: RefCell<Slab<Rc<Activity>>>,
    /// The clock of the list. It advances by one each time that a connection becomes idle.
    clock: Cell<u64>,
}

/// A connection in the list. Dropping this removes the connection from the list.
#[derive(Debug)]
pub(super) struct IdleEntry {
    idle: Rc<IdleList>,
    activity: Rc<Activity>,
    key: usize,
}

/// A guard that marks a connection as busy, until it is dropped.
#[derive(Debug)]
pub(super) struct BusyGuard {
    idle: Rc<IdleList>,
    activity: Rc<Activity>,
}

impl IdleList {
    /// Adds a new connection to the list, as an idle one.
    pub(super) fn enter(self: &Rc<Self>) -> IdleEntry {
        let activity = Rc::new(Activity::new(self.tick()));
        let key = self.entries.borrow_mut().insert(Rc::clone(&activity));
        IdleEntry { idle: Rc::clone(self), activity, key }
    }

    /// Tells the connection that has been idle for the longest time to close. Returns `false` if there is no idle
    /// connection that may be closed: new ones are kept for a short time.
    pub(super) fn close_oldest_idle(&self) -> bool {
        let entries = self.entries.borrow();
        let idle = entries.iter().map(|(_, entry)| entry).filter(|entry| entry.can_be_spared());
        let Some(oldest) = idle.min_by_key(|entry| entry.since()) else { return false };
        oldest.request_close();
        true
    }

    fn tick(&self) -> u64 {
        self.clock.set(self.clock.get() + 1);
        self.clock.get()
    }
}

impl IdleEntry {
    /// Returns the state of the connection.
    pub(super) const fn activity(&self) -> &Rc<Activity> {
        &self.activity
    }

    /// Marks the connection as busy until the returned guard is dropped.
    pub(super) fn occupy(&self) -> BusyGuard {
        self.activity.occupy();
        BusyGuard { idle: Rc::clone(&self.idle), activity: Rc::clone(&self.activity) }
    }
}

impl Drop for IdleEntry {
    fn drop(&mut self) {
        self.idle.entries.borrow_mut().remove(self.key);
    }
}

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.activity.end(self.idle.tick());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Waker};

    fn leaves(listed: &IdleEntry) -> bool {
        listed.activity.poll_must_close(&Context::from_waker(Waker::noop())).is_ready()
    }

    /// Returns a connection on which one request was answered.
    fn answered(idle: &Rc<IdleList>) -> IdleEntry {
        let listed = idle.enter();
        drop(listed.occupy());
        listed
    }

    #[test]
    fn the_one_that_is_idle_the_longest_leaves() {
        let idle = Rc::new(IdleList::default());
        let all: Vec<IdleEntry> = (0..3).map(|_| answered(&idle)).collect();
        let busy = all[0].occupy();
        drop(all[1].occupy());
        assert!(idle.close_oldest_idle() && leaves(&all[2]) && !leaves(&all[1]));
        assert!(idle.close_oldest_idle() && leaves(&all[1]));
        assert!(!idle.close_oldest_idle() && !leaves(&all[0]));
        drop(busy);
        assert!(idle.close_oldest_idle() && leaves(&all[0]));
        drop(all);
        assert!(!idle.close_oldest_idle() && idle.entries.borrow().is_empty());
    }

    #[test]
    fn a_request_that_begins_keeps_its_connection() {
        let idle = Rc::new(IdleList::default());
        let one = answered(&idle);
        assert!(idle.close_oldest_idle());
        let busy = one.occupy();
        assert!(!leaves(&one) && !idle.close_oldest_idle());
        drop(busy);
        assert!(idle.close_oldest_idle() && leaves(&one));
    }

    #[test]
    fn what_is_unsent_or_new_stays() {
        let idle = Rc::new(IdleList::default());
        let unsent = answered(&idle);
        unsent.activity.write();
        let _new = idle.enter();
        assert!(!idle.close_oldest_idle());
        unsent.activity.flush();
        assert!(idle.close_oldest_idle() && leaves(&unsent) && !idle.close_oldest_idle());
    }
}
