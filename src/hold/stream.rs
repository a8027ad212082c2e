//! Stream holds: the answer begins at once, items are appended to it.

use super::pulse::Pulse;
use super::{After, Client, Hold, Holds, Waiting};
use crate::net::Transport;
use crate::shard::{Event, Feed, Parked, Ways};
use crate::wire::{AnswerHead, Chunk, Framing, Persistence, StreamForm};
use std::time::Duration;

/// Holds a stream until it ends.
pub(super) fn park<'a>(holds: &'a Holds, hold: &mut Hold, transport: Transport, early: &[u8]) -> Waiting<'a> {
    let form = form_for(hold.client);
    let feed = Feed::Stream(form);
    let (mut parked, _) = match holds.subscribe(hold.terms(), Ways::default(), (transport, early), feed, hold) {
        Ok(subscribed) => subscribed,
        Err(refused) => return refused.end(),
    };
    begin(&mut parked, hold);
    let pulse = hold.instruct.keep_alive.as_ref().map(|k| Box::new(Pulse::new(k, form)));
    if let Some(pulse) = &pulse {
        parked.set_timer(pulse.rest(Duration::ZERO, holds));
    }
    Box::pin(wait(holds, parked, pulse))
}

/// Returns the form in which a stream goes to the client.
pub(super) const fn form_for(client: Client) -> StreamForm {
    StreamForm::of(Framing::endless(client.version))
}

/// Sends the head and the initial body.
pub(super) fn begin(parked: &mut Parked, hold: &Hold) {
    let Hold { head, client, .. } = hold;
    let framing = Framing::endless(client.version);
    let body = Chunk::new(&hold.body).select(StreamForm::of(framing)).clone();
    parked.begin(&AnswerHead { head, version: client.version, framing, persistence: Persistence::Close }, body);
    parked.flush();
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
