//! The things that are always true of a shard between two steps, for the tests to see that they are.

use super::State;
use super::conn::Conn;

/// Connections up to which a shard is looked at after each step. With more of them the look would take longer than the step.
const MOST: usize = 64;

impl State {
    /// Returns whether the shard is as it must be when all that had arrived is done. It is for assertions.
    pub(super) fn is_whole(&self) -> bool {
        if self.conns.len() > MOST {
            return true;
        }
        let blocked = self.conns.iter().filter(|(_, conn)| conn.blocked);
        let waiting: usize = blocked.map(|(_, conn)| conn.outlet.bytes()).sum();
        waiting == self.outgoing.waiting() && self.conns.iter().all(|(_, conn)| is_whole(conn))
    }
}

fn is_whole(conn: &Conn) -> bool {
    // Whoever ends holds no channel, and whoever has nothing to write to does not wait for room.
    let ends = conn.ending.is_none() || conn.subscriptions.is_empty();
    let waits = !conn.blocked || conn.transport.is_some();
    // All outlets have been flushed: what is left in one waits for its transport.
    let is_flushed = !conn.dirty && (conn.blocked || conn.outlet.is_empty() || conn.transport.is_none());
    ends && waits && is_flushed
}
