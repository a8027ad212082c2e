//! Webhooks: servers are told who is there, in which channels, and how connections ended.
//!
//! Shards report events under a short lock, and wait for nobody. Each webhook has a count of who holds each name. It is
//! told the first join and the last leave of a name. A name that is held again within the grace never left. Events wait in
//! a queue with a bound, and are sent in batches, each until the server takes it: a server may get an event twice, and
//! recognizes it by its id. Ids are numbers without a gap; where events are missing, one event says how many.

mod backoff;
mod counting;
mod event;
mod feed;
mod post;
mod presence;
mod queue;
mod telling;
#[cfg(test)]
mod tests;
mod url;

pub use event::Ended;
pub use url::Url;

use crate::grip::signature::Signer;
use crate::grip::{Channel, Glob, Invalid, invalid};
use crate::telemetry::metrics::{Counter, Gauge, Registry};
use event::Time;
use feed::{Feed, random};
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// The settings of all webhooks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// In the order in which they are configured.
    pub hooks: Vec<Hook>,
}

/// One webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Where events are sent.
    pub url: Url,
    /// The route whose connections count, by its id, else its host and path. `None`: all.
    pub route: Option<String>,
    /// The kinds of events that it is told.
    pub events: Events,
    /// The patterns of the channels whose joins and leaves it is told. None: all.
    pub channels: Vec<Glob>,
    /// Whether it is told the joins and leaves of users.
    pub users: bool,
    /// Signs the requests.
    pub signer: Option<Arc<Signer>>,
    /// The time within which a name that is held again never left. If it is zero, or without end, a leave is told at once.
    pub grace: Duration,
    /// Events of one request at most; at least 1.
    pub batch: usize,
    /// How long an event waits for others.
    pub batch_wait: Duration,
    /// Events that may wait; at least 1. Beyond it the newest are dropped.
    pub queue: usize,
    /// How long one request may take.
    pub timeout: Duration,
}

impl Hook {
    /// Returns a webhook that is told everything, unsigned, with the limits that stand where none are configured.
    pub const fn new(url: Url) -> Self {
        Self {
            url,
            route: None,
            events: Events::ALL,
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

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Events {
    /// Somebody holds a channel, or a user is there.
    pub joined: bool,
    /// Nobody does any more.
    pub left: bool,
    /// A connection ended.
    pub ended: bool,
}

impl Events {
    /// Every kind.
    pub const ALL: Self = Self { joined: true, left: true, ended: true };

    /// Returns the kinds of these names: `joined`, `left`, `ended`.
    ///
    /// # Errors
    /// There is no name, or one of something else.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, Invalid> {
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
    /// Events that were taken.
    pub delivered: Counter,
    /// Requests that failed.
    pub failures: Counter,
    /// Events that were dropped because too many waited, or at the end.
    pub dropped: Counter,
    /// Events that wait now.
    pub queued: Gauge,
}

impl Metrics {
    /// Registers the numbers.
    pub fn new(registry: &Registry) -> Self {
        Self {
            delivered: registry.counter("webhook_events_total", "Events that webhooks have taken."),
            failures: registry.counter("webhook_failures_total", "Requests to webhooks that failed."),
            dropped: registry.counter("webhook_dropped_total", "Events that no webhook was told."),
            queued: registry.gauge("webhook_queue", "Events that wait for webhooks."),
        }
    }
}

impl Default for Metrics {
    /// Returns numbers in a registry of their own, which nobody reads.
    fn default() -> Self {
        Self::new(&Registry::new())
    }
}

/// Tells webhooks what happens to held connections. It may be told so on any thread, and never waits.
#[derive(Debug)]
pub struct Notifier {
    feeds: Box<[Feed]>,
}

impl Notifier {
    /// Returns a notifier of these webhooks.
    pub fn new(settings: Settings, metrics: &Arc<Metrics>) -> Arc<Self> {
        Self::with_pause(settings, metrics, backoff::FIRST)
    }

    /// Returns a notifier that waits for `first_pause` after a first failure.
    fn with_pause(settings: Settings, metrics: &Arc<Metrics>, first_pause: Duration) -> Arc<Self> {
        let (start, random) = (Time::now().as_millis(), random());
        // Webhooks may share a server, and each has numbers of its own.
        let feed = |(hook, nth)| Feed::new(hook, &format!("{start:x}{random:016x}{nth}"), metrics, first_pause);
        Arc::new(Self { feeds: settings.hooks.into_iter().zip(0u32..).map(feed).collect() })
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

    /// Counts one fewer connection of a route and of this user.
    pub fn user_left(&self, route: &str, user: &str) {
        self.feeds.iter().for_each(|feed| feed.user_left(route, user));
    }

    /// Reports that a held connection has ended now.
    pub fn ended(&self, ended: &Ended) {
        let mut shared = None;
        for feed in self.feeds.iter().filter(|feed| feed.wants_ends(&ended.route)) {
            feed.ended(Arc::clone(shared.get_or_insert_with(|| Arc::new(ended.clone()))));
        }
    }

    /// Sends events without end, on a runtime of tokio. It may be dropped at any time: events that were on their way are
    /// sent again when it is called again, or by [`drain`](Self::drain).
    pub async fn run(&self) {
        let serve = self.feeds.iter().map(|feed| Box::pin(feed.serve()) as Part<'_>);
        let keep_time = self.feeds.iter().map(|feed| Box::pin(feed.keep_time()) as Part<'_>);
        all(serve.chain(keep_time).collect()).await;
        pending().await
    }

    /// Sends everything that there is to tell, each event once, for `within` at most; that includes leaves within their
    /// grace. Events that are not taken by then are dropped, counted and logged, and whatever comes later is dropped. Call
    /// it when the last connection has ended; [`run`](Self::run) may still be running or have been dropped.
    pub async fn drain(&self, within: Duration) {
        all(self.feeds.iter().map(|feed| Box::pin(feed.drain(within)) as Part<'_>).collect()).await;
    }
}

type Part<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Runs all parts at the same time, until each has ended.
async fn all(mut parts: Vec<Part<'_>>) {
    let poll = |context: &mut std::task::Context<'_>| {
        parts.retain_mut(|part| part.as_mut().poll(context).is_pending());
        if parts.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    };
    poll_fn(poll).await;
}
