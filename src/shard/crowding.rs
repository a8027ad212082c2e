//! The ceiling of all outlets together, held by time and not only when an item comes.

use super::conn::Conn;
use super::outgoing::CROWDED;
use super::{Key, Shard, State};
use std::time::Duration;
use tokio::time::sleep;

/// How often the ceiling is looked at while more waits than it allows.
const LOOK_EVERY: Duration = Duration::from_millis(250);

impl Shard {
    /// Cuts clients that read nothing while more waits than the ceiling of all outlets allows, forever.
    pub async fn keep_ceiling(&self) {
        let crowded = self.state.borrow().outgoing.crowded();
        loop {
            crowded.notified().await;
            while self.state.borrow().outgoing.is_crowded() {
                sleep(LOOK_EVERY).await;
                self.state.borrow_mut().relieve();
            }
        }
    }
}

impl State {
    /// Cuts clients until no more waits than the ceiling allows: those that have taken nothing for a while, and where several
    /// times as much waits, also others for whom more than one item does. Those for whom most waits come first.
    pub(super) fn relieve(&mut self) {
        let now_ms = self.now_ms();
        let ceiling = self.outgoing.ceiling();
        let stalled = self.largest(|conn| if conn.has_stalled(now_ms) { conn.outlet.bytes() } else { 0 });
        let mut slow = Vec::new();
        // A WebSocket keeps the frame that is half written until its time is over, which comes by itself.
        let mut left = choose(self.outgoing.waiting(), ceiling, stalled, &mut slow);
        if left > ceiling.saturating_mul(CROWDED) {
            // One item alone never makes a client slow, however large it is.
            let reads = |conn: &Conn| !conn.has_stalled(now_ms) && conn.outlet.len() > 1;
            let others = self.largest(|conn| if reads(conn) { conn.outlet.backlog() } else { 0 });
            left = choose(left, ceiling.saturating_mul(CROWDED), others, &mut slow);
        }
        tracing::debug!(
            count = slow.len(),
            left,
            "client connections are closed: too much data is waiting for all clients together"
        );
        self.metrics.slow.inc_by(slow.len() as u64);
        slow.into_iter().for_each(|key| self.shed(key));
    }

    /// Returns the connections whose sockets refuse bytes and that are not ending, by the bytes that cutting them is worth,
    /// the largest first.
    fn largest(&self, worth: impl Fn(&Conn) -> usize) -> Vec<(usize, Key)> {
        let found = self.conns.iter().filter(|(_, conn)| conn.blocked && conn.ending.is_none());
        let found = found.map(|(key, conn)| (worth(conn), key));
        let mut found: Vec<(usize, Key)> = found.filter(|(bytes, _)| *bytes > 0).collect();
        found.sort_unstable_by(|one, other| other.cmp(one));
        found
    }
}

/// Chooses connections until no more than `most` of the bytes that wait are left. Returns how many are left.
fn choose(mut waiting: usize, most: usize, candidates: Vec<(usize, Key)>, chosen: &mut Vec<Key>) -> usize {
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
    use super::super::simulation::Numbers;
    use super::super::{Feed, Inbox, Metrics, Settings};
    use super::*;
    use crate::wire::{MessageForm, StreamForm};
    use bytes::Bytes;
    use std::rc::Rc;
    use std::sync::Arc;

    /// Adds a connection for which so much waits besides a byte that is being written, and that has taken nothing for so
    /// many milliseconds.
    fn wait(state: &mut State, bytes: usize, for_ms: u32) -> Key {
        let now_ms = state.now_ms();
        let mut conn = Conn::for_test();
        conn.outlet.push(Rc::new(Bytes::from_static(b"x")));
        conn.outlet.push(Rc::new(Bytes::from(vec![0; bytes - 1])));
        conn.blocked = true;
        conn.progress_ms = now_ms.wrapping_sub(for_ms);
        state.outgoing.add_waiting(bytes);
        state.conns.insert(conn)
    }

    /// Returns which connections are cut when these wait: bytes, and since how many milliseconds.
    fn cut(outlets_total: usize, waiting: &[(usize, u32)]) -> Vec<u32> {
        let settings = Settings { outlets_total, ..Settings::default() };
        let metrics = Arc::new(Metrics::default());
        let inbox = Arc::new(Inbox::new(Arc::default()));
        let shard = Shard::new(settings, inbox, Box::new(Numbers::default()), Arc::clone(&metrics));
        let state = &mut *shard.state.borrow_mut();
        let keys: Vec<Key> = waiting.iter().map(|(bytes, for_ms)| wait(state, *bytes, *for_ms)).collect();
        state.relieve();
        let cut = keys.into_iter().filter(|key| !state.conns[*key].blocked).map(Key::number);
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
        // Somebody who has just taken something is spared, however much waits for them.
        assert_eq!(cut(100, &[(80, 0), (20, 5000), (30, 5000)]), [2]);
        assert_eq!(cut(100, &[(90, 0), (90, 0)]), [0; 0]);
    }

    #[test]
    fn one_item_alone_cuts_nobody_who_reads() {
        let settings = Settings { outlets_total: 100, ..Settings::default() };
        let inbox = Arc::new(Inbox::new(Arc::default()));
        let shard = Shard::new(settings, inbox, Box::new(Numbers::default()), Arc::default());
        let state = &mut *shard.state.borrow_mut();
        for feed in [Feed::Stream(StreamForm::Chunked), Feed::Messages(MessageForm::Plain)] {
            let mut conn = Conn::for_test();
            conn.feed = feed;
            conn.outlet.push(Rc::new(Bytes::from(vec![0; 1000])));
            (conn.blocked, conn.progress_ms) = (true, state.now_ms());
            state.outgoing.add_waiting(1000);
            state.conns.insert(conn);
        }
        state.relieve();
        assert!(state.conns.iter().all(|(_, conn)| conn.blocked && conn.ending.is_none()));
    }

    #[test]
    fn far_above_the_ceiling_everybody_is_cut_for_whom_most_waits() {
        assert_eq!(cut(100, &[(150, 0), (200, 0), (60, 0)]), [1]);
        assert_eq!(cut(100, &[(150, 0), (200, 0), (60, 5000)]), [2]);
        assert_eq!(cut(100, &[(250, 0), (300, 0), (60, 5000)]), [1, 2]);
    }
}
