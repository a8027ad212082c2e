//! A held connection whose request is being served again. Its transport is in use elsewhere meanwhile, but the
//! connection keeps its channels, so that a close still reaches it.

use super::conn::{DeliveryForm, Notice};
use super::{EndReason, Parked, Profile};
use crate::net::Transport;
use bytes::Bytes;
use std::task::{Context, Poll};

/// A held connection whose request is being served again. It has no transport meanwhile.
#[derive(Debug)]
pub struct AwayConnection(Parked);

impl AwayConnection {
    /// Returns whether the end of the connection has begun.
    pub fn is_closed(&self) -> bool {
        self.0.is_ending()
    }

    /// Returns whether the origin is to be asked once more, because that was requested while the request was being
    /// served.
    pub fn wants_refresh(&self) -> bool {
        matches!(self.0.shard.state.borrow().conns[self.0.key].notice, Notice::Refresh)
    }

    /// Notes that the hold ends because the request was answered with a response that does not hold the connection:
    /// one of the origin, or an error response of gripd. A reason that was noted before is kept.
    pub fn note_answer(&self) {
        self.0.shard.state.borrow_mut().conn(self.0.key).reason.get_or_insert(EndReason::Origin);
    }

    /// Returns `Poll::Ready` if the connection must end. Otherwise, the current task is woken when it must.
    pub fn poll_closed(&self, cx: &Context<'_>) -> Poll<()> {
        let state = &mut *self.0.shard.state.borrow_mut();
        let conn = state.conn(self.0.key);
        conn.watch(cx);
        if conn.ending.is_some() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Gives the connection its transport back, to be held again. It is the same connection as before: it has kept
    /// its id and its channels, including the changes that publishers have made to the channels meanwhile. `early`
    /// contains the bytes that the client has sent after its request.
    pub fn resume_hold(mut self, transport: Transport, early: &[u8], feed: DeliveryForm, profile: &Profile) -> Parked {
        self.0.take_back(transport, early, feed);
        self.0.identify(profile);
        self.0
    }

    /// Gives the connection its transport back, so that it can be sent a last response and ended.
    pub fn end(mut self, transport: Transport) -> Parked {
        self.0.take_back(transport, &[], DeliveryForm::Response);
        self.0
    }
}

impl Parked {
    /// Gives away the connection's transport, so that its request can be served again. Also returns the bytes that
    /// the client has sent after its request, and an [`AwayConnection`] that keeps the connection in its channels, so
    /// that a close still reaches it. The outlet must be empty.
    ///
    /// Returns `None` if the client is gone.
    pub fn lend(mut self) -> Option<(Transport, Bytes, AwayConnection)> {
        let (transport, early) = self.take_transport()?;
        self.shard.state.borrow_mut().conn(self.key).feed = DeliveryForm::Away;
        Some((transport, early, AwayConnection(self)))
    }
}
