//! Stream holds. The response begins at once, and items are appended to its body.

use super::keep_alive_timer::KeepAliveTimer;
use super::{AfterHold, ClientTraits, Hold, HoldFuture, Holds, StreamBody};
use crate::net::Transport;
use crate::shard::{DeliveryForm, ItemHandling, Parked, ParkedEvent};
use crate::wire::{AnswerHead, Chunk, Framing, Persistence, StreamForm};
use std::time::Duration;

/// Begins to hold a stream. The returned future is ready when the stream has ended.
pub(super) fn park<'a>(holds: &'a Holds, hold: &mut Hold, transport: Transport, early: &[u8]) -> HoldFuture<'a> {
    let (form, feed) = (form_for(hold.client), feed_of(hold));
    let (mut parked, _) = match holds.subscribe(hold.terms(), ItemHandling::default(), (transport, early), feed, hold) {
        Ok(subscribed) => subscribed,
        Err(refused) => return refused.end(),
    };
    begin(&mut parked, hold);
    let pulse = hold.instruct.keep_alive.as_ref().map(|k| Box::new(KeepAliveTimer::new(k, form)));
    match &pulse {
        Some(pulse) => parked.set_timer(pulse.rest(Duration::ZERO, holds)),
        None => parked.send_comments(hold.body_kind == StreamBody::Events),
    }
    Box::pin(wait(holds, parked, pulse))
}

/// Returns the form in which the body is sent: chunked for HTTP/1.1, and without framing otherwise.
pub(super) const fn form_for(client: ClientTraits) -> StreamForm {
    StreamForm::of(Framing::endless(client.version))
}

/// Returns the form in which the stream takes items.
pub(super) fn feed_of(hold: &Hold) -> DeliveryForm {
    let form = form_for(hold.client);
    match hold.body_kind {
        StreamBody::Bytes => DeliveryForm::Stream(form),
        StreamBody::Events => DeliveryForm::Events(form),
    }
}

/// Sends the head and the beginning of the body.
pub(super) fn begin(parked: &mut Parked, hold: &Hold) {
    let Hold { head, client, .. } = hold;
    let framing = Framing::endless(client.version);
    let body = Chunk::new(&hold.body).select(StreamForm::of(framing)).clone();
    parked.begin(&AnswerHead { head, version: client.version, framing, persistence: Persistence::Close }, body);
    parked.flush();
}

async fn wait(holds: &Holds, mut parked: Parked, pulse: Option<Box<KeepAliveTimer>>) -> Option<AfterHold> {
    loop {
        match parked.next().await {
            ParkedEvent::Gone => return None,
            ParkedEvent::Close => {
                // The end is boxed by itself, so that the futures of all waiting streams do not contain its state.
                Box::pin(parked.finish()).await;
                return None;
            }
            ParkedEvent::Timer => {
                if let Some(pulse) = &pulse {
                    let rest = pulse.send_if_due(&mut parked, holds);
                    parked.set_timer(rest);
                }
            }
            // The shard itself appends items to streams, and these streams have no link that could be requested.
            ParkedEvent::Item(_)
            | ParkedEvent::Patch(_)
            | ParkedEvent::Refresh
            | ParkedEvent::Queued
            | ParkedEvent::Readable => {}
        }
    }
}
