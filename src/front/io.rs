//! The transport of a client's connection while hyper serves it.

use super::activity::Activity;
use super::request_line::RequestLines;
use super::unreadable;
use crate::net::{ClientDelay, NextWrite, Pace, PaceLimits, Transport};
use bytes::{Buf, Bytes};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A transport that records in its `Activity` what is read and written. hyper has unsent bytes from a write until
/// the next flush, because it flushes the transport only when its own buffer is empty.
#[derive(Debug)]
pub(super) struct Io {
    transport: Transport,
    /// The bytes that hyper reads before those of the transport. They were read earlier, or they replace bytes
    /// whose request line had to be corrected.
    early: Bytes,
    activity: Rc<Activity>,
    lines: RequestLines,
    /// How fast the client reads.
    pace: Pace,
    waiting: Rc<ClientDelay>,
}

impl Io {
    /// Returns the transport for hyper, which reads `early` first. A client that reads more slowly than the limits
    /// allow is cut. `waiting` measures how long the client has taken no bytes.
    pub(super) fn new(
        transport: Transport,
        early: Bytes,
        limits: PaceLimits,
        waiting: Rc<ClientDelay>,
        activity: Rc<Activity>,
    ) -> Self {
        let mut lines = RequestLines::new(&activity);
        let mended = if early.is_empty() { None } else { lines.read(&early, &activity) };
        let early = mended.map_or(early, Bytes::from);
        Self { transport, early, activity, lines, pace: Pace::new(limits), waiting }
    }

    /// Writes gripd's own response if `bytes` are hyper's refusal of a request that it cannot parse. Returns
    /// `false` if hyper must write `bytes` itself: they are something else, or the transport takes no bytes now.
    fn refuse(&mut self, bytes: &[u8]) -> bool {
        if self.activity.has_unsent_response() {
            return false;
        }
        let Some(refusal) = unreadable::refusal(bytes) else { return false };
        // The connection ends after this response, which fits into any send buffer that has room at all.
        let written = self.transport.try_write(&[IoSlice::new(&refusal.render())], NextWrite::End);
        !matches!(written, Ok(0))
    }

    /// Measures a write against the pace of the client. Returns an error if the client has been too slow.
    fn judge(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Pending => {
                self.waiting.begin_wait();
                ready!(self.pace.poll_wait(cx));
                // The client does not read, so the bytes that the kernel still holds for it are discarded.
                self.transport.forget_unsent();
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads too slowly")))
            }
            Poll::Ready(result) => {
                let bytes = result.as_ref().copied().unwrap_or_default();
                self.waiting.finish_wait(bytes);
                self.pace.end_wait(bytes);
                written
            }
        }
    }

    /// Returns the transport, and the bytes of `early` that hyper has not read.
    pub(super) fn into_parts(self) -> (Transport, Bytes) {
        (self.transport, self.early)
    }
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.early.is_empty() {
            let before = buf.filled().len();
            let read = Pin::new(&mut this.transport).poll_read(cx, buf);
            let fresh = &buf.filled()[before..];
            if fresh.is_empty() {
                return read;
            }
            // Blank lines before a request are not a part of it (RFC 9112 2.2).
            if fresh.iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
                this.activity.note_received();
            }
            let Some(mended) = this.lines.read(fresh, &this.activity) else { return read };
            buf.set_filled(before);
            this.early = mended.into();
        }
        this.activity.note_received();
        let count = this.early.len().min(buf.remaining());
        buf.put_slice(&this.early[..count]);
        this.early.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.refuse(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        self.activity.write();
        let written = Pin::new(&mut self.transport).poll_write(cx, bytes);
        self.judge(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if slices.first().is_some_and(|first| self.refuse(first)) {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        self.activity.write();
        let written = Pin::new(&mut self.transport).poll_write_vectored(cx, slices);
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.activity.flush();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}
