//! Channels that nobody may hold, or not everybody, for a time. Pure: time is told in seconds since 1970.

use crate::grip::Channel;
use crate::grip::item::Selection;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
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
    /// Returns a denial of `channel` to whom a selection means.
    pub(super) fn new(channel: &str, selection: Option<&Selection>, until: u64) -> Self {
        let names = |channels: &[Channel]| channels.iter().map(|channel| channel.to_string()).collect();
        let (with, except) = selection.map(|s| (names(&s.with), names(&s.except))).unwrap_or_default();
        Self { channel: channel.to_owned(), until, with, except }
    }

    /// Returns whether it is meant for the same connections.
    fn is_like(&self, other: &Self) -> bool {
        self.channel == other.channel && self.with == other.with && self.except == other.except
    }

    /// Returns whether a connection would fall under it that is about to hold channels besides others.
    fn concerns(&self, entering: &[Channel], held: &[Channel]) -> bool {
        let among = |all: &[Channel], name: &String| all.iter().any(|channel| **channel == **name);
        let holds = |name: &String| among(entering, name) || among(held, name);
        let named = || std::iter::once(&self.channel).chain(&self.with);
        named().any(|name| among(entering, name)) && named().all(holds) && !self.except.iter().any(holds)
    }
}

/// Denials of one channel that can only be told apart one by one, at the same time: each is looked at when somebody joins
/// who may be meant.
const MAX_ALIKE: usize = 100;

/// For how many seconds those that are over may be kept.
const SWEEP: u64 = 60;

/// All denials. Those that are over are forgotten when there is no room, or when they are looked for.
#[derive(Debug, Default)]
pub(super) struct Denials {
    channels: BTreeMap<Channel, Denied>,
    count: usize,
    /// The serial number of the next denial.
    serial: u64,
    /// When those that were over were last forgotten.
    swept: u64,
}

/// The denials of one channel.
#[derive(Debug, Default)]
struct Denied {
    all: BTreeMap<u64, Denial>,
    /// By one of the channels that must be held as well, if any must: that of the fewest.
    by_with: HashMap<Option<Box<str>>, Vec<u64>>,
}

/// Returns the channels by one of which a denial is found.
fn keys(denial: &Denial) -> impl Iterator<Item = Option<&str>> {
    let any = denial.with.is_empty().then_some(None);
    any.into_iter().chain(denial.with.iter().map(|name| Some(name.as_str())))
}

impl Denied {
    /// Returns those that may concern who holds `name`, or anybody.
    fn of(&self, name: Option<&str>) -> impl Iterator<Item = (u64, &Denial)> {
        let serials = self.by_with.get(&name.map(Box::from)).into_iter().flatten();
        serials.filter_map(|serial| Some((*serial, self.all.get(serial)?)))
    }

    /// Returns the one for the same connections.
    fn like(&self, denial: &Denial) -> Option<u64> {
        let mut alike = keys(denial).flat_map(|key| self.of(key));
        alike.find(|(_, other)| other.is_like(denial)).map(|(serial, _)| serial)
    }

    fn count(&self, key: Option<&str>) -> usize {
        self.by_with.get(&key.map(Box::from)).map_or(0, Vec::len)
    }

    fn remove(&mut self, serial: u64) {
        let Some(denial) = self.all.remove(&serial) else { return };
        for key in keys(&denial).map(|key| key.map(Box::from)) {
            if let Some(serials) = self.by_with.get_mut(&key) {
                serials.retain(|other| *other != serial);
                if serials.is_empty() {
                    self.by_with.remove(&key);
                }
            }
        }
    }
}

/// Where a page of denials ends: a channel, and perhaps a denial of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct After {
    /// The channel.
    pub channel: String,
    /// The denial; all of the channel without one.
    pub serial: Option<u64>,
}

impl Denials {
    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Forgets denials that are over, at intervals or when room is needed. Returns whether these fit. A denial for the same
    /// connections as one that there is takes its place.
    pub(super) fn make_room(&mut self, fresh: &[Denial], now: u64) -> bool {
        if now >= self.swept + SWEEP {
            self.expire(now);
        }
        if self.fits(fresh) {
            return true;
        }
        self.expire(now);
        self.fits(fresh)
    }

    fn fits(&self, fresh: &[Denial]) -> bool {
        let mut more: HashMap<(&str, Option<&str>), usize> = HashMap::new();
        for denial in fresh {
            let denied = self.channels.get(&*denial.channel);
            if denied.is_some_and(|denied| denied.like(denial).is_some()) {
                continue;
            }
            let count = |key: Option<&str>| {
                let there = denied.map_or(0, |denied| denied.count(key));
                there + more.get(&(denial.channel.as_str(), key)).copied().unwrap_or_default()
            };
            let Some((count, key)) = keys(denial).map(|key| (count(key), key)).min() else { continue };
            if count >= MAX_ALIKE {
                return false;
            }
            *more.entry((&denial.channel, key)).or_default() += 1;
        }
        self.count + more.values().sum::<usize>() <= MAX_DENIALS
    }

    /// Adds a denial, instead of one for the same connections.
    pub(super) fn add(&mut self, denial: Denial) {
        let denied = self.channels.entry(Channel::from(&*denial.channel)).or_default();
        match denied.like(&denial) {
            Some(serial) => denied.remove(serial),
            None => self.count += 1,
        }
        self.serial += 1;
        let key = keys(&denial).min_by_key(|key| denied.count(*key)).flatten().map(Box::from);
        denied.by_with.entry(key).or_default().push(self.serial);
        denied.all.insert(self.serial, denial);
    }

    /// Returns the first channel that is denied to a connection that is about to hold channels besides others.
    pub(super) fn find(&self, entering: &[Channel], held: &[Channel], now: u64) -> Option<Channel> {
        let all = || entering.iter().chain(held);
        let applies = |denial: &Denial| denial.until > now && denial.concerns(entering, held);
        let denied = |channel: &&Channel| {
            let Some(denied) = self.channels.get(*channel) else { return false };
            let names = std::iter::once(None).chain(all().map(|name| Some(&**name)));
            names.flat_map(|name| denied.of(name)).any(|(_, denial)| applies(denial))
        };
        all().find(denied).cloned()
    }

    /// Returns at most `limit` denials of channels whose names begin with `prefix`, in order, after `after`; and where
    /// there are more.
    pub(super) fn list(
        &self,
        prefix: &str,
        after: Option<&After>,
        limit: usize,
        now: u64,
    ) -> (Vec<Denial>, Option<After>) {
        let start = match after {
            Some(After { channel, serial: Some(_) }) if channel.as_str() >= prefix => Bound::Included(channel.as_str()),
            Some(After { channel, .. }) if channel.as_str() >= prefix => Bound::Excluded(channel.as_str()),
            _ => Bound::Included(prefix),
        };
        let found = self.channels.range::<str, _>((start, Bound::Unbounded));
        let found = found.take_while(|(name, _)| name.starts_with(prefix)).flat_map(|(name, denied)| {
            let behind = after.filter(|after| *after.channel == **name).and_then(|after| after.serial);
            denied.all.range(behind.map_or(0, |serial| serial.saturating_add(1))..)
        });
        let mut alive = found.filter(|(_, denial)| denial.until > now);
        let page: Vec<(&u64, &Denial)> = alive.by_ref().take(limit).collect();
        let next = page.last().zip(alive.next()).map(|((serial, last), (_, following))| After {
            channel: last.channel.clone(),
            serial: (last.channel == following.channel).then_some(**serial),
        });
        (page.into_iter().map(|(_, denial)| denial.clone()).collect(), next)
    }

    /// Ends the denials of a channel, and says how many they were.
    pub(super) fn delete(&mut self, channel: &str, now: u64) -> usize {
        let denied = self.channels.remove(channel).unwrap_or_default();
        self.count -= denied.all.len();
        denied.all.values().filter(|denial| denial.until > now).count()
    }

    /// Returns all that are not over.
    pub(super) fn all(&self, now: u64) -> Vec<Denial> {
        let all = self.channels.values().flat_map(|denied| denied.all.values());
        all.filter(|denial| denial.until > now).cloned().collect()
    }

    /// Forgets those that are over.
    pub(super) fn expire(&mut self, now: u64) {
        self.swept = now;
        for denied in self.channels.values_mut() {
            let over: Vec<u64> = denied.all.iter().filter(|(_, denial)| denial.until <= now).map(|(s, _)| *s).collect();
            over.into_iter().for_each(|serial| denied.remove(serial));
        }
        self.channels.retain(|_, denied| !denied.all.is_empty());
        self.count = self.channels.values().map(|denied| denied.all.len()).sum();
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
        // A channel that is held already is not entered.
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
        denials.add(denial("u2", &["w"], &[], 50));
        let list = |after: Option<&After>, limit| {
            let (page, next) = denials.list("u", after, limit, 10);
            (page.into_iter().map(|denial| denial.channel).collect::<Vec<_>>(), next)
        };
        let (first, next) = list(None, 2);
        assert_eq!(
            (first, next.as_ref().map(|next| next.channel.as_str())),
            (vec!["u1".into(), "u2".into()], Some("u2"))
        );
        assert_eq!(list(next.as_ref(), 9), (vec!["u2".into(), "u3".into()], None));
        let behind = After { channel: "u2".into(), serial: None };
        assert_eq!(list(Some(&behind), 9), (vec!["u3".into()], None));
    }

    #[test]
    fn there_is_room_for_so_many_and_what_is_over_makes_room() {
        let mut denials = Denials::default();
        for number in 0..MAX_DENIALS {
            denials.add(Denial::new(&format!("u{number}"), None, 10 + number as u64 % 2));
        }
        let fresh = |name: &str| [Denial::new(name, None, 99)];
        assert!(!denials.make_room(&fresh("new"), 9) && denials.make_room(&fresh("u7"), 9));
        assert!(denials.make_room(&fresh("new"), 10));
        assert_eq!(denials.count, MAX_DENIALS / 2);
    }

    #[test]
    fn of_those_that_must_be_looked_at_together_there_are_few() {
        let mut denials = Denials::default();
        for number in 0..MAX_ALIKE {
            denials.add(denial("c", &["u1"], &[&format!("x{number}")], 1000));
            denials.add(denial("c", &[&format!("v{number}")], &[], 1000));
        }
        assert!(!denials.make_room(&[denial("c", &["u1"], &["y"], 1000)], 9));
        assert!(denials.make_room(&[denial("c", &["u1"], &["y"], 1000)], 1000));
        // One batch is no way round, and what all have in common is no hindrance.
        let many = |common: bool| -> Vec<Denial> {
            let with = |n| if common { vec!["members".into(), format!("u{n}")] } else { vec!["members".into()] };
            (0..200)
                .map(|n| Denial { with: with(n), except: vec![format!("x{n}")], ..denial("d", &[], &[], 1000) })
                .collect()
        };
        assert!(!denials.make_room(&many(false), 9) && denials.make_room(&many(true), 9));
        many(true).into_iter().for_each(|denial| denials.add(denial));
        assert_eq!(found(&denials, &["d"], &["members", "u150"], 9).as_deref(), Some("d"));
        assert_eq!(found(&denials, &["d"], &["members", "u150", "x150"], 9), None);
        assert_eq!(denials.delete("d", 9), 200);
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
                prop_assert_eq!(denials.count, denials.all(0).len() + denials.channels.values().flat_map(|d| d.all.values()).filter(|d| d.until == 0).count());
                let indexed = denials.channels.values().flat_map(|d| d.by_with.values().map(Vec::len)).sum::<usize>();
                prop_assert_eq!(denials.count, indexed);
            }
            prop_assert!(denials.make_room(&[], 0));
        }
    }
}
