//! The way from the events of connections to the requests of one webhook.

use super::backoff::Backoff;
use super::counting::{Changes, Counting};
use super::event::{self, Ended, Event, Moment, Numbered, What};
use super::post::{Failure, Post};
use super::queue::Queue;
use super::telling::Telling;
use super::{Hook, Metrics};
use crate::grip::Channel;
use bytes::Bytes;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::select;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Leaves that are told while nobody else can tell anything.
const MAX_AT_ONCE: usize = 1000;

/// One webhook, and what it has not been told yet.
#[derive(Debug)]
pub(super) struct Feed {
    hook: Hook,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
    /// The next batch is due earlier than it was.
    news: Notify,
    /// The next leave is.
    leaves: Notify,
    stage: watch::Sender<Stage>,
    /// Whoever sends has it.
    post: tokio::sync::Mutex<Post>,
    first_pause: Duration,
}

/// Both halves of the feed's work, behind one lock: what is counted is told in the order in which it happened.
#[derive(Debug)]
struct State {
    counting: Counting,
    telling: Telling,
}

/// How far the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    /// Nothing waits any more, and nothing is tried again.
    Draining,
    /// Nothing is sent any more.
    Over,
}

impl Feed {
    pub(super) fn new(hook: Hook, boot: &str, metrics: &Arc<Metrics>, first_pause: Duration) -> Self {
        // A batch is at least an event, and so is what waits.
        let hook = Hook { batch: hook.batch.max(1), queue: hook.queue.max(1), ..hook };
        let queue = Queue::new(boot.into(), hook.queue);
        let telling = Telling::new(hook.events, queue, Arc::clone(metrics));
        let state = State { counting: Counting::new(hook.grace), telling };
        let post = Post::new(hook.url.clone(), hook.signer.clone(), hook.timeout);
        Self {
            hook,
            metrics: Arc::clone(metrics),
            state: Mutex::new(state),
            news: Notify::new(),
            leaves: Notify::new(),
            stage: watch::Sender::new(Stage::Serving),
            post: tokio::sync::Mutex::new(post),
            first_pause,
        }
    }

    pub(super) fn joined(&self, route: &str, channels: &[Channel]) {
        self.count_channels(route, channels, Counting::channel_joined);
    }

    pub(super) fn left(&self, route: &str, channels: &[Channel]) {
        self.count_channels(route, channels, Counting::channel_left);
    }

    fn count_channels(
        &self,
        route: &str,
        channels: &[Channel],
        count: impl Fn(&mut Counting, &Channel, Moment) -> Changes,
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

    /// Returns whether it is told who ends on this route.
    pub(super) fn wants_ends(&self, route: &str) -> bool {
        self.hook.events.ended && self.is_about(route)
    }

    pub(super) fn ended(&self, ended: Arc<Ended>) {
        self.change(|state, now| {
            state.telling.tell(Event { time: now.time, what: What::Ended(ended) }, now.instant);
        });
    }

    /// Returns whether it is told who joins or leaves on this route.
    fn counts(&self, route: &str) -> bool {
        (self.hook.events.joined || self.hook.events.left) && self.is_about(route)
    }

    fn is_about(&self, route: &str) -> bool {
        self.hook.route.as_ref().is_none_or(|own| own == route)
    }

    /// Changes what there is to tell, and wakes who tells it, if that is earlier now.
    fn change<T>(&self, f: impl FnOnce(&mut State, Moment) -> T) -> T {
        let mut state = self.lock();
        let (ready, leave, waiting) = self.look(&state);
        let changed = f(&mut state, Moment::now());
        let (ready_now, leave_now, waiting_now) = self.look(&state);
        let warn = state.telling.take_warning();
        // The gauge is of all webhooks, so only the difference counts.
        self.metrics.queued.add(waiting_now - waiting);
        drop(state);
        if is_earlier(ready_now, ready) {
            self.news.notify_one();
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
    fn look(&self, state: &State) -> (Option<Instant>, Option<Instant>, i64) {
        let queue = &state.telling.queue;
        let ready = queue.ready(self.hook.batch, self.hook.batch_wait);
        (ready, state.counting.deadline(), i64::try_from(queue.len()).unwrap_or(i64::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells leaves when their grace is over, forever.
    pub(super) async fn keep_time(&self) {
        loop {
            let deadline = self.change(|state, now| {
                state.telling.tell_all(state.counting.due(now.instant, MAX_AT_ONCE), now.instant);
                state.counting.deadline()
            });
            match deadline {
                // Others may have something to tell meanwhile.
                Some(deadline) if deadline <= Instant::now() => tokio::task::yield_now().await,
                // The grace is the same for all: no other leave is due earlier.
                Some(deadline) => sleep_until(deadline).await,
                None => self.leaves.notified().await,
            }
        }
    }

    /// Sends what there is to tell, until it is drained.
    pub(super) async fn serve(&self) {
        let mut post = self.post.lock().await;
        let mut backoff = Backoff::new(self.first_pause);
        loop {
            let batch = select! {
                biased;
                () = self.reached(Stage::Draining) => return,
                batch = self.next() => batch,
            };
            let body = Bytes::from(event::body(&batch));
            let mut failures = 0u32;
            loop {
                let sent = select! {
                    sent = post.send(&body) => sent,
                    () = self.reached(Stage::Over) => return,
                };
                let Err(failure) = sent else { break };
                let pause = backoff.next(random());
                self.failed(&failure, Some(pause));
                failures = failures.saturating_add(1);
                select! {
                    () = sleep(pause) => {}
                    () = self.reached(Stage::Draining) => return,
                }
            }
            self.delivered();
            if failures > 0 {
                backoff.reset();
                tracing::info!(url = %self.hook.url, failures, "a webhook accepts events again");
            }
        }
    }

    /// Returns the next batch, when it is due.
    async fn next(&self) -> Vec<Numbered> {
        loop {
            let ready = self.lock().telling.queue.ready(self.hook.batch, self.hook.batch_wait);
            match ready {
                Some(ready) if ready <= Instant::now() => return self.lock().telling.queue.batch(self.hook.batch),
                Some(ready) => select! {
                    () = sleep_until(ready) => {}
                    () = self.news.notified() => {}
                },
                None => self.news.notified().await,
            }
        }
    }

    fn delivered(&self) {
        let delivered = self.change(|state, now| state.telling.queue.delivered(now));
        self.metrics.delivered.inc_by(delivered as u64);
    }

    fn failed(&self, failure: &Failure, pause: Option<Duration>) {
        self.metrics.failures.inc();
        let (url, waiting) = (&self.hook.url, self.lock().telling.queue.len());
        match pause {
            Some(pause) => tracing::warn!(%url, %failure, waiting, again_in = ?pause, "a webhook failed"),
            None => tracing::warn!(%url, %failure, waiting, "a webhook failed and is not asked again"),
        }
    }

    async fn reached(&self, stage: Stage) {
        // The sender is here: it is not dropped meanwhile.
        let _ = self.stage.subscribe().wait_for(|reached| *reached >= stage).await;
    }

    /// Sends everything that there is to tell, once, but for no longer than `within`. After that everything left is
    /// dropped, and so is everything that comes later.
    pub(super) async fn drain(&self, within: Duration) {
        let mut lost = 0;
        self.stage.send_replace(Stage::Draining);
        let sent = timeout(within, self.send_rest(&mut lost)).await;
        self.stage.send_replace(Stage::Over);
        let closed = self.change(State::close);
        self.metrics.dropped.inc_by(closed);
        lost += closed;
        if lost > 0 {
            let in_time = sent.is_ok();
            tracing::warn!(url = %self.hook.url, events = lost, in_time, "events for a webhook were dropped: it has not received all of them");
        }
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

impl State {
    /// Drops everything that is still to be told. Returns how many events that were.
    fn close(&mut self, now: Moment) -> u64 {
        let leaves = self.counting.flush(usize::MAX);
        let untold = leaves.iter().filter(|leave| self.telling.wants(&leave.what)).count();
        untold as u64 + self.telling.queue.close(now)
    }
}

fn is_earlier(now: Option<Instant>, before: Option<Instant>) -> bool {
    now.is_some_and(|now| before.is_none_or(|before| now < before))
}

/// Returns any number.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one(())
}
