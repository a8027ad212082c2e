//! WebSocket over HTTP: a WebSocket whose origin gets its events in the bodies of HTTP requests. The requests of one
//! WebSocket are sent one after the other.

use super::rewrite::listed_in_connection;
use super::{
    BodySource, FailedRequest, Failure, FailureKind, Lane, MAX_BODY, OriginAnswer, OriginClient, OriginRequest,
    OwnRequestPermit, RequestBody, RequestPurpose, Requester, collect,
};
use crate::grip::Meta;
use crate::grip::event::{MEDIA_TYPE, SocketEvent, is_events, read_all};
use crate::grip::meta::{MAX_BYTES, size_with};
use crate::route::{Route, Target, TargetPlace};
use crate::wire::{HeaderLines, RequestSender};
use aws_lc_rs::rand;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderMap, HeaderName,
    HeaderValue, RANGE, SEC_WEBSOCKET_EXTENSIONS, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode, Uri};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::sleep;

/// The number of times that [`OverHttpConversation::ask`] sends a request again if the origin cannot have received it.
/// The first pause is one second, and each further pause is twice as long. A random time of up to one second is added
/// to each pause.
const RETRIES: u32 = 5;
/// The largest number of requests that ask an origin to accept a WebSocket, if the origin keeps postponing its
/// decision.
const MAX_OPENS: u32 = 30;
/// The largest number of names in the metadata that an origin may set for one WebSocket.
const MAX_META: usize = 64;

const INTERVAL: HeaderName = HeaderName::from_static("keep-alive-interval");
const ACCEPTED: HeaderName = HeaderName::from_static("content-bytes-accepted");
const CONNECTION_ID: HeaderName = HeaderName::from_static("connection-id");
const SET_META: &str = "set-meta-";

/// gripd's side of the exchange about one WebSocket: it sends the client's events to the origin. If it is dropped
/// while it is open, the origin gets a `DISCONNECT` event.
#[derive(Debug)]
pub struct OverHttpConversation {
    origin: Rc<OriginClient>,
    about: Rc<Requester>,
    /// The index of the route's target to which the requests go.
    target: usize,
    /// The headers of the client's handshake that are sent with each request. They are stored in a compact form,
    /// because they are kept as long as the WebSocket lives.
    fields: HeaderLines,
    /// The address that the handshake was sent from.
    peer: Option<IpAddr>,
    sender: RequestSender,
    id: [u8; 16],
    /// The metadata that the origin has set with `Set-Meta-*` headers. It is sent back with each request in `Meta-*`
    /// headers. The names are in lower case.
    meta: BTreeMap<Box<str>, HeaderValue>,
    /// Whether the origin must be told about the end of the WebSocket, because it may have accepted the WebSocket and
    /// does not know about the end yet.
    open: bool,
}

/// The content of one response of an origin: its events, and the headers that control the exchange.
#[derive(Debug, Default)]
pub struct OverHttpReply {
    /// The events in the body of the response, in their order.
    pub events: Vec<SocketEvent>,
    /// The number of content bytes of the request that the origin has accepted (`Content-Bytes-Accepted`), or `None`
    /// if it has accepted all of them.
    pub accepted: Option<usize>,
    /// The time after which the next request is sent even if there are no events (`Keep-Alive-Interval`). `None`
    /// leaves it unchanged, and zero turns such requests off.
    pub interval: Option<Duration>,
}

/// The outcome of asking an origin to accept a WebSocket.
pub(super) enum OpenResult {
    /// The origin has accepted the WebSocket.
    Accepted {
        /// The conversation that carries the events of the WebSocket.
        conversation: Box<OverHttpConversation>,
        /// The head of the response that accepts the WebSocket.
        head: hyper::http::response::Parts,
        /// The content of the response that accepts the WebSocket. Its first event is `OPEN`.
        reply: OverHttpReply,
    },
    /// The origin has refused the WebSocket with this response.
    Refused(OriginAnswer),
}

impl OverHttpConversation {
    /// Returns a conversation for a client's handshake. No request is sent yet.
    pub(super) fn new(
        origin: Rc<OriginClient>,
        origin_request: &OriginRequest<'_>,
        about: Rc<Requester>,
        target: usize,
    ) -> Self {
        let fields = kept(&origin_request.request.headers, origin_request.route, origin_request.sender);
        let (peer, sender) = (origin_request.peer, origin_request.sender);
        let (id, meta) = (connection_id(), BTreeMap::new());
        Self { origin, about, target, fields, peer, sender, id, meta, open: false }
    }

    /// Asks the origin to accept the WebSocket. An origin that sends no event but an interval is asked again after
    /// that interval. If the origin still has not decided after [`MAX_OPENS`] requests, an error is returned.
    pub(super) async fn open(mut self) -> Result<OpenResult, FailedRequest> {
        self.open = true;
        for _ in 0..MAX_OPENS {
            let answered = match self.send(event(&SocketEvent::Open), 0).await {
                Ok(answered) => answered,
                Err(lost) => {
                    self.open &= !lost.unsent;
                    return Err(lost);
                }
            };
            if let Err(refused) = accepts(answered.head.status, &answered.head.headers) {
                self.open = false;
                tracing::debug!(uri = %self.about.shown(), why = refused, "the origin does not accept the WebSocket");
                return Ok(OpenResult::Refused(answered));
            }
            let (head, reply) = self.read(answered).await.map_err(FailedRequest::sent)?;
            match (reply.events.first(), reply.interval) {
                (Some(SocketEvent::Open), _) => {
                    return Ok(OpenResult::Accepted { conversation: Box::new(self), head, reply });
                }
                (None, Some(interval)) if !interval.is_zero() => sleep(interval).await,
                (None, _) => return Err(unusable("the response neither accepts nor refuses the WebSocket")),
                (Some(_), _) => return Err(unusable("the first event of the response is not OPEN")),
            }
        }
        Err(FailedRequest::sent(Failure::new(FailureKind::TimedOut)))
    }

    /// Sends events and reads the response. `replayed` is the number of their content bytes that were sent to the
    /// origin before. If the origin cannot have received the events, they are sent again after a pause, a limited
    /// number of times.
    ///
    /// # Errors
    /// There is no response, or it cannot be used. The error says why.
    pub async fn ask(&mut self, body: Vec<u8>, replayed: usize) -> Result<OverHttpReply, Failure> {
        for attempt in 0.. {
            let lost = match self.send(body.clone(), replayed).await {
                Ok(answered) => {
                    if let Err(why) = accepts(answered.head.status, &answered.head.headers) {
                        return Err(Failure::because(FailureKind::Unusable, why));
                    }
                    return Ok(self.read(answered).await?.1);
                }
                Err(lost) => lost,
            };
            if !lost.unsent || attempt >= RETRIES {
                return Err(lost.failure);
            }
            tracing::warn!(
                uri = %self.about.shown(),
                attempt,
                error = lost.failure.explain(),
                "events could not be sent to the origin"
            );
            let mut spread = [0; 2];
            // A random part of the pause spreads the requests of many conversations. Without random bytes these
            // requests come at the same time, which is not an error.
            let _ = rand::fill(&mut spread);
            sleep(Duration::from_millis(1000 * 2_u64.pow(attempt) + u64::from(u16::from_ne_bytes(spread) / 66))).await;
        }
        Err(Failure::new(FailureKind::Unreachable))
    }

    /// Returns a future that waits for a turn to send a request to the origin. Two kinds of requests need a turn, which
    /// limits how many of them are in progress at the same time: those that only ask the origin for its events, and
    /// the last ones about a client that has left. Events of a client that is still there are sent without a turn.
    pub fn turn(&self, lane: Lane) -> impl Future<Output = OwnRequestPermit> + 'static {
        let (origin, about) = (Rc::clone(&self.origin), Rc::clone(&self.about));
        async move { origin.turn(lane, &about, &about.route).await }
    }

    /// Ends the conversation without a `DISCONNECT` event, because the origin already knows that the WebSocket has
    /// ended.
    pub fn close(mut self) {
        self.open = false;
    }

    /// Returns whether each request may carry only one event.
    pub fn one_event(&self) -> bool {
        self.chosen().one_event
    }

    /// Returns the target to which the requests go.
    fn chosen(&self) -> &Target {
        &self.about.route.targets[self.target]
    }

    async fn send(&self, body: Vec<u8>, replayed: usize) -> Result<OriginAnswer, FailedRequest> {
        let target = self.chosen();
        let TargetPlace::Address(address) = &target.place else {
            return Err(unusable("the target 'test' cannot receive WebSocket-over-HTTP requests"));
        };
        let request = self.request(body.len(), replayed).map_err(FailedRequest::unsent)?;
        let origin_request = OriginRequest {
            route: &self.about.route,
            request: &request,
            peer: self.peer,
            client: self.about.client.or(self.peer),
            peer_text: None,
            way: None,
            waiting: None,
            secure: self.about.secure,
            sender: self.sender,
            internal: false,
            purpose: RequestPurpose::Events,
            last_ids: &[],
        };
        let (response, lease) =
            self.origin.send_to(&origin_request, target, address, RequestBody::of(body.into())).await?;
        let (head, incoming) = response.into_parts();
        Ok(OriginAnswer { head, body: BodySource::Incoming(incoming, lease), target: self.target })
    }

    /// Returns the head of a request with a body of `length` bytes, as Pushpin builds it.
    fn request(&self, length: usize, replayed: usize) -> Result<Parts, Failure> {
        let unaskable = |error: hyper::http::Error| Failure::because(FailureKind::Unusable, error);
        let uri: Uri = self.about.uri.parse().map_err(|e| Failure::because(FailureKind::Unusable, e))?;
        let (mut parts, ()) =
            Request::builder().method(Method::POST).uri(uri).body(()).map_err(unaskable)?.into_parts();
        let headers = &mut parts.headers;
        for (name, value) in self.fields.iter() {
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                headers.append(name, value);
            }
        }
        headers.insert(ACCEPT, HeaderValue::from_static(MEDIA_TYPE));
        if let Ok(id) = HeaderValue::try_from(uuid(self.id)) {
            headers.insert(CONNECTION_ID, id);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        headers.insert(CONTENT_LENGTH, length.into());
        if replayed > 0 {
            headers.insert(HeaderName::from_static("content-bytes-replayed"), replayed.into());
        }
        for (name, value) in &self.meta {
            if let Ok(name) = HeaderName::try_from(format!("meta-{name}")) {
                headers.insert(name, value.clone());
            }
        }
        Ok(parts)
    }

    /// Reads a response that consists of events, and stores the metadata that the origin sets.
    async fn read(&mut self, answered: OriginAnswer) -> Result<(hyper::http::response::Parts, OverHttpReply), Failure> {
        let OriginAnswer { head, body, .. } = answered;
        let most = self.origin.settings().max_events;
        let body = match body {
            BodySource::Whole(body) => body,
            BodySource::Incoming(incoming, lease) => {
                let (body, rest) =
                    collect(incoming, lease, most, self.origin.response_timeout(&self.about.route)).await?;
                if rest.is_some() {
                    return Err(Failure::because(
                        FailureKind::TooLarge,
                        format!("the events of the response exceed {most} bytes"),
                    ));
                }
                body
            }
        };
        let events = read_all(&body).map_err(|error| Failure::because(FailureKind::Unusable, error.to_string()))?;
        // As in Pushpin, a `Content-Bytes-Accepted` that is not a number is ignored, but a `Keep-Alive-Interval` that
        // is not a number counts as 0.
        let accepted = head.headers.get(ACCEPTED).and_then(number);
        self.set_meta(&head.headers);
        let interval = head.headers.get(INTERVAL).map(|value| self.origin.interval(number(value).unwrap_or(0)));
        Ok((head, OverHttpReply { events, accepted, interval }))
    }

    /// Returns the metadata that the origin has set for the client. Filters use it, and it may name the user. Values
    /// that are not visible ASCII are left out.
    pub fn meta(&self) -> Meta {
        let said = self.meta.iter().filter_map(|(name, value)| Some((&**name, value.to_str().ok()?)));
        said.collect()
    }

    /// Returns whether `name` can be set to `value` without exceeding the limits [`MAX_META`] and [`MAX_BYTES`].
    fn has_room_for(&self, name: &str, value: &HeaderValue) -> bool {
        let pairs = self.meta.iter().map(|(name, value)| (&**name, value.len()));
        let (names, bytes) = size_with(pairs, name, value.len());
        names <= MAX_META && bytes <= MAX_BYTES
    }

    fn set_meta(&mut self, headers: &HeaderMap) {
        for (name, value) in headers {
            let Some(name) = name.as_str().strip_prefix(SET_META).filter(|name| !name.is_empty()) else { continue };
            if value.is_empty() {
                self.meta.remove(name);
            } else if self.has_room_for(name, value) {
                // The value is copied, because the original would keep the buffer of the whole response in memory.
                if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                    self.meta.insert(name.into(), value);
                }
            } else {
                tracing::warn!(
                    uri = %self.about.shown(),
                    name,
                    "the origin sets too many or too long meta values: this one is ignored"
                );
            }
        }
    }
}

impl Drop for OverHttpConversation {
    /// Sends a `DISCONNECT` event to the origin in the background, if the conversation is still open. The result is
    /// only logged.
    fn drop(&mut self) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        let last = Self {
            origin: Rc::clone(&self.origin),
            about: Rc::clone(&self.about),
            target: self.target,
            fields: std::mem::take(&mut self.fields),
            peer: self.peer,
            sender: self.sender,
            id: self.id,
            meta: std::mem::take(&mut self.meta),
            open: false,
        };
        let told = self.origin.background.enqueue(async move {
            let _turn = last.turn(Lane::Leaving).await;
            // The request is boxed on its own and only now, so that the many conversations that may wait for their
            // turn do not each hold memory for it.
            Box::pin(last.disconnect()).await;
        });
        if !told {
            tracing::warn!(
                uri = %self.about.shown(),
                "too many notifications about disconnected clients are waiting: this one was dropped"
            );
        }
    }
}

impl OverHttpConversation {
    async fn disconnect(&self) {
        let told = async {
            let answered = self.send(event(&SocketEvent::Disconnect), 0).await.map_err(|lost| lost.failure)?;
            if let BodySource::Incoming(incoming, lease) = answered.body {
                collect(incoming, lease, MAX_BODY, self.origin.response_timeout(&self.about.route)).await?;
            }
            Ok::<_, Failure>(())
        };
        if let Err(failure) = told.await {
            tracing::warn!(
                uri = %self.about.shown(),
                error = failure.explain(),
                "the origin could not be notified that a client disconnected"
            );
        }
    }
}

impl OriginClient {
    /// Returns the keep-alive interval for a number of seconds that an origin has sent: at least `shortest_interval`
    /// of the settings, or zero if the number is 0.
    fn interval(&self, seconds: usize) -> Duration {
        let asked = Duration::from_secs(u64::try_from(seconds).unwrap_or(u64::MAX).min(u64::from(u32::MAX)));
        if asked.is_zero() { asked } else { asked.max(self.settings().shortest_interval) }
    }
}

/// Checks that a response continues the conversation: its status is 200, and its body consists of events. The error
/// says what is wrong.
fn accepts(status: StatusCode, headers: &HeaderMap) -> Result<(), String> {
    if status != StatusCode::OK {
        return Err(format!("the status of the response is {}", status.as_u16()));
    }
    let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    if is_events(content_type) {
        return Ok(());
    }
    Err(format!("the Content-Type of the response is '{}' and not {MEDIA_TYPE}", String::from_utf8_lossy(content_type)))
}

/// Returns whether a response header belongs to the WebSocket-over-HTTP exchange and is not passed to the client.
pub fn is_conversations_own(name: &HeaderName) -> bool {
    [CONTENT_TYPE, CONTENT_LENGTH, INTERVAL, ACCEPTED].contains(name) || name.as_str().starts_with(SET_META)
}

fn unusable(why: &'static str) -> FailedRequest {
    FailedRequest::sent(Failure::because(FailureKind::Unusable, why))
}

fn event(event: &SocketEvent) -> Vec<u8> {
    let mut body = Vec::new();
    event.write(&mut body);
    body
}

fn number(value: &HeaderValue) -> Option<usize> {
    value.to_str().ok()?.trim().parse().ok()
}

/// Returns the headers of a handshake that are sent with each request: without those that are only about the client's
/// connection, and without those that the conversation sets itself. Headers about another body or a part of a response
/// (`Content-*`, `If-*`, `Range`) are left out as well. So are `Grip-*` headers, unless a trusted GRIP proxy has sent
/// them; its `Grip-Sig` is left out too, because gripd signs these requests itself.
fn kept(headers: &HeaderMap, route: &Route, sender: RequestSender) -> HeaderLines {
    let listed = listed_in_connection(headers, route);
    let dropped = [
        HOST,
        CONNECTION,
        UPGRADE,
        TRANSFER_ENCODING,
        EXPECT,
        ACCEPT,
        ACCEPT_ENCODING,
        RANGE,
        TRAILER,
        INTERVAL,
        CONNECTION_ID,
        SEC_WEBSOCKET_EXTENSIONS,
    ];
    let mut fields = HeaderLines::default();
    for (name, value) in headers {
        // Many origins treat an underscore in the name of a header like a hyphen.
        let plain = name.as_str().replace('_', "-");
        let own = ["meta-", SET_META, "content-", "if-"].into_iter().any(|begin| plain.starts_with(begin))
            || (plain.starts_with("grip-") && (!sender.is_trusted() || plain == "grip-sig"));
        if !own && !dropped.iter().any(|drop| *drop == *plain) && !listed.contains(name) {
            fields.push(name, value.as_bytes());
        }
    }
    fields.shrink();
    fields
}

/// Returns a random UUID (RFC 9562 5.4).
fn connection_id() -> [u8; 16] {
    let mut bytes = [0; 16];
    if rand::fill(&mut bytes).is_err() {
        tracing::error!("cannot generate a random Connection-Id");
    }
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes
}

/// Returns a UUID in its text form (RFC 9562 4).
fn uuid(bytes: [u8; 16]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_random_uuids() {
        let (one, other) = (uuid(connection_id()), uuid(connection_id()));
        assert_ne!(one, other);
        assert_eq!(one.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert_eq!(one.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&one.as_bytes()[19]), "{one}");
    }

    #[test]
    fn what_is_the_connections_own_is_not_kept() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "h"),
            ("connection", "Upgrade, X-Once"),
            ("upgrade", "websocket"),
            ("x-once", "1"),
            ("meta-user", "forged"),
            ("connection-id", "forged"),
            ("connection_id", "forged"),
            ("grip_sig", "forged"),
            ("content-type", "application/x"),
            ("cookie", "a=1"),
            ("sec-websocket-protocol", "chat"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let names: Vec<String> = kept(&headers, &Route::default(), RequestSender::Client)
            .iter()
            .map(|(name, _)| String::from_utf8_lossy(name).into_owned())
            .collect();
        assert_eq!(names, ["cookie", "sec-websocket-protocol"]);
    }
}
