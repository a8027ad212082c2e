//! Waiting for an origin while the connection that it is asked for goes on living.

use crate::grip::item::Response;
use crate::shard::{Event, Parked};
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;

/// The things that happened to a connection while its origin was asked.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// The client is gone.
    pub(super) gone: bool,
    /// The connection is to end.
    pub(super) closing: bool,
    /// The origin is to be asked once more.
    pub(super) refresh: bool,
    /// The time of a long-poll is over.
    pub(super) over: bool,
    /// This answers a long-poll.
    pub(super) item: Option<Arc<Response>>,
}

/// The treatment of a request to the origin when the connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnClose {
    /// It does not need it any more.
    GiveUp,
    /// It waits for it until its grace is over.
    Wait,
}

/// Waits for `asked`, and for what happens meanwhile, which goes first. `None`: the connection will not need it any more;
/// `notes` say why. `beat` is called when the timer goes off.
pub(super) async fn race<T>(
    parked: &mut Parked,
    notes: &mut Notes,
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
            Event::Gone => {
                notes.gone = true;
                return None;
            }
            Event::Item(response) => {
                notes.item = Some(response);
                return None;
            }
            Event::Close => {
                notes.closing = true;
                if on_close == OnClose::GiveUp {
                    return None;
                }
            }
            // The origin is being asked already, or is to be.
            Event::Refresh | Event::Patch(_) => notes.refresh = true,
            Event::Timer if beat(parked).is_break() => {
                notes.over = true;
                return None;
            }
            Event::Timer | Event::Queued | Event::Readable => {}
        }
    }
}
