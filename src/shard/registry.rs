//! The channels of a shard and the connections that hold them. Only the thread of the shard uses this.

use super::ConnectionKey;
use crate::grip::Channel;
use crate::grip::item::MemberSelection;
use slab::Slab;
use smallvec::SmallVec;
use std::collections::HashMap;

/// The entry of one connection in the list of subscribers of one channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subscription {
    /// The channel's number in the registry.
    channel: u32,
    /// The connection's index among the channel's subscribers.
    position: u32,
}

/// The subscriptions of one connection. There is room for two without an allocation, because a connection often holds
/// the channels of a conversation and of its user.
pub(super) type Subscriptions = SmallVec<[Subscription; 2]>;

struct ChannelEntry {
    name: Channel,
    subscribers: SmallVec<[ConnectionKey; 4]>,
}

/// The channels that connections of this shard hold. A channel is in the registry as long as it has a subscriber.
#[derive(Default)]
pub(super) struct SubscriberRegistry {
    numbers: HashMap<Channel, u32, foldhash::fast::RandomState>,
    entries: Slab<ChannelEntry>,
}

impl SubscriberRegistry {
    /// Returns how many channels are held.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the connections that hold `channel`.
    pub(super) fn subscribers(&self, channel: &str) -> &[ConnectionKey] {
        match self.numbers.get(channel) {
            Some(number) => &self.entries[*number as usize].subscribers,
            None => &[],
        }
    }

    /// Returns whether one of `subscriptions` is to `channel`.
    pub(super) fn holds(&self, subscriptions: &[Subscription], channel: &Channel) -> bool {
        subscriptions.iter().any(|s| self.entries[s.channel as usize].name == *channel)
    }

    /// Returns the channel of a subscription.
    pub(super) fn name(&self, subscription: Subscription) -> &Channel {
        &self.entries[subscription.channel as usize].name
    }

    /// Adds the connection `key` to the subscribers of `channel`, which it must not hold yet.
    pub(super) fn add(&mut self, key: ConnectionKey, channel: &Channel) -> Subscription {
        let number = match self.numbers.get(channel) {
            Some(number) => *number,
            None => {
                let entry = ChannelEntry { name: channel.clone(), subscribers: SmallVec::new() };
                let number = narrow(self.entries.insert(entry));
                self.numbers.insert(channel.clone(), number);
                number
            }
        };
        let subscribers = &mut self.entries[number as usize].subscribers;
        subscribers.push(key);
        Subscription { channel: number, position: narrow(subscribers.len() - 1) }
    }

    /// Returns the channel with the fewest subscribers among `channel` and those that `selection` requires besides.
    pub(super) fn fewest<'a>(&self, channel: &'a Channel, selection: Option<&'a MemberSelection>) -> &'a Channel {
        let with = selection.map_or(&[][..], |selection| &selection.with);
        let all = std::iter::once(channel).chain(with);
        all.min_by_key(|channel| self.subscribers(channel).len()).unwrap_or(channel)
    }

    /// Returns the connections of `channel` that `selection` includes. The result is valid until a connection enters
    /// or leaves a channel, because numbers of channels are used again.
    pub(super) fn choose(&self, channel: &Channel, selection: &MemberSelection) -> ChosenConnections {
        let number = |channel: &Channel| self.numbers.get(channel).copied();
        let all = std::iter::once(channel).chain(&selection.with).map(number).collect();
        ChosenConnections { all, none: selection.except.iter().filter_map(number).collect() }
    }

    /// Removes the connection `key` from the channels of `subscriptions`, and returns these channels. `moved` is
    /// called for each other connection whose position in a channel has changed, with its new subscription.
    pub(super) fn remove(
        &mut self,
        key: ConnectionKey,
        subscriptions: &[Subscription],
        mut moved: impl FnMut(ConnectionKey, Subscription),
    ) -> SmallVec<[Channel; 2]> {
        subscriptions
            .iter()
            .map(|s| {
                let entry = &mut self.entries[s.channel as usize];
                debug_assert_eq!(entry.subscribers[s.position as usize], key);
                entry.subscribers.swap_remove(s.position as usize);
                if let Some(&other) = entry.subscribers.get(s.position as usize) {
                    moved(other, *s);
                }
                let name = entry.name.clone();
                if entry.subscribers.is_empty() {
                    self.numbers.remove(&name);
                    self.entries.remove(s.channel as usize);
                }
                name
            })
            .collect()
    }
}

impl Subscription {
    /// Returns whether both subscriptions are to the same channel.
    pub(super) const fn is_same_channel(self, other: Self) -> bool {
        self.channel == other.channel
    }
}

/// A choice of connections by the channels that they hold. Channels are given by their numbers in the registry.
pub(super) struct ChosenConnections {
    /// The channels that a connection must hold. `None`: one of these channels is held by nobody, so no connection is
    /// chosen.
    all: Option<SmallVec<[u32; 4]>>,
    /// The channels that a connection must not hold.
    none: SmallVec<[u32; 4]>,
}

impl ChosenConnections {
    /// Returns whether a connection with these subscriptions is chosen.
    pub(super) fn admits(&self, subscriptions: &[Subscription]) -> bool {
        let holds = |number: &u32| subscriptions.iter().any(|s| s.channel == *number);
        self.all.as_ref().is_some_and(|all| all.iter().all(holds)) && !self.none.iter().any(holds)
    }
}

/// Returns an index in the form in which it is stored. There are far fewer than 2^32 connections or channels.
fn narrow(key: usize) -> u32 {
    u32::try_from(key).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::conn::Conn;
    use crate::shard::connections::Connections;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// A test model that applies joins and leaves in any order to the registry and, for comparison, to a map of plain
    /// lists.
    #[derive(Default)]
    struct RegistryModel {
        registry: SubscriberRegistry,
        conns: Connections,
        expected: BTreeMap<ConnectionKey, Vec<u8>>,
    }

    impl RegistryModel {
        fn join(&mut self, channels: &[u8]) {
            let key = self.conns.insert(Conn::for_test());
            let mut held: Vec<u8> = channels.to_vec();
            held.sort_unstable();
            held.dedup();
            for channel in &held {
                let subscription = self.registry.add(key, &name(*channel));
                self.conns[key].subscriptions.push(subscription);
            }
            self.expected.insert(key, held);
        }

        fn leave(&mut self, nth: usize) {
            let Some(key) = self.expected.keys().nth(nth % self.expected.len().max(1)).copied() else { return };
            let subscriptions = std::mem::take(&mut self.conns[key].subscriptions);
            let conns = &mut self.conns;
            let left = self.registry.remove(key, &subscriptions, |moved, s| conns[moved].update_subscription(s));
            assert_eq!(left.len(), self.expected.remove(&key).unwrap().len());
            self.conns.remove(key);
        }

        fn check(&self) {
            for channel in 0..6 {
                let mut found = self.registry.subscribers(&name(channel)).to_vec();
                found.sort_unstable();
                let held = |(key, channels): (&ConnectionKey, &Vec<u8>)| channels.contains(&channel).then_some(*key);
                let expected: Vec<ConnectionKey> = self.expected.iter().filter_map(held).collect();
                assert_eq!(found, expected);
            }
        }
    }

    fn name(channel: u8) -> Channel {
        Channel::from(format!("c{channel}").as_str())
    }

    proptest! {
        #[test]
        fn subscribers_are_those_who_joined_and_did_not_leave(
            steps in prop::collection::vec((any::<bool>(), prop::collection::vec(0u8..6, 0..4), any::<usize>()), 1..80)
        ) {
            let mut model = RegistryModel::default();
            for (join, channels, nth) in steps {
                if join { model.join(&channels) } else { model.leave(nth) }
                model.check();
            }
            while !model.expected.is_empty() {
                model.leave(0);
            }
            prop_assert_eq!(model.registry.len(), 0);
            prop_assert!(model.registry.numbers.is_empty());
        }
    }
}
