//! The memory that messages take which wait for origins over HTTP, for all sessions of a shard together.

use std::cell::Cell;
use std::rc::Rc;

/// Bytes that a session may have although all of them together have too many: clients that say little go on.
const SPARED: usize = 4 << 10;

/// What waits for all sessions of a shard, and the bound of it.
#[derive(Debug)]
pub(super) struct Unsent(Rc<Total>);

#[derive(Debug)]
struct Total {
    bytes: Cell<usize>,
    most: usize,
}

/// What waits for one session, until it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    total: Rc<Total>,
    bytes: usize,
}

impl Unsent {
    /// Allows `most` bytes for all sessions together.
    pub(super) fn new(most: usize) -> Self {
        Self(Rc::new(Total { bytes: Cell::new(0), most }))
    }

    /// Returns the share of one more session, for which nothing waits yet.
    pub(super) fn share(&self) -> Share {
        Share { total: Rc::clone(&self.0), bytes: 0 }
    }
}

impl Share {
    /// Notes how much waits for the session.
    pub(super) fn set(&mut self, bytes: usize) {
        let others = self.total.bytes.get() - self.bytes;
        self.total.bytes.set(others + bytes);
        self.bytes = bytes;
    }

    /// Whether a session for which so many bytes wait is to have no more, as all of them together have too many.
    pub(super) fn is_used_up(&self, bytes: usize) -> bool {
        bytes > SPARED && self.total.bytes.get() > self.total.most
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_with_much_are_stopped_when_all_together_have_too_much() {
        let unsent = Unsent::new(100_000);
        let (mut large, mut small) = (unsent.share(), unsent.share());
        large.set(100_000);
        assert!(!large.is_used_up(100_000));
        small.set(1000);
        assert!(large.is_used_up(100_000) && !small.is_used_up(1000));
        large.set(50_000);
        assert!(!large.is_used_up(50_000));
        drop(small);
        large.set(100_000);
        assert!(!large.is_used_up(100_000));
    }
}
