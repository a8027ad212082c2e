//! A queue in which the sources of requests take turns, however many entries each of them has.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

/// The source of requests, among which connections and turns are shared fairly: an IPv4 address, an IPv6 network of
/// 64 bits, or gripd itself. A network counts as one source because a single client may have all of its 2^64
/// addresses. gripd itself also stands for clients without an address.
///
/// The value is small because each of many held connections keeps one. An IPv6 network is stored as the first half of
/// its addresses. An IPv4 address is stored as a number that is the first half of no IPv6 address in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientNetwork(u64);

impl ClientNetwork {
    /// The source of gripd's own requests and of clients without an address.
    const OWN: Self = Self(u64::MAX);

    /// Returns the source of the requests of a client.
    pub fn of(client: Option<IpAddr>) -> Self {
        match client.map(|address| address.to_canonical()) {
            None => Self::OWN,
            Some(IpAddr::V4(address)) => Self(0xffff << 32 | u64::from(address.to_bits())),
            Some(IpAddr::V6(address)) => Self((address.to_bits() >> 64) as u64),
        }
    }

    /// Returns whether the source is gripd itself, or a client without an address.
    pub(super) fn is_own(self) -> bool {
        self == Self::OWN
    }
}

impl Default for ClientNetwork {
    fn default() -> Self {
        Self::OWN
    }
}

/// Waiting entries, grouped by their sources. The sources take turns.
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    turns: VecDeque<ClientNetwork>,
    of: HashMap<ClientNetwork, VecDeque<T>>,
    count: usize,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self { turns: VecDeque::new(), of: HashMap::new(), count: 0 }
    }
}

impl<T> FairQueue<T> {
    pub(super) fn push(&mut self, source: ClientNetwork, entry: T) {
        let queue = self.of.entry(source).or_default();
        if queue.is_empty() {
            self.turns.push_back(source);
        }
        queue.push_back(entry);
        self.count += 1;
    }

    /// Removes and returns the next entry: the oldest one of the source whose turn it is. If that source has more
    /// entries, it has its next turn after all other sources.
    pub(super) fn pop(&mut self) -> Option<(ClientNetwork, T)> {
        while let Some(source) = self.turns.pop_front() {
            let Some(queue) = self.of.get_mut(&source) else { continue };
            let entry = queue.pop_front();
            if queue.is_empty() {
                self.of.remove(&source);
            } else {
                self.turns.push_back(source);
            }
            if let Some(entry) = entry {
                self.count -= 1;
                return Some((source, entry));
            }
        }
        None
    }

    /// Removes all entries for which `wanted` returns `false`.
    pub(super) fn retain(&mut self, wanted: impl Fn(&T) -> bool) {
        for queue in self.of.values_mut() {
            queue.retain(&wanted);
        }
        self.of.retain(|_, queue| !queue.is_empty());
        self.turns.retain(|source| self.of.contains_key(source));
        self.count = self.of.values().map(VecDeque::len).sum();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    pub(super) const fn len(&self) -> usize {
        self.count
    }

    /// Returns the sources that have entries, in the order of their turns.
    pub(super) fn sources(&self) -> impl Iterator<Item = ClientNetwork> {
        self.turns.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(last: u8) -> ClientNetwork {
        ClientNetwork::of(Some([10, 0, 0, last].into()))
    }

    #[test]
    fn sources_take_turns_and_each_has_its_own_order() {
        let mut queue = FairQueue::default();
        for (last, entry) in [(1, "a1"), (1, "a2"), (1, "a3"), (2, "b1"), (3, "c1"), (2, "b2")] {
            queue.push(source(last), entry);
        }
        assert_eq!(queue.len(), 6);
        let order: Vec<&str> = std::iter::from_fn(|| queue.pop()).map(|(_, entry)| entry).collect();
        assert_eq!(order, ["a1", "b1", "c1", "a2", "b2", "a3"]);
        assert!(queue.is_empty());
    }

    #[test]
    fn what_is_forgotten_has_no_turn() {
        let mut queue = FairQueue::default();
        for (last, entry) in [(1, 1), (2, 2), (1, 3)] {
            queue.push(source(last), entry);
        }
        queue.retain(|entry| *entry != 2);
        assert_eq!(queue.len(), 2);
        assert_eq!(queue.sources().collect::<Vec<_>>(), [source(1)]);
        assert_eq!((queue.pop(), queue.pop(), queue.pop()), (Some((source(1), 1)), Some((source(1), 3)), None));
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let of = |text: &str| ClientNetwork::of(Some(text.parse().unwrap()));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), source(1));
        assert!(ClientNetwork::of(None).is_own() && !source(1).is_own());
    }
}
