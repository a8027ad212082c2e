//! Connections that are subscribed to other channels, or unsubscribed, while they stay connected.

use super::conn::{DeliveryForm, Notice};
use super::rare_parts::{ItemHandling, RareParts};
use super::terms::Terms;
use super::{Command, ConnectionKey, ShardState};
use crate::grip::Channel;
use crate::grip::item::ChannelMove;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

impl ShardState {
    /// Subscribes a connection to more channels, or unsubscribes it from some. Items accepted before the command
    /// still reach it. Of the items accepted after the command, it gets those of the channels that it entered, and
    /// none of those that it left.
    pub(super) fn carry_out_move(&mut self, key: ConnectionKey, command: &Command, moved: &ChannelMove) {
        let channels = self.changed_channels(key, moved);
        if channels.is_empty() || self.catch_up_or_end(key, command.number).is_break() {
            return;
        }
        let counts = command.tally.of(command.index);
        match moved {
            ChannelMove::Unsubscribe(_) => {
                if let Some(rare) = self.move_record(key) {
                    rare.note_left(&channels);
                }
                self.leave(key, &channels);
                count(&counts.unsubscribed);
            }
            ChannelMove::Subscribe(_) if self.enter(key, &channels, command.number) => {
                if let Some(rare) = self.move_record(key) {
                    rare.note_entered(&channels);
                }
                count(&counts.subscribed);
            }
            ChannelMove::Subscribe(_) => {}
        }
    }

    /// Returns the part of a connection that remembers which channels publishers have added and removed, or `None`
    /// if that need not be remembered. It must be remembered if the origin may name all channels of the hold again.
    /// A stream with links has this part already, and a long-poll is given it here. The origin of a WebSocket
    /// subscribes and unsubscribes single channels.
    fn move_record(&mut self, key: ConnectionKey) -> Option<&mut RareParts> {
        let (now_ms, channels) = (self.now_ms(), self.channels(key));
        let conn = self.conn(key);
        match conn.feed {
            DeliveryForm::Messages(_) => None,
            DeliveryForm::Stream(_) | DeliveryForm::Events(_) => conn.rare.as_deref_mut(),
            DeliveryForm::Response | DeliveryForm::Away => {
                let plain = || Box::new(RareParts::new(Terms::plain(&channels), ItemHandling::default(), now_ms));
                Some(conn.rare.get_or_insert_with(plain))
            }
        }
    }

    /// Returns the channels that `moved` changes for a connection. To subscribe, these are the channels that the
    /// connection does not hold, up to the limit of channels for one connection; to unsubscribe, those that it
    /// holds.
    fn changed_channels(&self, key: ConnectionKey, moved: &ChannelMove) -> Vec<Channel> {
        let held = &self.conns[key].subscriptions;
        let holds = |channel: &&Channel| self.registry.holds(held, channel);
        match moved {
            ChannelMove::Subscribe(channels) => {
                let room = self.settings.max_channels.saturating_sub(held.len());
                channels.iter().filter(|channel| !holds(channel)).take(room).cloned().collect()
            }
            ChannelMove::Unsubscribe(channels) => channels.iter().filter(holds).cloned().collect(),
        }
    }

    /// Offers a connection the items accepted before `number`. Returns `Break` if that ends the hold: the client
    /// was too slow for the items, or an item answered the long-poll.
    fn catch_up_or_end(&mut self, key: ConnectionKey, number: u64) -> ControlFlow<()> {
        if self.catch_up(key, number).is_err() {
            self.shed(key);
            return ControlFlow::Break(());
        }
        let conn = self.conn(key);
        conn.last_item = conn.last_item.max(number);
        if matches!(conn.notice, Notice::Item(_)) {
            conn.wake();
            self.unsubscribe(key);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// Removes a connection from those of `channels` that it holds.
    pub(super) fn leave(&mut self, key: ConnectionKey, channels: &[Channel]) {
        let Self { conns, registry, ledger, .. } = self;
        let conn = &mut conns[key];
        let held = std::mem::take(&mut conn.subscriptions);
        let (drop, keep): (Vec<_>, Vec<_>) = held.into_iter().partition(|s| channels.contains(registry.name(*s)));
        conn.subscriptions = keep.into();
        if let Some(rare) = &mut conn.rare {
            rare.leave(channels);
        }
        let profile = conn.profile.clone();
        let left = registry.remove(key, &drop, |moved, s| conns[moved].update_subscription(s));
        ledger.left(&profile, &left);
    }

    /// Subscribes a connection to channels that it does not hold yet. Returns `false` if it may not hold them.
    fn enter(&mut self, key: ConnectionKey, channels: &[Channel], number: u64) -> bool {
        if self.ask_ledger(key, channels, &[]).is_err() {
            self.metrics.denied.inc();
            return false;
        }
        let conn = &mut self.conns[key];
        conn.last_item = conn.last_item.max(number);
        if let Some(rare) = &mut conn.rare {
            rare.enter(channels);
        }
        self.add(key, channels);
        true
    }

    /// Puts a connection among the subscribers of channels that it does not hold yet.
    pub(super) fn add(&mut self, key: ConnectionKey, channels: &[Channel]) {
        debug_assert!(self.conns[key].ending.is_none(), "a connection that is ending cannot be subscribed to channels");
        for channel in channels {
            let subscription = self.registry.add(key, channel);
            self.conn(key).subscriptions.push(subscription);
        }
    }

    /// Returns the channels that a connection holds.
    pub(super) fn channels(&self, key: ConnectionKey) -> Vec<Channel> {
        let held = &self.conns[key].subscriptions;
        held.iter().map(|s| self.registry.name(*s).clone()).collect()
    }
}

fn count(counter: &AtomicU32) {
    counter.fetch_add(1, Relaxed);
}
