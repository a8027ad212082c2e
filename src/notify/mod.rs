//! Webhooks: requests that tell a server which channels and users have connections, and how connections ended.
//!
//! Shards report to the webhooks under a short lock, and never wait for a server. Each webhook counts the
//! connections of each channel and of each user, and sends the first join and the last leave as events. A channel or
//! user that is back within the grace counts as never left. Events wait in a bounded queue and are sent in batches.
//! A batch is sent again until the server accepts it, so a server may get an event twice. It recognizes such an
//! event by its id. The ids of a webhook are numbered without gaps. If events were dropped, one event says how many.

mod backoff;
mod event;
mod outbox;
mod presence;
mod presence_counts;
mod queue;
#[cfg(test)]
mod tests;
mod url;
mod webhook_client;
mod webhook_feed;

pub use event::EndedConnection;
pub use url::WebhookUrl;

use crate::grip::signature::Signer;
use crate::grip::{Channel, Glob, InvalidText, invalid};
use crate::telemetry::metrics::{Counter, Gauge, MetricsRegistry};
use event::UnixMillis;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use webhook_feed::{WebhookFeed, random};

/// The settings of all webhooks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The webhooks, in the order in which they are configured.
    pub hooks: Vec<Webhook>,
}

/// The settings of one webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// The URL to which events are sent.
    pub url: WebhookUrl,
    /// The route whose connections are reported, given by its id, or else by its host and path. If it is `None`, the
    /// connections of all routes are reported.
    pub route: Option<String>,
    /// The kinds of events that are sent.
    pub events: EventKinds,
    /// The patterns of the channels whose joins and leaves are sent. If there are none, those of all channels are
    /// sent.
    pub channels: Vec<Glob>,
    /// Whether the joins and leaves of users are sent.
    pub users: bool,
    /// The signer of the requests. Without one, the requests are not signed.
    pub signer: Option<Arc<Signer>>,
    /// The time within which a channel or user that is back counts as never left. If it is zero, or too long to be
    /// added to the current time, every leave is sent at once.
    pub grace: Duration,
    /// The largest number of events in one request. Zero means 1.
    pub batch: usize,
    /// The time that an event waits for others.
    pub batch_wait: Duration,
    /// The largest number of events that may wait. Zero means 1. If the queue is full, new events are dropped and
    /// counted.
    pub queue: usize,
    /// The time after which a request without a response counts as failed. It is sent again after a pause.
    pub timeout: Duration,
}

impl Webhook {
    /// Returns a webhook that sends every event, does not sign its requests, and has the default limits.
    pub const fn new(url: WebhookUrl) -> Self {
        Self {
            url,
            route: None,
            events: EventKinds::ALL,
            channels: Vec::new(),
            users: true,
            signer: None,
            grace: Duration::from_secs(5),
            batch: 100,
            batch_wait: Duration::from_millis(200),
            queue: 10_000,
            timeout: Duration::from_secs(10),
        }
    }
}

/// A selection of kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventKinds {
    /// Whether an event is sent when a channel or user has its first connection.
    pub joined: bool,
    /// Whether an event is sent when a channel or user has lost its last connection.
    pub left: bool,
    /// Whether an event is sent when a connection has ended.
    pub ended: bool,
}

impl EventKinds {
    /// All kinds of events.
    pub const ALL: Self = Self { joined: true, left: true, ended: true };

    /// Returns the kinds of events with these names: `joined`, `left`, `ended`.
    ///
    /// # Errors
    /// There is no name at all, or an unknown one.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidText> {
        let none = Self { joined: false, left: false, ended: false };
        let mut events = none;
        for name in names {
            match name {
                "joined" => events.joined = true,
                "left" => events.left = true,
                "ended" => events.ended = true,
                _ => return invalid(format!("'{name}' is no event of a webhook: these are joined, left and ended")),
            }
        }
        if events == none { invalid("a webhook must be told joined, left or ended") } else { Ok(events) }
    }
}

/// Counters of all webhooks together.
#[derive(Debug)]
pub struct Metrics {
    /// Events that servers have accepted.
    pub delivered: Counter,
    /// Requests that failed.
    pub failures: Counter,
    /// Events that were dropped because the queue was full, or because the server did not accept them before the
    /// end.
    pub dropped: Counter,
    /// Events that are in the queues of webhooks now.
    pub queued: Gauge,
}

impl Metrics {
    /// Registers the metrics of webhooks.
    pub fn new(registry: &MetricsRegistry) -> Self {
        Self {
            delivered: registry.counter("webhook_events_total", "Events that webhooks have taken."),
            failures: registry.counter("webhook_failures_total", "Requests to webhooks that failed."),
            dropped: registry.counter("webhook_dropped_total", "Events that no webhook was told."),
            queued: registry.gauge("webhook_queue", "Events that wait for webhooks."),
        }
    }
}

impl Default for Metrics {
    /// Returns metrics in a registry of their own, which nobody reads.
    fn default() -> Self {
        Self::new(&MetricsRegistry::new())
    }
}

/// A notifier, which reports the joins, leaves and ends of held connections to all webhooks. They may be reported on
/// any thread, and reporting never waits for a server.
#[derive(Debug)]
pub struct Notifier {
    feeds: Box<[Arc<WebhookFeed>]>,
}

impl Notifier {
    /// Returns a notifier for these webhooks.
    pub fn new(settings: Settings, metrics: &Arc<Metrics>) -> Arc<Self> {
        Self::with_pause(settings, metrics, backoff::FIRST_PAUSE)
    }

    /// Returns a notifier that waits for about `first_pause` after a first failed request.
    fn with_pause(settings: Settings, metrics: &Arc<Metrics>, first_pause: Duration) -> Arc<Self> {
        Self::build(settings, metrics, first_pause, Vec::new())
    }

    /// Returns a notifier for these webhooks. Webhooks that are the same as before keep their queues and counts, which
    /// they share with this notifier.
    pub fn reload(&self, settings: Settings, metrics: &Arc<Metrics>) -> Arc<Self> {
        Self::build(settings, metrics, backoff::FIRST_PAUSE, self.feeds.to_vec())
    }

    fn build(
        settings: Settings,
        metrics: &Arc<Metrics>,
        first_pause: Duration,
        mut before: Vec<Arc<WebhookFeed>>,
    ) -> Arc<Self> {
        let (start, random) = (UnixMillis::now().as_millis(), random());
        let feed = |(hook, nth): (Webhook, u32)| match before.iter().position(|feed| feed.is_for(&hook)) {
            Some(at) => before.swap_remove(at),
            // Webhooks may share a server, and each numbers its own events. So each webhook has a prefix of its own
            // for the ids.
            None => {
                let boot = format!("{start:x}{random:016x}{nth}");
                Arc::new(WebhookFeed::new(hook, &boot, metrics, first_pause))
            }
        };
        Arc::new(Self { feeds: settings.hooks.into_iter().zip(0..).map(feed).collect() })
    }

    /// Returns a notifier for the webhooks that `other` does not have.
    pub fn without(&self, other: &Self) -> Self {
        let is_other = |feed: &Arc<WebhookFeed>| other.feeds.iter().any(|kept| Arc::ptr_eq(kept, feed));
        Self { feeds: self.feeds.iter().filter(|feed| !is_other(feed)).cloned().collect() }
    }

    /// Returns whether there is no webhook.
    pub fn is_idle(&self) -> bool {
        self.feeds.is_empty()
    }

    /// Counts one more connection of a route that holds each of these channels.
    pub fn joined(&self, route: &str, channels: &[Channel]) {
        self.feeds.iter().for_each(|feed| feed.joined(route, channels));
    }

    /// Counts one fewer connection of a route that holds each of these channels.
    pub fn left(&self, route: &str, channels: &[Channel]) {
        self.feeds.iter().for_each(|feed| feed.left(route, channels));
    }

    /// Increments the number of connections of `user` on `route`.
    pub fn user_joined(&self, route: &str, user: &str) {
        self.feeds.iter().for_each(|feed| feed.user_joined(route, user));
    }

    /// Decrements the number of connections of `user` on `route`.
    pub fn user_left(&self, route: &str, user: &str) {
        self.feeds.iter().for_each(|feed| feed.user_left(route, user));
    }

    /// Reports that a held connection has ended now.
    pub fn ended(&self, ended: &EndedConnection) {
        let mut shared = None;
        for feed in self.feeds.iter().filter(|feed| feed.wants_ends(&ended.route)) {
            feed.ended(Arc::clone(shared.get_or_insert_with(|| Arc::new(ended.clone()))));
        }
    }

    /// Sends events until all webhooks have been drained. It must run on a local runtime or in a `LocalSet` of tokio, because
    /// connections are served by local tasks. The returned future may be dropped at any time: events that were being
    /// sent are sent again by the next call or by [`drain`](Self::drain).
    pub async fn run(&self) {
        let serve = self.feeds.iter().map(|feed| Box::pin(feed.serve()) as PartFuture<'_>);
        let keep_time = self.feeds.iter().map(|feed| Box::pin(feed.keep_time()) as PartFuture<'_>);
        all(serve.chain(keep_time).collect()).await;
    }

    /// Sends all events that wait, each of them once, for at most `within`. Leaves that are still in their grace are
    /// sent as well. Events that are not accepted by then are dropped, counted and logged. Events that come later
    /// are dropped and counted. Call this after the last connection has ended. The future of [`run`](Self::run) may
    /// still be running, or may have been dropped.
    pub async fn drain(&self, within: Duration) {
        all(self.feeds.iter().map(|feed| Box::pin(feed.drain(within)) as PartFuture<'_>).collect()).await;
    }

    /// Sends all events that wait, as [`drain`](Self::drain) does, for at most the timeout of each webhook.
    pub async fn retire(&self) {
        all(self.feeds.iter().map(|feed| Box::pin(feed.retire()) as PartFuture<'_>).collect()).await;
    }
}

type PartFuture<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Runs all futures at the same time, until each of them has ended.
async fn all(mut parts: Vec<PartFuture<'_>>) {
    let poll = |context: &mut std::task::Context<'_>| {
        parts.retain_mut(|part| part.as_mut().poll(context).is_pending());
        if parts.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    };
    poll_fn(poll).await;
}
