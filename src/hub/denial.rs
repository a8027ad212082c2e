//! Channels that nobody may hold, or not everybody, for a time. Pure: time is told in seconds since 1970.

use crate::grip::Channel;
use crate::grip::item::Selection;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Bound;

/// Denials at the same time.
const MAX_DENIALS: usize = 100_000;

/// A channel that is denied to those who hold certain others, or do not; to everybody, if it names none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// The channel.
    pub channel: String,
    /// When it ends, in seconds since 1970.
    pub until: u64,
    /// Channels that must be held as well for it to concern a connection.
    pub with: Vec<String>,
    /// Channels of which none may be held.
    pub except: Vec<String>,
}

impl Denial {
    /// A denial of `channel` to whom a selection means.
    pub(super) fn new(channel: &str, selection: Option<&Selection>, until: u64) -> Self {
        let names = |channels: &[Channel]| channels.iter().map(|channel| channel.to_string()).collect();
        let (with, except) = selection.map(|s| (names(&s.with), names(&s.except))).unwrap_or_default();
        Self { channel: channel.to_owned(), until, with, except }
    }

    /// Whether it is meant for the same connections.
    fn is_like(&self, other: &Self) -> bool {
        self.channel == other.channel && self.with == other.with && self.except == other.except
    }

    /// Whether a connection would fall under it that is about to hold channels besides others.
    fn concerns(&self, entering: &[Channel], held: &[Channel]) -> bool {
        let among = |all: &[Channel], name: &String| all.iter().any(|channel| **channel == **name);
        let holds = |name: &String| among(entering, name) || among(held, name);
        let named = || std::iter::once(&self.channel).chain(&self.with);
        named().any(|name| among(entering, name)) && named().all(holds) && !self.except.iter().any(holds)
    }
}

/// All denials. What is over is forgotten when something is added, or looked at.
#[derive(Debug, Default)]
pub(super) struct Denials {
    by_channel: BTreeMap<Channel, Vec<Denial>>,
    count: usize,
}

impl Denials {
    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether these fit; those for the same connections as one that there is take its place.
    pub(super) fn has_room(&mut self, fresh: &[Denial], now: u64) -> bool {
        let of = |channel: &str| self.by_channel.get(channel).map_or(&[][..], |all| all);
        let is_new = |denial: &&Denial| !of(&denial.channel).iter().any(|other| other.is_like(denial));
        let more = fresh.iter().filter(is_new).count();
        if self.count + more > MAX_DENIALS {
            self.expire(now);
        }
        self.count + more <= MAX_DENIALS
    }

    /// Adds a denial, in the place of one for the same connections.
    pub(super) fn add(&mut self, denial: Denial) {
        let all = self.by_channel.entry(Channel::from(&*denial.channel)).or_default();
        self.count += 1;
        self.count -= all.len();
        all.retain(|other| !other.is_like(&denial));
        all.push(denial);
        self.count += all.len() - 1;
    }

    /// The first channel that is denied to a connection that is about to hold channels besides others.
    pub(super) fn find(&self, entering: &[Channel], held: &[Channel], now: u64) -> Option<Channel> {
        let applies = |denial: &Denial| denial.until > now && denial.concerns(entering, held);
        let denied = |channel: &&Channel| self.by_channel.get(*channel).is_some_and(|all| all.iter().any(applies));
        entering.iter().chain(held).find(denied).cloned()
    }

    /// Denials of channels whose names begin with `prefix`, in order, behind `after`; of at most `limit` channels, and
    /// whether there are more.
    pub(super) fn list(&self, prefix: &str, after: Option<&str>, limit: usize, now: u64) -> (Vec<Denial>, bool) {
        let start = match after {
            Some(name) if name >= prefix => Bound::Excluded(name),
            _ => Bound::Included(prefix),
        };
        let found = self.by_channel.range::<str, _>((start, Bound::Unbounded));
        let found = found.take_while(|(name, _)| name.starts_with(prefix));
        let mut alive = found.filter(|(_, all)| all.iter().any(|denial| denial.until > now));
        let page: Vec<Denial> = alive.by_ref().take(limit).flat_map(|(_, all)| all.iter().cloned()).collect();
        (page.into_iter().filter(|denial| denial.until > now).collect(), alive.next().is_some())
    }

    /// Ends the denials of a channel, and says how many they were.
    pub(super) fn delete(&mut self, channel: &str, now: u64) -> usize {
        let all = self.by_channel.remove(channel).unwrap_or_default();
        self.count -= all.len();
        all.iter().filter(|denial| denial.until > now).count()
    }

    /// All that are not over.
    pub(super) fn all(&self, now: u64) -> Vec<Denial> {
        self.by_channel.values().flatten().filter(|denial| denial.until > now).cloned().collect()
    }

    fn expire(&mut self, now: u64) {
        self.by_channel.retain(|_, all| {
            all.retain(|denial| denial.until > now);
            !all.is_empty()
        });
        self.count = self.by_channel.values().map(Vec::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(names: &[&str]) -> Vec<Channel> {
        names.iter().map(|name| Channel::from(*name)).collect()
    }

    fn denial(channel: &str, with: &[&str], except: &[&str], until: u64) -> Denial {
        let selection = Selection { with: names(with), except: names(except) };
        Denial::new(channel, Some(&selection), until)
    }

    fn found(denials: &Denials, entering: &[&str], held: &[&str], now: u64) -> Option<String> {
        denials.find(&names(entering), &names(held), now).map(|channel| channel.to_string())
    }

    #[test]
    fn a_channel_is_denied_until_its_time_is_over() {
        let mut denials = Denials::default();
        assert!(denials.is_empty());
        denials.add(Denial::new("u1", None, 100));
        assert_eq!(found(&denials, &["c", "u1"], &[], 99).as_deref(), Some("u1"));
        assert_eq!(found(&denials, &["u1"], &[], 100), None);
        assert_eq!(found(&denials, &["c"], &[], 99), None);
        // What is held already is not entered.
        assert_eq!(found(&denials, &["c"], &["u1"], 99), None);
        assert_eq!((denials.delete("u1", 99), denials.delete("u1", 99)), (1, 0));
        assert!(denials.is_empty());
    }

    #[test]
    fn it_may_be_denied_to_some() {
        let mut denials = Denials::default();
        denials.add(denial("c", &["u1"], &["admin"], 100));
        assert_eq!(found(&denials, &["c", "u1"], &[], 1).as_deref(), Some("c"));
        assert_eq!(found(&denials, &["c"], &["u1"], 1).as_deref(), Some("c"));
        assert_eq!(found(&denials, &["u1"], &["c"], 1).as_deref(), Some("c"));
        assert_eq!(found(&denials, &["c", "u2"], &[], 1), None);
        assert_eq!(found(&denials, &["c", "u1", "admin"], &[], 1), None);
    }

    #[test]
    fn there_is_one_for_the_same_connections() {
        let mut denials = Denials::default();
        denials.add(denial("c", &["a"], &[], 10));
        denials.add(denial("c", &["b"], &[], 10));
        denials.add(denial("c", &["a"], &[], 20));
        assert_eq!((denials.count, denials.all(10).len(), denials.all(9).len()), (2, 1, 2));
    }

    #[test]
    fn they_are_listed_in_order_and_by_page() {
        let mut denials = Denials::default();
        ["u3", "u1", "c1", "u2"].iter().for_each(|name| denials.add(Denial::new(name, None, 50)));
        denials.add(Denial::new("u0", None, 5));
        let list = |after, limit| {
            let (page, more) = denials.list("u", after, limit, 10);
            (page.into_iter().map(|denial| denial.channel).collect::<Vec<_>>(), more)
        };
        assert_eq!(list(None, 2), (vec!["u1".into(), "u2".into()], true));
        assert_eq!(list(Some("u2"), 2), (vec!["u3".into()], false));
    }

    #[test]
    fn there_is_room_for_so_many_and_what_is_over_makes_room() {
        let mut denials = Denials::default();
        for number in 0..MAX_DENIALS {
            denials.add(Denial::new(&format!("u{number}"), None, 10 + number as u64 % 2));
        }
        let fresh = |name: &str| [Denial::new(name, None, 99)];
        assert!(!denials.has_room(&fresh("new"), 9) && denials.has_room(&fresh("u7"), 9));
        assert!(denials.has_room(&fresh("new"), 10));
        assert_eq!(denials.count, MAX_DENIALS / 2);
    }

    proptest! {
        #[test]
        fn the_count_is_right(steps in prop::collection::vec((0u8..5, 0u8..3, 0u64..20, any::<bool>()), 0..60)) {
            let mut denials = Denials::default();
            for (channel, with, until, add) in steps {
                let name = format!("c{channel}");
                if add {
                    denials.add(denial(&name, &[&format!("w{with}")], &[], until));
                } else {
                    denials.delete(&name, until);
                }
                prop_assert_eq!(denials.count, denials.by_channel.values().map(Vec::len).sum::<usize>());
            }
            prop_assert!(denials.has_room(&[], 0));
        }
    }
}
