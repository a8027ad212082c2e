//! Denials: for a time, nobody may hold a certain channel, or certain connections may not. Pure: the caller passes
//! in the current time, in seconds since 1970.

use crate::grip::Channel;
use crate::grip::item::MemberSelection;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

/// The largest number of denials at the same time.
const MAX_DENIALS: usize = 100_000;

/// A denial of a channel. It applies to connections that hold certain other channels and do not hold certain others.
/// If it names no other channels, it applies to every connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// The channel that is denied.
    pub channel: String,
    /// The time at which the denial ends, in seconds since 1970.
    pub until: u64,
    /// The channels that a connection must hold as well for the denial to apply.
    pub with: Vec<String>,
    /// The channels that exempt a connection from the denial if it holds any of them.
    pub except: Vec<String>,
}

impl Denial {
    /// Returns a denial of `channel` to the connections that `selection` selects, or to every connection if it is
    /// `None`.
    pub(super) fn new(channel: &str, selection: Option<&MemberSelection>, until: u64) -> Self {
        let names = |channels: &[Channel]| channels.iter().map(|channel| channel.to_string()).collect();
        let (with, except) = selection.map(|s| (names(&s.with), names(&s.except))).unwrap_or_default();
        Self { channel: channel.to_owned(), until, with, except }
    }

    /// Returns whether `other` is a denial of the same channel to the same connections.
    fn is_like(&self, other: &Self) -> bool {
        self.channel == other.channel && self.with == other.with && self.except == other.except
    }

    /// Returns whether the denial applies to a connection that holds `held` and is about to hold `entering` as well.
    /// It does not apply if the connection enters neither the denied channel nor one of the channels in `with`.
    fn concerns(&self, entering: &[Channel], held: &[Channel]) -> bool {
        let among = |all: &[Channel], name: &String| all.iter().any(|channel| **channel == **name);
        let holds = |name: &String| among(entering, name) || among(held, name);
        let named = || std::iter::once(&self.channel).chain(&self.with);
        named().any(|name| among(entering, name)) && named().all(holds) && !self.except.iter().any(holds)
    }
}

/// The largest number of denials of one channel with the same key in `ChannelDenials::by_with`. All of them are looked
/// at when a connection that holds the key joins the channel, so their number is kept small.
const MAX_ALIKE: usize = 100;

/// The number of seconds since the last removal of expired denials after which a new denial makes them be removed
/// again, even if there is room.
const SWEEP_EVERY: u64 = 60;

/// All denials. Those that have expired are ignored. They are removed at intervals, or when room is needed.
#[derive(Debug, Default)]
pub(super) struct Denials {
    channels: BTreeMap<Channel, ChannelDenials>,
    count: usize,
    /// The serial number of the denial that was added last.
    last_serial: u64,
    /// The time at which expired denials were last removed, in seconds since 1970.
    swept: u64,
}

/// The denials of one channel.
#[derive(Debug, Default)]
struct ChannelDenials {
    all: BTreeMap<u64, Denial>,
    /// The serial numbers of the denials, by one of the channels in `with`: by the one with the fewest denials when
    /// the denial was added. Denials with an empty `with` have the key `None`.
    by_with: HashMap<Option<Box<str>>, Vec<u64>>,
}

/// Returns the keys that a denial may have in `ChannelDenials::by_with`.
fn keys(denial: &Denial) -> impl Iterator<Item = Option<&str>> {
    let any = denial.with.is_empty().then_some(None);
    any.into_iter().chain(denial.with.iter().map(|name| Some(name.as_str())))
}

impl ChannelDenials {
    /// Returns the denials with a key, each with its serial number. They may apply to connections that hold the
    /// channel `name`, or to any connection if `name` is `None`.
    fn of(&self, name: Option<&str>) -> impl Iterator<Item = (u64, &Denial)> {
        let serials = self.by_with.get(&name.map(Box::from)).into_iter().flatten();
        serials.filter_map(|serial| Some((*serial, self.all.get(serial)?)))
    }

    /// Returns the serial number of the denial for the same connections as `denial`, if there is one.
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

/// The end of a page of denials, which is where the next page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DenialCursor {
    /// The channel of the last denial on the page.
    pub channel: String,
    /// The serial number of the last denial on the page. `None` if the page holds all remaining denials of the
    /// channel.
    pub serial: Option<u64>,
}

impl Denials {
    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Makes room for the denials in `fresh` by removing expired denials, at intervals or when room is needed.
    /// Returns whether there is room for all of them. A denial that replaces one for the same connections needs no
    /// room.
    pub(super) fn make_room(&mut self, fresh: &[Denial], now: u64) -> bool {
        if now >= self.swept + SWEEP_EVERY {
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

    /// Adds a denial. It replaces a denial for the same connections.
    pub(super) fn add(&mut self, denial: Denial) {
        let denied = self.channels.entry(Channel::from(&*denial.channel)).or_default();
        match denied.like(&denial) {
            Some(serial) => denied.remove(serial),
            None => self.count += 1,
        }
        self.last_serial += 1;
        let key = keys(&denial).min_by_key(|key| denied.count(*key)).flatten().map(Box::from);
        denied.by_with.entry(key).or_default().push(self.last_serial);
        denied.all.insert(self.last_serial, denial);
    }

    /// Returns the first channel that is denied to a connection that holds `held` and is about to hold `entering` as
    /// well. The result may be one of `held`, because a denial may apply only now that the connection enters another
    /// channel.
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

    /// Returns at most `limit` denials of channels whose names begin with `prefix`, in the order of the names, from
    /// the one after `after` on. The second value is the `after` of the next page, or `None` if there are no more
    /// denials.
    pub(super) fn list(
        &self,
        prefix: &str,
        after: Option<&DenialCursor>,
        limit: usize,
        now: u64,
    ) -> (Vec<Denial>, Option<DenialCursor>) {
        let start = match after {
            Some(DenialCursor { channel, serial: Some(_) }) if channel.as_str() >= prefix => {
                Bound::Included(channel.as_str())
            }
            Some(DenialCursor { channel, .. }) if channel.as_str() >= prefix => Bound::Excluded(channel.as_str()),
            _ => Bound::Included(prefix),
        };
        let found = self.channels.range::<str, _>((start, Bound::Unbounded));
        let found = found.take_while(|(name, _)| name.starts_with(prefix)).flat_map(|(name, denied)| {
            let behind = after.filter(|after| *after.channel == **name).and_then(|after| after.serial);
            denied.all.range(behind.map_or(0, |serial| serial.saturating_add(1))..)
        });
        let mut alive = found.filter(|(_, denial)| denial.until > now);
        let page: Vec<(&u64, &Denial)> = alive.by_ref().take(limit).collect();
        let next = page.last().zip(alive.next()).map(|((serial, last), (_, following))| DenialCursor {
            channel: last.channel.clone(),
            serial: (last.channel == following.channel).then_some(**serial),
        });
        (page.into_iter().map(|(_, denial)| denial.clone()).collect(), next)
    }

    /// Removes the denials of a channel. Returns how many of them had not expired.
    pub(super) fn delete(&mut self, channel: &str, now: u64) -> usize {
        let denied = self.channels.remove(channel).unwrap_or_default();
        self.count -= denied.all.len();
        denied.all.values().filter(|denial| denial.until > now).count()
    }

    /// Returns all denials that have not expired.
    pub(super) fn all(&self, now: u64) -> Vec<Denial> {
        let all = self.channels.values().flat_map(|denied| denied.all.values());
        all.filter(|denial| denial.until > now).cloned().collect()
    }

    /// Removes the denials that have expired.
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
        let selection = MemberSelection { with: names(with), except: names(except) };
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
        // A denial does not apply to a connection that holds the channel already and enters another one.
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
        let list = |after: Option<&DenialCursor>, limit| {
            let (page, next) = denials.list("u", after, limit, 10);
            (page.into_iter().map(|denial| denial.channel).collect::<Vec<_>>(), next)
        };
        let (first, next) = list(None, 2);
        assert_eq!(
            (first, next.as_ref().map(|next| next.channel.as_str())),
            (vec!["u1".into(), "u2".into()], Some("u2"))
        );
        assert_eq!(list(next.as_ref(), 9), (vec!["u2".into(), "u3".into()], None));
        let behind = DenialCursor { channel: "u2".into(), serial: None };
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
        // A single batch cannot add more denials with the same key either. A channel that all denials name in `with`
        // does not count, if each names another channel besides.
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
