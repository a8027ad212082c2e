//! A client's connection while hyper serves it.

use bytes::{Buf, Bytes};
use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
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
}

impl Io {
    /// A socket with what was read of it, and its sign.
    pub(super) fn new(socket: TcpStream, early: Bytes) -> (Self, Rc<Cell<bool>>) {
        let clean = Rc::new(Cell::new(true));
        (Self { socket, early, clean: Rc::clone(&clean) }, clean)
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
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.clean.set(false);
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
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
