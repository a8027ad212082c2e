//! Items for connections that do not take them as everybody does: on terms, or when the item is special.

use super::conn::{BURST, Feed, Notice};
use super::inbox::Delivery;
use super::pending_item::PendingItem;
use super::pieces::{Pieces, render};
use super::rare::Undo;
use super::rounds::Outcome;
use super::terms::{Verdict, agrees};
use super::{Key, State};
use crate::grip::Format;
use crate::grip::item::{Body, Response};
use bytes::Bytes;
use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use tokio::time::Instant;

/// An item that is offered to a connection.
#[derive(Clone, Copy)]
pub(super) struct Offer<'a> {
    pub(super) item: &'a Delivery,
    /// The item's bytes, which are shared by all connections that are offered it.
    pub(super) pieces: &'a Pieces,
}

/// An item that a connection gets unless its filters refuse it.
pub(super) struct Admitted {
    /// The change that is to be undone if the item is not sent after all.
    pub(super) undo: Option<Undo>,
}

impl State {
    /// Offers an item to a connection that holds its channel.
    pub(super) fn offer(&mut self, key: Key, offer: Offer<'_>, outcome: &mut Outcome) {
        if let Some(item) = self.meant(key, offer.item) {
            self.offer_meant(key, Offer { item: &item, ..offer }, outcome);
        }
    }

    /// Offers an item to a connection that it is for.
    fn offer_meant(&mut self, key: Key, offer: Offer<'_>, outcome: &mut Outcome) {
        let item = offer.item;
        // As much as may wait for a client that goes on reading.
        let most = self.settings.client_buffer.saturating_mul(BURST);
        let conn = self.conn(key);
        let format = conn.feed.format();
        if conn.feed == Feed::Away {
            // The origin is being asked; and once more, if a hint says so.
            if item.hints.contains(format) {
                conn.tell(Notice::Refresh);
            }
            return;
        }
        match &mut conn.rare {
            // The origin is being asked, and is to be asked once more.
            Some(rare) if rare.held && item.hints.contains(format) && format != Format::WsMessage => self.refresh(key),
            Some(rare) if rare.queues() => {
                if !rare.push(item.clone(), most) {
                    self.overflow_of_queue(key, outcome);
                } else if !rare.held {
                    conn.tell(Notice::Queued);
                }
            }
            _ => {
                if let Some(admitted) = self.admit(key, item, outcome) {
                    self.decide(key, offer, admitted, outcome);
                }
            }
        }
    }

    /// Returns the item as it is for a connection that holds its channel, if it is anything for it: a connection that the
    /// item does not mean may still follow the order of the channel.
    fn meant<'a>(&self, key: Key, item: &'a Delivery) -> Option<Cow<'a, Delivery>> {
        let conn = &self.conns[key];
        let Some(selection) = &item.selection else { return Some(Cow::Borrowed(item)) };
        if self.registry.choose(&item.channel, selection).admits(&conn.subscriptions) {
            return Some(Cow::Borrowed(item));
        }
        if conn.rare.is_some() && item.is_ordered() { Some(Cow::Owned(item.hollow())) } else { None }
    }

    /// Admits an item that is to be looked at further: it is no hint, follows what the connection had, and is made for it.
    /// `None` if that is not so.
    pub(super) fn admit(&mut self, key: Key, item: &Delivery, outcome: &mut Outcome) -> Option<Admitted> {
        let format = self.conn(key).feed.format();
        if item.hints.contains(format) {
            self.refresh(key);
            // Asking a WebSocket's origin again does not take the place of the item.
            if format != Format::WsMessage {
                return None;
            }
        }
        let (mut undo, mut filters) = (None, &[][..]);
        if let Some(rare) = &mut self.conn(key).rare {
            let at = rare.terms.channels.iter().position(|term| term.channel == item.channel)?;
            undo = Some(rare.undo_of(at));
            match rare.terms.follow(item) {
                None => {}
                Some(Verdict::Gap) => {
                    self.refresh(key);
                    return None;
                }
                Some(_) => return None,
            }
            filters = &rare.terms.channels[at].filters;
        }
        let agreed = item.content_filters(format)?;
        if !agrees(filters, agreed) {
            outcome.filtered += 1;
            return None;
        }
        Some(Admitted { undo })
    }

    /// Filters an item that was admitted, and delivers it.
    pub(super) fn decide(&mut self, key: Key, offer: Offer<'_>, admitted: Admitted, outcome: &mut Outcome) {
        let item = offer.item;
        // The hold applies content filters to bodies itself: the item may be a patch of a body that only the hold knows.
        let content = item.content(self.conn(key).feed);
        let verdict = self.conn(key).rare.as_ref().map_or(Verdict::Take(None), |r| r.terms.filter(item, &content));
        match verdict {
            Verdict::Take(changed) => self.give(key, offer, changed, admitted, outcome),
            _ => outcome.filtered += 1,
        }
    }

    /// Gives a connection an item that it takes; with other content, if that was changed.
    pub(super) fn give(
        &mut self,
        key: Key,
        offer: Offer<'_>,
        changed: Option<Bytes>,
        Admitted { undo }: Admitted,
        outcome: &mut Outcome,
    ) {
        let Offer { item, pieces } = offer;
        match (self.conn(key).feed, &item.response) {
            (feed @ (Feed::Stream(_) | Feed::Messages(_)), _) => {
                let piece = match changed {
                    Some(content) => {
                        self.outgoing.add_made(content.len());
                        render(item, feed, &content)
                    }
                    None => pieces.select(item, feed).cloned(),
                };
                match piece {
                    Some(piece) => self.append(key, &piece, undo, outcome),
                    None => outcome.filtered += 1,
                }
            }
            (Feed::Response, Some(response)) => self.give_answer(key, item, response, undo, outcome),
            (Feed::Response, None) | (Feed::Away, _) => {}
        }
    }

    /// Gives a long-poll its answer.
    fn give_answer(
        &mut self,
        key: Key,
        item: &Delivery,
        response: &Arc<Response>,
        undo: Option<Undo>,
        outcome: &mut Outcome,
    ) {
        let conn = self.conn(key);
        match response.body {
            // It may not fit; then it was not had, and the connection goes on holding its channels.
            Body::Patch(_) => {
                if let (Some(rare), Some(undo)) = (&mut conn.rare, undo) {
                    rare.undo(undo);
                }
                conn.tell(Notice::Patch(Box::new(PendingItem::new(item.clone(), None))));
            }
            Body::Whole(_) if matches!(conn.notice, Notice::Item(_)) => {}
            Body::Whole(_) => {
                conn.notice = Notice::Item(Arc::clone(response));
                outcome.answered.push(key);
                outcome.delivered += 1;
            }
        }
    }

    /// Puts a piece into the outlet of a stream or a WebSocket.
    fn append(&mut self, key: Key, piece: &Rc<Bytes>, undo: Option<Undo>, outcome: &mut Outcome) {
        let now_ms = self.now_ms();
        let Self { conns, outgoing, .. } = self;
        let conn = &mut conns[key];
        if conn.is_complete() {
            return;
        }
        if conn.take(piece, key, now_ms, outgoing).is_err() {
            if let (Some(rare), Some(undo)) = (&mut conn.rare, undo) {
                rare.undo(undo);
            }
            return self.overflow(key, outcome);
        }
        conn.note(undo, piece, now_ms);
        outcome.delivered += 1;
    }

    /// Handles a connection for which so much waits that it gets no more items: one that can ask its origin does so
    /// instead, another one is cut.
    pub(super) fn overflow(&mut self, key: Key, outcome: &mut Outcome) {
        let conn = &mut self.conns[key];
        let Some(rare) = conn.rare.as_mut().filter(|rare| rare.ways.refreshes) else {
            outcome.slow.push(key);
            return;
        };
        let back = rare.take_back(conn.outlet.len());
        conn.drop_last(back, &mut self.outgoing);
        self.metrics.overflowed.inc();
        self.refresh(key);
    }

    /// Handles a connection for whose hold so much waits that it gets no more items.
    fn overflow_of_queue(&mut self, key: Key, outcome: &mut Outcome) {
        if self.conn(key).rare.as_ref().is_some_and(|rare| rare.ways.refreshes) {
            // The request in progress counts on the bytes that were sent, which therefore stay.
            self.metrics.overflowed.inc();
            self.refresh(key);
        } else {
            outcome.slow.push(key);
        }
    }

    /// Makes a connection ask its origin again, if it can. Items that arrive meanwhile wait.
    pub(super) fn refresh(&mut self, key: Key) {
        let conn = self.conn(key);
        let is_poll = matches!(conn.feed, Feed::Response | Feed::Away);
        match &mut conn.rare {
            // It is asked what it likes; nothing waits for that.
            _ if matches!(conn.feed, Feed::Messages(_)) => {}
            Some(rare) if is_poll || rare.ways.refreshes => {
                rare.clear();
                rare.held = !is_poll;
                rare.since = Instant::now();
            }
            None if is_poll => {}
            _ => return,
        }
        conn.tell(Notice::Refresh);
    }

    /// Offers the items that waited while the origin was asked. Items older than the origin's answer are left out.
    pub(super) fn offer_waiting(&mut self, key: Key) {
        let Some(rare) = &mut self.conn(key).rare else { return };
        rare.held = false;
        let items: Vec<Delivery> = std::iter::from_fn(|| rare.pop()).collect();
        let mut begun: Vec<&str> = Vec::new();
        for (at, item) in items.iter().enumerate() {
            let Some(rare) = &self.conn(key).rare else { return };
            if rare.held {
                // Something is missing: the origin is asked once more, and what is left waits for that.
                return self.put_back(key, &items[at..]);
            }
            let Some(term) = rare.terms.of(&item.channel) else { continue };
            if term.prev_id.is_some() && !begun.contains(&&*item.channel) {
                let later = items[at + 1..].iter().any(|other| other.channel == item.channel);
                if later && !rare.terms.knows(item) {
                    continue;
                }
                begun.push(&item.channel);
            }
            let mut outcome = Outcome::default();
            // It was meant when it was accepted.
            self.offer_meant(key, Offer { item, pieces: &Pieces::default() }, &mut outcome);
            outcome.count(item, &self.metrics);
            self.carry_out_outcome(&outcome);
        }
    }

    /// Lets items wait again, except those that come again when the origin is asked.
    fn put_back(&mut self, key: Key, items: &[Delivery]) {
        let Some(rare) = &mut self.conn(key).rare else { return };
        for item in items {
            if rare.terms.of(&item.channel).is_some_and(|term| term.prev_id.is_none()) {
                rare.push(item.clone(), usize::MAX);
            }
        }
    }
}
