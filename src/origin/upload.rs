//! The body of a request on its way to the origin.

use super::rewrite::{may_be_trailer, remove_where};
use crate::grip::instruct::is_grip;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::HeaderName;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

/// The largest request body that is kept: for a retry, and for requests that are held.
const MAX_KEPT: usize = 100_000;

/// What is known of a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyState {
    /// It was read to its end.
    Whole,
    /// It is larger than what is kept.
    TooLarge,
    /// The client broke off.
    Broken,
}

/// A request body, streamed to the origin and kept as far as that is allowed.
///
/// Clones share one body: the connection to the origin reads it, and so does whoever waits for its end.
#[derive(Clone, Debug)]
pub struct Upload {
    shared: Rc<RefCell<Shared>>,
    /// What this clone sends before it reads on: what an earlier one has sent.
    replay: VecDeque<Bytes>,
}

#[derive(Debug)]
struct Shared {
    /// What the client sends; `None`: all of it is kept.
    incoming: Option<Incoming>,
    kept: Vec<Bytes>,
    count: usize,
    /// Trailers cannot be sent again.
    trailers: bool,
    state: Option<BodyState>,
    /// Who waits for the end of the body.
    waiter: Option<Waker>,
}

impl Upload {
    /// A body to be read from the client.
    pub fn new(incoming: Incoming) -> Self {
        let state = incoming.is_end_stream().then_some(BodyState::Whole);
        let shared =
            Shared { incoming: Some(incoming), kept: Vec::new(), count: 0, trailers: false, state, waiter: None };
        Self { shared: Rc::new(RefCell::new(shared)), replay: VecDeque::new() }
    }

    /// A body that is at hand.
    pub fn of(body: Bytes) -> Self {
        let count = body.len();
        let kept: Vec<Bytes> = Some(body).filter(|b| !b.is_empty()).into_iter().collect();
        let replay = kept.iter().cloned().collect();
        let shared =
            Shared { incoming: None, kept, count, trailers: false, state: Some(BodyState::Whole), waiter: None };
        Self { shared: Rc::new(RefCell::new(shared)), replay }
    }

    /// What was read of it, if it was read to its end and kept.
    pub fn kept(&self) -> Option<Vec<Bytes>> {
        let shared = self.shared.borrow();
        (shared.state == Some(BodyState::Whole) && shared.count <= MAX_KEPT).then(|| shared.kept.clone())
    }

    /// The same body from its beginning, if all that was read of it is still at hand.
    pub fn again(&self) -> Option<Self> {
        let shared = self.shared.borrow();
        let at_hand = shared.count <= MAX_KEPT && !shared.trailers && shared.state != Some(BodyState::Broken);
        at_hand.then(|| Self { shared: Rc::clone(&self.shared), replay: shared.kept.iter().cloned().collect() })
    }

    /// Whether it was read to its end.
    pub fn is_whole(&self) -> bool {
        let shared = self.shared.borrow();
        shared.state == Some(BodyState::Whole) || (shared.state.is_none() && shared.has_ended())
    }

    /// What changes whenever more of it is read.
    pub(super) fn progress(&self) -> (usize, bool) {
        (self.shared.borrow().count, self.is_whole())
    }

    /// Reads to the end of the body, or until it is larger than what is kept.
    pub async fn whole(&self) -> BodyState {
        poll_fn(|cx| {
            let mut shared = self.shared.borrow_mut();
            loop {
                if shared.count > MAX_KEPT {
                    return Poll::Ready(BodyState::TooLarge);
                }
                if let Some(state) = shared.state {
                    return Poll::Ready(state);
                }
                shared.waiter = Some(cx.waker().clone());
                // What is read here need not be sent: the origin has answered.
                let _ = ready!(shared.poll_frame(cx));
            }
        })
        .await
    }
}

impl Shared {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if self.state.is_some() {
            return Poll::Ready(None);
        }
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(incoming).poll_frame(cx));
        let frame = frame.map(|frame| frame.map(|frame| with_trailers(frame, may_be_trailer)));
        match &frame {
            None => self.state = Some(BodyState::Whole),
            Some(Err(_)) => self.state = Some(BodyState::Broken),
            Some(Ok(frame)) => self.keep(frame),
        }
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
        Poll::Ready(frame)
    }

    fn has_ended(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn keep(&mut self, frame: &Frame<Bytes>) {
        self.trailers |= frame.is_trailers();
        let Some(data) = frame.data_ref() else { return };
        self.count = self.count.saturating_add(data.len());
        if self.count <= MAX_KEPT {
            self.kept.push(data.clone());
        } else {
            self.kept = Vec::new();
        }
    }
}

/// Returns a frame of an answer without trailers that are GRIP's: they are not for others to say, wherever they stand.
pub fn without_grip(frame: Frame<Bytes>) -> Frame<Bytes> {
    with_trailers(frame, |name| !is_grip(name))
}

/// Returns a frame with those of its trailers that are wanted, if it has any.
fn with_trailers(frame: Frame<Bytes>, wanted: impl Fn(&HeaderName) -> bool) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            remove_where(&mut trailers, |name| !wanted(name));
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(data) = self.replay.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        self.shared.borrow_mut().poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.replay.is_empty() && self.shared.borrow().has_ended()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.shared.borrow().incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint);
        let replayed: usize = self.replay.iter().map(Bytes::len).sum();
        rest.exact().map_or_else(SizeHint::new, |rest| SizeHint::with_exact(rest + replayed as u64))
    }
}

impl Drop for Upload {
    /// Who waits for the end reads on alone when the connection to the origin no longer does.
    fn drop(&mut self) {
        if let Ok(mut shared) = self.shared.try_borrow_mut()
            && let Some(waiter) = shared.waiter.take()
        {
            waiter.wake();
        }
    }
}
