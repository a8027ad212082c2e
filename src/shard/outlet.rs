//! The queue of a connection's bytes that wait for its transport.

use crate::net::{NextWrite, Transport, WriteOutcome};
use bytes::Bytes;
use smallvec::SmallVec;
use std::io::{self, IoSlice};
use std::rc::Rc;

/// The number of bytes for which each queued piece counts towards the limit of an outlet, besides its content.
const SLOT: usize = 16;

/// The maximum number of pieces that are passed to one system call. Linux accepts at most 1,024.
const PIECES_A_WRITE: usize = 64;

/// The bytes of one connection that its transport has not taken yet, in the order in which they go out.
///
/// A piece may be in many outlets of the shard at the same time: each of them holds a pointer to the same bytes.
#[derive(Default)]
pub(super) struct Outlet {
    pieces: SmallVec<[Rc<Bytes>; 2]>,
    /// The number of pieces at the beginning of `pieces` that the transport has taken completely.
    done: u32,
    /// The number of bytes that the transport has already taken of the first piece that waits.
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

    /// Returns the pieces that the transport has not taken completely.
    fn waiting(&self) -> &[Rc<Bytes>] {
        &self.pieces[self.done as usize..]
    }

    /// Returns the last piece that the transport has not taken completely.
    pub(super) fn last(&self) -> Option<&Bytes> {
        self.waiting().last().map(Rc::as_ref)
    }

    /// Returns the number of pieces that the transport has not taken completely.
    pub(super) fn len(&self) -> usize {
        self.waiting().len()
    }

    /// Drops the last `count` pieces that wait, and returns the number of bytes in them. The first piece that waits
    /// must not be among them, because it may be half written.
    pub(super) fn drop_last(&mut self, count: usize) -> usize {
        let keep = self.pieces.len() - count.min(self.len());
        let freed = self.pieces[keep..].iter().map(|piece| piece.len()).sum();
        self.pieces.truncate(keep);
        self.bytes -= freed;
        freed
    }

    /// Returns the number of bytes that wait.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the number of bytes that wait after the first piece, plus `SLOT` for each piece that waits. The limit
    /// of an outlet applies to this number, so that one large item alone never exceeds it.
    pub(super) fn backlog(&self) -> usize {
        let Some(first) = self.waiting().first() else { return 0 };
        self.bytes + self.written as usize - first.len() + self.len() * SLOT
    }

    /// Writes until the outlet is empty or the transport takes no more bytes for now.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) fn write_to(&mut self, transport: &mut Transport, next: NextWrite) -> io::Result<WriteOutcome> {
        while !self.is_empty() {
            match self.write_some(transport, next)? {
                0 => return Ok(WriteOutcome::Blocked),
                count => self.advance(count),
            }
        }
        Ok(WriteOutcome::All)
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
        // The written pieces are removed only when they are at least half of the list, so that a long list is not
        // moved for each write.
        if self.done as usize * 2 >= self.pieces.len() {
            self.pieces.drain(..self.done as usize);
            self.done = 0;
        }
    }
}
