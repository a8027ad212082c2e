//! A stream's keep-alive, as it goes out.

use super::Holds;
use crate::grip::{KeepAlive, KeepAliveMode};
use crate::shard::Parked;
use crate::wire::Chunk;
use bytes::Bytes;
use std::time::Duration;

/// What is sent, and when.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pulse {
    bytes: Bytes,
    timeout: Duration,
    mode: KeepAliveMode,
}

impl Pulse {
    pub(super) fn new(keep_alive: &KeepAlive, chunked: bool) -> Self {
        let bytes = Chunk::new(&keep_alive.content).select(chunked).clone();
        Self { bytes, timeout: keep_alive.timeout, mode: keep_alive.mode }
    }

    /// How long to wait when nothing was sent for `idle`: up to a second less than the timeout, as Pushpin
    /// does, lest the client's own timeout be missed.
    pub(super) fn rest(&self, idle: Duration, holds: &Holds) -> Duration {
        self.timeout.saturating_sub(idle).saturating_sub(holds.jitter()).max(Duration::from_millis(1))
    }

    /// Sends the keep-alive if it is due, and says how long to wait for the next.
    pub(super) fn beat(&self, parked: &mut Parked, holds: &Holds) -> Duration {
        let idle = match self.mode {
            KeepAliveMode::Idle => parked.idle(),
            KeepAliveMode::Interval => self.timeout,
        };
        // Within the second that is taken off for the jitter it counts as due.
        if idle + Duration::from_secs(1) < self.timeout {
            return self.rest(idle, holds);
        }
        // A client that does not read is not kept alive by more bytes.
        if !parked.is_blocked() {
            parked.send([self.bytes.clone()]);
        }
        self.rest(Duration::ZERO, holds)
    }
}
