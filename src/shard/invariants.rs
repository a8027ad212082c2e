//! The invariants of a shard, which debug builds assert whenever the shard has nothing left to do.

use super::ShardState;
use super::conn::Conn;

/// The number of connections up to which a shard is checked. With more of them, the check would take longer than
/// the step before it.
const MAX_CHECKED: usize = 64;

impl ShardState {
    /// Returns whether the invariants hold for a shard that has done all its work. A shard with more than
    /// [`MAX_CHECKED`] connections is not checked, and `true` is returned.
    pub(super) fn is_whole(&self) -> bool {
        if self.conns.len() > MAX_CHECKED {
            return true;
        }
        let blocked = self.conns.iter().filter(|(_, conn)| conn.blocked);
        let waiting: usize = blocked.map(|(_, conn)| conn.outlet.bytes()).sum();
        waiting == self.outgoing.waiting() && self.conns.iter().all(|(_, conn)| is_whole(conn))
    }
}

fn is_whole(conn: &Conn) -> bool {
    // A connection that is ending holds no channel, and a connection without a transport does not wait for it.
    let ends = conn.ending.is_none() || conn.subscriptions.is_empty();
    let waits = !conn.blocked || conn.transport.is_some();
    // All outlets have been flushed, so bytes are left only where the transport refuses them or is gone.
    let is_flushed = !conn.dirty && (conn.blocked || conn.outlet.is_empty() || conn.transport.is_none());
    ends && waits && is_flushed
}
