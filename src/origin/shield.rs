//! The protection of origins from too many requests for links at once. Equal requests of several streams are sent
//! once, the requests are spread over time, and the number of requests in progress is bounded. All shards share one
//! shield.

use super::Metrics;
use super::own_request_limits::{Lane, OwnRequestLimits};
use super::{CollectedAnswer, Failure, FailureKind, OriginClient, OwnRequest, Requester};
use crate::grip::item::ItemId;
use crate::route::Route;
use bytes::Bytes;
use hyper::header::HeaderMap;
use hyper::{Method, StatusCode, Uri};
use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The time after a request was sent within which its response is shared with streams that request their link only
/// because it is due.
const FRESH_FOR: Duration = Duration::from_millis(250);

/// The link requests of all shards, and the turns of gripd's own requests.
#[derive(Debug)]
pub struct Shield {
    pub(super) turns: OwnRequestLimits,
    started: Instant,
    keys: RandomState,
    state: Mutex<ShieldState>,
}

#[derive(Debug, Default)]
struct ShieldState {
    flights: HashMap<FlightKey, Flight>,
    /// The flights that have ended, in the order in which they are removed, and the time from which on each is removed.
    landed: VecDeque<(Instant, FlightKey)>,
}

/// The identity of a link request. Streams with equal keys would get the same response, so they share one request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct FlightKey {
    route: SameArc<Route>,
    secure: bool,
    uri: String,
    last_ids: Vec<(String, ItemId)>,
}

/// A value that is compared by its address. A route of a reloaded table is thus another one, even if its content is
/// equal.
#[derive(Clone, Debug)]
struct SameArc<T>(Arc<T>);

impl<T> PartialEq for SameArc<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Eq for SameArc<T> {}

impl<T> Hash for SameArc<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

/// A flight: a link request that is in progress or has just ended, and whose outcome several streams may share.
#[derive(Debug)]
struct Flight {
    /// The time at which the request was sent, or `None` if it has not been sent yet.
    sent: Option<Instant>,
    news: watch::Receiver<Option<FlightOutcome>>,
}

impl ShieldState {
    /// Removes the flights that ended at least [`FRESH_FOR`] ago.
    fn forget_landed(&mut self, now: Instant) {
        while self.landed.front().is_some_and(|(until, _)| *until <= now) {
            let Some((_, key)) = self.landed.pop_front() else { break };
            if self.flights.get(&key).is_some_and(Flight::is_over) {
                self.flights.remove(&key);
            }
        }
    }
}

impl Flight {
    /// Returns whether the flight has ended, with or without an outcome.
    fn is_over(&self) -> bool {
        self.news.has_changed().is_err()
    }

    /// Returns whether the flight ended without an outcome.
    fn is_given_up(&self) -> bool {
        self.is_over() && self.news.borrow().is_none()
    }
}

/// The outcome of a flight.
#[derive(Clone, Debug)]
enum FlightOutcome {
    Told(Arc<(StatusCode, HeaderMap, Bytes)>),
    /// The body is too large to be kept in memory, so each stream sends a request of its own.
    TooLarge,
    Failed(FailureKind, String),
}

/// The part of a stream in a flight: it sends the request itself, or waits for the outcome of another stream's
/// request.
enum FlightRole {
    Lead(watch::Sender<Option<FlightOutcome>>),
    Join(watch::Receiver<Option<FlightOutcome>>),
}

impl Shield {
    /// Returns a shield that allows `most` of gripd's own requests of each [`Lane`] to one origin at the same time.
    /// Requests that wait for their turn are counted in `metrics`.
    pub fn new(most: usize, metrics: &Metrics) -> Arc<Self> {
        let (started, keys) = (Instant::now(), RandomState::new());
        Arc::new(Self {
            turns: OwnRequestLimits::new(most, metrics.own_requests_waiting.clone()),
            started,
            keys,
            state: Mutex::default(),
        })
    }

    /// Sets how many of gripd's own requests of each [`Lane`] to one origin may be in progress at the same time.
    pub fn set_limit(&self, most: usize) {
        self.turns.set_limit(most);
    }

    /// Returns the time until a link that is due every `period` is requested next. Links are spread evenly over the
    /// period by a hash of their URI. All streams with the same URI and period request it at the same time, and so
    /// share one request. The time is at least a tenth of the period.
    pub fn wait(&self, uri: &str, period: Duration) -> Duration {
        let millis = period.as_millis().max(1);
        let phase = u128::from(self.keys.hash_one(uri)) % millis;
        let wait = millis - (self.started.elapsed().as_millis() + phase) % millis;
        let wait = if wait < millis / 10 { wait + millis } else { wait };
        Duration::from_millis(u64::try_from(wait).unwrap_or(u64::MAX))
    }

    /// Joins the flight of this key, unless it was given up or its request was sent before `since`. Otherwise begins
    /// a new flight.
    fn board(&self, key: &FlightKey, since: Instant) -> FlightRole {
        let state = &mut *self.state();
        let now = Instant::now();
        state.forget_landed(now);
        if let Some(flight) = state.flights.get(key)
            && flight.sent.is_none_or(|sent| sent >= since)
            && !flight.is_given_up()
        {
            return FlightRole::Join(flight.news.clone());
        }
        let (tell, news) = watch::channel(None);
        state.flights.insert(key.clone(), Flight { sent: None, news });
        FlightRole::Lead(tell)
    }

    fn sent(&self, key: &FlightKey) {
        if let Some(flight) = self.state().flights.get_mut(key) {
            flight.sent = Some(Instant::now());
        }
    }

    fn landed(&self, key: FlightKey) {
        self.state().landed.push_back((Instant::now() + FRESH_FOR, key));
    }

    /// Removes a flight that has just ended, after the time for which its outcome is shared.
    async fn sweep(self: Arc<Self>) {
        tokio::time::sleep(FRESH_FOR + Duration::from_millis(1)).await;
        self.state().forget_landed(Instant::now());
    }

    fn state(&self) -> MutexGuard<'_, ShieldState> {
        // No code panics while the state is inconsistent, so the state of a poisoned lock can be used.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The side of a flight that sends the request. When it is dropped, with or without an outcome, the flight has ended
/// and will be removed.
struct FlightLeader<'a> {
    shield: &'a Shield,
    key: FlightKey,
    tell: watch::Sender<Option<FlightOutcome>>,
}

impl Drop for FlightLeader<'_> {
    fn drop(&mut self) {
        self.shield.landed(self.key.clone());
    }
}

impl OriginClient {
    /// Requests a next link for a stream whose client has received the items up to `last_ids`. Streams with equal
    /// requests share one response if its request was sent at `since` or later, or has not been sent yet. `None` stands
    /// for 250 ms ago.
    ///
    /// # Errors
    /// There is no usable response. The error says why.
    pub async fn ask_link(
        &self,
        about: &Requester,
        uri: &Uri,
        last_ids: &[(String, ItemId)],
        since: Option<Instant>,
    ) -> Result<CollectedAnswer, Failure> {
        let route = SameArc(Arc::clone(&about.route));
        let key = FlightKey { route, secure: about.secure, uri: uri.to_string(), last_ids: last_ids.to_vec() };
        let since = since.or_else(|| Instant::now().checked_sub(FRESH_FOR)).unwrap_or(self.shield.started);
        let ask = || OwnRequest { method: Method::GET, uri, headers: &[], body: Bytes::new(), last_ids };
        loop {
            match self.shield.board(&key, since) {
                FlightRole::Lead(tell) => {
                    return self.lead(FlightLeader { shield: &self.shield, key, tell }, about, ask()).await;
                }
                FlightRole::Join(news) => match joined(news).await {
                    Some(FlightOutcome::Told(told)) => {
                        self.metrics.links_shared.inc();
                        let (status, headers, body) = &*told;
                        return Ok(CollectedAnswer {
                            status: *status,
                            headers: headers.clone(),
                            body: body.clone(),
                            rest: None,
                        });
                    }
                    Some(FlightOutcome::Failed(kind, why)) => return Err(Failure::because(kind, why)),
                    Some(FlightOutcome::TooLarge) => {
                        let _turn = self.turn_for(Lane::Asking, about, uri).await?;
                        self.metrics.links.inc();
                        return self.ask(about, ask()).await;
                    }
                    // The flight has ended without an outcome, because the stream that led it has ended or has found no
                    // route. This stream tries again.
                    None => {}
                },
            }
        }
    }

    async fn lead(
        &self,
        leader: FlightLeader<'_>,
        about: &Requester,
        ask: OwnRequest<'_>,
    ) -> Result<CollectedAnswer, Failure> {
        let _turn = self.turn_for(Lane::Asking, about, ask.uri).await?;
        self.shield.sent(&leader.key);
        self.metrics.links.inc();
        let told = self.ask(about, ask).await;
        leader.tell.send_replace(Some(match &told {
            Ok(told) if told.rest.is_some() => FlightOutcome::TooLarge,
            Ok(told) => FlightOutcome::Told(Arc::new((told.status, told.headers.clone(), told.body.clone()))),
            Err(failure) => FlightOutcome::Failed(failure.kind, failure.explain()),
        }));
        tokio::task::spawn_local(Arc::clone(&self.shield).sweep());
        told
    }
}

/// Returns the outcome of another stream's flight, or `None` if the flight ended without an outcome.
async fn joined(mut news: watch::Receiver<Option<FlightOutcome>>) -> Option<FlightOutcome> {
    let outcome = news.wait_for(Option::is_some).await.ok()?;
    outcome.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(route: &Arc<Route>, uri: &str) -> FlightKey {
        FlightKey { route: SameArc(Arc::clone(route)), secure: false, uri: uri.to_owned(), last_ids: Vec::new() }
    }

    #[test]
    fn links_are_spread_over_their_period_and_equal_ones_are_not() {
        let shield = Shield::new(1, &Metrics::default());
        let period = Duration::from_secs(20);
        let mut tenths = [0; 10];
        for n in 0..5000 {
            let wait = shield.wait(&format!("http://h/{n}"), period);
            assert!(wait >= period / 10 && wait < period + period / 10, "{wait:?}");
            tenths[usize::try_from(wait.as_millis() % 20_000 / 2000).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|count| (400..600).contains(count)), "{tenths:?}");
        let (one, other) = (shield.wait("http://h/", period), shield.wait("http://h/", period));
        assert!(one.abs_diff(other) < Duration::from_secs(1), "{one:?} {other:?}");
    }

    #[test]
    fn only_who_may_take_an_answer_waits_for_it() {
        let (shield, route) = (Shield::new(1, &Metrics::default()), Arc::default());
        let key = |uri| key(&route, uri);
        let before = Instant::now();
        let FlightRole::Lead(tell) = shield.board(&key("a"), before) else { panic!("nobody asks yet") };
        // A request that is not sent yet is new enough for everybody.
        let late = before + Duration::from_secs(9);
        assert!(matches!(shield.board(&key("a"), late), FlightRole::Join(_)));
        assert!(matches!(shield.board(&key("b"), late), FlightRole::Lead(_)));
        shield.sent(&key("a"));
        assert!(matches!(shield.board(&key("a"), before), FlightRole::Join(_)));
        // A request that was sent before `since` is too old to be shared.
        assert!(matches!(shield.board(&key("a"), late), FlightRole::Lead(_)));
        drop(tell);
    }

    #[test]
    fn a_flight_that_is_given_up_is_noticed() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (shield, route) = (Shield::new(1, &Metrics::default()), Arc::default());
            let key = |uri| key(&route, uri);
            let now = Instant::now();
            let FlightRole::Lead(tell) = shield.board(&key("a"), now) else { panic!("nobody asks yet") };
            let FlightRole::Join(news) = shield.board(&key("a"), now) else { panic!("it is in flight") };
            drop(FlightLeader { shield: &shield, key: key("a"), tell });
            assert!(joined(news).await.is_none());
            assert!(matches!(shield.board(&key("a"), now), FlightRole::Lead(_)));
        });
    }
}
