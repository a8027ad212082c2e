//! Holds: connections that wait for published items, either as a stream or as a long-poll.

mod keep_alive_timer;
mod link_response;
mod linked;
mod patch_turns;
mod race;
mod response;
mod stream;
mod terms;

use crate::admission::Admission;
use crate::grip::item::ItemId;
use crate::grip::{Channel, HoldMode, Instruct, Rights, is_media_type};
use crate::hub::MembershipReport;
use crate::net::{PaceLimits, Transport};
use crate::origin::{GoneLinkGuard, Lease, OriginClient, OwnRequestPermit, Requester};
use crate::shard::{
    AwayConnection, DeliveryForm, DeniedChannel, ItemHandling, Parked, Profile, Shard, Terms, TimerSpread,
};
use crate::wire::answer::DENIED;
use crate::wire::{AnswerHead, Framing, JsonpWrapper, Persistence, ResponseHead};
use bytes::Bytes;
use hyper::Version;
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use patch_turns::PatchTurns;
use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

/// The limits of holds.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The pause after a refresh of a connection before the next one may begin. A long-poll waits as long before its
    /// request is served again.
    pub refresh_pause: Duration,
    /// The pause before the first retry of a failed request to a next link. Each further pause is twice as long.
    pub link_retry: Duration,
    /// The slowest pace at which a client may read a response that is too large to be kept in memory.
    pub answer_pace: PaceLimits,
    /// Whether clients of all routes receive a text that says why their hold has ended because of an error.
    pub debug: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            refresh_pause: Duration::from_millis(100),
            link_retry: Duration::from_secs(1),
            answer_pace: PaceLimits::default(),
            debug: false,
        }
    }
}

/// A connection to hold, and the origin's response that begins a stream or ends a long-poll on timeout.
#[derive(Debug)]
pub struct Hold {
    /// The mode of the hold: a stream or a response (a long-poll).
    pub mode: HoldMode,
    /// The instruct of the response. An instruct with a next link but without a hold begins a stream that continues
    /// with the response of that link.
    pub instruct: Instruct,
    /// The full names of the channels that the connection holds independently of the origin's response.
    pub implicit: Vec<String>,
    /// The head of the origin's response, as the client receives it.
    pub head: ResponseHead,
    /// The body of the origin's response. A stream starts with it; a long-poll receives it on timeout.
    pub body: Bytes,
    /// The kind of the body, for a stream.
    pub body_kind: StreamBody,
    /// The remaining part of a stream's body that is too large to be kept in memory.
    pub rest: Option<(Incoming, Lease)>,
    /// The JSON-P script in which the response of a long-poll is wrapped, if the request asked for one.
    pub jsonp: Option<JsonpWrapper>,
    /// The properties of the client's request that decide how it must be answered.
    pub client: ClientTraits,
    /// The rights of the client.
    pub rights: Rights,
    /// The client and the route on whose behalf the origin is asked again.
    pub about: Requester,
    /// The bytes of a long-poll's request, from which the request can be served again.
    pub request: Box<[u8]>,
    /// The last ids because of which the request was served again. `None` if it was served again for another reason,
    /// such as a hint, or was not served again.
    pub cause: Option<KnownLastIds>,
    /// The guard that requests the gone link when the hold ends, if an earlier response named such a link.
    pub gone: Option<GoneLinkGuard>,
    /// The connection as it was held before its request was served again, if it was.
    pub away: Option<AwayConnection>,
}

/// The kind of the body to which a stream appends items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamBody {
    /// Bytes of any kind.
    Bytes,
    /// Server-sent events (`text/event-stream`) without a content coding, so that gripd can add events and comments.
    Events,
}

impl StreamBody {
    /// Returns the kind of the body that these headers describe.
    pub fn of(headers: &HeaderMap) -> Self {
        let is_events = |value: &HeaderValue| is_media_type(value.as_bytes(), "text/event-stream");
        let is_plain = headers.get(CONTENT_TYPE).is_some_and(is_events) && !headers.contains_key(CONTENT_ENCODING);
        if is_plain { Self::Events } else { Self::Bytes }
    }
}

/// The reason why a connection leaves hyper.
#[derive(Debug)]
pub enum LeavingConnection {
    /// The connection is to be held.
    Hold(Box<Hold>),
    /// The end of a long-poll has begun while its request was served again: because of a close or a drain, or because
    /// the token of its client expired. It receives the response of a timeout, and the connection ends.
    End(Box<FinalAnswer>),
}

/// The response to a long-poll that is ended while its request is served again.
#[derive(Debug)]
pub struct FinalAnswer {
    /// The head of the response.
    pub head: ResponseHead,
    /// The body of the response.
    pub body: Bytes,
    /// The properties of the client's request that decide how it must be answered.
    pub client: ClientTraits,
    /// The connection, which is to end.
    pub away: AwayConnection,
}

/// The properties of a client's request that decide how it must be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientTraits {
    /// The HTTP version of the client. HTTP/1.0 has no chunked coding, so the end of a response is the end of the
    /// connection.
    pub version: Version,
    /// Whether the request is a `HEAD` request, whose response has no body.
    pub head_only: bool,
    /// Whether the connection may serve another request after this one.
    pub persistent: bool,
}

/// The use of a connection that is no longer held and has not ended.
#[derive(Debug)]
pub enum AfterHold {
    /// The connection may serve another request. The bytes are those that the client has sent while it was held.
    Next(Transport, Bytes),
    /// The request of the connection is to be served again. The bytes begin with that request and continue with what
    /// the client has sent since.
    Again(Transport, Bytes, Box<ServedAgain>),
}

/// A request that is to be served again.
#[derive(Debug)]
pub struct ServedAgain {
    /// The client and the route on whose behalf the origin is asked.
    pub about: Requester,
    /// The ids of the last items that the client has received, by the channel names that the origin uses.
    pub last_ids: Vec<(String, ItemId)>,
    /// The last ids that differ from those of the hub, if this is why the request is served again. They are compared
    /// with the next response.
    pub cause: Option<KnownLastIds>,
    /// The permit to send a request to the origin, held until the origin has responded.
    pub turn: OwnRequestPermit,
    /// The response that is sent if a close or a drain ends the connection while the request is served again. The
    /// value also contains the held connection, which keeps its channels during that time.
    pub final_answer: Option<Box<FinalAnswer>>,
    /// The guard that requests the gone link when it is dropped, if the origin has named one.
    pub gone: Option<GoneLinkGuard>,
}

/// The last ids that an origin has named although the hub knows other ids. If the origin names them a second time,
/// they are taken as correct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownLastIds(Vec<(Channel, ItemId)>);

/// A connection that may not be held, and has been sent the response that says so.
struct RefusedConnection(Parked);

/// The future of a held connection. It yields the further use of the connection, or `None` if the connection has
/// ended.
pub type HoldFuture<'a> = Pin<Box<dyn Future<Output = Option<AfterHold>> + 'a>>;

/// The settings and the parts of a shard that its holds need.
pub struct Holds {
    settings: Cell<Settings>,
    shard: Rc<Shard>,
    membership: MembershipReport,
    admission: Rc<Admission>,
    origin: Rc<OriginClient>,
    spread: TimerSpread,
    /// The turns of long-polls to have the held response patched.
    patching: PatchTurns,
}

impl Holds {
    /// Returns the value with which one shard holds its connections.
    pub fn new(
        settings: Settings,
        shard: Rc<Shard>,
        membership: MembershipReport,
        admission: Rc<Admission>,
        origin: Rc<OriginClient>,
    ) -> Self {
        Self {
            settings: Cell::new(settings),
            shard,
            membership,
            admission,
            origin,
            spread: TimerSpread::default(),
            patching: PatchTurns::new(),
        }
    }

    /// Replaces the limits.
    pub fn change_settings(&self, settings: Settings) {
        self.settings.set(settings);
    }

    /// Begins to hold a connection. The returned future waits until the hold ends, or until the connection may serve
    /// another request. `early` is what the client has sent after its request.
    ///
    /// Everything that can be done at once is done before the future is returned. The future is therefore small,
    /// which matters because most held connections only wait.
    pub fn park(&self, leave: LeavingConnection, transport: Transport, early: Bytes) -> HoldFuture<'_> {
        let mut hold = match leave {
            LeavingConnection::End(final_answer) => return Box::pin(final_answer.end(transport)),
            LeavingConnection::Hold(hold) => hold,
        };
        match hold.mode {
            HoldMode::Response => response::park(self, hold, transport, &early),
            HoldMode::Stream if linked::is_needed(&hold) => linked::park(self, hold, transport, &early),
            HoldMode::Stream => stream::park(self, &mut hold, transport, &early),
        }
    }

    /// Parks a connection and subscribes it on its terms, before the first byte of a response is sent. `ways` says
    /// what the hold itself does with items. If the origin has named last ids other than those of the hub, they are
    /// returned as well.
    ///
    /// # Errors
    /// A channel is denied to the client, which has been sent the response 403. The end of the connection is still to
    /// be waited for.
    fn subscribe(
        &self,
        terms: Terms,
        ways: ItemHandling,
        (transport, early): (Transport, &[u8]),
        feed: DeliveryForm,
        hold: &mut Hold,
    ) -> Result<(Parked, Option<KnownLastIds>), RefusedConnection> {
        let profile = Profile::new(&hold.about.route.name, &hold.rights, hold.about.client);
        let mut parked = match hold.away.take() {
            Some(away) => away.resume_hold(transport, early, feed, &profile),
            None => Parked::new(&self.shard, transport, early, feed, &profile),
        };
        if ways != ItemHandling::default() || !terms.are_plain() || parked.is_on_terms() {
            parked.set_terms(terms.clone(), ways);
        }
        // A publisher may have moved the connection to other channels while its request was served again.
        let terms = parked.terms(Clone::clone).unwrap_or(terms);
        let channels: Vec<Channel> = terms.held().map(|term| term.channel.clone()).collect();
        let known = terms.known(|_| true);
        let joined = match parked.subscribe(&channels, &known) {
            Ok(joined) => joined,
            Err(denied) => {
                self.admission.note_denied(&denied);
                return Err(refuse(parked, &denied, hold));
            }
        };
        Ok((parked, joined.behind.then_some(KnownLastIds(known))))
    }

    /// Returns a guard that requests the gone link when it is dropped. Returns `None` if there is no such link, or if
    /// the link does not refer to an HTTP resource.
    fn gone(&self, about: &Requester, link: Option<&str>) -> Option<GoneLinkGuard> {
        let uri = about.resolve(link?)?;
        Some(GoneLinkGuard::new(Rc::clone(&self.origin), about.clone(), uri))
    }

    /// Returns whether clients of the route receive a text that says why their hold has ended.
    fn explains(&self, about: &Requester) -> bool {
        self.settings.get().debug || about.route.debug
    }
}

impl fmt::Debug for Holds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holds").field("shard", &self.shard).finish_non_exhaustive()
    }
}

/// Refuses a hold because a channel is denied. The connection has left hyper already, so the response is written
/// here.
fn refuse(mut parked: Parked, denied: &DeniedChannel, hold: &Hold) -> RefusedConnection {
    tracing::info!(uri = %hold.about.shown(), %denied, "a hold was refused");
    parked.refuse();
    answer(&mut parked, &DENIED.head(), &DENIED.body().into(), hold.client, Persistence::Close);
    RefusedConnection(parked)
}

impl RefusedConnection {
    /// Waits until the connection has ended.
    fn end(self) -> HoldFuture<'static> {
        Box::pin(async move {
            self.0.finish().await;
            None
        })
    }
}

/// Sends a whole response. The bytes of a large body are shared and not copied, because many long-polls may receive the
/// same body. [`Parked::begin`] copies only a small body, into one piece with the head.
fn answer(parked: &mut Parked, head: &ResponseHead, body: &Bytes, client: ClientTraits, persistence: Persistence) {
    let framing = if head.has_body() { Framing::Length(body.len()) } else { Framing::None };
    let sent = if head.has_body() && !client.head_only { body.clone() } else { Bytes::new() };
    parked.begin(&AnswerHead { head, version: client.version, framing, persistence }, sent);
    parked.flush();
}
