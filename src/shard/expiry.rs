//! Connections that end at a set time: when the token of their user expires.

use super::{ConnectionKey, EndReason, Shard, ShardState};
use crate::grip::CloseReason;
use crate::wire::websocket;
use std::collections::BTreeSet;
use std::rc::Rc;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// The connections that end at a set time, in the order of their times.
#[derive(Debug, Default)]
pub(super) struct ExpiryTimes {
    times: BTreeSet<(Instant, ConnectionKey)>,
    /// Notified when an added connection is the next one to end.
    first_changed: Rc<Notify>,
}

impl ExpiryTimes {
    /// Adds a connection that ends at the time `at`.
    pub(super) fn add(&mut self, key: ConnectionKey, at: Instant) {
        self.times.insert((at, key));
        if self.times.first() == Some(&(at, key)) {
            self.first_changed.notify_one();
        }
    }

    /// Removes a connection that was added with the time `at`.
    pub(super) fn remove(&mut self, key: ConnectionKey, at: Instant) {
        self.times.remove(&(at, key));
    }

    /// Returns the time at which the next connection ends.
    fn first(&self) -> Option<Instant> {
        self.times.first().map(|(at, _)| *at)
    }

    /// Removes and returns the connection that ends next, if its time has come by `now`.
    fn next_due(&mut self, now: Instant) -> Option<ConnectionKey> {
        if self.first()? > now {
            return None;
        }
        self.times.pop_first().map(|(_, key)| key)
    }
}

impl Shard {
    /// Ends connections when their time has come. It never returns.
    pub async fn keep_time(&self) {
        let first_changed = Rc::clone(&self.state.borrow().expiring.first_changed);
        loop {
            let first = self.state.borrow().expiring.first();
            let due = async {
                match first {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {
                    self.state.borrow_mut().expire(Instant::now());
                    tokio::task::yield_now().await;
                }
                () = first_changed.notified() => {}
            }
        }
    }
}

impl ShardState {
    /// Ends connections whose time has come, at most 256 of them, so that other tasks can run in between.
    fn expire(&mut self, now: Instant) {
        const MAX_PER_STEP: usize = 256;
        let frame = websocket::close(Some(&CloseReason::new(1008, "expired")));
        for _ in 0..MAX_PER_STEP {
            let Some(key) = self.expiring.next_due(now) else { return };
            let conn = self.conn(key);
            if conn.ending.is_none() {
                conn.reason.get_or_insert(EndReason::Expired);
                self.end(key, u64::MAX, None, &frame);
            }
        }
    }
}
