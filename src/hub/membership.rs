//! Who holds a channel, as each shard tells the hub.

use super::Hub;
use crate::grip::Channel;
use crate::grip::item::Id;
use crate::shard::Ledger;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long after its first subscription a channel is refreshed, where that is wanted.
const FIRST_UPDATE: Duration = Duration::from_secs(1);
/// Channels that may wait for that; beyond it none is refreshed.
const MAX_FRESH: usize = 100_000;

/// One shard's word to the hub: who joined a channel there, and who left it.
#[derive(Clone, Debug)]
pub struct Membership {
    hub: Arc<Hub>,
    shard: usize,
}

/// What a connection learns when it joins channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The number of the last item accepted before.
    pub number: u64,
    /// Whether the last item of a channel is not the one that the connection knows of.
    pub behind: bool,
}

impl Membership {
    pub(super) const fn new(hub: Arc<Hub>, shard: usize) -> Self {
        Self { hub, shard }
    }

    /// One connection of the shard holds each of `channels` from now on. `known`: of some of them the id of the last
    /// item that it knows of.
    pub fn join(&self, channels: &[Channel], known: &[(Channel, Id)]) -> Joined {
        let state = &mut *self.hub.state();
        let behind = known.iter().any(|(channel, id)| state.sequences.last_id(channel).is_some_and(|last| last != id));
        let (now, update) = (Instant::now(), self.hub.settings.update_on_first_subscription);
        for channel in channels {
            state.sequences.joined(channel, now);
            if update && state.sequences.pin(channel) && state.fresh.len() < MAX_FRESH {
                state.fresh.push_back((now + FIRST_UPDATE, channel.clone()));
                self.hub.timetable.notify_one();
            }
        }
        Joined { number: state.table.join(self.shard, channels), behind }
    }

    /// Forgets the last ids of channels: what origins say of them counts.
    pub fn forget(&self, channels: impl IntoIterator<Item = Channel>) {
        let state = &mut *self.hub.state();
        channels.into_iter().for_each(|channel| state.sequences.forget(&channel));
    }
}

impl Ledger for Membership {
    fn left(&self, channels: &[Channel]) {
        let state = &mut *self.hub.state();
        let now = Instant::now();
        for channel in channels {
            if state.table.leave(self.shard, channel) {
                state.sequences.left(channel, now);
            }
        }
    }
}
