//! The channels of a parked connection, as its task changes them.

use super::ledger::{Denied, Entering, Joined};
use super::{Key, Parked, Profile, State};
use crate::grip::Channel;
use crate::grip::item::Id;

impl Parked {
    /// Subscribes it to these channels, and no others: what is accepted from now on is for it. `known`: of some of them the
    /// id of the last item that it knows of. A command that was accepted before means it only if it held channels then.
    ///
    /// # Errors
    /// It may not hold them.
    pub fn subscribe(&mut self, channels: &[Channel], known: &[(Channel, Id)]) -> Result<Joined, Denied> {
        let state = &mut *self.shard.state.borrow_mut();
        let conn = state.conn(self.key);
        if conn.ending.is_some() {
            // A close has ended the connection while its request was served again. Its hold is told so, and it gets no
            // channels.
            return Ok(Joined { number: conn.seen, behind: false });
        }
        let joined = state.hold_only(self.key, channels, known)?;
        let conn = state.conn(self.key);
        conn.seen = joined.number;
        if conn.since == u64::MAX {
            conn.since = joined.number;
        }
        Ok(joined)
    }

    /// Subscribes it to one more channel, which it does not hold yet, while it holds others. All that was accepted before is
    /// done first, so that it has what was for its other channels in its outlet, and nothing of the new one; what is
    /// accepted from then on finds it there. If that ends it, it holds none.
    ///
    /// # Errors
    /// It may not hold the channel.
    pub fn enter(&mut self, channel: &Channel) -> Result<(), Denied> {
        let state = &mut *self.shard.state.borrow_mut();
        let channels = std::slice::from_ref(channel);
        let held = state.channels(self.key);
        let entering = Entering { whose: &state.conns[self.key].whose, channels, held: &held, known: &[] };
        let number = state.ledger.join(&entering)?.number;
        self.shard.settle_accepted(state, number);
        if state.catch_up(self.key, number.saturating_add(1)).is_err() {
            state.shed(self.key);
        }
        let conn = &mut state.conns[self.key];
        let subscribed = state.registry.holds(&conn.subscriptions, channel);
        if conn.ending.is_some() || conn.transport.is_none() || subscribed {
            state.ledger.left(&conn.whose, channels);
            return Ok(());
        }
        conn.seen = conn.seen.max(number);
        conn.since = conn.since.max(number);
        state.add(self.key, channels);
        Ok(())
    }

    /// Says whose it is, once that is known.
    pub fn identify(&mut self, whose: &Profile) {
        self.shard.state.borrow_mut().identify(self.key, whose);
    }

    /// Leaves a channel. Returns whether it held it.
    pub fn leave(&mut self, channel: &Channel) -> bool {
        let state = &mut *self.shard.state.borrow_mut();
        let holds = state.registry.holds(&state.conns[self.key].subscriptions, channel);
        if holds {
            state.leave(self.key, std::slice::from_ref(channel));
        }
        holds
    }

    /// Leaves its channels; what has been sent stays.
    pub fn unsubscribe(&mut self) {
        self.shard.state.borrow_mut().unsubscribe(self.key);
    }

    /// Returns the channels that it holds.
    pub fn channels(&self) -> Vec<Channel> {
        self.shard.state.borrow().channels(self.key)
    }
}

impl State {
    /// Subscribes a connection to these channels and no others, as far as the ledger lets it.
    pub(super) fn hold_only(
        &mut self,
        key: Key,
        channels: &[Channel],
        known: &[(Channel, Id)],
    ) -> Result<Joined, Denied> {
        let held = self.channels(key);
        let fresh: Vec<Channel> = channels.iter().filter(|channel| !held.contains(channel)).cloned().collect();
        let old: Vec<Channel> = held.into_iter().filter(|channel| !channels.contains(channel)).collect();
        if !old.is_empty() {
            self.leave(key, &old);
        }
        self.join(key, &fresh, known)
    }

    /// Subscribes a connection to more channels, as far as the ledger lets it.
    pub(super) fn join(&mut self, key: Key, channels: &[Channel], known: &[(Channel, Id)]) -> Result<Joined, Denied> {
        let held = self.channels(key);
        let entering = Entering { whose: &self.conns[key].whose, channels, held: &held, known };
        let joined = self.ledger.join(&entering)?;
        self.add(key, channels);
        Ok(joined)
    }
}
