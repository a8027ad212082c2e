//! The keep-alive of a stream.

use super::Holds;
use crate::grip::{KeepAlive, KeepAliveMode};
use crate::shard::{Parked, TimerSpread};
use crate::wire::{Chunk, StreamForm};
use bytes::Bytes;
use std::time::Duration;

/// The keep-alive of a stream: the bytes to send, and when to send them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct KeepAliveTimer {
    bytes: Bytes,
    timeout: Duration,
    mode: KeepAliveMode,
}

impl KeepAliveTimer {
    pub(super) fn new(keep_alive: &KeepAlive, form: StreamForm) -> Self {
        let bytes = Chunk::new(&keep_alive.content).select(form).clone();
        Self { bytes, timeout: keep_alive.timeout, mode: keep_alive.mode }
    }

    /// Returns how long to wait until the keep-alive is due, when nothing has been sent for `idle`.
    pub(super) fn rest(&self, idle: Duration, holds: &Holds) -> Duration {
        holds.spread.wait_until_due(self.timeout, idle)
    }

    /// Sends the keep-alive if it is due. Returns how long to wait until the next one.
    pub(super) fn send_if_due(&self, parked: &mut Parked, holds: &Holds) -> Duration {
        let idle = match self.mode {
            KeepAliveMode::Idle => parked.idle(),
            KeepAliveMode::Interval => self.timeout,
        };
        if !TimerSpread::is_due(self.timeout, idle) {
            return self.rest(idle, holds);
        }
        // More bytes would not keep the connection of a client alive that does not read.
        if !parked.is_blocked() {
            parked.send([self.bytes.clone()]);
        }
        self.rest(Duration::ZERO, holds)
    }
}
