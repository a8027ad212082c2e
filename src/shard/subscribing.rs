//! The channels of a parked connection, as its task changes them.

use super::ledger::{DeniedChannel, JoinInfo, JoinRequest};
use super::{ConnectionKey, Parked, Profile, ShardState};
use crate::grip::Channel;
use crate::grip::item::ItemId;

impl Parked {
    /// Subscribes the connection to these channels and to no others, so that it gets the items that are accepted from
    /// now on. `known` holds, for some of the channels, the id of the last item that the client has had. A command
    /// that was accepted before affects the connection only if it held channels at that time.
    ///
    /// # Errors
    /// One of the channels is denied to the connection, and it has entered none. It holds only those of `channels`
    /// that it held before.
    pub fn subscribe(&mut self, channels: &[Channel], known: &[(Channel, ItemId)]) -> Result<JoinInfo, DeniedChannel> {
        let state = &mut *self.shard.state.borrow_mut();
        let conn = state.conn(self.key);
        if conn.ending.is_some() {
            // A close has ended the connection while its request was served again. The connection gets no channels,
            // and its hold learns of the close by its next event.
            return Ok(JoinInfo { number: conn.last_item, behind: false });
        }
        let fresh = state.leave_others(self.key, channels);
        let joined = state.ask_ledger(self.key, &fresh, known)?;
        state.add(self.key, &fresh);
        let conn = state.conn(self.key);
        conn.last_item = joined.number;
        if conn.first_number == u64::MAX {
            conn.first_number = joined.number;
        }
        Ok(joined)
    }

    /// Subscribes the connection to one more channel while it holds others. Everything that was accepted before is
    /// carried out first, and the connection gets the items of the channel that are accepted from then on.
    ///
    /// # Errors
    /// The channel is denied to the connection.
    pub fn enter(&mut self, channel: &Channel) -> Result<(), DeniedChannel> {
        self.enter_all(std::slice::from_ref(channel), &[]).map(drop)
    }

    /// Subscribes the connection to more channels while it holds others. Everything that was accepted before is
    /// carried out first: the outlet, or the queue of items that are to be decided, then has the earlier items of the
    /// other channels and none of the new ones, and the connection gets all items that are accepted from then on. No
    /// close that was accepted before ends it on account of the new channels. If this ends the connection, it holds
    /// no channels afterwards.
    ///
    /// # Errors
    /// One of the channels is denied to the connection, which has entered none then.
    pub(super) fn enter_all(
        &self,
        channels: &[Channel],
        known: &[(Channel, ItemId)],
    ) -> Result<JoinInfo, DeniedChannel> {
        let state = &mut *self.shard.state.borrow_mut();
        let joined = state.ask_ledger(self.key, channels, known)?;
        if channels.is_empty() {
            return Ok(joined);
        }
        self.shard.run_commands_up_to(state, joined.number);
        if state.catch_up(self.key, joined.number.saturating_add(1)).is_err() {
            state.shed(self.key);
        }
        let conn = &mut state.conns[self.key];
        let is_over = conn.ending.is_some() || conn.transport.is_none();
        // One of the commands may have made the connection enter the same channels.
        let is_settled = |channel: &Channel| is_over || state.registry.holds(&conn.subscriptions, channel);
        let (settled, fresh): (Vec<Channel>, Vec<Channel>) = channels.iter().cloned().partition(is_settled);
        if !settled.is_empty() {
            state.ledger.left(&conn.profile, &settled);
        }
        if !fresh.is_empty() {
            conn.last_item = conn.last_item.max(joined.number);
            conn.first_number = conn.first_number.max(joined.number);
            state.add(self.key, &fresh);
        }
        Ok(joined)
    }

    /// Sets the profile of the client, once it is known.
    pub fn identify(&mut self, profile: &Profile) {
        self.shard.state.borrow_mut().identify(self.key, profile);
    }

    /// Unsubscribes the connection from a channel. Returns whether the connection held it.
    pub fn leave(&mut self, channel: &Channel) -> bool {
        let state = &mut *self.shard.state.borrow_mut();
        let holds = state.registry.holds(&state.conns[self.key].subscriptions, channel);
        if holds {
            state.leave(self.key, std::slice::from_ref(channel));
        }
        holds
    }

    /// Unsubscribes the connection from all of its channels. The bytes in its outlet are not affected.
    pub fn unsubscribe(&mut self) {
        self.shard.state.borrow_mut().unsubscribe(self.key);
    }

    /// Returns the channels that the connection holds.
    pub fn channels(&self) -> Vec<Channel> {
        self.shard.state.borrow().channels(self.key)
    }
}

impl ShardState {
    /// Unsubscribes a connection from all channels but these. Returns those of `channels` that it does not hold yet.
    pub(super) fn leave_others(&mut self, key: ConnectionKey, channels: &[Channel]) -> Vec<Channel> {
        let held = self.channels(key);
        let fresh = channels.iter().filter(|channel| !held.contains(channel)).cloned().collect();
        let others: Vec<Channel> = held.into_iter().filter(|channel| !channels.contains(channel)).collect();
        if !others.is_empty() {
            self.leave(key, &others);
        }
        fresh
    }

    /// Asks the ledger whether a connection may hold more channels, none of which it may hold yet. If so, the ledger
    /// counts the connection among their holders.
    ///
    /// # Errors
    /// The ledger denies one of the channels, and counts the connection for none.
    pub(super) fn ask_ledger(
        &self,
        key: ConnectionKey,
        channels: &[Channel],
        known: &[(Channel, ItemId)],
    ) -> Result<JoinInfo, DeniedChannel> {
        let held = self.channels(key);
        self.ledger.join(&JoinRequest { profile: &self.conns[key].profile, channels, held: &held, known })
    }
}
