//! One parked connection, as its shard sees it.

use super::end_state::{Ending, EndingPhase};
use super::outlet::Outlet;
use super::pending_item::PendingItem;
use super::rare_parts::{LastIdUndo, RareParts};
use super::registry::{Subscription, Subscriptions};
use super::tally::CloseOutcome;
use super::unsent_account::{CROWDED_FACTOR, UnsentAccount};
use super::{ConnectionKey, ConnectionPlace, EndReason, Profile};
use crate::grip::Format;
use crate::grip::item::ResponseFormat;
use crate::net::Transport;
use crate::wire::{MessageForm, StreamForm};
use bytes::Bytes;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

/// The form in which a connection takes items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryForm {
    /// One response, which the task of the connection writes. The connection is a long-poll.
    Response,
    /// Nothing, because the request of the long-poll is being served again. A close still reaches the connection.
    Away,
    /// Content that is appended to a response body. The connection is a stream.
    Stream(StreamForm),
    /// Server-sent events that are appended to a response body, or content for streams if an item has no event. The
    /// connection is a stream of the type `text/event-stream`.
    Events(StreamForm),
    /// Messages. The connection is a WebSocket.
    Messages(MessageForm),
}

impl DeliveryForm {
    /// Returns the format of the items that the connection takes.
    pub const fn format(self) -> Format {
        match self {
            Self::Response | Self::Away => Format::HttpResponse,
            Self::Stream(_) | Self::Events(_) => Format::HttpStream,
            Self::Messages(_) => Format::WsMessage,
        }
    }

    /// Returns whether a piece of this form ends within a line of an event stream.
    pub(super) fn ends_within_line(self, piece: &[u8]) -> bool {
        match self {
            Self::Events(form) => form.content_of(piece).last().is_some_and(|last| *last != b'\n'),
            Self::Response | Self::Away | Self::Stream(_) | Self::Messages(_) => false,
        }
    }

    /// Returns the name of this kind of connection, as lists and webhooks show it.
    pub(super) const fn kind(self) -> &'static str {
        match self {
            Self::Response | Self::Away => "response",
            Self::Stream(_) | Self::Events(_) => "stream",
            Self::Messages(_) => "websocket",
        }
    }
}

/// The notice that waits for the task of a connection. There is at most one: if another comes, [`Conn::notify`] keeps
/// only one of the two.
#[derive(Debug, Default)]
pub(super) enum Notice {
    #[default]
    Nothing,
    /// The origin is to be asked again.
    Refresh,
    /// An item waits for the task to decide it.
    Queued,
    /// An item with a patch, which may change the held response of a long-poll. It is not known whether the patch
    /// fits until the task has tried.
    Patch(Box<PendingItem>),
    /// A response that answers the long-poll.
    Item(Arc<ResponseFormat>),
    /// The connection is to end.
    Close,
}

/// The time in milliseconds for which a transport must take nothing to count as stalled. A burst is not a stall:
/// many rounds pass in the time that a client on another core needs to read the bytes of one round.
const STALLED_MS: u32 = 1000;
/// The factor by which the data queued for a connection may exceed its limit while the client keeps reading.
pub(super) const BURST_FACTOR: usize = 16;

/// The error that a client reads too slowly, so that an item cannot be added to its outlet.
#[derive(Debug)]
pub(super) struct TooSlow;

/// A parked connection. Connections are many, so this struct is kept small: the parts that few connections need are
/// boxed.
pub(super) struct Conn {
    /// The transport. `None`: the connection was cut or has broken, or its request is being served again.
    pub(super) transport: Option<Transport>,
    pub(super) outlet: Outlet,
    pub(super) subscriptions: Subscriptions,
    pub(super) waker: Option<Waker>,
    pub(super) notice: Notice,
    pub(super) ending: Option<Box<Ending>>,
    pub(super) rare: Option<Box<RareParts>>,
    /// The profile of the connection's client.
    pub(super) profile: Rc<Profile>,
    /// The number of bytes that the transport has taken since the connection was parked.
    pub(super) sent: u64,
    /// The number of the last item that was considered for the connection, or that was accepted before the
    /// connection subscribed. Items up to this number are not offered to the connection again.
    pub(super) last_item: u64,
    /// The number of the last item accepted when the connection subscribed, or when it entered another channel by
    /// [`Parked::enter`](super::Parked::enter); `u64::MAX` before it subscribes. Commands up to this number that are
    /// for the members of a channel do not apply to the connection.
    pub(super) first_number: u64,
    /// The time at which something was last put into the outlet, or at which the connection was parked or given its
    /// transport back, in milliseconds of the shard's clock.
    pub(super) active_ms: u32,
    /// The time at which the transport last took bytes or began to refuse them, in milliseconds of the shard's
    /// clock. It is updated only while the transport refuses bytes.
    pub(super) progress_ms: u32,
    /// The time at which the connection was parked, in hundredths of a second since the shard began.
    pub(super) parked_cs: u32,
    /// The number of connections that were parked in the shard before this one. It wraps around at 2^32.
    pub(super) serial: u32,
    pub(super) feed: DeliveryForm,
    /// Whether gripd sends comments on this event stream while it is idle.
    pub(super) sends_comments: bool,
    /// Whether the last bytes may end within a line of an event stream. It is set with each piece that ends so, and
    /// cleared by a flush whose last piece ends a line.
    pub(super) is_within_line: bool,
    /// The reason for which the connection is held no longer, once that is decided.
    pub(super) reason: Option<EndReason>,
    /// Whether the connection waits in the list of connections to flush. If it is flushed out of its turn, this becomes
    /// `false`, although its key stays in the list until its turn comes.
    pub(super) dirty: bool,
    /// Whether the transport has refused bytes, or the end that follows them. The connection's task then waits until
    /// the transport takes bytes again, and flushes the outlet.
    pub(super) blocked: bool,
}

impl Conn {
    pub(super) fn new(transport: Transport, feed: DeliveryForm, profile: Rc<Profile>) -> Self {
        Self { transport: Some(transport), ..Self::without_transport(feed, profile) }
    }

    fn without_transport(feed: DeliveryForm, profile: Rc<Profile>) -> Self {
        Self {
            transport: None,
            outlet: Outlet::default(),
            subscriptions: Subscriptions::new(),
            waker: None,
            notice: Notice::Nothing,
            ending: None,
            rare: None,
            profile,
            sent: 0,
            last_item: 0,
            first_number: u64::MAX,
            active_ms: 0,
            progress_ms: 0,
            parked_cs: 0,
            serial: 0,
            feed,
            sends_comments: false,
            is_within_line: false,
            reason: None,
            dirty: false,
            blocked: false,
        }
    }

    #[cfg(test)]
    pub(super) fn for_test() -> Self {
        Self::without_transport(DeliveryForm::Response, Rc::default())
    }

    /// Appends a piece of an item to the outlet of this connection, whose key is `key`.
    ///
    /// # Errors
    /// [`TooSlow`] if too many bytes wait for this client already, or would wait for all slow clients together. The
    /// piece was not appended.
    #[inline]
    pub(super) fn take(
        &mut self,
        piece: &Rc<Bytes>,
        key: ConnectionKey,
        now_ms: u32,
        outgoing: &mut UnsentAccount,
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
        // This does not call `push`, which looks at `blocked` a second time: that costs four per cent of a delivery
        // in a burst.
        self.outlet.push(Rc::clone(piece));
        self.active_ms = now_ms;
        Ok(())
    }

    /// Replaces one of the connection's subscriptions, whose position among the subscribers of its channel has
    /// changed.
    pub(super) fn update_subscription(&mut self, to: Subscription) {
        if let Some(subscription) = self.subscriptions.iter_mut().find(|subscription| subscription.is_same_channel(to))
        {
            *subscription = to;
        }
    }

    /// Returns the place of this connection, whose key is `key`.
    pub(super) const fn place(&self, key: ConnectionKey) -> ConnectionPlace {
        ConnectionPlace { key, serial: self.serial }
    }

    /// Returns whether the outlet contains the last bytes of the connection, so that nothing may be appended.
    pub(super) fn is_complete(&self) -> bool {
        self.ending.as_ref().is_some_and(|ending| ending.is_complete())
    }

    /// Returns whether the end of the bytes to the client (FIN over TCP) has been sent.
    pub(super) fn is_finished(&self) -> bool {
        self.ending.as_ref().is_some_and(|ending| ending.phase == EndingPhase::Finished)
    }

    /// Completes the outlet, if the end of the connection has begun: appends the end mark, unless that was done
    /// before.
    pub(super) fn complete(&mut self, outgoing: &mut UnsentAccount) {
        if let Some(mark) = self.ending.as_mut().and_then(|ending| ending.complete()) {
            self.push(mark, outgoing);
        }
    }

    /// Appends a piece to the outlet, regardless of how much waits there. The caller must see to it that the outlet is
    /// flushed afterwards.
    pub(super) fn push(&mut self, piece: Rc<Bytes>, outgoing: &mut UnsentAccount) {
        if self.blocked {
            outgoing.add_waiting(piece.len());
        }
        self.outlet.push(piece);
    }

    /// Drops the last `count` pieces of the outlet. The first piece must not be among them, because a part of it
    /// may have been written already.
    pub(super) fn drop_last(&mut self, count: usize, outgoing: &mut UnsentAccount) {
        let freed = self.outlet.drop_last(count);
        // The last piece that is left, or that was written, may end within a line.
        self.is_within_line = true;
        if self.blocked {
            outgoing.remove_waiting(freed);
        }
    }

    /// Notes that the transport is gone, so that the bytes in the outlet no longer count as waiting.
    pub(super) fn unblock(&mut self, outgoing: &mut UnsentAccount) {
        if self.blocked {
            outgoing.remove_waiting(self.outlet.bytes());
            self.blocked = false;
        }
    }

    /// Notes the change that is to be undone if the piece that was just appended to the outlet is dropped instead
    /// of sent. `None`: the piece must be sent.
    pub(super) fn note(&mut self, undo: Option<LastIdUndo>, piece: &Bytes, now_ms: u32) {
        let count = self.outlet.len();
        // The outlet does not keep an empty piece.
        if let Some(rare) = &mut self.rare
            && !piece.is_empty()
        {
            rare.note(undo, count, now_ms);
        }
    }

    /// Leaves a notice for the connection's task, unless the notice that is there already has to stay, and wakes the
    /// task. A response or a close that is there always stays, and a queued item gives way to any other notice. Of a
    /// refresh and a patch, the one that came first stays. A refresh gives way to a response or a close, but a patch
    /// gives way only to a response.
    pub(super) fn notify(&mut self, notice: Notice) {
        let keep = match &self.notice {
            Notice::Item(_) | Notice::Close => true,
            // The patch was accepted before a close whose notice is dropped here. When the task takes the patch, it
            // sees that the connection is ending.
            Notice::Patch(_) => !matches!(notice, Notice::Item(_)),
            Notice::Refresh => matches!(notice, Notice::Queued | Notice::Patch(_)),
            Notice::Queued | Notice::Nothing => false,
        };
        if !keep {
            self.notice = notice;
        }
        self.wake();
    }

    /// Returns whether so many bytes wait, for this connection or for all slow ones together, that this one must not
    /// get `more` bytes. The limits are higher while the transport takes bytes than when it has stalled. This is
    /// meaningful only while the transport refuses bytes.
    fn is_slow(&self, now_ms: u32, outgoing: &UnsentAccount, more: usize) -> bool {
        let stalled = self.has_stalled(now_ms);
        let exceeds_limit = |waiting: usize, limit: usize, burst_factor: usize| {
            waiting > limit && (stalled || waiting > limit.saturating_mul(burst_factor))
        };
        exceeds_limit(self.outlet.backlog(), outgoing.client_buffer(), BURST_FACTOR)
            || exceeds_limit(outgoing.waiting() + more, outgoing.ceiling(), CROWDED_FACTOR)
    }

    /// Returns whether the transport has taken no bytes for [`STALLED_MS`] milliseconds. This is meaningful only
    /// while the transport refuses bytes.
    pub(super) const fn has_stalled(&self, now_ms: u32) -> bool {
        now_ms.wrapping_sub(self.progress_ms) >= STALLED_MS
    }

    /// Wakes the task of the connection.
    pub(super) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Makes the current task the task of the connection, which [`Conn::wake`] wakes.
    pub(super) fn watch(&mut self, cx: &Context<'_>) {
        if self.waker.as_ref().is_none_or(|w| !w.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
    }

    /// Counts the connection as ended by an item. Returns whether it was counted: `false` if no item ended the
    /// connection, or if it was counted before.
    pub(super) fn settle(&mut self, way: CloseOutcome) -> bool {
        let ticket = self.ending.as_mut().and_then(|ending| ending.ticket.take());
        ticket.map(|ticket| ticket.settle(way)).is_some()
    }
}
