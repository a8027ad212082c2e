//! The feed of one webhook, which turns the joins, leaves and ends of connections into requests.

use super::backoff::Backoff;
use super::event::{self, EndedConnection, EventKind, Moment, NumberedEvent, WebhookEvent};
use super::outbox::Outbox;
use super::presence_counts::{Changes, PresenceCounts};
use super::queue::EventQueue;
use super::webhook_client::{PostError, WebhookClient};
use super::{Metrics, Webhook};
use crate::grip::Channel;
use bytes::Bytes;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::select;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// The number of leaves that are queued before the lock is released, so that shards do not wait for it for long.
const MAX_AT_ONCE: usize = 1000;

/// One webhook, and the events that are still to be sent to it.
#[derive(Debug)]
pub(super) struct WebhookFeed {
    hook: Webhook,
    metrics: Arc<Metrics>,
    state: Mutex<FeedState>,
    /// Notified when the next batch is due earlier than before.
    batch_due_earlier: Notify,
    /// Notified when the next leave is due earlier than before.
    leaves: Notify,
    stage: watch::Sender<EndStage>,
    /// The sender of requests. The task that sends events holds the lock.
    post: tokio::sync::Mutex<WebhookClient>,
    first_pause: Duration,
}

/// The counts and the queue of a webhook. One lock protects both, so that events are queued in the order in which
/// they were counted.
#[derive(Debug)]
struct FeedState {
    counting: PresenceCounts,
    telling: Outbox,
}

/// The stages of a feed, from normal operation to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum EndStage {
    Serving,
    /// Events are sent without waiting for a full batch, and a failed request is not repeated.
    Draining,
    /// Nothing is sent any more.
    Over,
}

impl WebhookFeed {
    pub(super) fn new(hook: Webhook, boot: &str, metrics: &Arc<Metrics>, first_pause: Duration) -> Self {
        // A batch holds at least one event, and so does the queue.
        let hook = Webhook { batch: hook.batch.max(1), queue: hook.queue.max(1), ..hook };
        let queue = EventQueue::new(boot.into(), hook.queue);
        let telling = Outbox::new(hook.events, queue, Arc::clone(metrics));
        let state = FeedState { counting: PresenceCounts::new(hook.grace), telling };
        let post = WebhookClient::new(hook.url.clone(), hook.signer.clone(), hook.timeout);
        Self {
            hook,
            metrics: Arc::clone(metrics),
            state: Mutex::new(state),
            batch_due_earlier: Notify::new(),
            leaves: Notify::new(),
            stage: watch::Sender::new(EndStage::Serving),
            post: tokio::sync::Mutex::new(post),
            first_pause,
        }
    }

    /// Returns whether the feed is that of a webhook with these settings.
    pub(super) fn is_for(&self, hook: &Webhook) -> bool {
        self.hook == *hook
    }

    pub(super) fn joined(&self, route: &str, channels: &[Channel]) {
        self.count_channels(route, channels, PresenceCounts::channel_joined);
    }

    pub(super) fn left(&self, route: &str, channels: &[Channel]) {
        self.count_channels(route, channels, PresenceCounts::channel_left);
    }

    fn count_channels(
        &self,
        route: &str,
        channels: &[Channel],
        count: impl Fn(&mut PresenceCounts, &Channel, Moment) -> Changes,
    ) {
        if !self.counts(route) {
            return;
        }
        let globs = &self.hook.channels;
        let wanted = |channel: &&Channel| globs.is_empty() || globs.iter().any(|glob| glob.matches(channel));
        let mut wanted = channels.iter().filter(wanted).peekable();
        if wanted.peek().is_some() {
            self.change(|state, now| {
                wanted
                    .for_each(|channel| state.telling.tell_all(count(&mut state.counting, channel, now), now.instant));
            });
        }
    }

    pub(super) fn user_joined(&self, route: &str, user: &str) {
        if self.hook.users && self.counts(route) {
            self.change(|state, now| state.telling.tell_all(state.counting.user_joined(user, now), now.instant));
        }
    }

    pub(super) fn user_left(&self, route: &str, user: &str) {
        if self.hook.users && self.counts(route) {
            self.change(|state, now| state.telling.tell_all(state.counting.user_left(user, now), now.instant));
        }
    }

    /// Returns whether the ends of connections on this route are sent.
    pub(super) fn wants_ends(&self, route: &str) -> bool {
        self.hook.events.ended && self.is_about(route)
    }

    pub(super) fn ended(&self, ended: Arc<EndedConnection>) {
        self.change(|state, now| {
            state.telling.tell(WebhookEvent { time: now.time, kind: EventKind::Ended(ended) }, now.instant);
        });
    }

    /// Returns whether joins or leaves on this route are sent.
    fn counts(&self, route: &str) -> bool {
        (self.hook.events.joined || self.hook.events.left) && self.is_about(route)
    }

    fn is_about(&self, route: &str) -> bool {
        self.hook.route.as_ref().is_none_or(|own| own == route)
    }

    /// Changes the state, and wakes the tasks that send batches or queue leaves if they are due earlier now.
    fn change<T>(&self, f: impl FnOnce(&mut FeedState, Moment) -> T) -> T {
        let mut state = self.lock();
        let (ready, leave, waiting) = self.look(&state);
        let changed = f(&mut state, Moment::now());
        let (ready_now, leave_now, waiting_now) = self.look(&state);
        let warn = state.telling.take_warning();
        // All webhooks share the gauge, so only the difference is added.
        self.metrics.queued.add(waiting_now - waiting);
        drop(state);
        if is_earlier(ready_now, ready) {
            self.batch_due_earlier.notify_one();
        }
        if is_earlier(leave_now, leave) {
            self.leaves.notify_one();
        }
        if warn {
            let (url, queue) = (&self.hook.url, self.hook.queue);
            tracing::warn!(%url, queue, "too many events are waiting for a webhook: the newest are dropped");
        }
        changed
    }

    /// Returns when the next batch and the next leave are due, and how many events wait.
    fn look(&self, state: &FeedState) -> (Option<Instant>, Option<Instant>, i64) {
        let queue = &state.telling.queue;
        let ready = queue.ready(self.hook.batch, self.hook.batch_wait);
        (ready, state.counting.deadline(), i64::try_from(queue.len()).unwrap_or(i64::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, FeedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues leaves when their grace is over, until the end.
    pub(super) async fn keep_time(&self) {
        select! {
            () = self.queue_leaves() => {}
            () = self.reached(EndStage::Over) => {}
        }
    }

    async fn queue_leaves(&self) {
        loop {
            let deadline = self.change(|state, now| {
                state.telling.tell_all(state.counting.due(now.instant, MAX_AT_ONCE), now.instant);
                state.counting.deadline()
            });
            match deadline {
                // More leaves are due. Other tasks may run before they are queued.
                Some(deadline) if deadline <= Instant::now() => tokio::task::yield_now().await,
                // The grace is the same for all leaves, so no later leave is due earlier.
                Some(deadline) => sleep_until(deadline).await,
                None => self.leaves.notified().await,
            }
        }
    }

    /// Sends batches when they are due, and sends failed ones again, until the drain begins.
    pub(super) async fn serve(&self) {
        let mut post = self.post.lock().await;
        let mut backoff = Backoff::new(self.first_pause);
        loop {
            let batch = select! {
                biased;
                () = self.reached(EndStage::Draining) => return,
                batch = self.next() => batch,
            };
            let body = Bytes::from(event::body(&batch));
            let mut failures = 0u32;
            loop {
                let sent = select! {
                    sent = post.send(&body) => sent,
                    () = self.reached(EndStage::Over) => return,
                };
                let Err(failure) = sent else { break };
                let pause = backoff.next(random());
                self.failed(&failure, Some(pause));
                failures = failures.saturating_add(1);
                select! {
                    () = sleep(pause) => {}
                    () = self.reached(EndStage::Draining) => return,
                }
            }
            self.delivered();
            if failures > 0 {
                backoff.reset();
                tracing::info!(url = %self.hook.url, failures, "a webhook accepts events again");
            }
        }
    }

    /// Waits until the next batch is due, and returns it.
    async fn next(&self) -> Vec<NumberedEvent> {
        loop {
            let ready = self.lock().telling.queue.ready(self.hook.batch, self.hook.batch_wait);
            match ready {
                Some(ready) if ready <= Instant::now() => return self.lock().telling.queue.batch(self.hook.batch),
                Some(ready) => select! {
                    () = sleep_until(ready) => {}
                    () = self.batch_due_earlier.notified() => {}
                },
                None => self.batch_due_earlier.notified().await,
            }
        }
    }

    fn delivered(&self) {
        let delivered = self.change(|state, now| state.telling.queue.delivered(now));
        self.metrics.delivered.inc_by(delivered as u64);
    }

    fn failed(&self, failure: &PostError, pause: Option<Duration>) {
        self.metrics.failures.inc();
        let (url, waiting) = (&self.hook.url, self.lock().telling.queue.len());
        match pause {
            Some(pause) => tracing::warn!(%url, %failure, waiting, again_in = ?pause, "a webhook failed"),
            None => {
                tracing::warn!(
                    %url,
                    %failure,
                    waiting,
                    "a webhook failed, and its events are dropped because it is ending"
                )
            }
        }
    }

    async fn reached(&self, stage: EndStage) {
        // This cannot fail, because `self` owns the sender.
        let _ = self.stage.subscribe().wait_for(|reached| *reached >= stage).await;
    }

    /// Sends all events that wait, each of them once, for at most `within`. After that, all remaining events are
    /// dropped, and so are all that come later.
    pub(super) async fn drain(&self, within: Duration) {
        let mut lost = 0;
        self.stage.send_replace(EndStage::Draining);
        let sent = timeout(within, self.send_rest(&mut lost)).await;
        self.stage.send_replace(EndStage::Over);
        let closed = self.change(FeedState::close);
        self.metrics.dropped.inc_by(closed);
        lost += closed;
        if lost > 0 {
            let in_time = sent.is_ok();
            tracing::warn!(
                url = %self.hook.url,
                events = lost,
                in_time,
                "a webhook has ended before it had accepted all events: the rest were dropped"
            );
        }
    }

    /// Ends a webhook that has been removed: sends all events that wait within the timeout of a request.
    pub(super) async fn retire(&self) {
        self.drain(self.hook.timeout).await;
    }

    async fn send_rest(&self, lost: &mut u64) {
        let mut post = self.post.lock().await;
        loop {
            let batch = self.change(|state, now| {
                let rest = state.counting.flush(state.telling.queue.room());
                state.telling.tell_all(rest, now.instant);
                state.telling.queue.batch(self.hook.batch)
            });
            if batch.is_empty() {
                return;
            }
            match post.send(&Bytes::from(event::body(&batch))).await {
                Ok(()) => self.delivered(),
                Err(failure) => {
                    self.failed(&failure, None);
                    let discarded = self.change(|state, now| state.telling.queue.discard(now));
                    self.metrics.dropped.inc_by(discarded);
                    *lost += discarded;
                }
            }
        }
    }
}

impl FeedState {
    /// Drops all events that are still to be sent. Returns how many there were.
    fn close(&mut self, now: Moment) -> u64 {
        let leaves = self.counting.flush(usize::MAX);
        let untold = leaves.iter().filter(|leave| self.telling.wants(&leave.kind)).count();
        untold as u64 + self.telling.queue.close(now)
    }
}

fn is_earlier(now: Option<Instant>, before: Option<Instant>) -> bool {
    now.is_some_and(|now| before.is_none_or(|before| now < before))
}

/// Returns a random number, which need not be secure.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one(())
}
