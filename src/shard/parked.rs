//! The handle by which a task uses its parked connection.

use super::conn::{Conn, DeliveryForm, Notice};
use super::early_bytes::{EarlyBytes, MAX_EARLY, MAX_KEPT, poll_read};
use super::end_connection::{end_mark, going_away};
use super::end_state::Ending;
use super::pending_item::PendingItem;
use super::read_state::{ReadState, poll_readable};
use super::{ConnectionKey, EndReason, Profile, Shard, ShardState};
use crate::grip::item::ResponseFormat;
use crate::net::{Pace, Transport};
use bytes::Bytes;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// The time for which a client may take none of the bytes that are left at the end of its hold or session, before it
/// is cut.
const STALLED_AFTER: Duration = Duration::from_secs(10);
/// The interval at which the pace of a client is checked while bytes wait for it.
const PACE_LOOK: Duration = Duration::from_millis(250);

/// The minimum time that a client has to read the last bytes of its connection.
const MIN_END_TIME: Duration = Duration::from_millis(50);

/// The result of waiting until all bytes in the outlet are sent.
enum FlushProgress {
    Done,
    Gone,
    Timer,
}

/// The error for a client that is gone, or was cut.
#[derive(Debug)]
pub struct ClientGone;

/// The treatment of a client that has not read the end of its connection in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LateEnd {
    /// The connection is reset. This is for an end that the shard has begun, usually because a publisher or an
    /// operator wants the client gone.
    Cut,
    /// The connection is left to the kernel, which goes on sending the bytes that it holds. This is for an end that
    /// the connection's own task has decided. A connection whose last bytes or FIN are not with the kernel is reset
    /// even so.
    LeaveToKernel,
}

/// An event of a parked connection.
#[derive(Debug)]
pub enum ParkedEvent {
    /// The client is gone, or was cut.
    Gone,
    /// The timer of [`Parked::set_timer`] went off.
    Timer,
    /// An item that answers the long-poll. The connection no longer holds any channel.
    Item(Arc<ResponseFormat>),
    /// An item that changes the held response of the long-poll, if its patch fits. The connection still holds its
    /// channels.
    Patch(Box<PendingItem>),
    /// The origin is to be asked again, because items are missing, or because a publisher or an operator asked for
    /// it.
    Refresh,
    /// An item waits in the connection's queue for [`Parked::take_next_item`].
    Queued,
    /// The client of a WebSocket has sent bytes for [`Parked::read`], or has ended its side.
    Readable,
    /// The connection is to be ended by [`Parked::finish`], or by [`Parked::close`] if it is a WebSocket. Its end
    /// mark, if it has one, is in its outlet already, unless the connection queues items: because its task decides
    /// about them, or because they are held back.
    Close,
}

/// A connection that is parked in its shard. Dropping this closes the connection and ends its subscriptions.
pub struct Parked {
    pub(super) shard: Rc<Shard>,
    pub(super) key: ConnectionKey,
    timer: Option<Pin<Box<Sleep>>>,
    /// The bytes that the client has sent while its connection was parked. They are boxed because few clients send
    /// any.
    early: Option<Box<EarlyBytes>>,
    pub(super) reading: ReadState,
}

impl Parked {
    /// Parks a connection. `early` holds the bytes that were read after the end of its request.
    pub fn new(shard: &Rc<Shard>, transport: Transport, early: &[u8], feed: DeliveryForm, profile: &Profile) -> Self {
        let state = &mut *shard.state.borrow_mut();
        let mut conn = Conn::new(transport, feed, Rc::default());
        conn.active_ms = state.now_ms();
        conn.parked_cs = state.now_cs();
        let key = state.conns.insert(conn);
        state.identify(key, profile);
        state.metrics.parked.inc();
        let mut kept = None;
        EarlyBytes::add(&mut kept, early, feed);
        Self { shard: Rc::clone(shard), key, timer: None, early: kept, reading: ReadState::On }
    }

    /// Takes back the transport of a connection whose request was served again. Items in its queue are dropped,
    /// because the origin was asked after they had been queued. `early` holds the bytes that were read after the end
    /// of the request.
    pub(super) fn take_back(&mut self, transport: Transport, early: &[u8], feed: DeliveryForm) {
        let state = &mut *self.shard.state.borrow_mut();
        let now_ms = state.now_ms();
        let conn = state.conn(self.key);
        (conn.transport, conn.feed, conn.active_ms) = (Some(transport), feed, now_ms);
        if conn.ending.is_none() {
            conn.notice = Notice::Nothing;
        }
        if let Some(rare) = &mut conn.rare {
            rare.drop_all();
        }
        (self.early, self.timer) = (None, None);
        EarlyBytes::add(&mut self.early, early, feed);
    }

    /// Sets the reason why the connection ends, unless one was set before.
    pub fn set_end_reason(&mut self, reason: EndReason) {
        self.shard.state.borrow_mut().conn(self.key).reason.get_or_insert(reason);
    }

    /// Sets the timer, so that [`ParkedEvent::Timer`] comes after `wait`. A timer that was set before is replaced.
    pub fn set_timer(&mut self, wait: Duration) {
        let at = Instant::now() + wait;
        match &mut self.timer {
            Some(timer) => timer.as_mut().reset(at),
            None => self.timer = Some(Box::pin(sleep_until(at))),
        }
    }

    /// Removes the timer.
    pub fn clear_timer(&mut self) {
        self.timer = None;
    }

    /// Returns the time since bytes were last put into the outlet, or since the connection was parked or given its
    /// transport back if that is later.
    pub fn idle(&self) -> Duration {
        let state = self.shard.state.borrow();
        let active = state.conns[self.key].active_ms;
        Duration::from_millis(u64::from(state.now_ms().wrapping_sub(active)))
    }

    /// Returns whether bytes wait because the transport takes no more.
    pub fn is_blocked(&self) -> bool {
        self.shard.state.borrow().conns[self.key].blocked
    }

    /// Returns whether the connection may serve another request: it is not being ended, and all bytes that the client
    /// has sent while it was parked were kept.
    pub fn may_return(&self) -> bool {
        !self.is_ending() && self.early_count() <= MAX_KEPT
    }

    /// Ends the connection with a reset, so that the client sees that the body is incomplete.
    pub fn cut(self) {
        self.shard.state.borrow_mut().cut(self.key);
    }

    /// Returns the time at which the client is cut if it has not read everything, or `None` if the connection is not
    /// being ended.
    pub fn deadline(&self) -> Option<Instant> {
        self.shard.state.borrow().conns[self.key].ending.as_ref().map(|ending| ending.deadline)
    }

    /// Waits for the next event of the connection.
    pub async fn next(&mut self) -> ParkedEvent {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Returns the transport for another request when all bytes are with the kernel, together with the bytes that the
    /// client has sent meanwhile. Returns `None` if the client is gone or was cut, or if the connection had to be
    /// ended.
    pub async fn release(mut self) -> Option<(Transport, Bytes)> {
        self.flushed().await.ok()?;
        if !self.may_return() {
            self.finish().await;
            return None;
        }
        self.take_transport()
    }

    pub(super) fn take_transport(&mut self) -> Option<(Transport, Bytes)> {
        let transport = self.shard.state.borrow_mut().conn(self.key).transport.take();
        let early = self.early.take().map_or_else(Bytes::new, |early| Bytes::from(early.kept));
        transport.map(|transport| (transport, early))
    }

    /// Ends the connection cleanly: sends the last bytes and FIN, and then reads and drops what the client sends
    /// until it ends its side as well. If the shard has begun the end, because of a close or a drain, for example, the
    /// connection is cut when the grace is over. Otherwise, the client has as much time for the last bytes as it
    /// needs, as long as it goes on reading.
    pub async fn finish(self) {
        self.close(Bytes::new()).await;
    }

    /// Turns the connection into one that is refused: its task writes a single response to it, instead of the
    /// response for which it was parked.
    pub fn refuse(&mut self) {
        self.set_end_reason(EndReason::Kicked);
        self.shard.state.borrow_mut().conn(self.key).feed = DeliveryForm::Response;
    }

    /// Ends a WebSocket cleanly, as [`Parked::finish`] ends other connections. `frame` is its Close frame, unless the
    /// shard has decided on another one already.
    pub async fn close(mut self, frame: Bytes) {
        self.unsubscribe();
        if !self.is_ending() && self.flushed().await.is_err() {
            return;
        }
        let late_end = if self.is_ending() { LateEnd::Cut } else { LateEnd::LeaveToKernel };
        let deadline = self.begin_finish(&frame);
        self.timer = Some(Box::pin(sleep_until(deadline)));
        poll_fn(|cx| self.poll_finished(cx, late_end)).await;
    }

    /// Waits until all bytes are with the kernel. A client that takes them more slowly than `pace` allows is cut.
    /// Without a pace, a client may take any time. If its connection is being ended, it is cut at the deadline of the
    /// end, and its pace no longer counts.
    ///
    /// # Errors
    /// The client is gone, or was cut.
    pub async fn wait_for_room(&mut self, pace: Option<&mut Pace>) -> Result<(), ClientGone> {
        let Some(pace) = pace else { return self.flushed_in_time(STALLED_AFTER, |_| false).await };
        let mut looked = (Instant::now(), self.sent());
        let mut account = |parked: &Self| {
            let (since, sent) = std::mem::replace(&mut looked, (Instant::now(), parked.sent()));
            pace.charge_wait(since.elapsed(), usize::try_from(parked.sent() - sent).unwrap_or(usize::MAX));
            pace.remaining().is_zero()
        };
        self.flushed_in_time(PACE_LOOK, &mut account).await?;
        account(self);
        Ok(())
    }

    /// Returns the number of bytes that the transport has taken since the connection was parked.
    fn sent(&self) -> u64 {
        self.shard.state.borrow().conns[self.key].sent
    }

    /// Waits until all bytes are with the kernel.
    ///
    /// # Errors
    /// The client is gone. Or it was cut, because it took no bytes for [`STALLED_AFTER`], or because its connection was
    /// being ended and its time was over.
    async fn flushed(&mut self) -> Result<(), ClientGone> {
        self.flushed_in_time(STALLED_AFTER, Self::has_stalled).await
    }

    /// Waits until all bytes are with the kernel. Whenever `look_every` has passed, checks whether the client
    /// `is_too_slow` and has to be cut. If the connection is being ended, only the deadline of its end counts.
    ///
    /// # Errors
    /// The client is gone, or was cut.
    async fn flushed_in_time(
        &mut self,
        look_every: Duration,
        mut is_too_slow: impl FnMut(&Self) -> bool,
    ) -> Result<(), ClientGone> {
        loop {
            self.set_timer(look_every);
            match poll_fn(|cx| self.poll_flushed(cx)).await {
                FlushProgress::Done => break,
                FlushProgress::Gone => return Err(ClientGone),
                FlushProgress::Timer => {
                    let deadline = self.deadline();
                    let must_cut = match deadline {
                        Some(deadline) => deadline <= Instant::now(),
                        None => is_too_slow(self),
                    };
                    if !must_cut {
                        continue;
                    }
                    let state = &mut *self.shard.state.borrow_mut();
                    state.metrics.slow.inc_by(u64::from(deadline.is_none()));
                    state.conn(self.key).reason.get_or_insert(EndReason::Slow);
                    state.cut(self.key);
                    return Err(ClientGone);
                }
            }
        }
        self.timer = None;
        Ok(())
    }

    /// Returns whether the connection is being ended.
    pub fn is_ending(&self) -> bool {
        self.shard.state.borrow().conns[self.key].ending.is_some()
    }

    fn early_count(&self) -> usize {
        self.early.as_ref().map_or(0, |early| early.count)
    }

    /// Begins the end of the connection, unless it has begun already. Returns the time until which the client may
    /// read the last bytes.
    fn begin_finish(&self, frame: &Bytes) -> Instant {
        let state = &mut *self.shard.state.borrow_mut();
        state.unsubscribe(self.key);
        let fresh = Instant::now() + state.settings.close_grace;
        let conn = &mut state.conns[self.key];
        let feed = conn.feed;
        let ending = conn.ending.get_or_insert_with(|| Ending::new(fresh, None, end_mark(feed, frame)));
        // The end mark may be sent when the grace is nearly over. The client still gets a moment to read it.
        let deadline = ending.deadline.max(Instant::now() + MIN_END_TIME);
        conn.complete(&mut state.outgoing);
        state.flush(self.key);
        deadline
    }

    /// Returns the next event. If there is none yet, the task is woken when there is.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<ParkedEvent> {
        let state = &mut *self.shard.state.borrow_mut();
        let conn = state.conn(self.key);
        conn.watch(cx);
        match std::mem::take(&mut conn.notice) {
            Notice::Item(response) => return Poll::Ready(ParkedEvent::Item(response)),
            Notice::Close => return Poll::Ready(ParkedEvent::Close),
            Notice::Patch(item) => return Poll::Ready(ParkedEvent::Patch(item)),
            Notice::Refresh => return Poll::Ready(ParkedEvent::Refresh),
            Notice::Queued => return Poll::Ready(ParkedEvent::Queued),
            Notice::Nothing => {}
        }
        poll_room(state, self.key, cx);
        if matches!(state.conn(self.key).feed, DeliveryForm::Messages(_)) {
            // The timer is polled first, so that a client that sends without pause does not keep it from going off.
            if self.timer.as_mut().is_some_and(|t| t.as_mut().poll(cx).is_ready()) {
                self.timer = None;
                return Poll::Ready(ParkedEvent::Timer);
            }
            if let Poll::Ready(event) = poll_readable(state, self.key, cx, self.reading) {
                return Poll::Ready(event);
            }
        } else if poll_read(state, self.key, cx, &mut self.early).is_ready() {
            return Poll::Ready(ParkedEvent::Gone);
        }
        // A client that has sent too much is reported once. Otherwise, a task that goes on waiting for something else
        // would get no other event.
        let has_flooded = self.early_count() > MAX_EARLY;
        if has_flooded && state.conn(self.key).ending.is_none() {
            state.conn(self.key).reason.get_or_insert(EndReason::Client);
            state.end(self.key, u64::MAX, None, &going_away());
            // An item that was accepted before the end may have answered the long-poll.
            return Poll::Ready(match std::mem::take(&mut state.conn(self.key).notice) {
                Notice::Item(response) => ParkedEvent::Item(response),
                _ => ParkedEvent::Close,
            });
        }
        let timer = self.timer.as_mut();
        if timer.is_some_and(|t| t.as_mut().poll(cx).is_ready()) {
            self.timer = None;
            return Poll::Ready(ParkedEvent::Timer);
        }
        Poll::Pending
    }

    /// Returns ready when the outlet is empty, the client is gone, or the timer went off.
    fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Poll<FlushProgress> {
        let state = &mut *self.shard.state.borrow_mut();
        state.conn(self.key).watch(cx);
        poll_room(state, self.key, cx);
        if state.conn(self.key).outlet.is_empty() && state.conn(self.key).transport.is_some() {
            return Poll::Ready(FlushProgress::Done);
        }
        if poll_read(state, self.key, cx, &mut self.early).is_ready() {
            return Poll::Ready(FlushProgress::Gone);
        }
        let deadline = state.conn(self.key).ending.as_ref().map(|ending| ending.deadline);
        if let (Some(deadline), Some(timer)) = (deadline, &mut self.timer)
            && deadline < timer.deadline()
        {
            timer.as_mut().reset(deadline);
        }
        let timer = self.timer.as_mut();
        if timer.is_some_and(|t| t.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(FlushProgress::Timer);
        }
        Poll::Pending
    }

    /// Returns whether the transport has taken no bytes for at least [`STALLED_AFTER`].
    fn has_stalled(&self) -> bool {
        let state = self.shard.state.borrow();
        let progress = state.conns[self.key].progress_ms;
        Duration::from_millis(u64::from(state.now_ms().wrapping_sub(progress))) >= STALLED_AFTER
    }

    /// Returns ready when the connection is over: the client has ended its side as well, the transport is gone, or
    /// the time of the client has passed. In the last case, the client is cut if `late_end` or unsent bytes require
    /// it.
    fn poll_finished(&mut self, cx: &mut Context<'_>, late_end: LateEnd) -> Poll<()> {
        let state = &mut *self.shard.state.borrow_mut();
        state.conn(self.key).watch(cx);
        poll_room(state, self.key, cx);
        let over = poll_read(state, self.key, cx, &mut None).is_ready();
        let conn = state.conn(self.key);
        if conn.transport.is_none() || (over && conn.is_finished()) {
            return Poll::Ready(());
        }
        let timer = self.timer.as_mut();
        if timer.is_none_or(|t| t.as_mut().poll(cx).is_ready()) {
            if late_end == LateEnd::Cut || !state.conn(self.key).is_finished() {
                state.cut(self.key);
            }
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        let state = &mut *self.shard.state.borrow_mut();
        state.disconnect(self.key);
        state.tell_end(self.key);
        state.forget_whose(self.key);
        state.conns.remove(self.key);
        state.metrics.parked.dec();
    }
}

impl std::fmt::Debug for Parked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parked").field("key", &self.key).finish_non_exhaustive()
    }
}

/// Flushes a blocked connection if its transport takes bytes again. Otherwise, registers its task to be woken when
/// the transport does.
fn poll_room(state: &mut ShardState, key: ConnectionKey, cx: &mut Context<'_>) {
    loop {
        let conn = state.conn(key);
        if !conn.blocked {
            return;
        }
        let Some(transport) = &mut conn.transport else { return };
        match transport.poll_writable(cx) {
            Poll::Ready(Ok(())) => state.flush(key),
            Poll::Ready(Err(_)) => return state.disconnect(key),
            Poll::Pending => return,
        }
    }
}
