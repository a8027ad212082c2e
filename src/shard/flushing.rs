//! Flushing: the outlets that have got bytes are written to, each once.

use super::ending::Phase;
use super::{Key, State, millis_since};
use crate::net::{Flushed, NextWrite};

/// Bytes flushed before others have their turn.
const FLUSH_BYTES: usize = 1 << 20;

impl State {
    /// Flushes a chunk of the connections that need it.
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
            self.relieve();
        }
    }

    /// Gives the transport what it takes of a connection's outlet, and the end of our bytes when it is time.
    pub(super) fn flush(&mut self, key: Key) {
        let conn = &mut self.conns[key];
        conn.dirty = false;
        let next = if conn.is_complete() { NextWrite::End } else { NextWrite::Bytes };
        let Some(transport) = &mut conn.transport else { return };
        let waiting = conn.outlet.bytes();
        let written = conn.outlet.write_to(transport, next);
        let left = conn.outlet.bytes();
        conn.sent += (waiting - left) as u64;
        if conn.blocked {
            self.outgoing.remove_waiting(waiting - left);
        }
        match written {
            Ok(Flushed::All) => {
                conn.blocked = false;
                self.finish_if_complete(key);
            }
            Ok(Flushed::Blocked) => {
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

    /// Sends the end of our bytes after the last byte of a connection that is being ended.
    fn finish_if_complete(&mut self, key: Key) {
        let conn = self.conn(key);
        let (Some(ending), Some(transport)) = (&mut conn.ending, &mut conn.transport) else { return };
        if ending.phase != Phase::Finishing {
            return;
        }
        if matches!(transport.finish(), Ok(Flushed::Blocked)) {
            conn.blocked = true;
            return conn.wake();
        }
        // An error means that the client is gone, which its task is about to see.
        ending.phase = Phase::Finished;
        self.settle(key);
    }
}
