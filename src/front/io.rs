//! A client's connection while hyper serves it.

use crate::net::{ClientDelay, Limits, Pace};
use bytes::{Buf, Bytes};
use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A socket that tells whether hyper has anything unsent: it is dirty after a write and clean after a flush,
/// which hyper calls only when its buffer is empty.
#[derive(Debug)]
pub(super) struct Io {
    socket: TcpStream,
    /// What was read before hyper had the socket.
    early: Bytes,
    clean: Rc<Cell<bool>>,
    /// How fast the client reads.
    pace: Pace,
    waiting: Rc<ClientDelay>,
}

impl Io {
    /// A socket with what was read of it, and its sign. A client that reads more slowly than the limits allow is cut;
    /// `waiting` tells since when it has taken nothing.
    pub(super) fn new(
        socket: TcpStream,
        early: Bytes,
        limits: Limits,
        waiting: Rc<ClientDelay>,
    ) -> (Self, Rc<Cell<bool>>) {
        let clean = Rc::new(Cell::new(true));
        (Self { socket, early, clean: Rc::clone(&clean), pace: Pace::new(limits), waiting }, clean)
    }

    /// Judges a write by the pace of the client.
    fn judge(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Pending => {
                self.waiting.begins();
                ready!(self.pace.poll_wait(cx));
                // The bytes that the kernel still holds are not worth waiting for.
                let _ = self.socket.set_zero_linger();
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

    /// The socket, and what hyper has not read of `early`.
    pub(super) fn into_parts(self) -> (TcpStream, Bytes) {
        (self.socket, self.early)
    }
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.socket).poll_read(cx, buf);
        }
        let count = self.early.len().min(buf.remaining());
        buf.put_slice(&self.early[..count]);
        self.early.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.clean.set(false);
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.judge(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.clean.set(false);
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.clean.set(true);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
