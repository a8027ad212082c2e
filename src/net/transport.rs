//! A connection, whatever carries its bytes.

use super::MemoryStream;
use crate::wire::Head;
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

/// Tells the kernel that more bytes follow at once, so that it does not send a small packet now.
#[cfg(target_os = "linux")]
const MORE: i32 = libc::MSG_MORE;
#[cfg(not(target_os = "linux"))]
const MORE: i32 = 0;

/// Pieces of 4 KiB that are read at most of a connection that is not served.
const MOST_DISMISSED: usize = 16;

/// A connection that gripd has accepted or opened.
///
/// hyper reads and writes it by the traits of tokio while it serves requests. A parked connection is used by the methods
/// below instead: none of them waits, and none keeps a buffer.
#[derive(Debug)]
pub enum Transport {
    /// A TCP connection.
    Tcp(TcpStream),
    /// A connection to a Unix socket. It is boxed because it is rare: the variants besides TCP then cost each TCP connection
    /// one word of memory.
    Unix(Box<UnixStream>),
    /// A connection in memory, for tests.
    Memory(MemoryStream),
}

/// The thing that the caller sends next, after the bytes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextWrite {
    /// More bytes, or nothing for a while.
    Bytes,
    /// The end: the caller calls [`Transport::finish`] once all of the bytes have left. The last of them and the end then travel
    /// together.
    End,
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The connection came over TCP.
    Tcp {
        /// The address to which it came.
        local: SocketAddr,
        /// The address from which it came.
        remote: SocketAddr,
    },
    /// The connection came over a Unix socket.
    Unix,
    /// The connection is in memory: the other side is in this process.
    Memory,
}

impl Peer {
    /// Returns the address by which the other side is known. Without a network it is on this machine, and counts as
    /// 127.0.0.1.
    pub fn address(&self) -> IpAddr {
        match self {
            Self::Tcp { remote, .. } => remote.ip(),
            Self::Unix | Self::Memory => Ipv4Addr::LOCALHOST.into(),
        }
    }
}

/// The outcome of an attempt to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes were read, at least one.
    Bytes(usize),
    /// There is nothing to read for now.
    Nothing,
    /// The other side has ended what it sends.
    End,
}

/// How much of what was to be sent has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// All of it.
    All,
    /// A part of it: the transport takes no more for now.
    Blocked,
}

impl Transport {
    /// Returns the two ends of the connection, or `None` if it is over already.
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

    /// Returns whether the transport carries one answer whose head is not a part of its bytes, as a stream of HTTP/2 does:
    /// then [`Self::send_head`] sends it, and the body goes out as it is.
    pub fn takes_heads(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => false,
            Self::Memory(stream) => stream.takes_heads(),
        }
    }

    /// Sends the head of the answer, if the transport takes heads.
    pub fn send_head(&mut self, head: &Head) {
        match self {
            Self::Tcp(_) | Self::Unix(_) => {}
            Self::Memory(stream) => stream.send_head(head),
        }
    }

    /// Waits until [`Self::try_read`] is worth an attempt: bytes have arrived, or the other side has ended.
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

    /// Reads what has arrived, as far as it fits the buffer, which must not be empty.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        let read = match self {
            Self::Tcp(stream) => stream.try_read(buffer),
            Self::Unix(stream) => stream.try_read(buffer),
            Self::Memory(stream) => return stream.try_read(buffer),
        };
        match read {
            Ok(0) => Ok(Received::End),
            Ok(count) => Ok(Received::Bytes(count)),
            Err(error) if is_transient(&error) => Ok(Received::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Waits until [`Self::try_write`] is worth an attempt.
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

    /// Writes as many of these bytes as the transport takes now, of which there must be one at least. Returns their number,
    /// which is 0 if it takes nothing for now.
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

    /// Ends the bytes that are sent to the other side. The bytes that it sends can still be read. If this is
    /// [`Flushed::Blocked`], another attempt is due when the transport is writable.
    ///
    /// # Errors
    /// The connection is broken, which [`Self::try_read`] tells as well.
    pub fn finish(&mut self) -> io::Result<Flushed> {
        if let Self::Memory(stream) = self {
            return stream.finish();
        }
        if let Some(socket) = self.socket() {
            socket.shutdown(Shutdown::Write)?;
        }
        Ok(Flushed::All)
    }

    /// Ends the connection abruptly: what the kernel still holds for the other side is discarded, and the other side is
    /// told that the connection broke. Over a Unix socket that cannot be told: the other side reads what was sent, and then
    /// an end.
    pub fn reset(self) {
        self.forget_unsent();
    }

    /// Makes the end of the connection abrupt, as [`Self::reset`] does, when it is dropped.
    pub fn forget_unsent(&self) {
        match self {
            // The option is refused only by a connection that is over.
            Self::Tcp(stream) => drop(SockRef::from(stream).set_linger(Some(Duration::ZERO))),
            // It has no such option, and needs none: what was sent is with the other side already.
            Self::Unix(_) => {}
            Self::Memory(stream) => stream.reset(),
        }
    }

    /// Waits until the other side has sent something, which is left unread. Returns `false` if it has ended instead, or if
    /// the connection is broken.
    pub async fn begins(&self) -> bool {
        let peeked = match self {
            Self::Tcp(stream) => stream.async_io(Interest::READABLE, || peek(SockRef::from(stream))).await,
            Self::Unix(stream) => stream.async_io(Interest::READABLE, || peek(SockRef::from(&**stream))).await,
            Self::Memory(stream) => return poll_fn(|cx| stream.poll_begun(cx)).await,
        };
        peeked.is_ok_and(|count| count > 0)
    }

    /// Gives a new connection that will not be served its only answer, and reads what has arrived, up to 64 KiB: the kernel
    /// would otherwise reset the connection, and the answer would be lost. Nothing waits for the runtime, which may
    /// not have looked at the connection yet.
    pub fn dismiss(&self, answer: &[u8]) {
        let Some(socket) = self.socket() else { return };
        // Whatever fails here, nothing more can be done for this client.
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

    /// Returns whether the other side is known to have ended what it sends. Unlike [`Self::try_read`], this can be told while
    /// there are bytes that nobody wants to read yet.
    pub fn has_left(&self) -> bool {
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

/// Sends with one system call.
fn send(socket: SockRef<'_>, slices: &[IoSlice<'_>], flags: i32) -> io::Result<usize> {
    match slices {
        [slice] => socket.send_with_flags(slice, flags),
        _ => socket.send_vectored_with_flags(slices, flags),
    }
}

/// Looks for a first byte, and leaves it where it is.
fn peek(socket: SockRef<'_>) -> io::Result<usize> {
    socket.peek(&mut [MaybeUninit::uninit()])
}

/// Returns whether an attempt failed for now only.
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
