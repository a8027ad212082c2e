//! Commands, which close connections or change the channels that they hold. Commands overtake the items that wait.

use super::profile::ConnectionPlace;
use super::tally::CloseTicket;
use super::terms::Terms;
use super::{ConnectionKey, Shard, ShardState, Tally};
use crate::grip::item::{ChannelMove, MemberSelection};
use crate::grip::{Channel, Formats, Meta};
use bytes::Bytes;
use std::sync::Arc;

/// An instruction to close connections, or to change the channels that they hold.
#[derive(Clone, Debug)]
pub struct Command {
    /// The number of the command in the order of acceptance, which commands and items share.
    pub number: u64,
    /// The connections to which the command applies.
    pub whom: CommandTarget,
    /// The effect of the command on each of these connections.
    pub effect: CommandEffect,
    /// The tally in which the connections concerned are counted.
    pub tally: Tally,
    /// The index of the command's item in its batch. The connections are counted for this item.
    pub index: u32,
}

/// The connections to which a command applies.
#[derive(Clone, Debug)]
pub enum CommandTarget {
    /// Connections that hold a channel.
    Members {
        /// The name of the channel.
        channel: Channel,
        /// The condition that selects some of these connections by the other channels that they hold, or `None` for
        /// all of them.
        selection: Option<Arc<MemberSelection>>,
        /// The meta of the item. A connection whose filters refuse this meta is left out.
        meta: Option<Arc<Meta>>,
    },
    /// The one connection at this place.
    One(ConnectionPlace),
}

/// The effect of a command on a connection.
#[derive(Clone, Debug)]
pub enum CommandEffect {
    /// The connection is closed, if it takes items of one of these formats.
    Close {
        /// The formats whose connections are closed.
        formats: Formats,
        /// The Close frame with which WebSockets end.
        frame: Bytes,
    },
    /// The connection is subscribed to more channels, or unsubscribed from some. When the hub accepts a command
    /// that subscribes, it adds this shard to the new channels, so that the items accepted after the command come
    /// to this shard. [`super::Ledger::release`] takes this back once the command is carried out.
    Move(Arc<ChannelMove>),
}

/// The state of a command that has been carried out in part.
pub(super) struct CommandProgress {
    /// The channel whose subscribers are looked at. It has the fewest subscribers of all channels that a connection
    /// must hold for the command to apply.
    through: Channel,
    /// The number of subscribers that have not been looked at yet. The last of them is looked at first.
    at: usize,
}

impl Shard {
    /// Takes all items and commands from the inbox, and carries out all commands accepted up to `number`, even if
    /// they exceed the budget of a step.
    pub(super) fn run_commands_up_to(&self, state: &mut ShardState, number: u64) {
        if state.rounds.take_from(&self.inbox) {
            state.refresh_all();
        }
        while !state.carry_out_commands(number) {}
    }
}

impl ShardState {
    /// Carries out commands accepted up to `number`, within the budget of one step. Returns whether all of them are
    /// carried out.
    pub(super) fn carry_out_commands(&mut self, number: u64) -> bool {
        let mut budget = self.settings.steps.command_looks;
        while let Some(command) = self.rounds.commands.pop_front_if(|command| command.number <= number) {
            // Even a command for a channel that nobody holds uses some of the budget.
            budget = budget.saturating_sub(1);
            self.rounds.command = match command.whom {
                CommandTarget::One(place) => {
                    if let Some(key) = self.at_place(place) {
                        self.carry_out_on(key, &command);
                    }
                    None
                }
                CommandTarget::Members { .. } => self.carry_out(&command, &mut budget),
            };
            if self.rounds.command.is_some() {
                self.rounds.commands.push_front(command);
            } else if let CommandEffect::Move(moved) = &command.effect
                && let ChannelMove::Subscribe(channels) = &**moved
            {
                self.ledger.release(channels);
            }
            if budget == 0 {
                return self.rounds.commands.front().is_none_or(|command| command.number > number);
            }
        }
        true
    }

    /// Carries out a command on the subscribers of a channel. If the budget runs out first, returns the state from
    /// which to continue.
    fn carry_out(&mut self, command: &Command, budget: &mut usize) -> Option<CommandProgress> {
        let CommandTarget::Members { channel, selection, meta } = &command.whom else { return None };
        let mut begun = self.rounds.command.take().unwrap_or_else(|| {
            let through = self.registry.fewest(channel, selection.as_deref());
            CommandProgress { through: through.clone(), at: usize::MAX }
        });
        loop {
            // The last subscriber comes first: when a connection leaves the channel, the last subscriber takes its
            // index, and that one has been looked at already.
            let subscribers = self.registry.subscribers(&begun.through);
            begun.at = begun.at.min(subscribers.len());
            if begun.at == 0 {
                return None;
            }
            if *budget == 0 {
                return Some(begun);
            }
            (begun.at, *budget) = (begun.at - 1, *budget - 1);
            let key = subscribers[begun.at];
            let conn = &self.conns[key];
            let chooses = |s: &MemberSelection| self.registry.choose(channel, s).admits(&conn.subscriptions);
            let selected = selection.as_deref().is_none_or(chooses);
            let admits = |terms: &Terms| terms.admit(channel, meta.as_deref());
            // The command does not apply to a connection that subscribed after the command was accepted.
            if selected && conn.first_number < command.number && conn.rare.as_deref().is_none_or(|r| admits(&r.terms)) {
                self.carry_out_on(key, command);
            }
        }
    }

    /// Carries out a command on one connection.
    fn carry_out_on(&mut self, key: ConnectionKey, command: &Command) {
        let conn = self.conn(key);
        match &command.effect {
            CommandEffect::Close { formats, frame } if formats.contains(conn.feed.format()) => {
                conn.reason.get_or_insert(super::EndReason::Kicked);
                let ticket = CloseTicket { tally: command.tally.clone(), index: command.index };
                self.end(key, command.number, Some(ticket), frame);
            }
            CommandEffect::Close { .. } => {}
            CommandEffect::Move(moved) => self.carry_out_move(key, command, moved),
        }
    }

    /// Returns the key of the connection at this place, or `None` if the connection is gone or its end has begun.
    pub(super) fn at_place(&self, place: ConnectionPlace) -> Option<ConnectionKey> {
        let conn = self.conns.get(place.key)?;
        (conn.serial == place.serial && conn.ending.is_none()).then_some(place.key)
    }
}
