//! One parked connection, as its shard sees it.

use super::ending::{Ending, Phase};
use super::outgoing::{CROWDED, Outgoing};
use super::outlet::Outlet;
use super::pending_item::PendingItem;
use super::rare::{Rare, Undo};
use super::registry::{Subscription, Subscriptions};
use super::tally::Closed;
use super::{Key, Place, Profile, Reason};
use crate::grip::Format;
use crate::grip::item::Response;
use crate::net::Transport;
use crate::wire::{MessageForm, StreamForm};
use bytes::Bytes;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

/// The form in which a connection takes items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    /// One answer, which its task writes: a long-poll.
    Response,
    /// Nothing: its request is being served again. A close finds it still.
    Away,
    /// Content appended to a body that was begun.
    Stream(StreamForm),
    /// Messages of a WebSocket.
    Messages(MessageForm),
}

impl Feed {
    /// Returns the format that it takes.
    pub const fn format(self) -> Format {
        match self {
            Self::Response | Self::Away => Format::HttpResponse,
            Self::Stream(_) => Format::HttpStream,
            Self::Messages(_) => Format::WsMessage,
        }
    }

    /// Returns the name of such a connection.
    pub(super) const fn kind(self) -> &'static str {
        match self {
            Self::Response | Self::Away => "response",
            Self::Stream(_) => "stream",
            Self::Messages(_) => "websocket",
        }
    }
}

/// The notice for the task of a connection. A greater one replaces a lesser one.
#[derive(Debug, Default)]
pub(super) enum Notice {
    #[default]
    Nothing,
    /// Its origin is to be asked again.
    Refresh,
    /// An item waits for its hold.
    Queued,
    /// A patch, of which its hold is to say whether it fits. Until then it is not known what becomes of it.
    Patch(Box<PendingItem>),
    Item(Arc<Response>),
    Close,
}

/// Milliseconds for which a transport must take nothing to be called stalled. A burst is not a stall: many rounds pass in
/// the time that a client on another core needs to read one.
const STALLED_MS: u32 = 1000;
/// The factor by which the data queued for a connection may exceed its limit while the client keeps reading.
pub(super) const BURST: usize = 16;

/// The error for a client that reads too slowly for what it is to be sent.
#[derive(Debug)]
pub(super) struct TooSlow;

/// A connection. It is kept small, as there are many: the parts that few connections need are behind a box.
pub(super) struct Conn {
    /// `None` once it was cut or broke.
    pub(super) transport: Option<Transport>,
    pub(super) outlet: Outlet,
    pub(super) subscriptions: Subscriptions,
    pub(super) waker: Option<Waker>,
    pub(super) notice: Notice,
    pub(super) ending: Option<Box<Ending>>,
    pub(super) rare: Option<Box<Rare>>,
    /// The profile of its client.
    pub(super) whose: Rc<Profile>,
    /// Bytes that were sent since it is held.
    pub(super) sent: u64,
    /// The last item that was considered for it.
    pub(super) seen: u64,
    /// The number of the last item accepted when it subscribed; before that, the largest number.
    pub(super) since: u64,
    /// When something was last put in its outlet, by the shard's clock.
    pub(super) active_ms: u32,
    /// When its transport last took bytes, by the same clock; kept while it is blocked.
    pub(super) progress_ms: u32,
    /// When it was parked, in hundredths of a second since the shard began.
    pub(super) parked_cs: u32,
    /// How many connections were parked before it.
    pub(super) serial: u32,
    pub(super) feed: Feed,
    /// Why it is held no longer, once that is decided.
    pub(super) reason: Option<Reason>,
    /// Whether it is in the list of connections to flush.
    pub(super) dirty: bool,
    /// Whether its transport refused bytes; its task waits for room.
    pub(super) blocked: bool,
}

impl Conn {
    pub(super) fn new(transport: Transport, feed: Feed, whose: Rc<Profile>) -> Self {
        Self { transport: Some(transport), ..Self::without_transport(feed, whose) }
    }

    fn without_transport(feed: Feed, whose: Rc<Profile>) -> Self {
        Self {
            transport: None,
            outlet: Outlet::default(),
            subscriptions: Subscriptions::new(),
            waker: None,
            notice: Notice::Nothing,
            ending: None,
            rare: None,
            whose,
            sent: 0,
            seen: 0,
            since: u64::MAX,
            active_ms: 0,
            progress_ms: 0,
            parked_cs: 0,
            serial: 0,
            feed,
            reason: None,
            dirty: false,
            blocked: false,
        }
    }

    #[cfg(test)]
    pub(super) fn for_test() -> Self {
        Self::without_transport(Feed::Response, Rc::default())
    }

    /// Puts a piece of an item into the outlet of this connection, which is at `key`.
    ///
    /// # Errors
    /// Too much waits there already, and the piece was not put there.
    #[inline]
    pub(super) fn take(
        &mut self,
        piece: &Rc<Bytes>,
        key: Key,
        now_ms: u32,
        outgoing: &mut Outgoing,
    ) -> Result<(), TooSlow> {
        if self.blocked {
            if self.is_slow(now_ms, outgoing, piece.len()) {
                return Err(TooSlow);
            }
            outgoing.add_waiting(piece.len());
        } else if !self.dirty {
            self.dirty = true;
            outgoing.add_dirty(key);
        }
        // Not by `push`: a second look at `blocked` costs four per cent of a delivery in a burst.
        self.outlet.push(Rc::clone(piece));
        self.active_ms = now_ms;
        Ok(())
    }

    /// Notes its new place in a channel.
    pub(super) fn note_place(&mut self, to: Subscription) {
        if let Some(subscription) = self.subscriptions.iter_mut().find(|subscription| subscription.is_beside(to)) {
            *subscription = to;
        }
    }

    /// Returns its place, as the connection at `key`.
    pub(super) const fn place(&self, key: Key) -> Place {
        Place { key, serial: self.serial }
    }

    /// Returns whether nothing follows what is in its outlet.
    pub(super) fn is_complete(&self) -> bool {
        self.ending.as_ref().is_some_and(|ending| ending.is_complete())
    }

    /// Returns whether the end of our bytes (FIN over TCP) has left.
    pub(super) fn is_finished(&self) -> bool {
        self.ending.as_ref().is_some_and(|ending| ending.phase == Phase::Finished)
    }

    /// Puts what comes last into its outlet, if its end is decided and that was not done yet.
    pub(super) fn complete(&mut self, outgoing: &mut Outgoing) {
        if let Some(mark) = self.ending.as_mut().and_then(|ending| ending.complete()) {
            self.push(mark, outgoing);
        }
    }

    /// Puts a piece into its outlet, however much waits there. Whoever does so has the outlet flushed.
    pub(super) fn push(&mut self, piece: Rc<Bytes>, outgoing: &mut Outgoing) {
        if self.blocked {
            outgoing.add_waiting(piece.len());
        }
        self.outlet.push(piece);
    }

    /// Drops the last `count` pieces of its outlet, which must not include the first: that may be half written.
    pub(super) fn drop_last(&mut self, count: usize, outgoing: &mut Outgoing) {
        let freed = self.outlet.drop_last(count);
        if self.blocked {
            outgoing.remove_waiting(freed);
        }
    }

    /// Notes that its transport is gone, for which nothing waits any longer.
    pub(super) fn unblock(&mut self, outgoing: &mut Outgoing) {
        if self.blocked {
            outgoing.remove_waiting(self.outlet.bytes());
            self.blocked = false;
        }
    }

    /// Notes what is to be undone if the piece that was just put into its outlet is not sent; `None`: it must be sent.
    pub(super) fn note(&mut self, undo: Option<Undo>, piece: &Bytes, now_ms: u32) {
        let count = self.outlet.len();
        // An empty piece is none.
        if let Some(rare) = &mut self.rare
            && !piece.is_empty()
        {
            rare.note(undo, count, now_ms);
        }
    }

    /// Leaves a notice for its task and wakes it, unless a greater notice is already there.
    pub(super) fn tell(&mut self, notice: Notice) {
        let keep = match &self.notice {
            Notice::Item(_) | Notice::Close => true,
            // It was accepted before what would close the connection, which is seen when the patch is taken.
            Notice::Patch(_) => !matches!(notice, Notice::Item(_)),
            Notice::Refresh => matches!(notice, Notice::Queued | Notice::Patch(_)),
            Notice::Queued | Notice::Nothing => false,
        };
        if !keep {
            self.notice = notice;
        }
        self.wake();
    }

    /// Returns whether so much waits for its transport, which takes nothing or not nearly enough, that it must be cut before
    /// `more` bytes wait.
    fn is_slow(&self, now_ms: u32, outgoing: &Outgoing, more: usize) -> bool {
        let stalled = self.has_stalled(now_ms);
        let exceeds_limit = |waiting: usize, limit: usize, burst_factor: usize| {
            waiting > limit && (stalled || waiting > limit.saturating_mul(burst_factor))
        };
        exceeds_limit(self.outlet.backlog(), outgoing.client_buffer(), BURST)
            || exceeds_limit(outgoing.waiting() + more, outgoing.ceiling(), CROWDED)
    }

    /// Returns whether its transport has taken nothing for a while.
    pub(super) const fn has_stalled(&self, now_ms: u32) -> bool {
        now_ms.wrapping_sub(self.progress_ms) >= STALLED_MS
    }

    /// Wakes its task.
    pub(super) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Notes which task to wake.
    pub(super) fn watch(&mut self, cx: &Context<'_>) {
        if self.waker.as_ref().is_none_or(|w| !w.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
    }

    /// Counts it as ended by its item. Returns whether it did: not if no item ended it, or if it was counted before.
    pub(super) fn settle(&mut self, way: Closed) -> bool {
        let ticket = self.ending.as_mut().and_then(|ending| ending.ticket.take());
        ticket.map(|ticket| ticket.settle(way)).is_some()
    }
}
