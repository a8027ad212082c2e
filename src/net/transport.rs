//! Connections that are used in the same way over TCP, a Unix socket, or memory.

use super::MemoryStream;
use crate::wire::ResponseHead;
use socket2::SockRef;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice, Read};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// The flag that tells the kernel that more bytes follow at once, so that it does not send a small packet now.
#[cfg(target_os = "linux")]
const MORE: i32 = libc::MSG_MORE;
#[cfg(not(target_os = "linux"))]
const MORE: i32 = 0;

/// The number of reads, of 4 KiB each, that [`Transport::refuse_with`] makes at most.
const MOST_DISMISSED: usize = 16;

/// A connection that gripd has accepted or opened.
///
/// While hyper serves requests, it uses a transport through the traits of tokio. A parked connection uses the methods
/// below instead. Except for [`Transport::wait_for_first_byte`], they return at once, and none of them keeps a buffer.
#[derive(Debug)]
pub enum Transport {
    /// A TCP connection.
    Tcp(TcpStream),
    /// A connection to a Unix socket. The stream is boxed because such connections are rare. With the box, the enum
    /// takes only one word more than a TCP stream.
    Unix(Box<UnixStream>),
    /// A connection in memory, for tests.
    Memory(MemoryStream),
}

/// The thing that the caller sends next, after the bytes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextWrite {
    /// More bytes, or nothing for a while.
    Bytes,
    /// The end of what is sent: the caller calls [`Transport::finish`] once all of the bytes are written. The kernel
    /// may then send the last bytes and the end in one packet.
    End,
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A TCP connection.
    Tcp {
        /// The address of gripd's side.
        local: SocketAddr,
        /// The address of the other side.
        remote: SocketAddr,
    },
    /// A connection over a Unix socket.
    Unix,
    /// A connection in memory. The other side is in this process.
    Memory,
}

impl Peer {
    /// Returns the IP address of the other side. Over a Unix socket or in memory, the other side is on this machine,
    /// so the address is 127.0.0.1.
    pub fn address(&self) -> IpAddr {
        match self {
            Self::Tcp { remote, .. } => remote.ip(),
            Self::Unix | Self::Memory => Ipv4Addr::LOCALHOST.into(),
        }
    }
}

/// The outcome of an attempt to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// This many bytes were read, at least one.
    Bytes(usize),
    /// No bytes can be read at the moment.
    Nothing,
    /// The other side has ended what it sends, and all of it was read.
    End,
}

/// The outcome of an attempt to send everything that waits to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// Everything was sent.
    All,
    /// Something is left, because the transport takes no more for now.
    Blocked,
}

impl Transport {
    /// Returns the addresses of the two ends, or `None` if the connection is already over.
    pub fn peer(&self) -> Option<Peer> {
        match self {
            Self::Tcp(stream) => {
                let (local, remote) = (stream.local_addr().ok()?, stream.peer_addr().ok()?);
                Some(Peer::Tcp { local, remote })
            }
            Self::Unix(_) => Some(Peer::Unix),
            Self::Memory(_) => Some(Peer::Memory),
        }
    }

    /// Returns whether the transport carries a single response, whose head is not a part of its bytes, as a stream of
    /// HTTP/2 does. Then [`Self::send_head`] sends the head, and the body is written without framing.
    pub fn takes_heads(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => false,
            Self::Memory(stream) => stream.takes_heads(),
        }
    }

    /// Sends the head of the response if the transport takes heads. Otherwise, this does nothing.
    pub fn send_head(&mut self, head: &ResponseHead) {
        match self {
            Self::Tcp(_) | Self::Unix(_) => {}
            Self::Memory(stream) => stream.send_head(head),
        }
    }

    /// Polls until an attempt to [`Self::try_read`] is worthwhile, because bytes have arrived or the other side has
    /// ended.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
            Self::Memory(stream) => stream.poll_readable(cx),
        }
    }

    /// Reads bytes that have arrived, at most as many as fit into the buffer, which must not be empty.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<ReadOutcome> {
        let read = match self {
            Self::Tcp(stream) => stream.try_read(buffer),
            Self::Unix(stream) => stream.try_read(buffer),
            Self::Memory(stream) => return stream.try_read(buffer),
        };
        match read {
            Ok(0) => Ok(ReadOutcome::End),
            Ok(count) => Ok(ReadOutcome::Bytes(count)),
            Err(error) if is_transient(&error) => Ok(ReadOutcome::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Polls until an attempt to [`Self::try_write`] is worthwhile.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(cx),
            Self::Unix(stream) => stream.poll_write_ready(cx),
            Self::Memory(stream) => stream.poll_writable(cx),
        }
    }

    /// Writes as many of these bytes as the transport takes at once, and returns their number, which is 0 if the
    /// transport takes nothing for now. There must be at least one byte. `next` says what the caller sends after
    /// them.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn try_write(&mut self, slices: &[IoSlice<'_>], next: NextWrite) -> io::Result<usize> {
        loop {
            let written = self.write_once(slices, if next == NextWrite::End { MORE } else { 0 });
            match written {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                written => return written,
            }
        }
    }

    fn write_once(&mut self, slices: &[IoSlice<'_>], flags: i32) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_io(Interest::WRITABLE, || send(SockRef::from(&*stream), slices, flags)),
            Self::Unix(stream) => stream.try_io(Interest::WRITABLE, || send(SockRef::from(&**stream), slices, flags)),
            Self::Memory(stream) => stream.try_write(slices),
        }
    }

    /// Tells the other side that no more bytes will be sent, as the FIN of TCP does. What the other side sends can
    /// still be read. If the result is [`WriteOutcome::Blocked`], the caller must try again when the transport is
    /// writable.
    ///
    /// # Errors
    /// The connection is broken. [`Self::try_read`] reports this as well.
    pub fn finish(&mut self) -> io::Result<WriteOutcome> {
        if let Self::Memory(stream) = self {
            return stream.finish();
        }
        if let Some(socket) = self.socket() {
            socket.shutdown(Shutdown::Write)?;
        }
        Ok(WriteOutcome::All)
    }

    /// Resets the connection: bytes that the kernel has not sent yet are discarded, and the other side learns that
    /// the connection was broken off. A Unix socket cannot do this: the other side reads the bytes that were sent,
    /// and then an end.
    pub fn reset(self) {
        self.forget_unsent();
    }

    /// Makes the connection end with a reset, as by [`Self::reset`], when the transport is dropped. A connection in
    /// memory is reset at once.
    pub fn forget_unsent(&self) {
        match self {
            // Setting the option fails only if the connection is over, and then there is nothing to discard.
            Self::Tcp(stream) => drop(SockRef::from(stream).set_linger(Some(Duration::ZERO))),
            // A Unix socket has no such option and does not need it: bytes that were sent are already with the other
            // side.
            Self::Unix(_) => {}
            Self::Memory(stream) => stream.reset(),
        }
    }

    /// Waits until the other side has sent something, and leaves it unread. Returns `false` if the other side has
    /// ended without sending anything, or if the connection is broken.
    pub async fn wait_for_first_byte(&self) -> bool {
        let peeked = match self {
            Self::Tcp(stream) => stream.async_io(Interest::READABLE, || peek(SockRef::from(stream))).await,
            Self::Unix(stream) => stream.async_io(Interest::READABLE, || peek(SockRef::from(&**stream))).await,
            Self::Memory(stream) => return poll_fn(|cx| stream.poll_begun(cx)).await,
        };
        peeked.is_ok_and(|count| count > 0)
    }

    /// Sends `answer` as the only response on a new connection that gripd refuses, and reads at most 64 KiB of what
    /// has arrived. If those bytes stayed unread, the kernel would reset the connection, and the response would be
    /// lost. All of this happens without waiting and without the runtime, which may not have polled the connection
    /// yet. A connection in memory is left alone.
    pub fn refuse_with(&self, answer: &[u8]) {
        let Some(socket) = self.socket() else { return };
        // Errors are ignored, because nothing more can be done for this client.
        let _ = socket.send(answer);
        let _ = socket.shutdown(Shutdown::Write);
        for _ in 0..MOST_DISMISSED {
            if !(&*socket).read(&mut [0; 4096]).is_ok_and(|count| count > 0) {
                break;
            }
        }
    }

    /// Returns the socket, if there is one, for system calls that tokio does not offer.
    fn socket(&self) -> Option<SockRef<'_>> {
        match self {
            Self::Tcp(stream) => Some(SockRef::from(stream)),
            Self::Unix(stream) => Some(SockRef::from(&**stream)),
            Self::Memory(_) => None,
        }
    }

    /// Returns whether the other side is known to have ended what it sends. Unlike [`Self::try_read`], this works
    /// even if there are unread bytes before that end.
    pub fn has_peer_ended(&self) -> bool {
        fn is_closed(ready: Poll<io::Result<tokio::io::Ready>>) -> bool {
            matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed())
        }
        let cx = &mut Context::from_waker(Waker::noop());
        match self {
            Self::Tcp(stream) => is_closed(pin!(stream.ready(Interest::READABLE)).poll(cx)),
            Self::Unix(stream) => is_closed(pin!(stream.ready(Interest::READABLE)).poll(cx)),
            Self::Memory(stream) => stream.has_left(),
        }
    }
}

/// Sends as many of the bytes as the kernel takes in one system call, and returns their number.
fn send(socket: SockRef<'_>, slices: &[IoSlice<'_>], flags: i32) -> io::Result<usize> {
    match slices {
        [slice] => socket.send_with_flags(slice, flags),
        _ => socket.send_vectored_with_flags(slices, flags),
    }
}

/// Looks for a first byte without taking it from the socket. Returns 1 if there is one, and 0 if the other side has
/// ended.
fn peek(socket: SockRef<'_>) -> io::Result<usize> {
    socket.peek(&mut [MaybeUninit::uninit()])
}

/// Returns whether an attempt failed only for now and can be repeated later.
fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

impl From<MemoryStream> for Transport {
    fn from(stream: MemoryStream) -> Self {
        Self::Memory(stream)
    }
}

impl From<TcpStream> for Transport {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl From<UnixStream> for Transport {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(Box::new(stream))
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Memory(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Memory(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Memory(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing is buffered.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Memory(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { remote, .. } => remote.fmt(f),
            Self::Unix => f.write_str("unix"),
            Self::Memory => f.write_str("memory"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transport_takes_one_word_more_than_a_tcp_stream() {
        assert_eq!(size_of::<Option<Transport>>(), size_of::<TcpStream>() + size_of::<usize>());
    }
}
