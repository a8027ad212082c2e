//! A connection whose request is being served again: somebody else has its transport, and a close finds it still.

use super::conn::{Feed, Notice};
use super::{Parked, Profile, Reason};
use crate::net::Transport;
use bytes::Bytes;
use std::task::{Context, Poll};

/// A connection whose request is being served again, as its shard sees it.
#[derive(Debug)]
pub struct Away(Parked);

impl Away {
    /// Returns whether it is to end.
    pub fn is_closed(&self) -> bool {
        self.0.is_ending()
    }

    /// Returns whether its origin is to be asked once more.
    pub fn is_hinted(&self) -> bool {
        matches!(self.0.shard.state.borrow().conns[self.0.key].notice, Notice::Refresh)
    }

    /// Notes that its origin has answered, and not with a hold.
    pub fn note_answer(&self) {
        self.0.shard.state.borrow_mut().conn(self.0.key).reason.get_or_insert(Reason::Origin);
    }

    /// Returns `Poll::Ready` if the connection must end. Otherwise, registers the current task to be woken when it must.
    pub fn poll_closed(&self, cx: &Context<'_>) -> Poll<()> {
        let state = &mut *self.0.shard.state.borrow_mut();
        let conn = state.conn(self.0.key);
        conn.watch(cx);
        if conn.ending.is_some() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Returns the connection, with its transport again, to be held on: as the same one, in its channels and where
    /// publishers had it go. `early` is what was read of it beyond its request.
    pub fn back(mut self, transport: Transport, early: &[u8], feed: Feed, whose: &Profile) -> Parked {
        self.0.take_back(transport, early, feed);
        self.0.identify(whose);
        self.0
    }

    /// Returns the connection, with its transport again, to be ended.
    pub fn end(mut self, transport: Transport) -> Parked {
        self.0.take_back(transport, &[], Feed::Response);
        self.0
    }
}

impl Parked {
    /// Gives the connection to whoever serves its request again. It goes on holding its channels, so that a close finds
    /// it. Nothing of it may wait to be sent.
    ///
    /// `None`: the client is gone.
    pub fn lend(mut self) -> Option<(Transport, Bytes, Away)> {
        let (transport, early) = self.take_transport()?;
        self.shard.state.borrow_mut().conn(self.key).feed = Feed::Away;
        Some((transport, early, Away(self)))
    }
}
