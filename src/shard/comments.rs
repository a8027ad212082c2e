//! Comments on idle event streams, so that proxies and browsers do not take a silent stream for a dead one.
//!
//! One task visits all connections of the shard, so a connection needs neither a timer nor memory for this.

use super::conn::Conn;
use super::{ConnectionKey, DeliveryForm, Parked, Shard, ShardState};
use crate::wire::{Chunk, StreamForm};
use bytes::Bytes;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// The comment: a line that begins with a colon, which a browser ignores.
const COMMENT: &[u8] = b":\n";
/// The number of visits to a connection within the longest time of silence. A connection gets a comment at a visit if
/// it would otherwise be silent for too long at the next one.
const VISITS: u32 = 5;
/// The shortest time of silence after which comments are sent, so that visiting all connections costs little.
const SHORTEST: Duration = Duration::from_secs(1);
/// The number of connections that are visited before other tasks may run.
const VISITS_PER_STEP: u32 = 4096;
/// The number of comments that are sent before other tasks may run.
const COMMENTS_PER_STEP: u32 = 64;

impl Parked {
    /// Sets whether gripd sends comments on this stream while it is idle. It does so only if the stream is an event
    /// stream, and is not within a line.
    pub fn send_comments(&self, sends: bool) {
        self.shard.state.borrow_mut().conn(self.key).sends_comments = sends;
    }
}

impl Shard {
    /// Sends comments on event streams that would otherwise be silent for too long. It never returns.
    pub async fn keep_event_streams_alive(&self) {
        loop {
            let longest_silence = self.state.borrow().settings.event_keep_alive;
            tokio::select! {
                () = self.comment_every(longest_silence) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// Sends comments on event streams that would otherwise be silent for longer than `longest_silence`, or none if it
    /// is zero. It never returns.
    async fn comment_every(&self, longest_silence: Duration) {
        if longest_silence.is_zero() {
            return std::future::pending().await;
        }
        let longest_silence = longest_silence.max(SHORTEST);
        let mut visits = interval(longest_silence / VISITS);
        visits.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let idle = longest_silence - longest_silence / VISITS;
        let idle_ms = u32::try_from(idle.as_millis()).unwrap_or(u32::MAX);
        let comments =
            [StreamForm::Chunked, StreamForm::Bare].map(|form| Rc::new(Chunk::new(COMMENT).select(form).clone()));
        loop {
            visits.tick().await;
            let mut next = Some(0);
            while let Some(first) = next {
                next = self.state.borrow_mut().comment_some(first, idle_ms, &comments);
                tokio::task::yield_now().await;
            }
        }
    }
}

impl ShardState {
    /// Visits some connections, from the one with the number `first` on, and sends a comment on those that have been
    /// idle for `idle_ms` milliseconds. Returns the number of the connection to continue with, or `None` if all have
    /// been visited.
    fn comment_some(&mut self, first: u32, idle_ms: u32, [chunk, bare]: &[Rc<Bytes>; 2]) -> Option<u32> {
        let (now_ms, mut sent) = (self.now_ms(), 0);
        let end = u32::try_from(self.conns.end()).unwrap_or(u32::MAX);
        for number in first..end {
            if number - first == VISITS_PER_STEP || sent == COMMENTS_PER_STEP {
                return Some(number);
            }
            let key = ConnectionKey::new(number);
            let Some(form) = self.conns.get(key).and_then(|conn| comment_form(conn, now_ms, idle_ms)) else { continue };
            let comment = match form {
                StreamForm::Chunked => chunk,
                StreamForm::Bare => bare,
            };
            self.put(key, Rc::clone(comment), now_ms);
            self.flush(key);
            sent += 1;
        }
        None
    }
}

/// Returns the form of the comment that a connection needs now, or `None` if it needs none.
fn comment_form(conn: &Conn, now_ms: u32, idle_ms: u32) -> Option<StreamForm> {
    let DeliveryForm::Events(form) = conn.feed else { return None };
    let is_idle = now_ms.wrapping_sub(conn.active_ms) >= idle_ms;
    // A connection whose outlet is not empty is not idle: its client does not read.
    let may_send = conn.sends_comments && !conn.is_within_line && conn.ending.is_none() && conn.outlet.is_empty();
    (is_idle && may_send).then_some(form)
}
