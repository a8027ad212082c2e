//! A stream's keep-alive, as it goes out.

use super::Holds;
use crate::grip::{KeepAlive, KeepAliveMode};
use crate::shard::{Parked, Spread};
use crate::wire::{Chunk, StreamForm};
use bytes::Bytes;
use std::time::Duration;

/// The keep-alive of a stream, and its times.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pulse {
    bytes: Bytes,
    timeout: Duration,
    mode: KeepAliveMode,
}

impl Pulse {
    pub(super) fn new(keep_alive: &KeepAlive, form: StreamForm) -> Self {
        let bytes = Chunk::new(&keep_alive.content).select(form).clone();
        Self { bytes, timeout: keep_alive.timeout, mode: keep_alive.mode }
    }

    /// Returns how long to wait when nothing was sent for `idle`.
    pub(super) fn rest(&self, idle: Duration, holds: &Holds) -> Duration {
        holds.spread.rest(self.timeout, idle)
    }

    /// Sends the keep-alive if it is due, and says how long to wait for the next.
    pub(super) fn beat(&self, parked: &mut Parked, holds: &Holds) -> Duration {
        let idle = match self.mode {
            KeepAliveMode::Idle => parked.idle(),
            KeepAliveMode::Interval => self.timeout,
        };
        if !Spread::is_due(self.timeout, idle) {
            return self.rest(idle, holds);
        }
        // A client that does not read is not kept alive by more bytes.
        if !parked.is_blocked() {
            parked.send([self.bytes.clone()]);
        }
        self.rest(Duration::ZERO, holds)
    }
}
