//! Where a connection's bytes wait for its transport.

use crate::net::{Flushed, NextWrite, Transport};
use bytes::Bytes;
use smallvec::SmallVec;
use std::io::{self, IoSlice};
use std::rc::Rc;

/// The cost of a queued piece besides its bytes, towards the limit of an outlet.
const SLOT: usize = 16;

/// Pieces given to one system call; Linux takes at most 1,024.
const PIECES_A_WRITE: usize = 64;

/// The bytes of one connection that its transport has not taken yet, in the order in which they go out.
///
/// A piece is shared by every outlet of the shard: queueing one copies a pointer.
#[derive(Default)]
pub(super) struct Outlet {
    pieces: SmallVec<[Rc<Bytes>; 2]>,
    /// Pieces at the beginning that have left.
    done: u32,
    /// Bytes of the piece after them that have left, too.
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

    /// Returns the pieces that wait.
    fn waiting(&self) -> &[Rc<Bytes>] {
        &self.pieces[self.done as usize..]
    }

    /// Pieces that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting().len()
    }

    /// Drops the last `count` pieces. Returns how many bytes they had. The first must not be among them: it may be half
    /// written.
    pub(super) fn drop_last(&mut self, count: usize) -> usize {
        let keep = self.pieces.len() - count.min(self.len());
        let freed = self.pieces[keep..].iter().map(|piece| piece.len()).sum();
        self.pieces.truncate(keep);
        self.bytes -= freed;
        freed
    }

    /// Returns the bytes that wait.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the bytes that wait after the first piece, slots included. The limit of an outlet applies to these, so that
    /// one large item alone never fills it.
    pub(super) fn backlog(&self) -> usize {
        let Some(first) = self.waiting().first() else { return 0 };
        self.bytes + self.written as usize - first.len() + self.len() * SLOT
    }

    /// Writes until the transport takes no more.
    pub(super) fn write_to(&mut self, transport: &mut Transport, next: NextWrite) -> io::Result<Flushed> {
        while !self.is_empty() {
            match self.write_some(transport, next)? {
                0 => return Ok(Flushed::Blocked),
                count => self.advance(count),
            }
        }
        Ok(Flushed::All)
    }

    fn write_some(&self, transport: &mut Transport, next: NextWrite) -> io::Result<usize> {
        let written = self.written as usize;
        if let [piece] = self.waiting() {
            return transport.try_write(&[IoSlice::new(&piece[written..])], next);
        }
        let mut slices = [IoSlice::new(&[]); PIECES_A_WRITE];
        let count = self.len().min(PIECES_A_WRITE);
        for (slice, piece) in slices.iter_mut().zip(self.waiting()) {
            *slice = IoSlice::new(piece);
        }
        slices[0] = IoSlice::new(&self.waiting()[0][written..]);
        transport.try_write(&slices[..count], next)
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
