//! The table of held channels: the shards that hold each channel, and the number of their connections.

use crate::grip::Channel;
use serde::Serialize;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::ops::Bound;

/// A channel that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeldChannel {
    /// The name of the channel.
    pub channel: String,
    /// The number of connections that hold the channel.
    pub connections: u64,
}

/// The number of connections of one shard that hold a channel.
#[derive(Clone, Copy, Debug)]
struct ShardShare {
    shard: u16,
    connections: u32,
}

type ShardShares = SmallVec<[ShardShare; 2]>;

/// The held channels, in the order of their names. A channel is in the table while at least one connection holds it.
/// A command that will subscribe connections of a shard to the channel counts as one more connection of that shard,
/// until the shard has carried it out.
#[derive(Debug, Default)]
pub(super) struct ChannelTable {
    /// The number that was given out last. Every accepted item and every command gets a number.
    pub(super) number: u64,
    channels: BTreeMap<Channel, ShardShares>,
}

impl ChannelTable {
    /// Returns the shards that hold `channel`.
    pub(super) fn shards(&self, channel: &str) -> impl Iterator<Item = usize> {
        self.channels.get(channel).into_iter().flatten().map(|s| usize::from(s.shard))
    }

    /// Returns whether a shard holds `channel`.
    pub(super) fn is_held(&self, channel: &str, shard: usize) -> bool {
        self.shards(channel).any(|other| other == shard)
    }

    pub(super) fn join(&mut self, shard: usize, channels: &[Channel]) -> u64 {
        let shard = narrow(shard);
        for channel in channels {
            let shares = self.channels.entry(channel.clone()).or_default();
            match shares.iter_mut().find(|s| s.shard == shard) {
                Some(share) => share.connections += 1,
                None => shares.push(ShardShare { shard, connections: 1 }),
            }
        }
        self.number
    }

    /// Notes that one connection of a shard has left a channel. Returns whether it was the last connection of the
    /// channel on any shard.
    pub(super) fn leave(&mut self, shard: usize, channel: &Channel) -> bool {
        let Some(shares) = self.channels.get_mut(&**channel) else { return false };
        let Some(at) = shares.iter().position(|s| s.shard == narrow(shard)) else { return false };
        shares[at].connections -= 1;
        if shares[at].connections == 0 {
            shares.swap_remove(at);
        }
        let last = shares.is_empty();
        if last {
            self.channels.remove(&**channel);
        }
        last
    }

    pub(super) fn connections(&self, channel: &str) -> u64 {
        self.channels.get(channel).map_or(0, total)
    }

    pub(super) fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> (Vec<HeldChannel>, bool) {
        let start = match after {
            Some(name) if name >= prefix => Bound::Excluded(name),
            _ => Bound::Included(prefix),
        };
        let mut found = self
            .channels
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(name, _)| name.starts_with(prefix))
            .map(|(name, shares)| HeldChannel { channel: name.to_string(), connections: total(shares) });
        let page = found.by_ref().take(limit).collect();
        (page, found.next().is_some())
    }

    pub(super) fn len(&self) -> usize {
        self.channels.len()
    }
}

fn total(shares: &ShardShares) -> u64 {
    shares.iter().map(|s| u64::from(s.connections)).sum()
}

/// Returns the index of a shard in the form in which the table keeps it. 16 bits suffice, because no machine has
/// 65,536 cores.
fn narrow(shard: usize) -> u16 {
    u16::try_from(shard).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(names: &[&str]) -> Vec<Channel> {
        names.iter().map(|n| Channel::from(*n)).collect()
    }

    fn held(page: &(Vec<HeldChannel>, bool)) -> (Vec<(&str, u64)>, bool) {
        (page.0.iter().map(|h| (h.channel.as_str(), h.connections)).collect(), page.1)
    }

    #[test]
    fn channels_are_listed_in_order_by_prefix_and_page() {
        let mut table = ChannelTable::default();
        table.join(0, &names(&["conv2", "user1"]));
        table.join(1, &names(&["conv1", "conv2"]));
        table.join(1, &names(&["conv3", "conv2"]));
        assert_eq!(held(&table.list("conv", None, 2)), (vec![("conv1", 1), ("conv2", 3)], true));
        assert_eq!(held(&table.list("conv", Some("conv2"), 2)), (vec![("conv3", 1)], false));
        assert_eq!(held(&table.list("conv", Some("a"), 1)), (vec![("conv1", 1)], true));
        assert_eq!(held(&table.list("conv", Some("z"), 9)), (vec![], false));
        assert_eq!(table.connections("conv2"), 3);
        assert_eq!(table.connections("nobody"), 0);
        assert_eq!(table.shards("conv2").collect::<Vec<_>>(), [0, 1]);
    }

    proptest! {
        #[test]
        fn a_table_is_empty_when_all_have_left(joins in prop::collection::vec((0usize..3, 0u8..5), 0..60), seed: usize) {
            let mut table = ChannelTable::default();
            let name = |n: u8| names(&[&format!("c{n}")]);
            for (shard, channel) in &joins {
                table.join(*shard, &name(*channel));
            }
            for channel in 0..5 {
                let expected = joins.iter().filter(|(_, c)| *c == channel).count() as u64;
                prop_assert_eq!(table.connections(&name(channel)[0]), expected);
            }
            let mut order = joins;
            if !order.is_empty() {
                let by = seed % order.len();
                order.rotate_left(by);
            }
            for (shard, channel) in &order {
                table.leave(*shard, &name(*channel)[0]);
            }
            prop_assert_eq!(table.len(), 0);
        }
    }
}
