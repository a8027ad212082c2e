//! The channels of a parked connection, as its task changes them.

use super::{Parked, State};
use crate::grip::Channel;

impl Parked {
    /// Subscribes it to channels that it does not hold yet.
    pub fn subscribe(&mut self, channels: &[Channel]) {
        let state = &mut *self.shard.state.borrow_mut();
        for channel in channels {
            let subscription = state.registry.add(self.key, channel);
            state.conn(self.key).subscriptions.push(subscription);
        }
    }

    /// Subscribes it to one more channel, which it does not hold yet, while it holds others. `join` says from which
    /// number on items are for it. All that was accepted before is done first, so that it has what was for its other
    /// channels in its outlet, and nothing of the new one. If that ends it, it holds none.
    pub fn enter(&mut self, channel: &Channel, join: impl FnOnce() -> u64) {
        let number = join();
        let state = &mut *self.shard.state.borrow_mut();
        state.settle_accepted(&self.shard.inbox);
        if state.catch_up(self.key, number.saturating_add(1)) {
            state.shed(self.key);
        }
        let conn = state.conn(self.key);
        if conn.ending.is_some() || conn.socket.is_none() {
            state.ledger.left(std::slice::from_ref(channel));
            return;
        }
        conn.seen = conn.seen.max(number);
        conn.since = conn.since.max(number);
        let subscription = state.registry.add(self.key, channel);
        state.conn(self.key).subscriptions.push(subscription);
    }

    /// Leaves a channel. Says whether it held it.
    pub fn leave(&mut self, channel: &Channel) -> bool {
        let State { conns, registry, ledger, .. } = &mut *self.shard.state.borrow_mut();
        let subscriptions = &mut conns[self.key as usize].subscriptions;
        let Some(at) = subscriptions.iter().position(|s| registry.name(*s) == channel) else { return false };
        let subscription = subscriptions.remove(at);
        let left = registry.remove(conns, self.key, &[subscription]);
        ledger.left(&left);
        true
    }

    /// Leaves its channels; what has been sent stays.
    pub fn unsubscribe(&mut self) {
        self.shard.state.borrow_mut().unsubscribe(self.key);
    }

    /// The channels that it holds.
    pub fn channels(&self) -> Vec<Channel> {
        let state = self.shard.state.borrow();
        let held = &state.conns[self.key as usize].subscriptions;
        held.iter().map(|s| state.registry.name(*s).clone()).collect()
    }
}
