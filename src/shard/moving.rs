//! Connections that are subscribed to other channels while they stay connected.

use super::conn::{Feed, Notice};
use super::ledger::Entering;
use super::rare::{Rare, Ways};
use super::terms::Terms;
use super::{Command, Key, State};
use crate::grip::Channel;
use crate::grip::item::Move;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

impl State {
    /// Subscribes a connection to other channels. Items accepted before the command still reach it. After the command,
    /// channels that it leaves deliver nothing to it, and channels that it enters deliver everything.
    pub(super) fn carry_out_move(&mut self, key: Key, command: &Command, moved: &Move) {
        let channels = self.concerned(key, moved);
        if channels.is_empty() || self.catch_up_or_end(key, command.number).is_break() {
            return;
        }
        let counts = command.tally.of(command.index);
        match moved {
            Move::Unsubscribe(_) => {
                if let Some(rare) = self.remembers(key) {
                    rare.note_left(&channels);
                }
                self.leave(key, &channels);
                count(&counts.unsubscribed);
            }
            Move::Subscribe(_) if self.enter(key, &channels, command.number) => {
                if let Some(rare) = self.remembers(key) {
                    rare.note_entered(&channels);
                }
                count(&counts.subscribed);
            }
            Move::Subscribe(_) => {}
        }
    }

    /// Returns the place where it is remembered that a connection was moved, if its origin may name its channels again. A
    /// stream with links has the place; a long-poll is given it. The origin of a WebSocket names channels anew each time.
    fn remembers(&mut self, key: Key) -> Option<&mut Rare> {
        let (now_ms, channels) = (self.now_ms(), self.channels(key));
        let conn = self.conn(key);
        match conn.feed {
            Feed::Messages(_) => None,
            Feed::Stream(_) => conn.rare.as_deref_mut(),
            Feed::Response | Feed::Away => {
                let plain = || Box::new(Rare::new(Terms::plain(&channels), Ways::default(), now_ms));
                Some(conn.rare.get_or_insert_with(plain))
            }
        }
    }

    /// Returns the channels of which something changes.
    fn concerned(&self, key: Key, moved: &Move) -> Vec<Channel> {
        let held = &self.conns[key].subscriptions;
        let holds = |channel: &&Channel| self.registry.holds(held, channel);
        match moved {
            Move::Subscribe(channels) => {
                let room = self.settings.max_channels.saturating_sub(held.len());
                channels.iter().filter(|channel| !holds(channel)).take(room).cloned().collect()
            }
            Move::Unsubscribe(channels) => channels.iter().filter(holds).cloned().collect(),
        }
    }

    /// Gives a connection what was accepted before `number`. That may be its end: it may be too slow for it, or be a
    /// long-poll, which an item answers.
    fn catch_up_or_end(&mut self, key: Key, number: u64) -> ControlFlow<()> {
        if self.catch_up(key, number).is_err() {
            self.shed(key);
            return ControlFlow::Break(());
        }
        let conn = self.conn(key);
        conn.seen = conn.seen.max(number);
        if matches!(conn.notice, Notice::Item(_)) {
            conn.wake();
            self.unsubscribe(key);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// Takes a connection out of channels that it holds.
    pub(super) fn leave(&mut self, key: Key, channels: &[Channel]) {
        let Self { conns, registry, ledger, .. } = self;
        let conn = &mut conns[key];
        let held = std::mem::take(&mut conn.subscriptions);
        let (drop, keep): (Vec<_>, Vec<_>) = held.into_iter().partition(|s| channels.contains(registry.name(*s)));
        conn.subscriptions = keep.into();
        if let Some(rare) = &mut conn.rare {
            rare.leave(channels);
        }
        let whose = conn.whose.clone();
        let left = registry.remove(key, &drop, |moved, s| conns[moved].note_place(s));
        ledger.left(&whose, &left);
    }

    /// Subscribes a connection to channels that it does not hold yet. Returns `false` if it may not hold them.
    fn enter(&mut self, key: Key, channels: &[Channel], number: u64) -> bool {
        let held = self.channels(key);
        let conn = &mut self.conns[key];
        let entering = Entering { whose: &conn.whose, channels, held: &held, known: &[] };
        if self.ledger.join(&entering).is_err() {
            self.metrics.denied.inc();
            return false;
        }
        conn.seen = conn.seen.max(number);
        if let Some(rare) = &mut conn.rare {
            rare.enter(channels);
        }
        self.add(key, channels);
        true
    }

    /// Puts a connection among the subscribers of channels that it does not hold yet.
    pub(super) fn add(&mut self, key: Key, channels: &[Channel]) {
        debug_assert!(self.conns[key].ending.is_none(), "a connection that is ending cannot be subscribed to channels");
        for channel in channels {
            let subscription = self.registry.add(key, channel);
            self.conn(key).subscriptions.push(subscription);
        }
    }

    /// Returns the channels that a connection holds.
    pub(super) fn channels(&self, key: Key) -> Vec<Channel> {
        let held = &self.conns[key].subscriptions;
        held.iter().map(|s| self.registry.name(*s).clone()).collect()
    }
}

fn count(counter: &AtomicU32) {
    counter.fetch_add(1, Relaxed);
}
