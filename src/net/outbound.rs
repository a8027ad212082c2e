//! A connection to a server that may answer before it has read the whole request.

use super::{DescriptorGuard, Transport};
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// An outgoing connection on which a response can be read although the server no longer reads the request.
///
/// A server that refuses an upload may respond early (with 413 or 401, for example) and close the connection. The
/// rest of the upload then cannot be written, although the response is already in the receive buffer. hyper would
/// report whichever it notices first. A write to an `Outbound` that fails because the server has closed the
/// connection therefore stays pending forever, so that reading decides the outcome: either the response, or the end
/// of the connection.
#[derive(Debug)]
pub struct Outbound {
    transport: Transport,
    /// Whether a write has failed because the server has closed the connection.
    refuses: bool,
    counted: Option<DescriptorGuard>,
}

impl Outbound {
    /// Wraps a connected transport. `counted`, if given, counts its file descriptor as long as the connection is
    /// open.
    pub const fn new(transport: Transport, counted: Option<DescriptorGuard>) -> Self {
        Self { transport, refuses: false, counted }
    }

    /// Returns the transport, and the guard that was passed to [`Outbound::new`] to count the file descriptor of the
    /// transport.
    pub fn into_parts(self) -> (Transport, Option<DescriptorGuard>) {
        (self.transport, self.counted)
    }

    fn hide_refusal(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Err(error)) if is_refusal(&error) => {
                self.refuses = true;
                Poll::Pending
            }
            other => other,
        }
    }
}

/// Returns whether a write failed because the other side has closed the connection.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted)
}

impl AsyncRead for Outbound {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_read(cx, buf)
    }
}

impl AsyncWrite for Outbound {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.refuses {
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.transport).poll_write(cx, bytes);
        self.hide_refusal(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.refuses {
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.transport).poll_write_vectored(cx, slices);
        self.hide_refusal(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}
