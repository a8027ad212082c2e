//! The reports of the shards to the hub about the connections that hold channels.

use super::{Hub, now};
use crate::grip::Channel;
use crate::shard::{DeniedChannel, EndReport, JoinInfo, JoinRequest, Ledger, Profile};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The time between the first subscription to a channel and the refresh of its connections, if
/// `update_on_first_subscription` is set.
const FIRST_UPDATE: Duration = Duration::from_secs(1);
/// The number of channels that may wait for this refresh. The connections of further channels are not refreshed.
const MAX_FRESH: usize = 100_000;

/// The ledger of one shard, which tells the hub that connections join or leave channels.
#[derive(Clone, Debug)]
pub struct MembershipReport {
    hub: Arc<Hub>,
    shard: usize,
}

impl MembershipReport {
    pub(super) const fn new(hub: Arc<Hub>, shard: usize) -> Self {
        Self { hub, shard }
    }

    /// Returns the hub.
    pub const fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Forgets the last ids of channels. This is called if an origin that was asked again names the same last ids as
    /// before, although the hub knows others: the origin is right.
    pub fn forget(&self, channels: impl IntoIterator<Item = Channel>) {
        let state = &mut *self.hub.state();
        channels.into_iter().for_each(|channel| state.sequences.forget(&channel));
    }

    fn leave(&self, channels: &[Channel]) {
        let state = &mut *self.hub.state();
        let now = Instant::now();
        for channel in channels {
            if state.table.leave(self.shard, channel) {
                state.sequences.left(channel, now);
            }
        }
    }
}

impl Ledger for MembershipReport {
    fn join(&self, entering: &JoinRequest<'_>) -> Result<JoinInfo, DeniedChannel> {
        let JoinRequest { channels, held, known, .. } = entering;
        let state = &mut *self.hub.state();
        if !state.denials.is_empty()
            && let Some(denied) = state.denials.find(channels, held, now())
        {
            return Err(DeniedChannel(denied));
        }
        let behind = known.iter().any(|(channel, id)| state.sequences.last_id(channel).is_some_and(|last| last != id));
        let (instant, update) = (Instant::now(), state.update_on_first_subscription);
        for channel in *channels {
            state.sequences.joined(channel, instant);
            if update && state.sequences.pin(channel) && state.first_refreshes.len() < MAX_FRESH {
                state.first_refreshes.push_back((instant + FIRST_UPDATE, channel.clone()));
                self.hub.timetable.notify_one();
            }
        }
        Ok(JoinInfo { number: state.table.join(self.shard, channels), behind })
    }

    fn left(&self, _: &Profile, channels: &[Channel]) {
        self.leave(channels);
    }

    fn release(&self, channels: &[Channel]) {
        self.leave(channels);
    }

    fn user_joined(&self, _: &Profile) {}

    fn user_left(&self, _: &Profile) {}

    fn ended(&self, _: &Profile, _: &EndReport) {}
}
