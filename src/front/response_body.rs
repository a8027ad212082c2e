//! The body of a response that hyper sends.

use super::access_log::AccessLog;
use crate::origin::{Lease, without_grip};
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::HeaderMap;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

/// The body of a response. It is either complete from the beginning, or relayed from the origin as it arrives. When
/// it is dropped, the request is logged, and the connection to the origin is free again if all of the body was
/// read.
pub(super) struct ResponseBody {
    source: ResponseSource,
    access_log: AccessLog,
}

#[allow(clippy::large_enum_variant, reason = "most replies are relayed, and a box for each would cost more")]
enum ResponseSource {
    Whole(Bytes),
    Relayed {
        /// The first piece of the body, if it had arrived before the head was passed on.
        first: FirstPiece,
        incoming: Incoming,
        ended: bool,
        lease: Option<Lease>,
    },
}

/// The first piece of a relayed body, until hyper takes it.
#[derive(Default)]
enum FirstPiece {
    #[default]
    None,
    Data(Bytes),
    Trailers(Box<HeaderMap>),
}

impl FirstPiece {
    fn of(frame: Frame<Bytes>) -> Self {
        match frame.into_data() {
            Ok(data) => Self::Data(data),
            Err(frame) => frame.into_trailers().map_or(Self::None, |trailers| Self::Trailers(Box::new(trailers))),
        }
    }

    const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    const fn len(&self) -> usize {
        match self {
            Self::Data(data) => data.len(),
            Self::None | Self::Trailers(_) => 0,
        }
    }

    fn take(&mut self) -> Option<Frame<Bytes>> {
        match std::mem::take(self) {
            Self::None => None,
            Self::Data(data) => Some(Frame::data(data)),
            Self::Trailers(trailers) => Some(Frame::trailers(*trailers)),
        }
    }
}

impl ResponseBody {
    pub(super) const fn whole(body: Bytes, access_log: AccessLog) -> Self {
        Self { source: ResponseSource::Whole(body), access_log }
    }

    /// Returns a body that is relayed from the origin.
    ///
    /// The part that has arrived is read at once. As long as the head has not been passed on, a body that is broken
    /// from its beginning can still be replaced by an error response.
    ///
    /// # Errors
    /// The body ends too early, or is malformed, before its first byte. The access log is returned together with
    /// the reason.
    pub(super) fn relayed(
        mut incoming: Incoming,
        lease: Lease,
        access_log: AccessLog,
    ) -> Result<Self, Box<(hyper::Error, AccessLog)>> {
        // The waker does nothing because this does not wait: hyper polls the body again with a waker of its own.
        let first = Pin::new(&mut incoming).poll_frame(&mut Context::from_waker(Waker::noop()));
        let (first, ended) = match first {
            Poll::Ready(Some(Err(error))) => return Err(Box::new((error, access_log))),
            Poll::Ready(Some(Ok(frame))) => (FirstPiece::of(without_grip(frame)), false),
            Poll::Ready(None) => (FirstPiece::None, true),
            Poll::Pending => (FirstPiece::None, false),
        };
        Ok(Self { source: ResponseSource::Relayed { first, incoming, ended, lease: Some(lease) }, access_log })
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = match &mut self.source {
            ResponseSource::Whole(body) if body.is_empty() => None,
            ResponseSource::Whole(body) => Some(Ok(Frame::data(std::mem::take(body)))),
            ResponseSource::Relayed { first, .. } if !first.is_none() => first.take().map(Ok),
            ResponseSource::Relayed { ended: true, .. } => None,
            ResponseSource::Relayed { incoming, ended, .. } => {
                let frame = ready!(Pin::new(incoming).poll_frame(cx)).map(|frame| frame.map(without_grip));
                *ended = frame.is_none();
                frame
            }
        };
        match &frame {
            Some(Ok(frame)) => self.access_log.add(frame.data_ref().map_or(0, Bytes::len)),
            Some(Err(error)) => match &self.source {
                ResponseSource::Relayed { lease: Some(lease), .. } if lease.gave_way() => self.access_log.gave_way(),
                _ => self.access_log.broken(error),
            },
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            ResponseSource::Whole(body) => body.is_empty(),
            ResponseSource::Relayed { first, incoming, ended, .. } => {
                first.is_none() && (*ended || incoming.is_end_stream())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            ResponseSource::Whole(body) => SizeHint::with_exact(body.len() as u64),
            ResponseSource::Relayed { first, incoming, .. } => {
                let ahead = first.len() as u64;
                let rest = incoming.size_hint();
                rest.exact().map_or_else(SizeHint::new, |rest| SizeHint::with_exact(rest + ahead))
            }
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if let ResponseSource::Relayed { incoming, ended, lease, .. } = &mut self.source
            && (*ended || incoming.is_end_stream())
            && let Some(lease) = lease.take()
        {
            lease.finish();
        }
    }
}
