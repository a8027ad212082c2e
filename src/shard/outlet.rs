//! Where a connection's bytes wait for its socket.

use bytes::Bytes;
use smallvec::SmallVec;
use socket2::SockRef;
use std::io::{self, IoSlice};
use std::rc::Rc;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What a queued piece costs besides its bytes, towards the limit of an outlet.
const SLOT: usize = 16;

/// Pieces given to one system call; Linux takes at most 1,024.
const PIECES_A_WRITE: usize = 64;

/// Has the kernel wait for what follows.
#[cfg(target_os = "linux")]
const MORE: i32 = libc::MSG_MORE;
#[cfg(not(target_os = "linux"))]
const MORE: i32 = 0;

/// Whether everything is with the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flushed {
    /// All of it.
    All,
    /// The socket takes no more for now.
    Blocked,
}

/// The bytes of one connection that the kernel has not taken yet, in the order in which they go out.
///
/// A piece is shared by every outlet of the shard: queueing one copies a pointer.
#[derive(Default)]
pub(super) struct Outlet {
    pieces: SmallVec<[Rc<Bytes>; 2]>,
    /// Pieces at the beginning of which all is with the kernel.
    done: u32,
    /// Bytes of the piece behind them that are, too.
    written: u32,
    bytes: usize,
}

impl Outlet {
    pub(super) fn push(&mut self, piece: Rc<Bytes>) {
        if !piece.is_empty() {
            self.bytes += piece.len();
            self.pieces.push(piece);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting().is_empty()
    }

    /// The pieces that wait.
    fn waiting(&self) -> &[Rc<Bytes>] {
        &self.pieces[self.done as usize..]
    }

    /// Pieces that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting().len()
    }

    /// Drops the last `count` pieces. Says how many bytes they had. The first must not be among them: it may be half
    /// written.
    pub(super) fn drop_last(&mut self, count: usize) -> usize {
        let keep = self.pieces.len() - count.min(self.len());
        let freed = self.pieces[keep..].iter().map(|piece| piece.len()).sum();
        self.pieces.truncate(keep);
        self.bytes -= freed;
        freed
    }

    /// Bytes that wait.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// What waits behind the first piece, slots included: this is what a limit is held against, so that one
    /// large item alone never fills an outlet.
    pub(super) fn backlog(&self) -> usize {
        let Some(first) = self.waiting().first() else { return 0 };
        self.bytes + self.written as usize - first.len() + self.len() * SLOT
    }

    /// Writes until the kernel takes no more. `last`: FIN follows at once, and is to leave with the last byte.
    pub(super) fn write_to(&mut self, socket: &TcpStream, last: bool) -> io::Result<Flushed> {
        while !self.is_empty() {
            match self.write_some(socket, if last { MORE } else { 0 }) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.advance(count),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Flushed::Blocked),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Flushed::All)
    }

    fn write_some(&self, socket: &TcpStream, flags: i32) -> io::Result<usize> {
        let written = self.written as usize;
        let send = |send: &dyn Fn(SockRef<'_>) -> io::Result<usize>| {
            socket.try_io(Interest::WRITABLE, || send(SockRef::from(socket)))
        };
        if let [piece] = self.waiting() {
            return send(&|socket| socket.send_with_flags(&piece[written..], flags));
        }
        let mut slices = [IoSlice::new(&[]); PIECES_A_WRITE];
        let count = self.len().min(PIECES_A_WRITE);
        for (slice, piece) in slices.iter_mut().zip(self.waiting()) {
            *slice = IoSlice::new(piece);
        }
        slices[0] = IoSlice::new(&self.waiting()[0][written..]);
        send(&|socket| socket.send_vectored_with_flags(&slices[..count], flags))
    }

    fn advance(&mut self, count: usize) {
        self.bytes -= count;
        if self.bytes == 0 {
            // Idle connections keep no memory for pieces.
            *self = Self::default();
            return;
        }
        let mut rest = self.written as usize + count;
        while let Some(piece) = self.waiting().first().filter(|piece| piece.len() <= rest) {
            rest -= piece.len();
            self.done += 1;
        }
        self.written = u32::try_from(rest).unwrap_or(u32::MAX);
        // Seldom enough that a long queue is not moved for each write.
        if self.done as usize * 2 >= self.pieces.len() {
            self.pieces.drain(..self.done as usize);
            self.done = 0;
        }
    }
}
