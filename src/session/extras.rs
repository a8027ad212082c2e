//! What few sessions have: filters, meta, and messages that are sent by themselves.

use super::live::Session;
use crate::grip::control::Timed;
use crate::grip::{Channel, Filter, KeepAliveMode, Meta};
use crate::shard::{Asked, Spread, Term, Terms, Turn, Ways};
use bytes::Bytes;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// An item and what its filters make of it.
type Decided = (Asked, Option<Bytes>);

/// What few sessions have, behind one box.
#[derive(Default)]
pub(super) struct Extras {
    /// What the origin says of the client.
    pub(super) meta: Meta,
    /// The filters of channels that have any.
    pub(super) filters: Vec<(Channel, Vec<Filter>)>,
    /// Channels that were denied in this turn.
    pub(super) denied: Vec<(Channel, Vec<Filter>)>,
    /// What is sent when nothing happens, and when that is.
    pub(super) keep_alive: Option<(Timed, Instant)>,
    /// What is sent later, and when.
    pub(super) delayed: Option<(Timed, Instant)>,
    /// What was due while the client was told a message piece by piece.
    late: Vec<Timed>,
    /// When it is looked whether a client is there still whose words wait.
    pub(super) stuck_at: Option<Instant>,
    /// When the origin has had time enough to answer the client's Close.
    pub(super) close_at: Option<Instant>,
    /// What is being asked about an item.
    asking: Option<Pin<Box<dyn Future<Output = Decided>>>>,
}

impl Extras {
    /// When something is due first.
    pub(super) fn due_at(&self) -> Option<Instant> {
        let timed = [&self.keep_alive, &self.delayed].into_iter().flatten().map(|(_, at)| *at);
        timed.chain(self.close_at).chain(self.stuck_at).min()
    }
}

impl Session<'_> {
    pub(super) fn extras(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }

    /// Sends what is due by itself.
    pub(super) fn send_due(&mut self, now: Instant) {
        let Some(extras) = &mut self.extras else { return };
        if let Some((timed, _)) = extras.delayed.take_if(|(_, at)| *at <= now) {
            self.send_timed(&timed);
        }
        let Some((timed, _)) = self.extras().keep_alive.take_if(|(_, at)| *at <= now) else { return };
        let idle = match timed.mode {
            KeepAliveMode::Idle => self.parked.idle(),
            KeepAliveMode::Interval => timed.timeout,
        };
        let rest = if !Spread::is_due(timed.timeout, idle) {
            self.sessions.spread.rest(timed.timeout, idle)
        } else {
            // A client that does not read is not kept alive by more bytes, nor one that is being told something.
            if !self.parked.is_blocked() && !self.is_streaming() {
                self.send_timed(&timed);
            }
            self.sessions.spread.rest(timed.timeout, Duration::ZERO)
        };
        self.extras().keep_alive = Some((timed, now + rest));
    }

    /// Sends what comes by itself; behind the message that is being told, if one is.
    pub(super) fn send_timed(&mut self, timed: &Timed) {
        if !self.is_streaming() || timed.kind.is_control() {
            self.send_message(timed.kind, &timed.content);
        } else {
            self.extras().late.push(timed.clone());
        }
    }

    /// Sends what waited for the end of a message.
    pub(super) fn send_late(&mut self) {
        let late = self.extras.as_mut().map(|extras| std::mem::take(&mut extras.late)).unwrap_or_default();
        late.iter().for_each(|timed| self.send_timed(timed));
    }

    /// The terms on which the session holds its channels.
    fn terms(&self) -> Terms {
        let none = Extras::default();
        let extras = self.extras.as_deref().unwrap_or(&none);
        let prefix = self.about.route.prefix.len();
        let term = |channel: Channel| {
            let filters = extras.filters.iter().find(|(name, _)| *name == channel);
            let filters = filters.map(|(_, filters)| filters.clone()).unwrap_or_default();
            let prefix = if self.implicit().iter().any(|name| **name == *channel) { 0 } else { prefix };
            Term { prefix, filters, ..Term::plain(&channel) }
        };
        Terms { meta: extras.meta.clone(), channels: self.parked.channels().into_iter().map(term).collect() }
    }

    /// Has items taken on the terms as they are now, if there are any.
    pub(super) fn agree(&mut self) {
        self.stale = false;
        let terms = self.terms();
        // While an item is asked about, those behind it wait.
        let asks = terms.channels.iter().any(Term::asks) || self.is_asking();
        let plain = terms.are_plain() && !self.is_asking() && !self.is_streaming();
        if !plain || self.parked.is_on_terms() {
            self.parked.agree(terms, Ways { refreshes: false, asks });
        }
        if plain {
            self.take_queued();
            self.parked.agree_to_nothing();
        }
    }

    /// Has items wait until the message that the client is being told is complete.
    pub(super) fn hold_back(&mut self) {
        self.agree();
        self.parked.hold_back();
    }

    /// Begins to ask about the item that has waited longest, unless another is being asked about.
    pub(super) fn take_queued(&mut self) {
        self.put_small();
        while !self.is_asking() {
            let asked = match self.parked.turn() {
                Turn::Empty => return,
                Turn::Decided => continue,
                Turn::Ask(asked) => asked,
            };
            let Some(terms) = self.parked.terms(Clone::clone) else { return };
            let (origin, about) = (Rc::clone(&self.sessions.origin), Rc::clone(&self.about));
            self.extras().asking = Some(Box::pin(async move {
                let content = asked.item.message.as_ref().map(|message| message.content().clone()).unwrap_or_default();
                let decided = origin.filter(&about, terms.passage(&asked.item), content).await;
                (asked, decided)
            }));
        }
    }

    pub(super) fn is_asking(&self) -> bool {
        self.extras.as_ref().is_some_and(|extras| extras.asking.is_some())
    }

    /// The item of which it is known what becomes.
    pub(super) fn poll_asked(&mut self, cx: &mut Context<'_>) -> Option<Decided> {
        let extras = self.extras.as_mut()?;
        let Poll::Ready(decided) = extras.asking.as_mut()?.as_mut().poll(cx) else { return None };
        extras.asking = None;
        Some(decided)
    }

    /// Delivers an item or leaves it out, and goes on with the next.
    pub(super) fn decide(&mut self, (asked, content): Decided) {
        // It may have left the channel meanwhile.
        let held = self.parked.terms(|terms| terms.of(&asked.item.channel).is_some()).unwrap_or_default();
        self.put_small();
        match content.filter(|_| held) {
            Some(content) => self.parked.give(asked, Some(content)),
            None => self.parked.pass_over(&asked),
        }
        self.take_queued();
        self.stale |= !self.is_asking();
    }
}
