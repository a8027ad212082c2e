//! Connections that end by themselves when their time is over.

use super::{Key, Reason, Shard, State};
use crate::grip::CloseReason;
use crate::wire::websocket;
use std::rc::Rc;
use tokio::time::{Instant, sleep_until};

impl Shard {
    /// Ends the connections whose time is over, for ever.
    pub async fn keep_time(&self) {
        let expires = Rc::clone(&self.state.borrow().expires);
        loop {
            let first = self.state.borrow().expiring.first().map(|(at, _)| *at);
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
                () = expires.notified() => {}
            }
        }
    }
}

impl State {
    /// Takes note that a connection ends by itself.
    pub(super) fn expires_at(&mut self, key: Key, at: Instant) {
        self.expiring.insert((at, key));
        if self.expiring.first() == Some(&(at, key)) {
            self.expires.notify_one();
        }
    }

    /// Ends those whose time is over, as many as fit a turn.
    fn expire(&mut self, now: Instant) {
        const MOST: usize = 256;
        let frame = websocket::close(Some(&CloseReason::new(1008, "expired")));
        for _ in 0..MOST {
            let Some(&(at, key)) = self.expiring.first().filter(|(at, _)| *at <= now) else { return };
            self.expiring.remove(&(at, key));
            let conn = self.conn(key);
            if conn.ending.is_none() {
                conn.reason.get_or_insert(Reason::Expired);
                self.end(key, u64::MAX, None, &frame);
            }
        }
    }
}
