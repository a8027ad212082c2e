//! The events that wait for one webhook, with the choice of their kinds and the warning if some are dropped. The
//! caller passes in the current time.

use super::EventKinds;
use super::Metrics;
use super::event::{EventKind, WebhookEvent};
use super::queue::EventQueue;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The shortest time between two warnings that events are dropped.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// The events that are still to be sent to a webhook.
#[derive(Debug)]
pub(super) struct Outbox {
    /// The kinds of events that are sent.
    events: EventKinds,
    pub(super) queue: EventQueue,
    metrics: Arc<Metrics>,
    /// The time of the last warning that events are dropped.
    warned: Option<Instant>,
    /// Whether a warning that events are dropped is due.
    warn: bool,
}

impl Outbox {
    /// Returns a value that puts events of these kinds into `queue`.
    pub(super) const fn new(events: EventKinds, queue: EventQueue, metrics: Arc<Metrics>) -> Self {
        Self { events, queue, metrics, warned: None, warn: false }
    }

    /// Queues an event, if it is of a kind that is sent. If the queue is full, the event is dropped and counted.
    pub(super) fn tell(&mut self, event: WebhookEvent, now: Instant) {
        if !self.wants(&event.kind) || self.queue.push(event, now) {
            return;
        }
        self.metrics.dropped.inc();
        let is_closed = self.queue.len() == 0;
        if !is_closed && self.warned.is_none_or(|warned| now.duration_since(warned) >= WARN_EVERY) {
            self.warned = Some(now);
            self.warn = true;
        }
    }

    /// Queues events in their order, each as [`tell`](Self::tell) does.
    pub(super) fn tell_all(&mut self, events: impl IntoIterator<Item = WebhookEvent>, now: Instant) {
        events.into_iter().for_each(|event| self.tell(event, now));
    }

    /// Returns whether events of this kind are sent to the webhook.
    pub(super) const fn wants(&self, what: &EventKind) -> bool {
        match what {
            EventKind::Joined(_) => self.events.joined,
            EventKind::Left(_) => self.events.left,
            EventKind::Ended(_) => self.events.ended,
            EventKind::Dropped(_) => true,
        }
    }

    /// Returns `true` once for each warning that is due. The warning says that events are dropped.
    pub(super) const fn take_warning(&mut self) -> bool {
        std::mem::replace(&mut self.warn, false)
    }
}
