//! The commands, which close connections or subscribe them to other channels. They overtake items.

use super::profile::Place;
use super::tally::Ticket;
use super::terms::Terms;
use super::{Key, Shard, State, Tally};
use crate::grip::item::{Move, Selection};
use crate::grip::{Channel, Formats, Meta};
use bytes::Bytes;
use std::sync::Arc;

/// Something to be done to connections.
#[derive(Clone, Debug)]
pub struct Command {
    /// Its place in the order of acceptance.
    pub number: u64,
    /// To whom.
    pub whom: Whom,
    /// The thing that is done to them.
    pub effect: CommandEffect,
    /// The tally in which the connections concerned are counted.
    pub tally: Tally,
    /// The place of the item in its batch, under which they are counted.
    pub index: u32,
}

/// The connections that a command means.
#[derive(Clone, Debug)]
pub enum Whom {
    /// Connections that hold a channel.
    Members {
        /// The channel.
        channel: Channel,
        /// Which of them, if not all.
        selection: Option<Arc<Selection>>,
        /// The meta that the publisher gives, for their filters.
        meta: Option<Arc<Meta>>,
    },
    /// One connection.
    One(Place),
}

/// The thing that a command does.
#[derive(Clone, Debug)]
pub enum CommandEffect {
    /// It ends connections of these kinds; `frame` is a WebSocket's Close.
    Close {
        /// Which kinds.
        formats: Formats,
        /// The Close frame with which WebSockets end.
        frame: Bytes,
    },
    /// It has connections hold other channels as well, or no longer. Those that are to be held were entered in the
    /// [`super::Ledger`] ahead, so that the items accepted after the command come to this shard.
    Move(Arc<Move>),
}

/// Where a command that was begun goes on.
pub(super) struct Begun {
    /// The channel whose subscribers are looked at: of those that come into question, the one with the fewest.
    through: Channel,
    /// The number of subscribers that are still to be looked at.
    at: usize,
}

impl Shard {
    /// Does at once what was accepted up to `number` and cannot wait: commands; and has what was accepted at hand.
    pub(super) fn settle_accepted(&self, state: &mut State, number: u64) {
        if state.rounds.take_from(&self.inbox) {
            state.refresh_all();
        }
        while !state.carry_out_commands(number) {}
    }
}

impl State {
    /// Carries out commands accepted up to `number`, as many as fit a step. Returns whether it did all there are.
    pub(super) fn carry_out_commands(&mut self, number: u64) -> bool {
        let mut budget = self.settings.steps.command_looks;
        while let Some(command) = self.rounds.commands.pop_front_if(|command| command.number <= number) {
            // A command for a channel that nobody holds costs a look as well.
            budget = budget.saturating_sub(1);
            self.rounds.command = match command.whom {
                Whom::One(place) => {
                    if let Some(key) = self.at_place(place) {
                        self.carry_out_on(key, &command);
                    }
                    None
                }
                Whom::Members { .. } => self.carry_out(&command, &mut budget),
            };
            if self.rounds.command.is_some() {
                self.rounds.commands.push_front(command);
            } else if let CommandEffect::Move(moved) = &command.effect
                && let Move::Subscribe(channels) = &**moved
            {
                self.ledger.release(channels);
            }
            if budget == 0 {
                return self.rounds.commands.front().is_none_or(|command| command.number > number);
            }
        }
        true
    }

    /// Does to members of a channel what is to be done. If the budget runs out first: where to go on.
    fn carry_out(&mut self, command: &Command, budget: &mut usize) -> Option<Begun> {
        let Whom::Members { channel, selection, meta } = &command.whom else { return None };
        let mut begun = self.rounds.command.take().unwrap_or_else(|| {
            let through = self.registry.fewest(channel, selection.as_deref());
            Begun { through: through.clone(), at: usize::MAX }
        });
        loop {
            // Backwards: a connection that leaves has its place taken by one that was looked at already.
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
            let chooses = |s: &Selection| self.registry.choose(channel, s).admits(&conn.subscriptions);
            let selected = selection.as_deref().is_none_or(chooses);
            let admits = |terms: &Terms| terms.admit(channel, meta.as_deref());
            // A connection that subscribed after the command was accepted is not meant.
            if selected && conn.since < command.number && conn.rare.as_deref().is_none_or(|r| admits(&r.terms)) {
                self.carry_out_on(key, command);
            }
        }
    }

    /// Does to a connection what is to be done.
    fn carry_out_on(&mut self, key: Key, command: &Command) {
        let conn = self.conn(key);
        match &command.effect {
            CommandEffect::Close { formats, frame } if formats.contains(conn.feed.format()) => {
                conn.reason.get_or_insert(super::Reason::Kicked);
                let ticket = Ticket { tally: command.tally.clone(), index: command.index };
                self.end(key, command.number, Some(ticket), frame);
            }
            CommandEffect::Close { .. } => {}
            CommandEffect::Move(moved) => self.carry_out_move(key, command, moved),
        }
    }

    /// Returns the connection that has this place, unless its end has begun.
    pub(super) fn at_place(&self, place: Place) -> Option<Key> {
        let conn = self.conns.get(place.key)?;
        (conn.serial == place.serial && conn.ending.is_none()).then_some(place.key)
    }
}
