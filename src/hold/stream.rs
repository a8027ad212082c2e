//! Stream holds: the answer begins at once, items are appended to it.

use super::{Hold, Holds, Waiting};
use crate::grip::{KeepAlive, KeepAliveMode};
use crate::shard::{Event, Feed, Parked};
use crate::wire::{Chunk, Framing};
use bytes::Bytes;
use std::time::Duration;
use tokio::net::TcpStream;

/// Holds a stream until it ends.
pub(super) fn park<'a>(holds: &'a Holds, hold: &Hold, socket: TcpStream, early: &[u8]) -> Waiting<'a> {
    let chunked = !hold.client.old;
    let mut parked = holds.subscribe(&hold.channels, socket, early, Feed::Stream { chunked });
    parked.send([beginning(hold, chunked).into()]);
    let pulse = hold.keep_alive.as_ref().map(|k| Box::new(Pulse::new(k, chunked)));
    if let Some(pulse) = &pulse {
        parked.set_timer(pulse.rest(Duration::ZERO, holds));
    }
    Box::pin(wait(holds, parked, pulse))
}

/// The head and the initial body.
fn beginning(hold: &Hold, chunked: bool) -> Vec<u8> {
    let framing = if chunked { Framing::Chunked } else { Framing::UntilClose };
    let mut bytes = hold.head.render(framing, hold.client.old, true);
    bytes.extend_from_slice(&framed(&hold.body, chunked));
    bytes
}

fn framed(content: &[u8], chunked: bool) -> Bytes {
    let chunk = Chunk::new(content);
    if chunked { chunk.framed().clone() } else { chunk.content().clone() }
}

async fn wait(holds: &Holds, mut parked: Parked, pulse: Option<Box<Pulse>>) -> Option<(TcpStream, Bytes)> {
    loop {
        match parked.next().await {
            Event::Gone => return None,
            Event::Close => {
                // Boxed: what few connections do is no part of what all of them keep.
                Box::pin(parked.finish()).await;
                return None;
            }
            Event::Timer => {
                if let Some(pulse) = &pulse {
                    pulse.beat(&mut parked, holds);
                }
            }
            // Items for streams are appended by the shard.
            Event::Item(_) => {}
        }
    }
}

/// A stream's keep-alive, as it goes out.
struct Pulse {
    bytes: Bytes,
    timeout: Duration,
    mode: KeepAliveMode,
}

impl Pulse {
    fn new(keep_alive: &KeepAlive, chunked: bool) -> Self {
        let bytes = framed(&keep_alive.content, chunked);
        Self { bytes, timeout: keep_alive.timeout, mode: keep_alive.mode }
    }

    /// How long to wait when nothing was sent for `idle`: up to a second less than the timeout, as Pushpin
    /// does, lest the client's own timeout be missed.
    fn rest(&self, idle: Duration, holds: &Holds) -> Duration {
        self.timeout.saturating_sub(idle).saturating_sub(holds.jitter()).max(Duration::from_millis(1))
    }

    /// Sends the keep-alive if it is due, and sets the timer for the next.
    fn beat(&self, parked: &mut Parked, holds: &Holds) {
        let idle = match self.mode {
            KeepAliveMode::Idle => parked.idle(),
            KeepAliveMode::Interval => self.timeout,
        };
        // Within the second that is taken off for the jitter it counts as due.
        if idle + Duration::from_secs(1) < self.timeout {
            return parked.set_timer(self.rest(idle, holds));
        }
        // A client that does not read is not kept alive by more bytes.
        if !parked.is_blocked() {
            parked.send([self.bytes.clone()]);
        }
        parked.set_timer(self.rest(Duration::ZERO, holds));
    }
}
