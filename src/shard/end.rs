//! How connections end: by a close, by a drain, by a cut.

use super::conn::{Feed, Notice, TooSlow};
use super::ending::Ending;
use super::offer::Offer;
use super::pieces::Pieces;
use super::rounds::Outcome;
use super::tally::{Closed, Ticket};
use super::{Delivery, Key, Reason, Shard, State};
use crate::grip::CloseReason;
use crate::wire::{StreamForm, chunk, websocket};
use bytes::Bytes;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// How often a drain ends its next few streams.
const DRAIN_TICK: Duration = Duration::from_millis(50);

impl Shard {
    /// Ends every parked connection: long-polls now, streams spread evenly over `spread`; and then, forever, whatever is
    /// parked late.
    pub async fn drain(&self, spread: Duration) {
        let begin = Instant::now();
        loop {
            let left = spread.saturating_sub(begin.elapsed());
            let ticks = usize::try_from(left.as_millis() / DRAIN_TICK.as_millis()).unwrap_or(usize::MAX);
            self.end_some(usize::MAX, |feed| matches!(feed, Feed::Response | Feed::Away));
            let open = self.state.borrow().conns.iter().filter(|(_, c)| c.ending.is_none()).count();
            self.end_some(open.div_ceil(ticks.max(1)), |_| true);
            tokio::time::sleep(DRAIN_TICK).await;
        }
    }

    /// Ends at most `most` of the connections that are held and whose feed is `wanted`.
    fn end_some(&self, most: usize, wanted: impl Fn(Feed) -> bool) {
        let state = &mut *self.state.borrow_mut();
        let held = state.conns.iter().filter(|(_, c)| c.ending.is_none() && wanted(c.feed));
        let keys: Vec<Key> = held.map(|(key, _)| key).take(most).collect();
        let frame = going_away();
        for key in keys {
            state.conns[key].reason.get_or_insert(Reason::Drain);
            state.end(key, u64::MAX, None, &frame);
        }
    }
}

/// Returns the Close frame of a WebSocket that ends because gripd does (RFC 6455 7.4.1).
pub(super) fn going_away() -> Bytes {
    websocket::close(Some(&CloseReason::new(1001, "")))
}

/// Returns the last bytes of a connection. `frame` is the Close frame, for a WebSocket.
pub(super) fn end_mark(feed: Feed, frame: &Bytes) -> Option<Rc<Bytes>> {
    match feed {
        Feed::Stream(StreamForm::Chunked) => Some(Rc::new(Bytes::from_static(chunk::LAST))),
        Feed::Messages(_) => Some(Rc::new(frame.clone())),
        Feed::Stream(StreamForm::Bare) | Feed::Response | Feed::Away => None,
    }
}

impl State {
    /// Ends one connection: what was accepted before `number` still reaches it, nothing after.
    /// `frame`: the Close frame, if it is a WebSocket.
    pub(super) fn end(&mut self, key: Key, number: u64, ticket: Option<Ticket>, frame: &Bytes) {
        let caught_up = self.catch_up(key, number);
        self.unsubscribe(key);
        let deadline = Instant::now() + self.settings.close_grace;
        let conn = &mut self.conns[key];
        let mark = end_mark(conn.feed, frame);
        // One that is ending already goes on as it began, and is counted for what ended it.
        conn.ending.get_or_insert_with(|| Ending::new(deadline, ticket, mark));
        if caught_up.is_err() {
            // There is no end mark after a hole, but a WebSocket's.
            return self.shed(key);
        }
        // Where items wait for the hold, the hold says when the end has come.
        let waits = conn.rare.as_ref().is_some_and(|rare| rare.queues());
        if matches!(conn.feed, Feed::Stream(_) | Feed::Messages(_)) && !waits {
            conn.complete(&mut self.outgoing);
        }
        conn.tell(Notice::Close);
        if conn.is_complete() {
            self.flush(key);
        }
    }

    /// Gives a connection the items accepted before `number` that it has not had yet.
    ///
    /// # Errors
    /// The client was too slow for one of them.
    pub(super) fn catch_up(&mut self, key: Key, number: u64) -> Result<(), TooSlow> {
        let Self { rounds, conns, registry, .. } = self;
        let conn = &mut conns[key];
        let missed = |item: &&Delivery| item.number > conn.seen && registry.holds(&conn.subscriptions, &item.channel);
        let before = rounds.backlog.iter().take_while(|item| item.number < number);
        let missed: Vec<Delivery> = before.filter(missed).cloned().collect();
        for item in missed {
            self.conn(key).seen = item.number;
            let mut outcome = Outcome::default();
            self.offer(key, Offer { item: &item, pieces: &Pieces::default() }, &mut outcome);
            outcome.count(&item, &self.metrics);
            if !outcome.slow.is_empty() {
                return Err(TooSlow);
            }
        }
        Ok(())
    }

    /// Ends a connection that is too slow. A WebSocket is told, where the frame that is half written lets it; anything
    /// else is cut.
    pub(super) fn shed(&mut self, key: Key) {
        let conn = &mut self.conns[key];
        conn.reason.get_or_insert(Reason::Slow);
        if !matches!(conn.feed, Feed::Messages(_)) {
            return self.cut(key);
        }
        conn.drop_last(conn.outlet.len().saturating_sub(1), &mut self.outgoing);
        self.unsubscribe(key);
        let fresh = Instant::now() + self.settings.close_grace;
        let conn = &mut self.conns[key];
        // A connection that is being ended already goes on as it began.
        conn.ending.get_or_insert_with(|| {
            let frame = websocket::close(Some(&CloseReason::new(1013, "too slow")));
            Ending::new(fresh, None, Some(Rc::new(frame)))
        });
        conn.complete(&mut self.outgoing);
        conn.tell(Notice::Close);
        self.flush(key);
    }

    /// Ends a connection with a reset; what it has not read is discarded.
    pub(super) fn cut(&mut self, key: Key) {
        if let Some(transport) = self.conn(key).transport.take() {
            transport.reset();
        }
        self.disconnect(key);
    }

    /// Lets go of a connection's transport. Its task hears that it is gone.
    pub(super) fn disconnect(&mut self, key: Key) {
        self.unsubscribe(key);
        let conn = &mut self.conns[key];
        conn.unblock(&mut self.outgoing);
        conn.transport = None;
        conn.wake();
        self.settle(key);
    }

    /// Counts a connection that is over and was not counted when its FIN was sent.
    pub(super) fn settle(&mut self, key: Key) {
        let conn = &mut self.conns[key];
        let way = if conn.is_finished() { Closed::Cleanly } else { Closed::Cut };
        if conn.settle(way) {
            self.metrics.closed.inc();
            self.metrics.cut.inc_by(u64::from(way == Closed::Cut));
        }
    }
}
