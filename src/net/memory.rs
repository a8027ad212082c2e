//! Connections in memory: a transport without a socket, for tests and for counting instructions.
//!
//! There are two kinds. A connection of the first kind carries bytes in both directions, as TCP does. One of the
//! second kind carries a single response, as a stream of HTTP/2 does: the head is separate from the body, and the end
//! is a mark of its own.

mod address;

pub use address::{MemoryAddress, MemoryServer};

use super::{ReadOutcome, WriteOutcome};
use crate::wire::ResponseHead;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// gripd's end of a connection in memory.
#[derive(Debug)]
pub struct MemoryStream(Arc<Mutex<MemoryConnection>>);

/// The other end of a connection in memory: that of a client, or of an origin to which gripd connects.
#[derive(Debug)]
pub struct MemoryClient(Arc<Mutex<MemoryConnection>>);

#[derive(Debug)]
struct MemoryConnection {
    kind: MemoryKind,
    to_gripd: MemoryPipe,
    to_client: MemoryPipe,
    /// Whether one of the two sides has reset the connection.
    is_reset: bool,
}

/// The kind of content that a connection carries.
#[derive(Debug)]
enum MemoryKind {
    /// Bytes in both directions.
    Bytes,
    /// A single response. The head is `Some` after it was sent and before the client takes it.
    Answer(Option<ResponseHead>),
}

/// One direction of a connection.
#[derive(Debug)]
struct MemoryPipe {
    bytes: VecDeque<u8>,
    /// The number of bytes that may wait in `bytes`.
    capacity: usize,
    has_ended: bool,
    /// The task that waits for bytes or for the end of this direction.
    reader: Option<Waker>,
    /// The task that waits until there is room for more bytes.
    writer: Option<Waker>,
}

impl MemoryStream {
    /// Returns the two ends of a connection that carries bytes. In each direction, at most `capacity` bytes may be
    /// unread.
    pub fn bytes(capacity: usize) -> (Self, MemoryClient) {
        Self::new(MemoryKind::Bytes, capacity)
    }

    /// Returns the two ends of a connection that carries a single response, of whose body at most `capacity` bytes
    /// may be unread. The request counts as already received.
    pub fn answer(capacity: usize) -> (Self, MemoryClient) {
        Self::new(MemoryKind::Answer(None), capacity)
    }

    fn new(kind: MemoryKind, capacity: usize) -> (Self, MemoryClient) {
        let (to_gripd, to_client) = (MemoryPipe::new(capacity), MemoryPipe::new(capacity));
        let connection = Arc::new(Mutex::new(MemoryConnection { kind, to_gripd, to_client, is_reset: false }));
        (Self(Arc::clone(&connection)), MemoryClient(connection))
    }

    pub(super) fn takes_heads(&self) -> bool {
        matches!(lock(&self.0).kind, MemoryKind::Answer(_))
    }

    pub(super) fn send_head(&self, head: &ResponseHead) {
        if let MemoryKind::Answer(sent) = &mut lock(&self.0).kind {
            *sent = Some(head.clone());
        }
    }

    pub(super) fn poll_readable(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let connection = &mut *lock(&self.0);
        connection.check()?;
        if connection.receives() != ReadOutcome::Nothing {
            return Poll::Ready(Ok(()));
        }
        connection.to_gripd.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<ReadOutcome> {
        let connection = &mut *lock(&self.0);
        connection.check()?;
        Ok(match connection.receives() {
            ReadOutcome::Bytes(_) => ReadOutcome::Bytes(connection.to_gripd.take(buffer)?),
            nothing => nothing,
        })
    }

    pub(super) fn poll_writable(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let connection = &mut *lock(&self.0);
        connection.check()?;
        if connection.to_client.room() > 0 {
            return Poll::Ready(Ok(()));
        }
        connection.to_client.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let connection = &mut *lock(&self.0);
        connection.check()?;
        connection.to_client.put(slices)
    }

    pub(super) fn finish(&self) -> io::Result<WriteOutcome> {
        let connection = &mut *lock(&self.0);
        connection.check()?;
        // The mark that ends a response needs room in the pipe, too.
        if matches!(connection.kind, MemoryKind::Answer(_)) && connection.to_client.room() == 0 {
            return Ok(WriteOutcome::Blocked);
        }
        connection.to_client.end();
        // The end of a response ends its connection in both directions, so the reader has to notice it.
        connection.to_gripd.wake_reader();
        Ok(WriteOutcome::All)
    }

    pub(super) fn reset(&self) {
        lock(&self.0).reset();
    }

    pub(super) fn has_left(&self) -> bool {
        let connection = lock(&self.0);
        connection.is_reset || connection.to_gripd.has_ended
    }

    pub(super) fn poll_begun(&self, cx: &Context<'_>) -> Poll<bool> {
        let connection = &mut *lock(&self.0);
        if connection.is_reset {
            return Poll::Ready(false);
        }
        match connection.receives() {
            ReadOutcome::Bytes(_) => Poll::Ready(true),
            ReadOutcome::End => Poll::Ready(false),
            ReadOutcome::Nothing => {
                connection.to_gripd.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for MemoryStream {
    /// Ends the connection as the kernel does when a socket is closed: if bytes of the other side were not read, the
    /// connection is reset. An unfinished response is reset as well.
    fn drop(&mut self) {
        let connection = &mut *lock(&self.0);
        let is_unfinished = matches!(connection.kind, MemoryKind::Answer(_)) && !connection.to_client.has_ended;
        if is_unfinished || !connection.to_gripd.bytes.is_empty() {
            return connection.reset();
        }
        connection.to_client.end();
        connection.to_gripd.end();
    }
}

impl MemoryClient {
    /// Takes all bytes that have arrived.
    pub fn take(&mut self) -> Vec<u8> {
        let pipe = &mut lock(&self.0).to_client;
        pipe.wake_writer();
        pipe.bytes.drain(..).collect()
    }

    /// Takes the head of the response, if the connection carries a response and its head has been sent.
    pub fn take_head(&mut self) -> Option<ResponseHead> {
        match &mut lock(&self.0).kind {
            MemoryKind::Bytes => None,
            MemoryKind::Answer(head) => head.take(),
        }
    }

    /// Returns whether gripd has ended its direction of the connection and all of its bytes have been taken.
    pub fn is_over(&self) -> bool {
        let pipe = &lock(&self.0).to_client;
        pipe.has_ended && pipe.bytes.is_empty()
    }

    /// Returns whether the connection was reset.
    pub fn is_reset(&self) -> bool {
        lock(&self.0).is_reset
    }

    /// Ends the client's direction of the connection.
    pub fn end(&mut self) {
        lock(&self.0).to_gripd.end();
    }
}

impl Drop for MemoryClient {
    fn drop(&mut self) {
        let connection = &mut *lock(&self.0);
        if connection.to_client.has_ended {
            connection.to_gripd.end();
        } else {
            connection.reset();
        }
    }
}

impl MemoryConnection {
    /// Returns an error if the connection was reset.
    fn check(&self) -> io::Result<()> {
        if self.is_reset { Err(ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }

    /// Returns the result that a read by gripd would have now. A number of bytes is at least one.
    fn receives(&self) -> ReadOutcome {
        let over = match self.kind {
            MemoryKind::Bytes => self.to_gripd.has_ended,
            MemoryKind::Answer(_) => self.to_client.has_ended,
        };
        match self.to_gripd.bytes.len() {
            0 if over => ReadOutcome::End,
            0 => ReadOutcome::Nothing,
            count => ReadOutcome::Bytes(count),
        }
    }

    fn reset(&mut self) {
        self.is_reset = true;
        self.to_client.bytes.clear();
        self.to_gripd.bytes.clear();
        self.to_client.end();
        self.to_gripd.end();
    }
}

impl MemoryPipe {
    const fn new(capacity: usize) -> Self {
        Self { bytes: VecDeque::new(), capacity, has_ended: false, reader: None, writer: None }
    }

    fn room(&self) -> usize {
        self.capacity.saturating_sub(self.bytes.len())
    }

    /// Adds as many of the bytes as there is room for, and returns their number. If there is no room, the error is
    /// `WouldBlock`; if the direction has ended, it is `BrokenPipe`.
    fn put(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.has_ended {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let mut count = 0;
        for slice in slices {
            let fits = slice.len().min(self.room());
            self.bytes.write_all(&slice[..fits])?;
            count += fits;
        }
        if count == 0 && slices.iter().any(|slice| !slice.is_empty()) {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.wake_reader();
        Ok(count)
    }

    fn take(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wake_writer();
        self.bytes.read(buffer)
    }

    fn end(&mut self) {
        self.has_ended = true;
        self.wake_reader();
        self.wake_writer();
    }

    fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }

    fn poll_read(&mut self, cx: &Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.bytes.is_empty() && !self.has_ended {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = self.take(buf.initialize_unfilled())?;
        buf.advance(count);
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, cx: &Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.put(slices) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.writer = Some(cx.waker().clone());
                Poll::Pending
            }
            written => Poll::Ready(written),
        }
    }
}

impl AsyncRead for MemoryStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let connection = &mut *lock(&self.0);
        connection.check()?;
        connection.to_gripd.poll_read(cx, buf)
    }
}

impl AsyncWrite for MemoryStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let connection = &mut *lock(&self.0);
        connection.check()?;
        connection.to_client.poll_write(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.0).to_client.end();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for MemoryClient {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let connection = &mut *lock(&self.0);
        connection.check()?;
        connection.to_client.poll_read(cx, buf)
    }
}

impl AsyncWrite for MemoryClient {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let connection = &mut *lock(&self.0);
        connection.check()?;
        connection.to_gripd.poll_write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}

fn lock(connection: &Mutex<MemoryConnection>) -> MutexGuard<'_, MemoryConnection> {
    // No method panics in the middle of a change, so the connection is consistent even if the lock is poisoned.
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{NextWrite, Transport};

    fn pair(kind: fn(usize) -> (MemoryStream, MemoryClient), capacity: usize) -> (Transport, MemoryClient) {
        let (stream, client) = kind(capacity);
        (stream.into(), client)
    }

    /// Writes bytes, and returns the number of bytes that the transport has taken.
    fn write(transport: &mut Transport, bytes: &[u8]) -> Result<usize, ErrorKind> {
        transport.try_write(&[IoSlice::new(bytes)], NextWrite::Bytes).map_err(|error| error.kind())
    }

    fn is_ready<T>(poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> bool {
        poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn bytes_go_in_both_directions_as_far_as_there_is_room() {
        let (mut transport, mut client) = pair(MemoryStream::bytes, 4);
        assert_eq!((write(&mut transport, b"abcdef"), write(&mut transport, b"g")), (Ok(4), Ok(0)));
        assert!(!is_ready(|cx| transport.poll_writable(cx)));
        assert_eq!(client.take(), b"abcd");
        assert!(is_ready(|cx| transport.poll_writable(cx)));
        assert_eq!(transport.finish().unwrap(), WriteOutcome::All);
        assert!(client.is_over() && !client.is_reset() && !transport.has_peer_ended());
        assert_eq!(transport.try_read(&mut [0; 9]).unwrap(), ReadOutcome::Nothing);
        client.end();
        assert!(is_ready(|cx| transport.poll_readable(cx)) && transport.has_peer_ended());
        assert_eq!(transport.try_read(&mut [0; 9]).unwrap(), ReadOutcome::End);
    }

    #[test]
    fn an_answer_ends_both_directions_and_its_end_needs_room() {
        let (mut transport, mut client) = pair(MemoryStream::answer, 2);
        assert!(transport.takes_heads() && client.take_head().is_none());
        transport.send_head(&ResponseHead { status: 200, ..ResponseHead::default() });
        assert_eq!(client.take_head().unwrap().status, 200);
        assert_eq!((write(&mut transport, b"ab"), transport.finish().unwrap()), (Ok(2), WriteOutcome::Blocked));
        assert!(!is_ready(|cx| transport.poll_readable(cx)));
        assert_eq!(client.take(), b"ab");
        assert_eq!(transport.finish().unwrap(), WriteOutcome::All);
        assert!(client.is_over() && is_ready(|cx| transport.poll_readable(cx)));
        assert_eq!(transport.try_read(&mut [0; 9]).unwrap(), ReadOutcome::End);
    }

    #[test]
    fn a_reset_is_told_to_both_sides_and_loses_what_was_under_way() {
        let (mut transport, mut client) = pair(MemoryStream::bytes, 9);
        assert_eq!(write(&mut transport, b"lost"), Ok(4));
        transport.reset();
        assert!(client.is_reset() && client.take().is_empty());
        let (mut transport, client) = pair(MemoryStream::bytes, 9);
        drop(client);
        assert_eq!(transport.try_read(&mut [0; 9]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(write(&mut transport, b"lost"), Err(ErrorKind::ConnectionReset));
    }
}
