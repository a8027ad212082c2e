//! Stream holds: the answer begins at once, items are appended to it.

use super::pulse::Pulse;
use super::{After, Hold, Holds, Waiting};
use crate::net::Transport;
use crate::shard::{Event, Feed, Parked, Ways};
use crate::wire::{Chunk, Framing};
use std::time::Duration;

/// Holds a stream until it ends.
pub(super) fn park<'a>(holds: &'a Holds, hold: &mut Hold, transport: Transport, early: &[u8]) -> Waiting<'a> {
    let chunked = !hold.client.old;
    let feed = Feed::Stream { chunked };
    let (mut parked, _) = match holds.subscribe(hold.terms(), Ways::default(), (transport, early), feed, hold) {
        Ok(subscribed) => subscribed,
        Err(refused) => return refused,
    };
    parked.send([beginning(hold, chunked).into()]);
    let pulse = hold.instruct.keep_alive.as_ref().map(|k| Box::new(Pulse::new(k, chunked)));
    if let Some(pulse) = &pulse {
        parked.set_timer(pulse.rest(Duration::ZERO, holds));
    }
    Box::pin(wait(holds, parked, pulse))
}

/// The head and the initial body.
pub(super) fn beginning(hold: &Hold, chunked: bool) -> Vec<u8> {
    let framing = if chunked { Framing::Chunked } else { Framing::UntilClose };
    let mut bytes = hold.head.render(framing, hold.client.old, true);
    bytes.extend_from_slice(Chunk::new(&hold.body).select(chunked));
    bytes
}

async fn wait(holds: &Holds, mut parked: Parked, pulse: Option<Box<Pulse>>) -> Option<After> {
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
                    let rest = pulse.beat(&mut parked, holds);
                    parked.set_timer(rest);
                }
            }
            // Items for streams are appended by the shard, and there is no link to ask.
            Event::Item(_) | Event::Patch(_) | Event::Refresh | Event::Queued | Event::Readable => {}
        }
    }
}
