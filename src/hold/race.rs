//! Waiting for an origin's response on behalf of a held connection whose own events still occur meanwhile.

use crate::grip::item::ResponseFormat;
use crate::shard::{Parked, ParkedEvent};
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;

/// The events of a connection that occurred while its origin was asked.
#[derive(Debug, Default)]
pub(super) struct RaceNotes {
    /// Whether the client is gone.
    pub(super) gone: bool,
    /// Whether the connection is to be ended.
    pub(super) closing: bool,
    /// Whether the origin is to be asked once more.
    pub(super) refresh: bool,
    /// Whether the time of a long-poll is over.
    pub(super) over: bool,
    /// The item that answers a long-poll, if one has arrived.
    pub(super) item: Option<Arc<ResponseFormat>>,
}

/// The treatment of a request in progress when the connection is to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnClose {
    /// The request is given up, because its response is no longer needed.
    GiveUp,
    /// The response is awaited until the grace is over.
    Wait,
}

/// Waits for `asked`, and handles the events of the connection meanwhile. Events take precedence over the result.
/// Returns `None` if the result is no longer needed; `notes` then say why. `beat` is called when the timer goes off,
/// and ends the wait by returning `Break`.
pub(super) async fn race<T>(
    parked: &mut Parked,
    notes: &mut RaceNotes,
    on_close: OnClose,
    asked: impl Future<Output = T>,
    mut beat: impl FnMut(&mut Parked) -> ControlFlow<()>,
) -> Option<T> {
    let mut asked = pin!(asked);
    if on_close == OnClose::GiveUp && parked.is_ending() {
        notes.closing = true;
        return None;
    }
    loop {
        let deadline = parked.deadline();
        let grace = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let event = tokio::select! {
            biased;
            event = parked.next() => event,
            done = &mut asked => return Some(done),
            () = grace => return None,
        };
        match event {
            ParkedEvent::Gone => {
                notes.gone = true;
                return None;
            }
            ParkedEvent::Item(response) => {
                notes.item = Some(response);
                return None;
            }
            ParkedEvent::Close => {
                notes.closing = true;
                if on_close == OnClose::GiveUp {
                    return None;
                }
            }
            // A request is in progress already, or is about to be sent. If it is in progress, its response may be too
            // old for this event. The event is therefore noted, and the caller decides whether another request
            // follows.
            ParkedEvent::Refresh | ParkedEvent::Patch(_) => notes.refresh = true,
            ParkedEvent::Timer if beat(parked).is_break() => {
                notes.over = true;
                return None;
            }
            ParkedEvent::Timer | ParkedEvent::Queued | ParkedEvent::Readable => {}
        }
    }
}
