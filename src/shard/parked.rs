//! A parked connection, as its task sees it.

use super::conn::{Conn, Feed, Notice};
use super::end::{end_mark, going_away};
use super::ending::Ending;
use super::pending_item::PendingItem;
use super::reading::{ReadState, poll_readable};
use super::{Key, Profile, Reason, Shard, State};
use crate::grip::item::Response;
use crate::net::{Pace, Received, Transport};
use bytes::Bytes;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// The bytes that a client may send while it is parked, before its connection is closed.
const MAX_EARLY: usize = 64 << 10;
/// The bytes of these that are kept for the next request on the connection.
const MAX_KEPT: usize = 16 << 10;

/// How long a client may take nothing of the answer to its long-poll before it is cut.
const STALLED: Duration = Duration::from_secs(10);
/// How often the pace of a client is looked at.
const PACE_LOOK: Duration = Duration::from_millis(250);

/// How long a client has at least to read the end of its connection.
const GOODBYE: Duration = Duration::from_millis(50);

/// How far sending what waits has come.
enum Flushing {
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
    /// It is reset, as a publisher or an operator wants it gone.
    Cut,
    /// It is left to the kernel, which goes on sending what it has.
    LeaveToKernel,
}

/// An event of a parked connection.
#[derive(Debug)]
pub enum Event {
    /// The client is gone, or was cut.
    Gone,
    /// The timer went off.
    Timer,
    /// This answers the long-poll. The connection holds no channel any more.
    Item(Arc<Response>),
    /// This changes the held answer of the long-poll, if it fits. The connection holds its channels still.
    Patch(Box<PendingItem>),
    /// The origin is to be asked again: an item is missing, or somebody said so.
    Refresh,
    /// An item waits for [`Parked::turn`].
    Queued,
    /// The client of a WebSocket has sent something, for [`Parked::read`].
    Readable,
    /// The connection is to end, as [`Parked::finish`] does it; a stream's goodbye is in its outlet already.
    Close,
}

/// A connection in its shard's care. Dropping it closes the connection and ends its subscriptions.
pub struct Parked {
    pub(super) shard: Rc<Shard>,
    pub(super) key: Key,
    timer: Option<Pin<Box<Sleep>>>,
    /// Few clients send anything.
    early: Option<Box<Early>>,
    pub(super) reading: ReadState,
}

/// The bytes that the client has sent while it was parked.
#[derive(Default)]
struct Early {
    kept: Vec<u8>,
    count: usize,
}

impl Parked {
    /// Parks a connection. `early` is what was read of it beyond its request.
    pub fn new(shard: &Rc<Shard>, transport: Transport, early: &[u8], feed: Feed, whose: &Profile) -> Self {
        let state = &mut *shard.state.borrow_mut();
        let mut conn = Conn::new(transport, feed, Rc::default());
        conn.active_ms = state.now_ms();
        conn.parked_cs = state.now_cs();
        let key = state.conns.insert(conn);
        state.identify(key, whose);
        state.metrics.parked.inc();
        let mut kept = None;
        Early::add(&mut kept, early, feed);
        Self { shard: Rc::clone(shard), key, timer: None, early: kept, reading: ReadState::On }
    }

    /// Gives it a transport again. Items that waited for its hold are dropped, as its origin was asked anew.
    pub(super) fn take_back(&mut self, transport: Transport, early: &[u8], feed: Feed) {
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
        Early::add(&mut self.early, early, feed);
    }

    /// Says why it will be held no longer, unless that was said before.
    pub fn because(&mut self, reason: Reason) {
        self.shard.state.borrow_mut().conn(self.key).reason.get_or_insert(reason);
    }

    /// Makes [`Event::Timer`] come after `wait`, in place of any timer set before.
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

    /// Returns how long nothing has been put in its outlet.
    pub fn idle(&self) -> Duration {
        let state = self.shard.state.borrow();
        let active = state.conns[self.key].active_ms;
        Duration::from_millis(u64::from(state.now_ms().wrapping_sub(active)))
    }

    /// Returns whether bytes wait because the transport takes no more.
    pub fn is_blocked(&self) -> bool {
        self.shard.state.borrow().conns[self.key].blocked
    }

    /// Returns whether the connection may serve another request: it is not being ended, and all that the client has sent
    /// meanwhile was kept.
    pub fn may_return(&self) -> bool {
        !self.is_ending() && self.early_count() <= MAX_KEPT
    }

    /// Ends it with a reset: its body breaks off.
    pub fn cut(self) {
        self.shard.state.borrow_mut().cut(self.key);
    }

    /// Returns until when it has time, if it is being ended.
    pub fn deadline(&self) -> Option<Instant> {
        self.shard.state.borrow().conns[self.key].ending.as_ref().map(|ending| ending.deadline)
    }

    /// Waits for what happens next.
    pub async fn next(&mut self) -> Event {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Gives the connection back when all its bytes are with the kernel, with what the client sent
    /// meanwhile. `None`: the client is gone, did not read and was cut, or the connection had to be ended.
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

    /// Ends the connection cleanly: the last bytes, FIN, then whatever the client still sends until it ends
    /// its side as well. When a close or a drain ends it, it is cut when the grace is over. Otherwise the client has
    /// the time it needs while it reads.
    pub async fn finish(self) {
        self.close(Bytes::new()).await;
    }

    /// Makes it a connection that is refused: it gets one whole answer instead of what it was parked for.
    pub fn refuse(&mut self) {
        self.because(Reason::Kicked);
        self.shard.state.borrow_mut().conn(self.key).feed = Feed::Response;
    }

    /// Ends a WebSocket in the same way; `frame` is its Close frame, unless it has been told another.
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

    /// Waits until all bytes are with the kernel, at a certain pace if that matters.
    ///
    /// # Errors
    /// The client is gone, or was cut.
    pub async fn wait_for_room(&mut self, pace: Option<&mut Pace>) -> Result<(), ClientGone> {
        let Some(pace) = pace else { return self.flushed_in_time(STALLED, |_| false).await };
        let mut looked = (Instant::now(), self.sent());
        let mut account = |parked: &Self| {
            let (since, sent) = std::mem::replace(&mut looked, (Instant::now(), parked.sent()));
            pace.spend(since.elapsed(), usize::try_from(parked.sent() - sent).unwrap_or(usize::MAX));
            pace.left().is_zero()
        };
        self.flushed_in_time(PACE_LOOK, &mut account).await?;
        account(self);
        Ok(())
    }

    /// Returns the bytes that were sent since it is held.
    fn sent(&self) -> u64 {
        self.shard.state.borrow().conns[self.key].sent
    }

    /// Waits until all bytes are with the kernel.
    ///
    /// # Errors
    /// The client is gone. Or it was cut, because it took nothing for too long or its time was over.
    async fn flushed(&mut self) -> Result<(), ClientGone> {
        self.flushed_in_time(STALLED, Self::has_stalled).await
    }

    /// Waits until all bytes are with the kernel, and looks every so often whether the client `is_too_slow` and is cut.
    async fn flushed_in_time(
        &mut self,
        look_every: Duration,
        mut is_too_slow: impl FnMut(&Self) -> bool,
    ) -> Result<(), ClientGone> {
        loop {
            self.set_timer(look_every);
            match poll_fn(|cx| self.poll_flushed(cx)).await {
                Flushing::Done => break,
                Flushing::Gone => return Err(ClientGone),
                Flushing::Timer if self.is_ending() || is_too_slow(self) => {
                    let ending = self.is_ending();
                    let state = &mut *self.shard.state.borrow_mut();
                    state.metrics.slow.inc_by(u64::from(!ending));
                    state.conn(self.key).reason.get_or_insert(Reason::Slow);
                    state.cut(self.key);
                    return Err(ClientGone);
                }
                Flushing::Timer => {}
            }
        }
        self.timer = None;
        Ok(())
    }

    /// Returns whether it is being ended.
    pub fn is_ending(&self) -> bool {
        self.shard.state.borrow().conns[self.key].ending.is_some()
    }

    fn early_count(&self) -> usize {
        self.early.as_ref().map_or(0, |early| early.count)
    }

    /// Sees to it that the connection is being ended, and says until when it has time.
    fn begin_finish(&self, frame: &Bytes) -> Instant {
        let state = &mut *self.shard.state.borrow_mut();
        state.unsubscribe(self.key);
        let fresh = Instant::now() + state.settings.close_grace;
        let conn = &mut state.conns[self.key];
        let feed = conn.feed;
        let ending = conn.ending.get_or_insert_with(|| Ending::new(fresh, None, end_mark(feed, frame)));
        // A client that got no goodbye before has a moment to read it.
        let deadline = ending.deadline.max(Instant::now() + GOODBYE);
        conn.complete(&mut state.outgoing);
        state.flush(self.key);
        deadline
    }

    /// Returns the next event. If there is none yet, the task is woken when there is.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let state = &mut *self.shard.state.borrow_mut();
        let conn = state.conn(self.key);
        conn.watch(cx);
        match std::mem::take(&mut conn.notice) {
            Notice::Item(response) => return Poll::Ready(Event::Item(response)),
            Notice::Close => return Poll::Ready(Event::Close),
            Notice::Patch(item) => return Poll::Ready(Event::Patch(item)),
            Notice::Refresh => return Poll::Ready(Event::Refresh),
            Notice::Queued => return Poll::Ready(Event::Queued),
            Notice::Nothing => {}
        }
        poll_room(state, self.key, cx);
        if matches!(state.conn(self.key).feed, Feed::Messages(_)) {
            // The timer first: who sends without end does not keep it from going off.
            if self.timer.as_mut().is_some_and(|t| t.as_mut().poll(cx).is_ready()) {
                self.timer = None;
                return Poll::Ready(Event::Timer);
            }
            if let Poll::Ready(event) = poll_readable(state, self.key, cx, self.reading) {
                return Poll::Ready(event);
            }
        } else if poll_read(state, self.key, cx, &mut self.early).is_ready() {
            return Poll::Ready(Event::Gone);
        }
        // Told once: whoever goes on waiting for something else would otherwise hear nothing but this.
        let has_flooded = self.early.as_ref().is_some_and(|early| early.count > MAX_EARLY);
        if has_flooded && state.conn(self.key).ending.is_none() {
            state.conn(self.key).reason.get_or_insert(Reason::Client);
            state.end(self.key, u64::MAX, None, &going_away());
            // An item that was accepted before may answer it.
            return Poll::Ready(match std::mem::take(&mut state.conn(self.key).notice) {
                Notice::Item(response) => Event::Item(response),
                _ => Event::Close,
            });
        }
        let timer = self.timer.as_mut();
        if timer.is_some_and(|t| t.as_mut().poll(cx).is_ready()) {
            self.timer = None;
            return Poll::Ready(Event::Timer);
        }
        Poll::Pending
    }

    /// Returns ready when the outlet is empty, the client is gone, or the timer went off.
    fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Poll<Flushing> {
        let state = &mut *self.shard.state.borrow_mut();
        state.conn(self.key).watch(cx);
        poll_room(state, self.key, cx);
        if state.conn(self.key).outlet.is_empty() && state.conn(self.key).transport.is_some() {
            return Poll::Ready(Flushing::Done);
        }
        if poll_read(state, self.key, cx, &mut self.early).is_ready() {
            return Poll::Ready(Flushing::Gone);
        }
        let deadline = state.conn(self.key).ending.as_ref().map(|ending| ending.deadline);
        if let (Some(deadline), Some(timer)) = (deadline, &mut self.timer)
            && deadline < timer.deadline()
        {
            timer.as_mut().reset(deadline);
        }
        let timer = self.timer.as_mut();
        if timer.is_some_and(|t| t.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(Flushing::Timer);
        }
        Poll::Pending
    }

    /// Returns whether the transport has taken nothing since the timer was set.
    fn has_stalled(&self) -> bool {
        let state = self.shard.state.borrow();
        let progress = state.conns[self.key].progress_ms;
        Duration::from_millis(u64::from(state.now_ms().wrapping_sub(progress))) >= STALLED
    }

    /// Returns ready when the client has ended its side, or when its time is over.
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

impl Early {
    /// Counts bytes, and keeps those of a long-poll while they are few.
    fn add(this: &mut Option<Box<Self>>, bytes: &[u8], feed: Feed) {
        if bytes.is_empty() {
            return;
        }
        let early = this.get_or_insert_default();
        early.count = early.count.saturating_add(bytes.len());
        if feed == Feed::Response && early.count <= MAX_KEPT {
            early.kept.extend_from_slice(bytes);
        } else {
            early.kept = Vec::new();
        }
    }
}

/// Flushes a connection whose transport has room again, or has its task woken when it has.
fn poll_room(state: &mut State, key: Key, cx: &mut Context<'_>) {
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

/// Reads what the client sends. Ready when there will be no more: the client is gone.
fn poll_read(state: &mut State, key: Key, cx: &mut Context<'_>, early: &mut Option<Box<Early>>) -> Poll<()> {
    let mut buffer = [0; 4096];
    loop {
        let conn = state.conn(key);
        let Some(transport) = &mut conn.transport else { return Poll::Ready(()) };
        if ready!(transport.poll_readable(cx)).is_err() {
            return Poll::Ready(());
        }
        match transport.try_read(&mut buffer) {
            Ok(Received::End) => return Poll::Ready(()),
            Ok(Received::Bytes(count)) => Early::add(early, &buffer[..count], conn.feed),
            Ok(Received::Nothing) => {}
            Err(_) => {
                state.disconnect(key);
                return Poll::Ready(());
            }
        }
    }
}
