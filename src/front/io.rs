//! A client's connection while hyper serves it.

use super::activity::Activity;
use super::request_line::RequestLines;
use super::unreadable;
use crate::net::{ClientDelay, Limits, NextWrite, Pace, Transport};
use bytes::{Buf, Bytes};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A transport that tells what happens on it. hyper has something unsent from a write to the next flush, which it calls only
/// when its buffer is empty.
#[derive(Debug)]
pub(super) struct Io {
    transport: Transport,
    /// The bytes that were read before hyper had the transport.
    early: Bytes,
    activity: Rc<Activity>,
    lines: RequestLines,
    /// How fast the client reads.
    pace: Pace,
    waiting: Rc<ClientDelay>,
}

impl Io {
    /// Returns a transport with what was read of it. A client that reads more slowly than the limits allow is cut;
    /// `waiting` tells since when it has taken nothing.
    pub(super) fn new(
        transport: Transport,
        early: Bytes,
        limits: Limits,
        waiting: Rc<ClientDelay>,
        activity: Rc<Activity>,
    ) -> Self {
        let mut lines = RequestLines::new(&activity);
        let mended = if early.is_empty() { None } else { lines.read(&early, &activity) };
        let early = mended.map_or(early, Bytes::from);
        Self { transport, early, activity, lines, pace: Pace::new(limits), waiting }
    }

    /// Writes the answer of gripd instead of the one that hyper gives by itself to what it cannot read, if `bytes` are
    /// that. Returns whether they are.
    fn refuse(&mut self, bytes: &[u8]) -> bool {
        if self.activity.is_owed() {
            return false;
        }
        let Some(refusal) = unreadable::refusal(bytes) else { return false };
        // The connection ends with it, and it fits any buffer that has room at all.
        let written = self.transport.try_write(&[IoSlice::new(&refusal.render())], NextWrite::End);
        !matches!(written, Ok(0))
    }

    /// Judges a write by the pace of the client.
    fn judge(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Pending => {
                self.waiting.begins();
                ready!(self.pace.poll_wait(cx));
                // The bytes that the kernel still holds are not worth waiting for.
                self.transport.forget_unsent();
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads too slowly")))
            }
            Poll::Ready(result) => {
                let bytes = result.as_ref().copied().unwrap_or_default();
                self.waiting.ends(bytes);
                self.pace.moved(bytes);
                written
            }
        }
    }

    /// Returns the transport, and what hyper has not read of `early`.
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
            // A blank line before a request is none of it (RFC 9112 2.2).
            if fresh.iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
                this.activity.hear();
            }
            let Some(mended) = this.lines.read(fresh, &this.activity) else { return read };
            buf.set_filled(before);
            this.early = mended.into();
        }
        this.activity.hear();
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
