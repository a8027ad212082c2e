//! The ceiling, which limits the bytes in the outlets of all slow clients together. It is checked at intervals as
//! well as when an item arrives.

use super::conn::Conn;
use super::unsent_account::CROWDED_FACTOR;
use super::{ConnectionKey, Shard, ShardState};
use std::time::Duration;
use tokio::time::sleep;

/// The time between two checks of the ceiling while more bytes wait than it allows.
const LOOK_EVERY: Duration = Duration::from_millis(250);

impl Shard {
    /// Closes connections of clients that do not read, or read too slowly, whenever more bytes wait than the
    /// ceiling allows. It never returns.
    pub async fn keep_ceiling(&self) {
        let crowded = self.state.borrow().outgoing.crowded();
        loop {
            crowded.notified().await;
            while self.state.borrow().outgoing.is_crowded() {
                sleep(LOOK_EVERY).await;
                self.state.borrow_mut().enforce_ceiling();
            }
        }
    }
}

impl ShardState {
    /// Closes connections whose transport has stalled, those with the most bytes first, until no more bytes wait than
    /// the ceiling allows. If more than [`CROWDED_FACTOR`] times the ceiling waits even then, connections whose clients
    /// keep reading are closed too, until no more than that is left. Of these, a connection that has a single piece in
    /// its outlet is spared.
    pub(super) fn enforce_ceiling(&mut self) {
        let now_ms = self.now_ms();
        let ceiling = self.outgoing.ceiling();
        let stalled = self.largest(|conn| if conn.has_stalled(now_ms) { conn.outlet.bytes() } else { 0 });
        let mut slow = Vec::new();
        // All bytes of a WebSocket are counted as freed, although the frame that may be half written stays in its
        // outlet. That frame is dropped at the latest when the grace of the connection is over.
        let mut left = choose(self.outgoing.waiting(), ceiling, stalled, &mut slow);
        if left > ceiling.saturating_mul(CROWDED_FACTOR) {
            // One item alone never makes a client slow, however large it is.
            let reads = |conn: &Conn| !conn.has_stalled(now_ms) && conn.outlet.len() > 1;
            let others = self.largest(|conn| if reads(conn) { conn.outlet.backlog() } else { 0 });
            left = choose(left, ceiling.saturating_mul(CROWDED_FACTOR), others, &mut slow);
        }
        tracing::debug!(
            count = slow.len(),
            left,
            "client connections are closed: the data waiting for all slow clients together exceeds [delivery] \
             outlets_total"
        );
        self.metrics.slow.inc_by(slow.len() as u64);
        slow.into_iter().for_each(|key| self.shed(key));
    }

    /// Returns the connections that are not ending and whose transports refuse bytes, each with its `worth`: the
    /// number of bytes that closing it counts as freeing. The largest number comes first, and connections with a worth
    /// of 0 are left out.
    fn largest(&self, worth: impl Fn(&Conn) -> usize) -> Vec<(usize, ConnectionKey)> {
        let found = self.conns.iter().filter(|(_, conn)| conn.blocked && conn.ending.is_none());
        let found = found.map(|(key, conn)| (worth(conn), key));
        let mut found: Vec<(usize, ConnectionKey)> = found.filter(|(bytes, _)| *bytes > 0).collect();
        found.sort_unstable_by(|one, other| other.cmp(one));
        found
    }
}

/// Adds candidates to `chosen`, from the first on, until no more than `most` of the `waiting` bytes are left.
/// Returns how many bytes are left.
fn choose(
    mut waiting: usize,
    most: usize,
    candidates: Vec<(usize, ConnectionKey)>,
    chosen: &mut Vec<ConnectionKey>,
) -> usize {
    for (bytes, key) in candidates {
        if waiting <= most {
            break;
        }
        waiting = waiting.saturating_sub(bytes);
        chosen.push(key);
    }
    waiting
}

#[cfg(test)]
mod tests {
    use super::super::simulation::NumberLedger;
    use super::super::{DeliveryForm, Inbox, Metrics, Settings};
    use super::*;
    use crate::wire::{MessageForm, StreamForm};
    use bytes::Bytes;
    use std::rc::Rc;
    use std::sync::Arc;

    /// Adds a connection whose transport has taken nothing for `for_ms` milliseconds, and for which `bytes` bytes
    /// wait: one byte that is being written, and a second piece with the others.
    fn wait(state: &mut ShardState, bytes: usize, for_ms: u32) -> ConnectionKey {
        let now_ms = state.now_ms();
        let mut conn = Conn::for_test();
        conn.outlet.push(Rc::new(Bytes::from_static(b"x")));
        conn.outlet.push(Rc::new(Bytes::from(vec![0; bytes - 1])));
        conn.blocked = true;
        conn.progress_ms = now_ms.wrapping_sub(for_ms);
        state.outgoing.add_waiting(bytes);
        state.conns.insert(conn)
    }

    /// Returns the keys of the connections that are closed, given the bytes that wait for each connection and the
    /// milliseconds since its transport last took bytes.
    fn cut(outlets_total: usize, waiting: &[(usize, u32)]) -> Vec<u32> {
        let settings = Settings { outlets_total, ..Settings::default() };
        let metrics = Arc::new(Metrics::default());
        let inbox = Arc::new(Inbox::new(Arc::default()));
        let shard = Shard::new(settings, inbox, Box::new(NumberLedger::default()), Arc::clone(&metrics));
        let state = &mut *shard.state.borrow_mut();
        let keys: Vec<ConnectionKey> = waiting.iter().map(|(bytes, for_ms)| wait(state, *bytes, *for_ms)).collect();
        state.enforce_ceiling();
        let cut = keys.into_iter().filter(|key| !state.conns[*key].blocked).map(ConnectionKey::number);
        let cut: Vec<u32> = cut.collect();
        assert_eq!(metrics.slow.get(), cut.len() as u64);
        let left: usize = state.conns.iter().filter(|(_, c)| c.blocked).map(|(_, c)| c.outlet.bytes()).sum();
        assert_eq!(state.outgoing.waiting(), left);
        cut
    }

    #[test]
    fn those_that_read_nothing_are_cut_until_it_is_enough() {
        assert_eq!(cut(100, &[(50, 5000), (50, 5000)]), [0; 0]);
        assert_eq!(cut(100, &[(20, 5000), (60, 5000), (30, 5000)]), [1]);
        // A client that has just read something is spared, even if more bytes wait for it than for any other client,
        // as long as no more than four times the ceiling waits.
        assert_eq!(cut(100, &[(80, 0), (20, 5000), (30, 5000)]), [2]);
        assert_eq!(cut(100, &[(90, 0), (90, 0)]), [0; 0]);
    }

    #[test]
    fn one_item_alone_cuts_nobody_who_reads() {
        let settings = Settings { outlets_total: 100, ..Settings::default() };
        let inbox = Arc::new(Inbox::new(Arc::default()));
        let shard = Shard::new(settings, inbox, Box::new(NumberLedger::default()), Arc::default());
        let state = &mut *shard.state.borrow_mut();
        for feed in [DeliveryForm::Stream(StreamForm::Chunked), DeliveryForm::Messages(MessageForm::Plain)] {
            let mut conn = Conn::for_test();
            conn.feed = feed;
            conn.outlet.push(Rc::new(Bytes::from(vec![0; 1000])));
            (conn.blocked, conn.progress_ms) = (true, state.now_ms());
            state.outgoing.add_waiting(1000);
            state.conns.insert(conn);
        }
        state.enforce_ceiling();
        assert!(state.conns.iter().all(|(_, conn)| conn.blocked && conn.ending.is_none()));
    }

    #[test]
    fn far_above_the_ceiling_everybody_is_cut_for_whom_most_waits() {
        assert_eq!(cut(100, &[(150, 0), (200, 0), (60, 0)]), [1]);
        assert_eq!(cut(100, &[(150, 0), (200, 0), (60, 5000)]), [2]);
        assert_eq!(cut(100, &[(250, 0), (300, 0), (60, 5000)]), [1, 2]);
    }
}
