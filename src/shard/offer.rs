//! Items that are decided for one connection after another, because the connection has terms or a queue, or because
//! the item is special: it carries hints, a patch, or content that is made for certain filters.

use super::conn::{BURST_FACTOR, DeliveryForm, Notice};
use super::inbox::Delivery;
use super::pending_item::PendingItem;
use super::pieces::{Pieces, render};
use super::rare_parts::LastIdUndo;
use super::rounds::AppendOutcome;
use super::terms::{Verdict, agrees};
use super::{ConnectionKey, ShardState};
use crate::grip::Format;
use crate::grip::item::{ItemBody, ResponseFormat};
use bytes::Bytes;
use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use tokio::time::Instant;

/// An item that is offered to a connection.
#[derive(Clone, Copy)]
pub(super) struct ItemOffer<'a> {
    pub(super) item: &'a Delivery,
    /// The item's rendered bytes, shared by all connections to which the item is offered.
    pub(super) pieces: &'a Pieces,
}

/// The result of admitting an item: the connection gets the item unless one of its filters drops it.
pub(super) struct AdmittedItem {
    /// The last id that the channel had before the item, to be restored if the item is not sent after all. `None`:
    /// the connection has no terms.
    pub(super) undo: Option<LastIdUndo>,
}

impl ShardState {
    /// Offers an item to a connection that holds the item's channel. A connection that the item's selection excludes
    /// gets no content, and only notes the item if it follows the order of the channel.
    pub(super) fn offer(&mut self, key: ConnectionKey, offer: ItemOffer<'_>, outcome: &mut AppendOutcome) {
        if let Some(item) = self.meant(key, offer.item) {
            self.offer_meant(key, ItemOffer { item: &item, ..offer }, outcome);
        }
    }

    /// Offers an item to a connection after the item's selection was applied.
    fn offer_meant(&mut self, key: ConnectionKey, offer: ItemOffer<'_>, outcome: &mut AppendOutcome) {
        let item = offer.item;
        // A connection's queue of items may be as large as the outlet of a client that goes on reading.
        let most = self.settings.client_buffer.saturating_mul(BURST_FACTOR);
        let conn = self.conn(key);
        let format = conn.feed.format();
        if conn.feed == DeliveryForm::Away {
            // The request is being served again already, so the origin is being asked. A hint makes it be asked once
            // more.
            if item.hints.contains(format) {
                conn.notify(Notice::Refresh);
            }
            return;
        }
        match &mut conn.rare {
            // The origin is being asked already, or its response is being relayed. A hint says that this response may
            // be out of date, so the origin is asked once more.
            Some(rare) if rare.is_queueing && item.hints.contains(format) && format != Format::WsMessage => {
                self.refresh(key)
            }
            Some(rare) if rare.queues() => {
                if !rare.push(item.clone(), most) {
                    self.overflow_of_queue(key, outcome);
                } else if !rare.is_queueing {
                    conn.notify(Notice::Queued);
                }
            }
            _ => {
                if let Some(admitted) = self.admit(key, item, outcome) {
                    self.decide(key, offer, admitted, outcome);
                }
            }
        }
    }

    /// Returns the item as a connection that holds the item's channel is to see it. If the item's selection excludes
    /// the connection, this is the item without content, and only if the connection may follow the order of the
    /// channel.
    fn meant<'a>(&self, key: ConnectionKey, item: &'a Delivery) -> Option<Cow<'a, Delivery>> {
        let conn = &self.conns[key];
        let Some(selection) = &item.selection else { return Some(Cow::Borrowed(item)) };
        if self.registry.choose(&item.channel, selection).admits(&conn.subscriptions) {
            return Some(Cow::Borrowed(item));
        }
        if conn.rare.is_some() && item.is_ordered() { Some(Cow::Owned(item.without_content())) } else { None }
    }

    /// Checks whether an item may be sent to a connection, before the connection's filters are applied. Returns
    /// `None` if not: the item is a hint, the connection's terms do not have its channel, it does not follow the last
    /// item that the client had, it has no content in the connection's format, or its content is made for other
    /// filters. A hint and a missing item make the connection ask its origin again.
    pub(super) fn admit(
        &mut self,
        key: ConnectionKey,
        item: &Delivery,
        outcome: &mut AppendOutcome,
    ) -> Option<AdmittedItem> {
        let feed = self.conn(key).feed;
        let format = feed.format();
        if item.hints.contains(format) {
            self.refresh(key);
            // For a WebSocket, asking the origin again does not replace the item, so the item is delivered as well.
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
        let agreed = item.content_filters(feed)?;
        if !agrees(filters, agreed) {
            outcome.filtered += 1;
            return None;
        }
        Some(AdmittedItem { undo })
    }

    /// Passes an admitted item through the connection's filters, and delivers it unless one of them drops it.
    pub(super) fn decide(
        &mut self,
        key: ConnectionKey,
        offer: ItemOffer<'_>,
        admitted: AdmittedItem,
        outcome: &mut AppendOutcome,
    ) {
        let item = offer.item;
        // The hold of a long-poll applies content filters itself, because the item may be a patch of a body that only
        // the hold knows. `content` is empty then.
        let content = item.content(self.conn(key).feed);
        let verdict = self.conn(key).rare.as_ref().map_or(Verdict::Take(None), |r| r.terms.filter(item, &content));
        match verdict {
            Verdict::Take(changed) => self.deliver(key, offer, changed, admitted, outcome),
            _ => outcome.filtered += 1,
        }
    }

    /// Delivers an item to a connection. `changed` is the content that the connection's filters have made of the
    /// item's own content, if they have changed it.
    pub(super) fn deliver(
        &mut self,
        key: ConnectionKey,
        offer: ItemOffer<'_>,
        changed: Option<Bytes>,
        AdmittedItem { undo }: AdmittedItem,
        outcome: &mut AppendOutcome,
    ) {
        let ItemOffer { item, pieces } = offer;
        match (self.conn(key).feed, &item.response) {
            (feed @ (DeliveryForm::Stream(_) | DeliveryForm::Events(_) | DeliveryForm::Messages(_)), _) => {
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
            (DeliveryForm::Response, Some(response)) => self.deliver_response(key, item, response, undo, outcome),
            (DeliveryForm::Response, None) | (DeliveryForm::Away, _) => {}
        }
    }

    /// Delivers an item to a long-poll. A whole body becomes its response; a patch is left to its hold.
    fn deliver_response(
        &mut self,
        key: ConnectionKey,
        item: &Delivery,
        response: &Arc<ResponseFormat>,
        undo: Option<LastIdUndo>,
        outcome: &mut AppendOutcome,
    ) {
        let conn = self.conn(key);
        match response.body {
            // Only the hold knows whether the patch fits the held body. If the patch does not fit, the client has not
            // had the item. So the last id is restored, and the connection goes on holding its channels.
            ItemBody::Patch(_) => {
                if let (Some(rare), Some(undo)) = (&mut conn.rare, undo) {
                    rare.undo(undo);
                }
                conn.notify(Notice::Patch(Box::new(PendingItem::new(item.clone(), None))));
            }
            ItemBody::Whole(_) if matches!(conn.notice, Notice::Item(_)) => {}
            ItemBody::Whole(_) => {
                conn.notice = Notice::Item(Arc::clone(response));
                outcome.answered.push(key);
                outcome.delivered += 1;
            }
        }
    }

    /// Puts the bytes of an item into the outlet of a stream or a WebSocket, unless the last bytes of the connection
    /// are already there.
    fn append(&mut self, key: ConnectionKey, piece: &Rc<Bytes>, undo: Option<LastIdUndo>, outcome: &mut AppendOutcome) {
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
        conn.is_within_line |= conn.feed.ends_within_line(piece);
        conn.note(undo, piece, now_ms);
        outcome.delivered += 1;
    }

    /// Handles a connection whose outlet may not get another item, because too many bytes wait there or in the whole
    /// shard. If its hold can refresh, pieces at the end of the outlet are dropped where possible and the origin is
    /// asked again. Otherwise, the connection is noted as too slow, which ends it.
    pub(super) fn overflow(&mut self, key: ConnectionKey, outcome: &mut AppendOutcome) {
        let conn = &mut self.conns[key];
        let Some(rare) = conn.rare.as_mut().filter(|rare| rare.ways.can_refresh) else {
            outcome.slow.push(key);
            return;
        };
        let back = rare.take_back(conn.outlet.len());
        conn.drop_last(back, &mut self.outgoing);
        self.metrics.overflowed.inc();
        self.refresh(key);
    }

    /// Handles a connection whose queue of items has no room for another item. If its hold can refresh, the origin is
    /// asked again. Otherwise, the connection is noted as too slow, which ends it.
    fn overflow_of_queue(&mut self, key: ConnectionKey, outcome: &mut AppendOutcome) {
        if self.conn(key).rare.as_ref().is_some_and(|rare| rare.ways.can_refresh) {
            // A request to the origin may be in progress. It relies on the bytes in the outlet, so they are not
            // dropped.
            self.metrics.overflowed.inc();
            self.refresh(key);
        } else {
            outcome.slow.push(key);
        }
    }

    /// Makes a connection ask its origin again, if its hold can do so. Items that arrive for a stream meanwhile wait
    /// in its queue.
    pub(super) fn refresh(&mut self, key: ConnectionKey) {
        let conn = self.conn(key);
        let is_poll = matches!(conn.feed, DeliveryForm::Response | DeliveryForm::Away);
        let format = conn.feed.format();
        match &mut conn.rare {
            // The reply to a WebSocket that asks its origin again replaces no items. Therefore, no items wait for it
            // and none are dropped.
            _ if matches!(conn.feed, DeliveryForm::Messages(_)) => {}
            Some(rare) if is_poll || rare.ways.can_refresh => {
                rare.clear(format);
                rare.is_queueing = !is_poll;
                rare.since = Instant::now();
            }
            None if is_poll => {}
            _ => return,
        }
        conn.notify(Notice::Refresh);
    }

    /// Offers the items that waited in the queue while the origin was asked. Items that are older than the origin's
    /// response are left out.
    pub(super) fn offer_waiting(&mut self, key: ConnectionKey) {
        let Some(rare) = &mut self.conn(key).rare else { return };
        rare.is_queueing = false;
        let items: Vec<Delivery> = std::iter::from_fn(|| rare.pop()).collect();
        let mut begun: Vec<&str> = Vec::new();
        for (at, item) in items.iter().enumerate() {
            let Some(rare) = &self.conn(key).rare else { return };
            if rare.is_queueing {
                // The origin is to be asked once more, because an item is missing, for example. Of the items that are
                // left, those that its response does not cover wait again.
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
            let mut outcome = AppendOutcome::default();
            // The selection was applied when the item was queued, so it is not applied again.
            self.offer_meant(key, ItemOffer { item, pieces: &Pieces::default() }, &mut outcome);
            outcome.count(item, &self.metrics);
            self.carry_out_outcome(&outcome);
        }
    }

    /// Puts items back into the queue, except for those of channels whose order is followed: the origin's next
    /// response covers them.
    fn put_back(&mut self, key: ConnectionKey, items: &[Delivery]) {
        let Some(rare) = &mut self.conn(key).rare else { return };
        for item in items {
            if rare.terms.of(&item.channel).is_some_and(|term| term.prev_id.is_none()) {
                rare.push(item.clone(), usize::MAX);
            }
        }
    }
}
