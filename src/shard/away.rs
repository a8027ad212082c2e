//! A connection whose request is being served again: somebody else has its socket, and a close finds it still.

use super::Parked;
use super::conn::Feed;
use bytes::Bytes;
use std::future::poll_fn;
use std::task::Poll;
use tokio::net::TcpStream;

/// A connection whose request is being served again, as its shard sees it.
#[derive(Debug)]
pub struct Away(Parked);

impl Away {
    /// Whether it is to end.
    pub fn is_closed(&self) -> bool {
        self.0.is_ending()
    }

    /// Waits until it is to end.
    pub async fn closed(&mut self) {
        poll_fn(|cx| {
            let state = &mut *self.0.shard.state.borrow_mut();
            let conn = state.conn(self.0.key);
            conn.watch(cx);
            if conn.ending.is_some() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Says that it ends cleanly, when this is dropped.
    pub fn ends(&mut self) {
        let state = &mut *self.0.shard.state.borrow_mut();
        state.conn(self.0.key).finished = true;
    }
}

impl Parked {
    /// Gives the connection to whoever serves its request again. It goes on holding its channels, so that a close finds
    /// it. Nothing of it may wait to be sent.
    pub fn lend(mut self) -> Option<(TcpStream, Bytes, Away)> {
        let (socket, early) = self.take_socket()?;
        self.shard.state.borrow_mut().conn(self.key).feed = Feed::Away;
        Some((socket, early, Away(self)))
    }
}
