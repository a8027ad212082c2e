//! Flushing: each outlet that has got bytes is written to once.

use super::end_state::EndingPhase;
use super::{ConnectionKey, ShardState, millis_since};
use crate::net::{NextWrite, WriteOutcome};

/// The number of bytes in outlets after which a flush lets other tasks run.
const FLUSH_BYTES: usize = 1 << 20;

impl ShardState {
    /// Flushes the connections that have waited longest, up to the limits of one step. If the bytes that still wait
    /// are several times the ceiling, it also closes connections.
    pub(super) fn flush_some(&mut self) {
        let mut bytes = 0;
        for _ in 0..self.settings.steps.flush_connections {
            let Some(key) = self.outgoing.next_dirty() else { break };
            let Some(conn) = self.conns.get(key) else { continue };
            bytes += conn.outlet.bytes();
            self.flush(key);
            if bytes >= FLUSH_BYTES {
                break;
            }
        }
        if self.outgoing.is_overcrowded() {
            self.enforce_ceiling();
        }
    }

    /// Writes the outlet of a connection, as far as the transport takes bytes. If nothing may follow the outlet,
    /// this also ends the bytes to the client (FIN over TCP).
    pub(super) fn flush(&mut self, key: ConnectionKey) {
        let conn = &mut self.conns[key];
        conn.dirty = false;
        let next = if conn.is_complete() { NextWrite::End } else { NextWrite::Bytes };
        let Some(transport) = &mut conn.transport else { return };
        let waiting = conn.outlet.bytes();
        if conn.is_within_line
            && let Some(piece) = conn.outlet.last()
        {
            conn.is_within_line = conn.feed.ends_within_line(piece);
        }
        let written = conn.outlet.write_to(transport, next);
        let left = conn.outlet.bytes();
        conn.sent += (waiting - left) as u64;
        if conn.blocked {
            self.outgoing.remove_waiting(waiting - left);
        }
        match written {
            Ok(WriteOutcome::All) => {
                conn.blocked = false;
                self.finish_if_complete(key);
            }
            Ok(WriteOutcome::Blocked) => {
                if !conn.blocked || left < waiting {
                    conn.progress_ms = millis_since(self.started);
                }
                if !conn.blocked {
                    conn.blocked = true;
                    self.outgoing.add_waiting(left);
                    conn.wake();
                }
                self.outgoing.tell_if_crowded();
            }
            Err(_) => self.disconnect(key),
        }
    }

    /// Ends the bytes to the client (FIN over TCP), if the connection is ending and its last byte has been written.
    fn finish_if_complete(&mut self, key: ConnectionKey) {
        let conn = self.conn(key);
        let (Some(ending), Some(transport)) = (&mut conn.ending, &mut conn.transport) else { return };
        if ending.phase != EndingPhase::Finishing {
            return;
        }
        if matches!(transport.finish(), Ok(WriteOutcome::Blocked)) {
            conn.blocked = true;
            return conn.wake();
        }
        // An error means that the client is gone. The connection's task is about to see that as well.
        ending.phase = EndingPhase::Finished;
        self.settle(key);
    }
}
