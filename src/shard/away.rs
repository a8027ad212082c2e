//! A connection whose request is being served again: somebody else has its socket, and a close finds it still.

use super::conn::{Feed, News};
use super::rare::{Moved, Rare, Ways};
use super::{Parked, Reason, Terms};
use bytes::Bytes;
use std::task::{Context, Poll};
use tokio::net::TcpStream;

/// A connection whose request is being served again, as its shard sees it.
#[derive(Debug)]
pub struct Away(Parked);

impl Away {
    /// Whether it is to end.
    pub fn is_closed(&self) -> bool {
        self.0.is_ending()
    }

    /// Whether its origin is to be asked once more.
    pub fn is_hinted(&self) -> bool {
        matches!(self.0.shard.state.borrow().conns[self.0.key as usize].news, News::Refresh)
    }

    /// Says that its request is held again: nothing has ended.
    pub fn goes_on(&self) {
        self.0.shard.state.borrow_mut().conn(self.0.key).goes_on = true;
    }

    /// Says that its origin has answered, and not with a hold.
    pub fn is_answered(&self) {
        self.0.shard.state.borrow_mut().conn(self.0.key).reason.get_or_insert(Reason::Origin);
    }

    /// Has a connection that takes its place, and holds nothing yet, agree to go where publishers had it go, if they did.
    pub fn hand_over(&self, parked: &mut Parked, terms: &Terms, ways: Ways) {
        let state = &mut *self.0.shard.state.borrow_mut();
        let Some(moved) = state.conn(self.0.key).rare.as_ref().map(|rare| rare.moved().clone()) else { return };
        if moved != Moved::default() {
            let now_ms = state.now_ms();
            let mut rare = Box::new(Rare::new(terms.clone(), ways, now_ms));
            rare.follow(moved, now_ms);
            state.conn(parked.key).rare = Some(rare);
        }
    }

    /// What had been accepted when it subscribed.
    pub fn since(&self) -> u64 {
        self.0.shard.state.borrow().conns[self.0.key as usize].since
    }

    /// Ready when it is to end; else its task is woken when it is.
    pub fn poll_closed(&self, cx: &Context<'_>) -> Poll<()> {
        let state = &mut *self.0.shard.state.borrow_mut();
        let conn = state.conn(self.0.key);
        conn.watch(cx);
        if conn.ending.is_some() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The connection, with its socket again.
    pub fn back(self, socket: TcpStream) -> Parked {
        {
            let state = &mut *self.0.shard.state.borrow_mut();
            let conn = state.conn(self.0.key);
            conn.socket = Some(socket);
            conn.feed = Feed::Response;
        }
        self.0
    }
}

impl Parked {
    /// Gives the connection to whoever serves its request again. It goes on holding its channels, so that a close finds
    /// it. Nothing of it may wait to be sent.
    ///
    /// `None`: the client is gone.
    pub fn lend(mut self) -> Option<(TcpStream, Bytes, Away)> {
        let (socket, early) = self.take_socket()?;
        self.shard.state.borrow_mut().conn(self.key).feed = Feed::Away;
        Some((socket, early, Away(self)))
    }
}
