//! Holds: connections that wait for items, as a long-poll or as a stream.

mod linked;
mod patching;
mod pulse;
mod race;
mod response;
mod stream;
mod terms;

use crate::admission::Admission;
use crate::grip::item::Id;
use crate::grip::{Channel, HoldMode, Instruct, Rights};
use crate::hub::Membership;
use crate::net::{Limits, Transport};
use crate::origin::{Asking, Gone, Lease, Origin, Turn};
use crate::shard::{Away, Denied, Feed, Parked, Profile, Shard, Spread, Terms, Ways};
use crate::wire::answer::DENIED;
use crate::wire::{AnswerHead, Framing, Head, Jsonp, Persistence};
use bytes::Bytes;
use hyper::Version;
use hyper::body::Incoming;
use patching::PatchTurns;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

/// The limits of holds.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long after one refresh of a connection the next may begin, and a long-poll is asked again.
    pub refresh_pause: Duration,
    /// How long after a failure a link is asked again, the first time; then twice as long each time.
    pub link_retry: Duration,
    /// How slowly a client may read an answer that is too large to be kept.
    pub answer_pace: Limits,
    /// Whether every route tells its clients why a hold ended.
    pub debug: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            refresh_pause: Duration::from_millis(100),
            link_retry: Duration::from_secs(1),
            answer_pace: Limits::default(),
            debug: false,
        }
    }
}

/// A connection to hold, and the origin's answer to begin or to end it with.
#[derive(Debug)]
pub struct Hold {
    /// How.
    pub mode: HoldMode,
    /// The instruct of the answer. One that does not hold makes a stream that goes on at its next link.
    pub instruct: Instruct,
    /// Channels that its target has it hold as well, whatever the answer asked for.
    pub implicit: Vec<String>,
    /// The answer's head.
    pub head: Head,
    /// The body of the origin's response. A stream starts with it; a long-poll receives it on timeout.
    pub body: Bytes,
    /// The rest of a stream's body, if it is too large to be kept.
    pub rest: Option<(Incoming, Lease)>,
    /// How the answer to a long-poll is wrapped up.
    pub jsonp: Option<Jsonp>,
    /// The properties of the client's request that decide how it must be answered.
    pub client: Client,
    /// The rights of the client.
    pub rights: Rights,
    /// On whose behalf the origin is asked again.
    pub about: Asking,
    /// The request of a long-poll, to be read again.
    pub request: Box<[u8]>,
    /// The last ids that made this a retry.
    pub cause: Option<Cause>,
    /// The guard that tells the origin when the client is gone, if an earlier answer asked for it.
    pub gone: Option<Gone>,
    /// The connection as it was held before its request was served again.
    pub away: Option<Away>,
}

/// A connection that leaves hyper.
#[derive(Debug)]
pub enum Leave {
    /// It is to be held.
    Hold(Box<Hold>),
    /// A close met it while its request was served again: it is answered as when its time is over, and ends.
    End(Box<FinalAnswer>),
}

/// The answer to a long-poll that a close meets while its request is served again.
#[derive(Debug)]
pub struct FinalAnswer {
    /// The answer's head.
    pub head: Head,
    /// The answer's body.
    pub body: Bytes,
    /// The properties of the client's request that decide how it must be answered.
    pub client: Client,
    /// The connection, which is to end.
    pub away: Away,
}

/// The properties of a client's request that decide how it must be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The version of HTTP that it speaks. HTTP/1.0 has no chunks, and its connection ends with the answer.
    pub version: Version,
    /// It sent a `HEAD` request: no body.
    pub head_only: bool,
    /// The connection may serve another request after this one.
    pub persistent: bool,
}

/// The way on of a connection that is held no longer.
#[derive(Debug)]
pub enum After {
    /// It may serve another request; this is what the client sent meanwhile.
    Next(Transport, Bytes),
    /// Its request is to be served again, which is what there is to be read from it first.
    Again(Transport, Bytes, Box<Retry>),
}

/// A request that is served again.
#[derive(Debug)]
pub struct Retry {
    /// Its route.
    pub about: Asking,
    /// The last ids that the client has had of its channels.
    pub last_ids: Vec<(String, Id)>,
    /// Why, if that matters to the hold that comes of it.
    pub cause: Option<Cause>,
    /// The permit to send a request to the origin, held until the origin has responded.
    pub turn: Turn,
    /// The connection, which a close may still find, and what it is answered then.
    pub final_answer: Option<Box<FinalAnswer>>,
    /// The guard that tells the origin when the client is gone.
    pub gone: Option<Gone>,
}

/// The last ids that an origin named while others were known here. If it names them again, they count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause(Vec<(Channel, Id)>);

/// A connection that may not be held, and was told so.
struct Refused(Parked);

/// A held connection; yields what becomes of it, if there is anything left of it.
pub type Waiting<'a> = Pin<Box<dyn Future<Output = Option<After>> + 'a>>;

/// The parts of a shard that holds need.
pub struct Holds {
    settings: Settings,
    shard: Rc<Shard>,
    membership: Membership,
    admission: Rc<Admission>,
    origin: Rc<Origin>,
    spread: Spread,
    /// Turns to patch the answers of long-polls.
    patching: PatchTurns,
}

impl Holds {
    /// Returns the holds of one shard.
    pub fn new(
        settings: Settings,
        shard: Rc<Shard>,
        membership: Membership,
        admission: Rc<Admission>,
        origin: Rc<Origin>,
    ) -> Self {
        Self { settings, shard, membership, admission, origin, spread: Spread::default(), patching: PatchTurns::new() }
    }

    /// Returns the limits.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Begins to hold a connection. The returned future waits until the hold ends, or until the connection may serve
    /// another request. `early` is what the client has sent after its request.
    ///
    /// Everything that can be done now is done now, so that the future is small: most connections do nothing but wait.
    pub fn park(&self, leave: Leave, transport: Transport, early: Bytes) -> Waiting<'_> {
        let mut hold = match leave {
            Leave::End(final_answer) => return Box::pin(final_answer.end(transport)),
            Leave::Hold(hold) => hold,
        };
        match hold.mode {
            HoldMode::Response => response::park(self, hold, transport, &early),
            HoldMode::Stream if linked::is_needed(&hold) => linked::park(self, hold, transport, &early),
            HoldMode::Stream => stream::park(self, &mut hold, transport, &early),
        }
    }

    /// Parks a connection and subscribes it on its terms, before a byte of the answer leaves. `ways`: what its hold
    /// does about items, if that is anything. Also says what its origin names, if something else is known.
    ///
    /// # Errors
    /// It may not hold what it would, and was told so. Its end is to be waited for.
    fn subscribe(
        &self,
        terms: Terms,
        ways: Ways,
        (transport, early): (Transport, &[u8]),
        feed: Feed,
        hold: &mut Hold,
    ) -> Result<(Parked, Option<Cause>), Refused> {
        let whose = Profile::new(&hold.about.route.name, &hold.rights, hold.about.client);
        let mut parked = match hold.away.take() {
            Some(away) => away.back(transport, early, feed, &whose),
            None => Parked::new(&self.shard, transport, early, feed, &whose),
        };
        if ways != Ways::default() || !terms.are_plain() || parked.is_on_terms() {
            parked.agree(terms.clone(), ways);
        }
        // A publisher may have had it go elsewhere.
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
        Ok((parked, joined.behind.then_some(Cause(known))))
    }

    /// Returns a guard that tells the origin, when it is dropped, that the client is gone; if the origin wants to know.
    fn gone(&self, about: &Asking, link: Option<&str>) -> Option<Gone> {
        let uri = about.resolve(link?)?;
        Some(Gone::new(Rc::clone(&self.origin), about.clone(), uri))
    }

    /// Returns whether clients of a route are told why their hold ended.
    fn explains(&self, about: &Asking) -> bool {
        self.settings.debug || about.route.debug
    }
}

impl fmt::Debug for Holds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holds").field("shard", &self.shard).finish_non_exhaustive()
    }
}

/// Says that a channel is denied to a client that has left hyper already.
fn refuse(mut parked: Parked, denied: &Denied, hold: &Hold) -> Refused {
    tracing::info!(uri = %hold.about.shown(), %denied, "a hold was refused");
    parked.refuse();
    answer(&mut parked, &DENIED.head(), &DENIED.body().into(), hold.client, Persistence::Close);
    Refused(parked)
}

impl Refused {
    /// Waits until the connection has ended.
    fn end(self) -> Waiting<'static> {
        Box::pin(async move {
            self.0.finish().await;
            None
        })
    }
}

/// Sends a whole answer: head and body as the client must get it. The body is not copied: it may be everybody's.
fn answer(parked: &mut Parked, head: &Head, body: &Bytes, client: Client, persistence: Persistence) {
    let framing = if head.has_body() { Framing::Length(body.len()) } else { Framing::None };
    let sent = if head.has_body() && !client.head_only { body.clone() } else { Bytes::new() };
    parked.begin(&AnswerHead { head, version: client.version, framing, persistence }, sent);
    parked.flush();
}
