//! The body of a request on its way to the origin.

use super::rewrite::{may_be_trailer, remove_where};
use crate::grip::instruct::is_grip;
use crate::net::{ClientDelay, Pace, PaceLimits};
use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{HeaderMap, HeaderName};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

/// The size in bytes of the largest request body that is kept in memory, so that it can be sent again or its request
/// can be held.
const MAX_KEPT: usize = 100_000;

/// The state of a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestBodyState {
    /// The body was read to its end.
    Whole,
    /// The body is larger than what is kept in memory.
    TooLarge,
    /// The client aborted the upload.
    Broken,
    /// The client sent the body too slowly.
    TooSlow,
}

/// An error that ends a request body early.
#[derive(Debug)]
pub enum RequestBodyError {
    /// The client aborted the upload.
    Broken(hyper::Error),
    /// The client sent the body too slowly.
    TooSlow,
}

impl fmt::Display for RequestBodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(error) => error.fmt(f),
            Self::TooSlow => f.write_str("the client sent the request body too slowly"),
        }
    }
}

impl std::error::Error for RequestBodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Broken(error) => error.source(),
            Self::TooSlow => None,
        }
    }
}

/// A request body that is streamed to the origin, and kept in memory up to a limit.
///
/// Clones share one body. The connection to the origin reads it, and so does a task that waits for its end in
/// [`RequestBody::whole`].
#[derive(Clone, Debug)]
pub struct RequestBody {
    shared: Rc<RefCell<SharedBody>>,
    /// The pieces that this clone sends first, because another clone has read them from the client already.
    replay: VecDeque<Bytes>,
    /// Whether this clone sends the trailers that were read already, after the pieces in `replay`.
    replays_trailers: bool,
}

#[derive(Debug)]
struct SharedBody {
    /// The body as it comes from the client. `None` if the body was in memory from the beginning.
    incoming: Option<ClientBody>,
    kept: BodyPieces,
    count: usize,
    /// Whether everything that was read is still in memory.
    is_at_hand: bool,
    /// Whether the body is read before its request is sent, so that all of it must be kept.
    is_ahead: bool,
    trailers: Option<Box<HeaderMap>>,
    state: Option<RequestBodyState>,
    /// The task that waits for the end of the body.
    waiter: Option<Waker>,
}

#[derive(Debug)]
struct ClientBody {
    body: Incoming,
    pace: Pace,
    /// Whether the origin has responded. From then on the pace of the client no longer matters.
    is_answered: bool,
    waiting: Rc<ClientDelay>,
}

/// Pieces of a body that are kept in memory. Each piece keeps alive the whole buffer into which it was read. Small
/// pieces are therefore copied together, so that a client that sends single bytes takes no more memory than others.
#[derive(Debug, Default)]
struct BodyPieces {
    pieces: Vec<Bytes>,
    small: BytesMut,
}

impl BodyPieces {
    /// The length in bytes below which pieces are copied.
    const SMALL_PIECE: usize = 4 << 10;

    fn push(&mut self, piece: &Bytes) {
        if piece.len() < Self::SMALL_PIECE {
            self.small.extend_from_slice(piece);
            if self.small.len() >= 4 * Self::SMALL_PIECE {
                self.seal();
            }
        } else {
            self.seal();
            self.pieces.push(piece.clone());
        }
    }

    fn seal(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push(self.small.split().freeze());
        }
    }

    fn pieces(&mut self) -> &[Bytes] {
        self.seal();
        &self.pieces
    }
}

/// The number of bytes that were read of a body, and whether it was read to its end.
pub(super) type Progress = (usize, bool);

/// A limit on the bytes of request bodies that one shard reads before it sends the requests.
#[derive(Debug)]
pub struct ReadAheadBudget {
    most: Cell<usize>,
    used: Cell<usize>,
}

impl ReadAheadBudget {
    /// Returns a limit of `most` bytes, of which none are used.
    pub const fn new(most: usize) -> Self {
        Self { most: Cell::new(most), used: Cell::new(0) }
    }

    /// Sets the limit to `most` bytes. Bytes that are read already stay in memory.
    pub fn set_limit(&self, most: usize) {
        self.most.set(most);
    }
}

/// The bytes of one request body that count as read ahead, until this guard is dropped.
#[derive(Debug)]
pub struct ReadAhead<'a> {
    ahead: &'a ReadAheadBudget,
    count: usize,
}

impl Drop for ReadAhead<'_> {
    fn drop(&mut self) {
        self.ahead.used.set(self.ahead.used.get().saturating_sub(self.count));
    }
}

impl RequestBody {
    /// Returns a body that is read from the client. `waiting` records how long gripd waits for the client meanwhile.
    pub fn new(body: Incoming, limits: PaceLimits, waiting: Rc<ClientDelay>) -> Self {
        let state = body.is_end_stream().then_some(RequestBodyState::Whole);
        let incoming = Some(ClientBody { body, pace: Pace::new(limits), is_answered: false, waiting });
        Self::over(incoming, state)
    }

    /// Returns a body that is completely in memory.
    pub fn of(body: Bytes) -> Self {
        let mut upload = Self::over(None, Some(RequestBodyState::Whole));
        let mut shared = upload.shared.borrow_mut();
        shared.count = body.len();
        if !body.is_empty() {
            shared.kept.pieces.push(body.clone());
            upload.replay.push_back(body);
        }
        drop(shared);
        upload
    }

    fn over(incoming: Option<ClientBody>, state: Option<RequestBodyState>) -> Self {
        let shared = SharedBody {
            incoming,
            kept: BodyPieces::default(),
            count: 0,
            is_at_hand: true,
            is_ahead: false,
            trailers: None,
            state,
            waiter: None,
        };
        Self { shared: Rc::new(RefCell::new(shared)), replay: VecDeque::new(), replays_trailers: false }
    }

    /// Returns a clone that serves to look at the state of the body, and does not send what was read already.
    pub(super) fn handle(&self) -> Self {
        Self { shared: Rc::clone(&self.shared), replay: VecDeque::new(), replays_trailers: false }
    }

    /// Notes that the origin has responded. From now on it is no error if the client sends its body slowly, because
    /// the origin decides how long it waits for the rest.
    pub(super) fn note_answer(&self) {
        if let Some(incoming) = &mut self.shared.borrow_mut().incoming {
            incoming.is_answered = true;
        }
    }

    /// Returns the pieces of the body, if it was read to its end and is small enough to be kept.
    pub fn kept(&self) -> Option<Vec<Bytes>> {
        let mut shared = self.shared.borrow_mut();
        let is_kept = shared.state == Some(RequestBodyState::Whole) && shared.count <= MAX_KEPT && shared.is_at_hand;
        if is_kept { Some(shared.kept.pieces().to_vec()) } else { None }
    }

    /// Returns the same body from its beginning. Returns `None` if a part that was read is no longer in memory, or if
    /// the client aborted the upload or sent the body too slowly.
    pub fn again(&self) -> Option<Self> {
        let mut shared = self.shared.borrow_mut();
        let ended_badly = matches!(shared.state, Some(RequestBodyState::Broken | RequestBodyState::TooSlow));
        if !shared.is_at_hand || ended_badly {
            return None;
        }
        Some(Self {
            shared: Rc::clone(&self.shared),
            replay: shared.kept.pieces().iter().cloned().collect(),
            replays_trailers: shared.trailers.is_some(),
        })
    }

    /// Returns the body as this clone had it when its progress was `begun`, to send it again. If nothing was read
    /// since then, this clone is still complete. Otherwise the body begins with what is in memory.
    pub(super) fn again_since(&self, begun: Progress) -> Option<Self> {
        if self.progress() == begun { Some(self.clone()) } else { self.again() }
    }

    /// Returns whether the body was read to its end.
    pub fn is_whole(&self) -> bool {
        let shared = self.shared.borrow();
        shared.state == Some(RequestBodyState::Whole) || (shared.state.is_none() && shared.has_ended())
    }

    /// Returns whether the client sent the body too slowly.
    pub(super) fn is_too_slow(&self) -> bool {
        self.shared.borrow().state == Some(RequestBodyState::TooSlow)
    }

    /// Returns a value that changes whenever more of the body is read.
    pub(super) fn progress(&self) -> Progress {
        (self.shared.borrow().count, self.is_whole())
    }

    /// Reads the body before its request is sent: to the end of the body, until `most` bytes were read, or until the
    /// bytes of all bodies together reach the limit of `ahead`. When the body is sent later, it begins with what was
    /// read.
    ///
    /// # Errors
    /// The client aborted the upload, or sent the body too slowly.
    pub async fn read_ahead<'a>(
        &mut self,
        most: usize,
        ahead: &'a ReadAheadBudget,
    ) -> Result<ReadAhead<'a>, RequestBodyState> {
        let mut guard = ReadAhead { ahead, count: 0 };
        self.shared.borrow_mut().is_ahead = true;
        let ended = poll_fn(|cx| {
            let mut shared = self.shared.borrow_mut();
            loop {
                if shared.state.is_some() || shared.count >= most || ahead.used.get() >= ahead.most.get() {
                    return Poll::Ready(shared.state);
                }
                let before = shared.count;
                let _ = ready!(shared.poll_frame(cx));
                let more = shared.count - before;
                guard.count += more;
                ahead.used.set(ahead.used.get() + more);
            }
        });
        let ended = ended.await;
        self.shared.borrow_mut().is_ahead = false;
        match (ended, self.again()) {
            (Some(bad @ (RequestBodyState::Broken | RequestBodyState::TooSlow)), _) => Err(bad),
            (_, again) => {
                // Everything that is read ahead is kept in memory, so `again` returns a body here.
                if let Some(again) = again {
                    *self = again;
                }
                Ok(guard)
            }
        }
    }

    /// Reads to the end of the body, or until it is larger than what is kept in memory.
    pub async fn whole(&self) -> RequestBodyState {
        poll_fn(|cx| {
            let mut shared = self.shared.borrow_mut();
            loop {
                if shared.count > MAX_KEPT {
                    return Poll::Ready(RequestBodyState::TooLarge);
                }
                if let Some(state) = shared.state {
                    return Poll::Ready(state);
                }
                shared.waiter = Some(cx.waker().clone());
                // The origin does not get the bytes that are read here. It does not need them, since it has
                // responded.
                let _ = ready!(shared.poll_frame(cx));
            }
        })
        .await
    }
}

impl ClientBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            self.waiting.begin_wait();
            if self.is_answered {
                return Poll::Pending;
            }
            ready!(self.pace.poll_wait(cx));
            self.waiting.finish_wait(0);
            return Poll::Ready(Some(Err(RequestBodyError::TooSlow)));
        };
        let frame = frame.map(|frame| frame.map_err(RequestBodyError::Broken));
        let bytes = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, Bytes::len);
        self.waiting.finish_wait(bytes);
        self.pace.end_wait(bytes);
        Poll::Ready(frame)
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        self.waiting.finish_wait(0);
    }
}

impl SharedBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        if self.state.is_some() {
            return Poll::Ready(None);
        }
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let frame = ready!(incoming.poll_frame(cx));
        let frame = frame.map(|frame| frame.map(|frame| with_trailers(frame, may_be_trailer)));
        match &frame {
            None => self.state = Some(RequestBodyState::Whole),
            Some(Err(RequestBodyError::Broken(_))) => self.state = Some(RequestBodyState::Broken),
            Some(Err(RequestBodyError::TooSlow)) => self.state = Some(RequestBodyState::TooSlow),
            Some(Ok(frame)) => self.keep(frame),
        }
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
        Poll::Ready(frame)
    }

    fn has_ended(&self) -> bool {
        self.incoming.as_ref().is_none_or(|incoming| incoming.body.is_end_stream())
    }

    fn keep(&mut self, frame: &Frame<Bytes>) {
        if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(Box::new(trailers.clone()));
        }
        let Some(data) = frame.data_ref() else { return };
        self.count = self.count.saturating_add(data.len());
        if self.is_at_hand && (self.is_ahead || self.count <= MAX_KEPT) {
            self.kept.push(data);
        } else {
            (self.kept, self.is_at_hand) = (BodyPieces::default(), false);
        }
    }
}

/// Returns a frame of a response without its GRIP trailers. gripd passes them on to nobody, not even to those who get
/// the GRIP headers of the response.
pub fn without_grip(frame: Frame<Bytes>) -> Frame<Bytes> {
    with_trailers(frame, |name| !is_grip(name))
}

/// Returns a frame with only those of its trailers that are `wanted`. A frame of data is returned unchanged.
fn with_trailers(frame: Frame<Bytes>, wanted: impl Fn(&HeaderName) -> bool) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            remove_where(&mut trailers, |name| !wanted(name));
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        if let Some(data) = self.replay.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if std::mem::take(&mut self.replays_trailers)
            && let Some(trailers) = self.shared.borrow().trailers.clone()
        {
            return Poll::Ready(Some(Ok(Frame::trailers(*trailers))));
        }
        self.shared.borrow_mut().poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.replay.is_empty() && !self.replays_trailers && self.shared.borrow().has_ended()
    }

    fn size_hint(&self) -> SizeHint {
        let shared = self.shared.borrow();
        let rest =
            shared.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), |incoming| incoming.body.size_hint());
        let replayed: usize = self.replay.iter().map(Bytes::len).sum();
        rest.exact().map_or_else(SizeHint::new, |rest| SizeHint::with_exact(rest + replayed as u64))
    }
}

impl Drop for RequestBody {
    /// Wakes the task that waits in [`RequestBody::whole`]. If the connection to the origin no longer reads the body,
    /// that task must read the rest alone.
    fn drop(&mut self) {
        if let Ok(mut shared) = self.shared.try_borrow_mut()
            && let Some(waiter) = shared.waiter.take()
        {
            waiter.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_are_kept_together() {
        let mut kept = BodyPieces::default();
        let buffer = Bytes::from(vec![b'x'; 8192]);
        for n in 0..20_000 {
            kept.push(&buffer.slice(n % 8000..n % 8000 + 1));
        }
        kept.push(&buffer);
        kept.push(&buffer.slice(..3));
        assert!(kept.pieces().len() < 5, "{} pieces", kept.pieces().len());
        assert_eq!(kept.pieces().concat().len(), 20_000 + 8192 + 3);
    }
}
