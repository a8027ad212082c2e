//! The names of channels or users that have connections. The first join and the last leave of a name are events, but
//! a name that is back within the grace counts as never left. Pure: the caller passes in the current time.

use super::event::{Moment, UnixMillis};
use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::Duration;
use tokio::time::Instant;

/// The number of names that may be in their grace at the same time. Beyond it, a leave is an event at once.
const MAX_LEAVING: usize = 1_000_000;

/// The number of connections of each name, and the names that have lost their last connection and may be back within
/// the grace. A name is forgotten when its leave becomes an event.
#[derive(Debug)]
pub(super) struct Presence<N> {
    grace: Duration,
    most_leaving: usize,
    names: HashMap<N, NameState, foldhash::fast::RandomState>,
    /// The names in their grace, in the order in which their leaves become events.
    leaving: BTreeMap<DueTime, N>,
    ticket: u64,
}

/// The time at which a leave becomes an event, and a number that distinguishes leaves with the same time.
type DueTime = (Instant, u64);

#[derive(Clone, Copy, Debug)]
enum NameState {
    /// The name has this number of connections, which is at least 1.
    Held(usize),
    /// The name has had no connection since `left`. Its leave becomes an event at `due`.
    Leaving { due: DueTime, left: UnixMillis },
}

/// The events that follow from a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JoinEvent {
    /// No event: the name has other connections, or had some within the grace.
    Still,
    /// One event: the name has its first connection.
    First,
    /// Two events: the name lost its last connection at this time, and has one again. The grace was over, but the
    /// leave was not returned yet.
    Again(UnixMillis),
}

impl<N: Borrow<str> + Clone + Eq + Hash> Presence<N> {
    /// Returns a presence without names. The leave of a name becomes an event when the name has had no connection
    /// for the time `grace`.
    pub(super) fn new(grace: Duration) -> Self {
        Self { grace, most_leaving: MAX_LEAVING, names: HashMap::default(), leaving: BTreeMap::new(), ticket: 0 }
    }

    /// Counts one more connection of `name`. `own` makes an owned name, and is called only if the name is new.
    pub(super) fn joined(&mut self, name: &str, own: impl FnOnce() -> N, now: Instant) -> JoinEvent {
        let Some(state) = self.names.get_mut(name) else {
            self.names.insert(own(), NameState::Held(1));
            return JoinEvent::First;
        };
        match *state {
            NameState::Held(count) => {
                *state = NameState::Held(count.saturating_add(1));
                JoinEvent::Still
            }
            NameState::Leaving { due, left } => {
                *state = NameState::Held(1);
                self.leaving.remove(&due);
                if due.0 <= now { JoinEvent::Again(left) } else { JoinEvent::Still }
            }
        }
    }

    /// Counts one fewer connection of `name`. Returns the name if its leave is an event at once. Does nothing if the
    /// name has no connections.
    pub(super) fn left(&mut self, name: &str, now: Moment) -> Option<N> {
        match self.names.get_mut(name)? {
            NameState::Held(count) if *count > 1 => {
                *count -= 1;
                return None;
            }
            NameState::Held(_) => {}
            NameState::Leaving { .. } => return None,
        }
        let (own, _) = self.names.remove_entry(name)?;
        let has_room = self.leaving.len() < self.most_leaving;
        let until = match now.instant.checked_add(self.grace) {
            Some(until) if until > now.instant && has_room => until,
            _ => return Some(own),
        };
        self.ticket += 1;
        let due = (until, self.ticket);
        self.names.insert(own.clone(), NameState::Leaving { due, left: now.time });
        self.leaving.insert(due, own);
        None
    }

    /// Removes and returns the names whose grace is over at `now`, with the times at which they were left: at most
    /// `most` of them.
    pub(super) fn due(&mut self, now: Instant, most: usize) -> Vec<(N, UnixMillis)> {
        self.take(most, |until| until <= now)
    }

    /// Removes and returns the names that were left and are not forgotten, with the times at which they were left:
    /// at most `most` of them.
    pub(super) fn flush(&mut self, most: usize) -> Vec<(N, UnixMillis)> {
        self.take(most, |_| true)
    }

    fn take(&mut self, most: usize, is_due: impl Fn(Instant) -> bool) -> Vec<(N, UnixMillis)> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(first) = self.leaving.first_entry()
            && is_due(first.key().0)
        {
            let name = first.remove();
            if let Some(NameState::Leaving { left, .. }) = self.names.remove(name.borrow()) {
                taken.push((name, left));
            }
        }
        taken
    }

    /// Returns the time at which the next leave becomes an event.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.leaving.first_key_value().map(|((until, _), _)| *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    const GRACE: Duration = Duration::from_secs(5);

    /// A clock that converts milliseconds since its start to moments.
    struct Clock(Instant);

    impl Clock {
        fn at(&self, ms: u64) -> Moment {
            Moment { instant: self.0 + Duration::from_millis(ms), time: UnixMillis::from_millis(ms) }
        }
    }

    /// The events so far: the name, whether it was joined or left, and the time in milliseconds.
    type ToldEvents = Vec<(String, bool, u64)>;

    struct Subject {
        presence: Presence<Arc<str>>,
        clock: Clock,
        told: ToldEvents,
    }

    impl Subject {
        fn new(grace: Duration) -> Self {
            Self { presence: Presence::new(grace), clock: Clock(Instant::now()), told: Vec::new() }
        }

        fn tell(&mut self, name: &str, held: bool, time: u64) {
            self.told.push((name.to_owned(), held, time));
        }

        fn joined(&mut self, name: &str, ms: u64) {
            match self.presence.joined(name, || name.into(), self.clock.at(ms).instant) {
                JoinEvent::Still => {}
                JoinEvent::First => self.tell(name, true, ms),
                JoinEvent::Again(left) => {
                    self.tell(name, false, left.as_millis());
                    self.tell(name, true, ms);
                }
            }
        }

        fn left(&mut self, name: &str, ms: u64) {
            if let Some(name) = self.presence.left(name, self.clock.at(ms)) {
                self.tell(&name, false, ms);
            }
        }

        fn due(&mut self, ms: u64, most: usize) {
            for (name, left) in self.presence.due(self.clock.at(ms).instant, most) {
                self.tell(&name, false, left.as_millis());
            }
        }

        fn told(&self) -> Vec<(&str, bool, u64)> {
            self.told.iter().map(|(name, held, time)| (&**name, *held, *time)).collect()
        }
    }

    #[test]
    fn the_first_join_and_the_last_leave_are_told() {
        let mut s = Subject::new(GRACE);
        s.joined("a", 0);
        s.joined("a", 10);
        s.left("a", 20);
        s.left("a", 30);
        assert_eq!(s.presence.deadline(), Some(s.clock.at(5030).instant));
        s.due(5029, 9);
        assert_eq!(s.told(), [("a", true, 0)]);
        s.due(5030, 9);
        // The event has the time of the leave, not the time at which the grace was over.
        assert_eq!(s.told(), [("a", true, 0), ("a", false, 30)]);
        assert!(s.presence.names.is_empty() && s.presence.deadline().is_none());
    }

    #[test]
    fn a_move_is_not_told_in_either_order() {
        let mut s = Subject::new(GRACE);
        s.joined("a", 0);
        s.joined("a", 1);
        s.left("a", 2);
        s.left("a", 3);
        s.joined("a", 4);
        s.due(60_000, 9);
        assert_eq!(s.told(), [("a", true, 0)]);
        // If a name is joined after its grace is over, its leave is an event, even if the leave was not returned
        // yet.
        s.left("a", 70_000);
        s.joined("a", 75_000);
        assert_eq!(s.told()[1..], [("a", false, 70_000), ("a", true, 75_000)]);
        assert_eq!(s.presence.leaving.len(), 0);
    }

    #[test]
    fn what_nobody_holds_cannot_be_left() {
        let mut s = Subject::new(GRACE);
        s.left("a", 0);
        s.joined("a", 1);
        s.left("a", 2);
        s.left("a", 3);
        s.joined("a", 4);
        s.left("a", 5);
        s.due(10_000, 9);
        assert_eq!(s.told(), [("a", true, 1), ("a", false, 5)]);
    }

    #[test]
    fn without_grace_and_beyond_the_bound_a_leave_is_told_at_once() {
        for (grace, most) in [(Duration::ZERO, 1), (GRACE, 0), (Duration::MAX, 1)] {
            let mut s = Subject::new(grace);
            s.presence.most_leaving = most;
            s.joined("a", 0);
            s.left("a", 1);
            assert_eq!(s.told(), [("a", true, 0), ("a", false, 1)]);
            assert!(s.presence.names.is_empty());
        }
    }

    #[test]
    fn leaves_are_taken_in_parts() {
        let mut s = Subject::new(GRACE);
        for name in ["a", "b", "c"] {
            s.joined(name, 0);
            s.left(name, 1);
        }
        s.due(9000, 2);
        assert_eq!((s.presence.leaving.len(), s.told.len()), (1, 5));
        assert_eq!(s.presence.flush(9).len(), 1);
        assert_eq!(s.presence.leaving.len(), 0);
    }

    /// Returns the events that must follow from these joins (`true`) and leaves of a name, which are given with
    /// their times in milliseconds. A leave and a join that are less than `grace` apart are left out.
    fn model(name: &str, changes: &[(bool, u64)], grace: u64) -> ToldEvents {
        let mut told = ToldEvents::new();
        let mut count = 0;
        for (joins, at) in changes {
            match (joins, count) {
                (true, 0) => {
                    let back = told.last().is_some_and(|(_, _, left)| at - left < grace);
                    if back {
                        told.pop();
                    } else {
                        told.push((name.to_owned(), true, *at));
                    }
                    count = 1;
                }
                (false, 1) => {
                    told.push((name.to_owned(), false, *at));
                    count = 0;
                }
                (true, _) => count += 1,
                (false, _) => count -= usize::from(count > 0),
            }
        }
        told
    }

    proptest! {
        #[test]
        fn it_tells_what_the_model_does(
            steps in prop::collection::vec((0usize..3, any::<bool>(), 0u64..40, 0usize..3), 1..200),
            grace in 0u64..50,
        ) {
            let names = ["a", "b", "c"];
            let mut s = Subject::new(Duration::from_millis(grace));
            let mut changes: [Vec<(bool, u64)>; 3] = Default::default();
            let mut at = 0;
            for (name, joins, pause, taken) in steps {
                at += pause;
                s.due(at, taken);
                if joins { s.joined(names[name], at) } else { s.left(names[name], at) }
                changes[name].push((joins, at));
            }
            s.due(at + grace, usize::MAX);
            for (name, changes) in names.iter().zip(&changes) {
                let told: ToldEvents = s.told.iter().filter(|(n, ..)| n == name).cloned().collect();
                prop_assert_eq!(told, model(name, changes, grace));
            }
            prop_assert_eq!(s.presence.leaving.len(), 0);
        }

        #[test]
        fn joins_and_leaves_alternate_whatever_the_bound(
            steps in prop::collection::vec((0usize..4, any::<bool>(), 0u64..9), 1..200),
            most in 0usize..3,
        ) {
            let names = ["a", "b", "c", "d"];
            let mut s = Subject::new(Duration::from_millis(10));
            s.presence.most_leaving = most;
            let mut at = 0;
            for (name, joins, pause) in steps {
                at += pause;
                if joins { s.joined(names[name], at) } else { s.left(names[name], at) }
                prop_assert!(s.presence.leaving.len() <= most);
            }
            s.due(at + 10, usize::MAX);
            for name in names {
                let told: Vec<bool> = s.told.iter().filter(|(n, ..)| n == name).map(|(_, held, _)| *held).collect();
                prop_assert!(told.iter().enumerate().all(|(i, held)| *held == (i % 2 == 0)), "{:?}", told);
                // The last event of a name is a join exactly if the name has connections in the end.
                prop_assert_eq!(told.len() % 2 == 1, s.presence.names.contains_key(name));
            }
        }
    }
}
