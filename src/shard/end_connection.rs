//! The end of connections: by a close, by a drain, or by a cut.

use super::conn::{DeliveryForm, Notice, TooSlow};
use super::end_state::Ending;
use super::offer::ItemOffer;
use super::pieces::Pieces;
use super::rounds::AppendOutcome;
use super::tally::{CloseOutcome, CloseTicket};
use super::{ConnectionKey, Delivery, EndReason, Shard, ShardState};
use crate::grip::CloseReason;
use crate::wire::{StreamForm, chunk, websocket};
use bytes::Bytes;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// The interval at which a drain ends some of the streams and WebSockets.
const DRAIN_TICK: Duration = Duration::from_millis(50);

impl Shard {
    /// Ends every parked connection: long-polls at once, streams and WebSockets evenly spread over the time
    /// `spread`. After that, it ends the connections that are parked late, and never returns.
    pub async fn drain(&self, spread: Duration) {
        let begin = Instant::now();
        loop {
            let left = spread.saturating_sub(begin.elapsed());
            let ticks = usize::try_from(left.as_millis() / DRAIN_TICK.as_millis()).unwrap_or(usize::MAX);
            self.end_some(usize::MAX, |feed| matches!(feed, DeliveryForm::Response | DeliveryForm::Away));
            let open = self.state.borrow().conns.iter().filter(|(_, c)| c.ending.is_none()).count();
            self.end_some(open.div_ceil(ticks.max(1)), |_| true);
            tokio::time::sleep(DRAIN_TICK).await;
        }
    }

    /// Ends at most `most` of the connections that are not ending yet and whose feed is `wanted`.
    fn end_some(&self, most: usize, wanted: impl Fn(DeliveryForm) -> bool) {
        let state = &mut *self.state.borrow_mut();
        let held = state.conns.iter().filter(|(_, c)| c.ending.is_none() && wanted(c.feed));
        let keys: Vec<ConnectionKey> = held.map(|(key, _)| key).take(most).collect();
        let frame = going_away();
        for key in keys {
            state.conns[key].reason.get_or_insert(EndReason::Drain);
            state.end(key, u64::MAX, None, &frame);
        }
    }
}

/// Returns the Close frame for a WebSocket that ends because gripd shuts down, with the status code 1001 (RFC 6455
/// 7.4.1).
pub(super) fn going_away() -> Bytes {
    websocket::close(Some(&CloseReason::new(1001, "")))
}

/// Returns the end mark of a connection, or `None` if its form has none. The end mark of a WebSocket is `frame`,
/// its Close frame.
pub(super) fn end_mark(feed: DeliveryForm, frame: &Bytes) -> Option<Rc<Bytes>> {
    match feed {
        DeliveryForm::Stream(form) | DeliveryForm::Events(form) => match form {
            StreamForm::Chunked => Some(Rc::new(Bytes::from_static(chunk::LAST))),
            StreamForm::Bare => None,
        },
        DeliveryForm::Messages(_) => Some(Rc::new(frame.clone())),
        DeliveryForm::Response | DeliveryForm::Away => None,
    }
}

impl ShardState {
    /// Ends a connection. Of the items that the shard has taken from its inbox, those accepted before `number` still
    /// reach the connection, and later items do not. `frame` is the Close frame that is sent if the connection is a
    /// WebSocket.
    pub(super) fn end(&mut self, key: ConnectionKey, number: u64, ticket: Option<CloseTicket>, frame: &Bytes) {
        let caught_up = self.catch_up(key, number);
        self.unsubscribe(key);
        let deadline = Instant::now() + self.settings.close_grace;
        let conn = &mut self.conns[key];
        let mark = end_mark(conn.feed, frame);
        // A connection that is ending already keeps its deadline and its end mark, and is counted for the item that
        // ended it first.
        conn.ending.get_or_insert_with(|| Ending::new(deadline, ticket, mark));
        if caught_up.is_err() {
            // An item is missing, so a stream must not look complete: it is cut without an end mark. A WebSocket
            // still gets a Close frame.
            return self.shed(key);
        }
        // If items have to wait in the connection's queue, its task takes them from there, and completes the
        // connection after the last of them.
        let waits = conn.rare.as_ref().is_some_and(|rare| rare.queues());
        if !matches!(conn.feed, DeliveryForm::Response | DeliveryForm::Away) && !waits {
            conn.complete(&mut self.outgoing);
        }
        conn.notify(Notice::Close);
        if conn.is_complete() {
            self.flush(key);
        }
    }

    /// Offers a connection the items accepted before `number` that have not been considered for it yet.
    ///
    /// # Errors
    /// [`TooSlow`] if the client was too slow for one of them. The items after that one were not offered.
    pub(super) fn catch_up(&mut self, key: ConnectionKey, number: u64) -> Result<(), TooSlow> {
        let Self { rounds, conns, registry, .. } = self;
        let conn = &mut conns[key];
        let missed =
            |item: &&Delivery| item.number > conn.last_item && registry.holds(&conn.subscriptions, &item.channel);
        let before = rounds.backlog.iter().take_while(|item| item.number < number);
        let missed: Vec<Delivery> = before.filter(missed).cloned().collect();
        for item in missed {
            self.conn(key).last_item = item.number;
            let mut outcome = AppendOutcome::default();
            self.offer(key, ItemOffer { item: &item, pieces: &Pieces::default() }, &mut outcome);
            outcome.count(&item, &self.metrics);
            if !outcome.slow.is_empty() {
                return Err(TooSlow);
            }
        }
        Ok(())
    }

    /// Ends a connection that is too slow. A WebSocket keeps the frame that may be half written and loses the frames
    /// after it, and gets a Close frame with the status code 1013, or its end mark if it is ending already. Any other
    /// connection is cut.
    pub(super) fn shed(&mut self, key: ConnectionKey) {
        let conn = &mut self.conns[key];
        conn.reason.get_or_insert(EndReason::Slow);
        if !matches!(conn.feed, DeliveryForm::Messages(_)) {
            return self.cut(key);
        }
        conn.drop_last(conn.outlet.len().saturating_sub(1), &mut self.outgoing);
        self.unsubscribe(key);
        let fresh = Instant::now() + self.settings.close_grace;
        let conn = &mut self.conns[key];
        // A connection that is ending already keeps its deadline and its end mark.
        conn.ending.get_or_insert_with(|| {
            let frame = websocket::close(Some(&CloseReason::new(1013, "too slow")));
            Ending::new(fresh, None, Some(Rc::new(frame)))
        });
        conn.complete(&mut self.outgoing);
        conn.notify(Notice::Close);
        self.flush(key);
    }

    /// Ends a connection with a reset. The bytes that the client has not received are discarded.
    pub(super) fn cut(&mut self, key: ConnectionKey) {
        if let Some(transport) = self.conn(key).transport.take() {
            transport.reset();
        }
        self.disconnect(key);
    }

    /// Drops the transport of a connection, removes the connection from its channels, and wakes its task, which
    /// then sees that the transport is gone.
    pub(super) fn disconnect(&mut self, key: ConnectionKey) {
        self.unsubscribe(key);
        let conn = &mut self.conns[key];
        conn.unblock(&mut self.outgoing);
        conn.transport = None;
        conn.wake();
        self.settle(key);
    }

    /// Counts a connection that was ended by an item, unless it was counted before. It counts as cut if the end of
    /// the bytes to the client (FIN over TCP) was not sent.
    pub(super) fn settle(&mut self, key: ConnectionKey) {
        let conn = &mut self.conns[key];
        let way = if conn.is_finished() { CloseOutcome::Cleanly } else { CloseOutcome::Cut };
        if conn.settle(way) {
            self.metrics.closed.inc();
            self.metrics.cut.inc_by(u64::from(way == CloseOutcome::Cut));
        }
    }
}
