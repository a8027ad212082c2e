//! Streams whose origin is asked again while they are held: streams with a next link, a gone link, last ids or HTTP
//! filters, and streams whose body is too large to be kept in memory.

use super::keep_alive_timer::KeepAliveTimer;
use super::link_response::{read, successful};
use super::race::{OnClose, RaceNotes, race};
use super::stream;
use super::terms::{unlinked, ways_of_stream};
use super::{AfterHold, Hold, HoldFuture, Holds, KnownLastIds, StreamBody};
use crate::admission::{NotAdmitted, terms};
use crate::grip::link::NextLink;
use crate::grip::{Instruct, Meta, Rights};
use crate::net::{Pace, Transport};
use crate::origin::{CollectedAnswer, GoneLinkGuard, Lease, Requester};
use crate::shard::{DeliveryForm, EndReason, IdComparison, Parked, ParkedEvent, PendingDecision, Profile, Terms};
use crate::wire::{Chunk, StreamForm};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Uri;
use hyper::body::{Frame, Incoming};
use std::ops::ControlFlow;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The number of times that a failed request for a next link is retried before the stream is ended.
const RETRIES: u32 = 5;

/// Returns whether a stream needs the handling of this module. Other streams are held by `stream`, which takes less
/// memory.
pub(super) fn is_needed(hold: &Hold) -> bool {
    let Instruct { hold: mode, links, channels, .. } = &hold.instruct;
    let special = channels.iter().any(|channel| channel.prev_id.is_some() || channel.filters.iter().any(|f| f.asks()));
    mode.is_none() || links.next.is_some() || links.gone.is_some() || hold.rest.is_some() || special
}

/// The reason why a stream is over.
enum StreamEnd {
    /// The client is gone.
    Gone,
    /// The stream ends cleanly, with its end mark.
    Ended,
    /// The stream is cut without an end mark, because its body is incomplete.
    Broken,
}

/// The result of a step of a stream. `Break` holds the reason why the stream is over.
type StreamFlow = ControlFlow<StreamEnd>;

struct LinkedStream<'a> {
    holds: &'a Holds,
    parked: Parked,
    form: StreamForm,
    feed: DeliveryForm,
    about: Requester,
    implicit: Vec<String>,
    rights: Box<Rights>,
    instruct: Instruct,
    pulse: Option<KeepAliveTimer>,
    /// The kind of the body, which decides whether gripd adds comments to it.
    body_kind: StreamBody,
    /// The time at which the keep-alive is due, if there is one.
    pulse_at: Option<Instant>,
    /// The time at which the next link is due, if it has a timeout.
    link_at: Option<Instant>,
    /// The time at which the last refresh was completed.
    refreshed: Option<Instant>,
    /// The last ids of the most recent response in which the origin named other ids than the hub knows for these
    /// channels. A later response whose ids match does not remove them.
    cause: Option<KnownLastIds>,
    /// The channels whose last ids are compared with those of the hub when the next response holds. It is all of them
    /// if the stream is known to have missed an item that was accepted before the stream was subscribed. Such an item
    /// is not among those that wait.
    compare: IdComparison,
    /// The time of the last comparison by which the last ids of the origin differed from those of the hub. The response
    /// to a request that was sent before this time may lack the missed item as well.
    behind_since: Option<Instant>,
    notes: RaceNotes,
}

/// Begins to hold a stream. The returned future is ready when the stream has ended.
pub(super) fn park<'a>(holds: &'a Holds, mut hold: Box<Hold>, transport: Transport, early: &[u8]) -> HoldFuture<'a> {
    let (form, feed) = (stream::form_for(hold.client), stream::feed_of(&hold));
    let ways = ways_of_stream(&hold.instruct);
    // A response without a hold names no channels yet. The stream is subscribed when a later link holds.
    let terms = hold.instruct.hold.map_or_else(Terms::default, |_| hold.terms());
    let (mut parked, behind) = match holds.subscribe(terms.clone(), ways, (transport, early), feed, &mut hold) {
        Ok(subscribed) => subscribed,
        Err(refused) => return refused.end(),
    };
    parked.set_terms(terms, ways);
    // Items wait until the whole body is sent.
    parked.queue_items();
    stream::begin(&mut parked, &hold);
    let rest = hold.rest.take();
    let Hold { instruct, implicit, rights, about, gone, body_kind, .. } = *hold;
    // The gone link of the first response stays in force, whatever later links say.
    let gone = gone.or_else(|| holds.gone(&about, instruct.links.gone.as_deref()));
    let linked = Box::new(LinkedStream {
        holds,
        parked,
        form,
        feed,
        about,
        implicit,
        rights: Box::new(rights),
        instruct,
        pulse: None,
        body_kind,
        pulse_at: None,
        link_at: None,
        refreshed: None,
        cause: None,
        compare: if behind.is_some() { IdComparison::All } else { IdComparison::Entered },
        behind_since: None,
        notes: RaceNotes::default(),
    });
    // The rest of the body is boxed by itself, because it is dropped long before the stream ends.
    Box::pin(linked.run(rest.map(Box::new), gone))
}

/// The knowledge whether a response has sent anything to the client, which counts as a keep-alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ContentSent {
    Something,
    Nothing,
}

impl LinkedStream<'_> {
    async fn run(
        mut self: Box<Self>,
        rest: Option<Box<(Incoming, Lease)>>,
        gone: Option<GoneLinkGuard>,
    ) -> Option<AfterHold> {
        // The guard is dropped when the stream has ended, and requests the gone link then.
        let _gone = gone;
        let ControlFlow::Break(over) = self.live(rest).await;
        match over {
            StreamEnd::Gone => {}
            StreamEnd::Ended => {
                self.parked.set_end_reason(EndReason::Origin);
                // Items that were accepted before the end and still wait are delivered.
                self.parked.resume();
                let _ = Box::pin(self.take_queued()).await;
                let Self { parked, .. } = *self;
                Box::pin(parked.finish()).await;
            }
            StreamEnd::Broken => {
                self.parked.set_end_reason(EndReason::Origin);
                self.parked.cut();
            }
        }
        None
    }

    /// Runs until the stream is over. The rarely used parts are boxed, so that a waiting stream takes little memory.
    async fn live(&mut self, rest: Option<Box<(Incoming, Lease)>>) -> ControlFlow<StreamEnd, std::convert::Infallible> {
        if let Some(rest) = rest {
            Box::pin(self.relay(*rest)).await?;
        }
        self.begin(ContentSent::Something)?;
        if self.compare == IdComparison::All || self.instruct.hold.is_none() {
            Box::pin(self.refresh(Some(Instant::now()))).await?;
        } else {
            self.parked.resume();
        }
        loop {
            while std::mem::take(&mut self.notes.refresh) && !self.notes.closing {
                let since = self.parked.refresh_since().max(self.behind_since);
                Box::pin(self.refresh(since)).await?;
            }
            if self.notes.closing {
                return ControlFlow::Break(StreamEnd::Ended);
            }
            self.arm();
            match self.parked.next().await {
                ParkedEvent::Gone => return ControlFlow::Break(StreamEnd::Gone),
                ParkedEvent::Close => {
                    self.notes.closing = true;
                    Box::pin(self.take_queued()).await?;
                }
                ParkedEvent::Timer => self.tick().await?,
                ParkedEvent::Refresh => self.notes.refresh = true,
                ParkedEvent::Queued => Box::pin(self.take_queued()).await?,
                ParkedEvent::Item(_) | ParkedEvent::Patch(_) | ParkedEvent::Readable => {}
            }
        }
    }

    /// Begins to hold as the current instruct says, and sets the times of the keep-alive and of the link. A body that
    /// was just sent restarts the keep-alive.
    fn begin(&mut self, spoken: ContentSent) -> StreamFlow {
        if let Some(channel) = unlinked(&self.instruct) {
            return self.fail(&format!("channel '{channel}' specifies prev-id, but no next link found"));
        }
        let form = self.form;
        let pulse = self.instruct.keep_alive.as_ref().map(|k| KeepAliveTimer::new(k, form));
        if spoken == ContentSent::Something || pulse != self.pulse {
            self.pulse_at = pulse.as_ref().map(|p| Instant::now() + p.rest(Duration::ZERO, self.holds));
            self.pulse = pulse;
        }
        self.parked.send_comments(self.pulse.is_none() && self.body_kind == StreamBody::Events);
        // These parts of the instruct are in the terms and the pulse by now, so that their copies are freed.
        self.instruct.channels = Vec::new();
        self.instruct.meta = Meta::default();
        self.instruct.keep_alive = None;
        self.schedule_link();
        ControlFlow::Continue(())
    }

    /// Returns the absolute URI of the next link and its timeout. Returns `None` if there is no next link, or if the
    /// link does not refer to an HTTP resource.
    fn next_uri(&self) -> Option<(Uri, Duration)> {
        let NextLink { uri, timeout } = self.instruct.links.next.as_ref()?;
        self.about.resolve(uri).map(|uri| (uri, *timeout))
    }

    fn schedule_link(&mut self) {
        let next = self.next_uri().filter(|(_, period)| !period.is_zero());
        self.link_at = next.map(|(uri, period)| Instant::now() + self.holds.origin.link_wait(&uri, period));
    }

    /// Sets the timer to the next time at which the keep-alive or the link is due.
    fn arm(&mut self) {
        if let Some(at) = self.pulse_at.into_iter().chain(self.link_at).min() {
            self.parked.set_timer(at.saturating_duration_since(Instant::now()));
        }
    }

    async fn tick(&mut self) -> StreamFlow {
        self.beat();
        if self.link_at.is_some_and(|at| at <= Instant::now()) {
            let period = self.instruct.links.next.as_ref().map_or(Duration::ZERO, |next| next.timeout);
            // If a moment at which all channels were known to be active (see `time_since_all_active`) is less than
            // half a period ago, the stream counts as complete, and no request is sent. A client that does not read
            // could not receive the response anyway.
            if self.parked.time_since_all_active() < period / 2 || self.parked.is_blocked() {
                self.schedule_link();
            } else {
                return Box::pin(self.refresh(None)).await;
            }
        }
        ControlFlow::Continue(())
    }

    /// Sends the keep-alive if it is due.
    fn beat(&mut self) {
        beat(self.holds, &mut self.parked, self.pulse.as_ref(), &mut self.pulse_at);
    }

    /// Requests the next link, and then the next link of each response, until a response holds. With `since`, a
    /// response to a request that was sent before that time is too old; without it, a response of a moment ago may be
    /// shared.
    async fn refresh(&mut self, since: Option<Instant>) -> StreamFlow {
        self.parked.queue_items();
        if since.is_some()
            && let Some(refreshed) = self.refreshed
        {
            let pause = self.holds.settings.get().refresh_pause.saturating_sub(refreshed.elapsed());
            self.race(OnClose::GiveUp, sleep(pause)).await?;
        }
        loop {
            // At most one response waits for the client, so a client that does not read cannot make gripd collect
            // more of them.
            if self.parked.is_blocked() && self.parked.wait_for_room(None).await.is_err() {
                return ControlFlow::Break(StreamEnd::Gone);
            }
            let Some((uri, _)) = self.next_uri() else { return ControlFlow::Break(StreamEnd::Ended) };
            // The link of a response without a hold continues it, so an earlier response cannot serve.
            let since = if self.instruct.hold.is_some() { since } else { Some(Instant::now()) };
            let collected = self.ask(&uri, since).await?;
            self.about.uri = uri.to_string();
            self.take(collected).await?;
            if self.instruct.hold.is_some() {
                break;
            }
        }
        self.refreshed = Some(Instant::now());
        if !self.notes.refresh {
            self.parked.resume();
        }
        ControlFlow::Continue(())
    }

    /// Requests a link. A failed request is retried up to [`RETRIES`] times, with increasing pauses. After that the
    /// stream ends.
    async fn ask(&mut self, uri: &Uri, since: Option<Instant>) -> ControlFlow<StreamEnd, CollectedAnswer> {
        for attempt in 0..=RETRIES {
            // A retry must not join the failed request of another stream.
            let since = if attempt == 0 { since } else { Some(Instant::now()) };
            let last_ids = self.parked.last_ids();
            let (holds, about) = (self.holds, self.about.clone());
            let collected = self.race(OnClose::GiveUp, holds.origin.ask_link(&about, uri, &last_ids, since)).await?;
            match collected.and_then(successful) {
                Ok(collected) => return ControlFlow::Continue(collected),
                Err(failure) => {
                    tracing::warn!(
                        uri = %self.about.route.shown(&uri.to_string()),
                        attempt,
                        error = failure.explain(),
                        "the request to a next link failed"
                    )
                }
            }
            if attempt < RETRIES {
                let pause = self.holds.settings.get().link_retry * 2_u32.pow(attempt);
                let pause = pause + self.holds.spread.next().mul_f64(pause.as_secs_f64().min(1.0));
                self.race(OnClose::GiveUp, sleep(pause)).await?;
            }
        }
        self.fail("Failed to retrieve next link.")?;
        ControlFlow::Break(StreamEnd::Ended)
    }

    /// Takes over the instruct of a link's response and sends its body to the client.
    async fn take(&mut self, collected: CollectedAnswer) -> StreamFlow {
        let (instruct, body) = match read(&collected, self.holds.admission.max_channels()) {
            Ok(read) => read,
            Err(why) => {
                tracing::warn!(uri = %self.about.shown(), error = why, "the response of a next link cannot be used");
                return self.fail(&why);
            }
        };
        self.instruct = instruct;
        let holds = self.instruct.hold.is_some();
        if holds {
            self.know_user();
            let admission = &self.holds.admission;
            if let Err(NotAdmitted { channel, refusal }) =
                admission.admit(&self.about.route, &self.rights, self.instruct.names())
            {
                tracing::warn!(uri = %self.about.shown(), channel, %refusal, "the response of a next link cannot be used");
                return self.fail("The response of the next link names a channel that the client may not hold.");
            }
            self.join()?;
        }
        self.send(&body);
        if let Some(rest) = collected.rest {
            self.relay(rest).await?;
        }
        let spoken = if body.is_empty() { ContentSent::Nothing } else { ContentSent::Something };
        if holds { self.begin(spoken) } else { ControlFlow::Continue(()) }
    }

    /// Learns the user of the stream from the meta of the first response that holds and names one.
    fn know_user(&mut self) {
        let route = &self.about.route;
        if self.rights.user.is_some() {
            return;
        }
        let Some(rights) = route.users.as_ref().and_then(|users| users.rights_by(&self.instruct.meta)) else { return };
        self.implicit.extend(rights.own_channel(&route.prefix));
        *self.rights = rights;
        self.parked.identify(&Profile::new(&route.name, &self.rights, self.about.client));
    }

    /// Subscribes the stream to the channels of the instruct, on their terms, and unsubscribes it from those that only
    /// earlier instructs named. The implicit channels stay, and so do the changes that publishers have made. For
    /// channels that were held before, the last ids need no comparison, since the missed items are among those that
    /// wait.
    fn join(&mut self) -> StreamFlow {
        let terms = terms(&self.instruct, &self.about.route.prefix, &self.implicit);
        self.parked.set_terms(terms, ways_of_stream(&self.instruct));
        let compare = std::mem::replace(&mut self.compare, IdComparison::Entered);
        let known = match self.parked.follow_terms(compare) {
            Ok(Some(known)) => known,
            Ok(None) => return ControlFlow::Continue(()),
            Err(denied) => {
                self.holds.admission.note_denied(&denied);
                tracing::info!(uri = %self.about.shown(), %denied, "a stream was ended");
                self.parked.set_end_reason(EndReason::Kicked);
                return ControlFlow::Break(StreamEnd::Ended);
            }
        };
        let cause = Some(KnownLastIds(known));
        // If the origin names the same ids again, they are right, and the stream does not ask a third time.
        self.notes.refresh |= self.cause != cause;
        self.behind_since = Some(Instant::now());
        self.compare = compare;
        self.cause = cause;
        ControlFlow::Continue(())
    }

    /// Sends the rest of a body that is too large to be kept in memory, as fast as the client reads.
    async fn relay(&mut self, (mut incoming, lease): (Incoming, Lease)) -> StreamFlow {
        let mut pace = Pace::new(self.holds.settings.get().answer_pace);
        loop {
            let frame = match self.race(OnClose::Wait, incoming.frame()).await {
                ControlFlow::Continue(Some(frame)) => frame,
                ControlFlow::Continue(None) => break,
                // A body that breaks off must not be followed by an end mark, which would make it look complete.
                ControlFlow::Break(StreamEnd::Gone) => return ControlFlow::Break(StreamEnd::Gone),
                ControlFlow::Break(_) => return ControlFlow::Break(StreamEnd::Broken),
            };
            let length = frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, Bytes::len);
            match frame {
                Ok(frame) => self.send(&frame.into_data().unwrap_or_default()),
                Err(error) => {
                    tracing::warn!(uri = %self.about.shown(), %error, "the origin's response ended before it was complete");
                    return ControlFlow::Break(StreamEnd::Broken);
                }
            }
            // Until the client has read, its slowness keeps a connection to the origin occupied. The time is recorded
            // so that waiting requests can take the connection.
            lease.delay().begin_wait();
            let has_room = self.parked.wait_for_room(Some(&mut pace)).await;
            lease.delay().finish_wait(length);
            if has_room.is_err() {
                return ControlFlow::Break(StreamEnd::Gone);
            }
        }
        lease.finish();
        ControlFlow::Continue(())
    }

    /// Decides the waiting items one by one. If the filters of an item ask a URL, the response to that request decides.
    async fn take_queued(&mut self) -> StreamFlow {
        loop {
            let asked = match self.parked.take_next_item() {
                PendingDecision::Empty => return ControlFlow::Continue(()),
                PendingDecision::Decided => continue,
                PendingDecision::Ask(asked) => asked,
            };
            let content = asked.item.content(self.feed);
            let Some(terms) = self.parked.terms(Clone::clone) else { return ControlFlow::Continue(()) };
            let (holds, about) = (self.holds, self.about.clone());
            let filtered = holds.origin.filter(&about, terms.passage(&asked.item), content);
            match self.race(OnClose::Wait, filtered).await? {
                Some(content) => self.parked.deliver_pending(asked, Some(content)),
                None => self.parked.skip_pending(&asked),
            }
        }
    }

    /// Waits for `asked`, while the keep-alive goes on and events of the connection are noted. Breaks if the
    /// connection ends first.
    async fn race<T>(&mut self, on_close: OnClose, asked: impl Future<Output = T>) -> ControlFlow<StreamEnd, T> {
        let Self { holds, parked, pulse, pulse_at, notes, .. } = self;
        if let Some(at) = *pulse_at {
            parked.set_timer(at.saturating_duration_since(Instant::now()));
        }
        let done = race(parked, notes, on_close, asked, |parked| {
            if let Some(at) = beat(holds, parked, pulse.as_ref(), pulse_at) {
                parked.set_timer(at.saturating_duration_since(Instant::now()));
            }
            ControlFlow::Continue(())
        });
        match done.await {
            Some(done) => ControlFlow::Continue(done),
            None if self.notes.gone => ControlFlow::Break(StreamEnd::Gone),
            None => ControlFlow::Break(StreamEnd::Ended),
        }
    }

    fn send(&mut self, content: &[u8]) {
        if !content.is_empty() {
            self.parked.send([Chunk::new(content).select(self.form).clone()]);
        }
    }

    /// Ends the stream because of an error. The client receives the text `why` if debugging is on.
    fn fail(&mut self, why: &str) -> StreamFlow {
        if self.holds.explains(&self.about) {
            self.send(format!("\n\n{why}\n").as_bytes());
        }
        ControlFlow::Break(StreamEnd::Ended)
    }
}

/// Sends the keep-alive if it is due. Returns the time at which the next one is due, if there is a keep-alive.
fn beat(
    holds: &Holds,
    parked: &mut Parked,
    pulse: Option<&KeepAliveTimer>,
    at: &mut Option<Instant>,
) -> Option<Instant> {
    if let Some(pulse) = pulse
        && at.is_some_and(|at| at <= Instant::now())
    {
        *at = Some(Instant::now() + pulse.send_if_due(parked, holds));
    }
    *at
}
