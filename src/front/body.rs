//! The body of an answer that goes through hyper.

use super::access::Access;
use crate::origin::{Lease, without_grip};
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A body: whole, or relayed from the origin as it comes. When it is over, its request is logged and the
/// origin's connection is free again.
pub(super) struct Reply {
    source: Source,
    access: Access,
}

enum Source {
    Whole(Bytes),
    Relayed { incoming: Incoming, ended: bool, lease: Option<Lease> },
}

impl Reply {
    pub(super) const fn whole(body: Bytes, access: Access) -> Self {
        Self { source: Source::Whole(body), access }
    }

    pub(super) const fn relayed(incoming: Incoming, lease: Lease, access: Access) -> Self {
        Self { source: Source::Relayed { incoming, ended: false, lease: Some(lease) }, access }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = match &mut self.source {
            Source::Whole(body) if body.is_empty() => None,
            Source::Whole(body) => Some(Ok(Frame::data(std::mem::take(body)))),
            Source::Relayed { incoming, ended, .. } => {
                let frame = ready!(Pin::new(incoming).poll_frame(cx)).map(|frame| frame.map(without_grip));
                *ended = frame.is_none();
                frame
            }
        };
        match &frame {
            Some(Ok(frame)) => self.access.add(frame.data_ref().map_or(0, Bytes::len)),
            Some(Err(error)) => self.access.broken(error),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Whole(body) => body.is_empty(),
            Source::Relayed { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(body) => SizeHint::with_exact(body.len() as u64),
            Source::Relayed { incoming, .. } => incoming.size_hint(),
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Source::Relayed { incoming, ended, lease } = &mut self.source
            && (*ended || incoming.is_end_stream())
            && let Some(lease) = lease.take()
        {
            lease.finish();
        }
    }
}
