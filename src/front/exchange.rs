//! Origin responses that must be read before the client gets a response: those with an instruct, and those that
//! become a script.

use super::access_log::AccessLog;
use super::connection_slot::{ConnectionSlot, LeaveReason};
use super::cross_origin::CrossOrigin;
use super::head::compact;
use super::replay::replay;
use super::request_context::RequestContext;
use super::response_body::ResponseBody;
use super::{Front, answer, hints};
use crate::admission::{NotAdmitted, UnderstoodAnswer, UnusableAnswer};
use crate::grip::instruct::is_grip;
use crate::grip::{ChannelRefusal, HoldMode, Instruct, Rights};
use crate::hold::{self, ClientTraits, Hold, StreamBody};
use crate::origin::{
    BodySource, Failure, FailureKind, Lease, MAX_BODY, OriginAnswer, RequestBody, RequestBodyState, collect,
    remove_hop_by_hop, remove_where,
};
use crate::route::Route;
use crate::wire::head::{describes_body, has_body};
use crate::wire::names_token;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::header::{CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::http::response;
use hyper::{Method, Response, StatusCode, Version};
use std::sync::Arc;
use tokio::time::timeout;

/// The header by which a response tells nginx not to buffer it.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// A request, and the context in which the origin's response to it is read.
pub(super) struct BufferedExchange<'a> {
    pub(super) front: &'a Front,
    pub(super) slot: &'a ConnectionSlot,
    pub(super) route: &'a Arc<Route>,
    pub(super) context: RequestContext,
    /// The rights of the client.
    pub(super) rights: Rights,
    pub(super) upload: RequestBody,
    /// The request as the client sent it, if the forwarded request may differ from it.
    pub(super) original: Option<Parts>,
    /// The cross-origin changes to the response.
    pub(super) cross_origin: CrossOrigin,
}

/// The kind of content in an origin's response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerContent {
    /// The response carries an instruct for gripd.
    Instruct,
    /// The response carries nothing but content for the client.
    Plain,
}

/// The outcome of reading an origin's response: a response for the client, or a hold.
enum PreparedAnswer {
    Answer(response::Parts, Bytes),
    Hold(Box<Hold>),
}

impl BufferedExchange<'_> {
    /// Reads the origin's response, and follows the instruct if there is one. Returns the response for the client,
    /// or leaves a hold in the slot and never returns.
    pub(super) async fn follow(
        mut self,
        answered: OriginAnswer,
        content: AnswerContent,
        mut access_log: AccessLog,
    ) -> Response<ResponseBody> {
        match self.prepare(answered, content).await {
            Err(failure) => answer::fail(
                self.front,
                self.route,
                &self.context.request.uri,
                &failure,
                &self.cross_origin,
                access_log,
            ),
            Ok(PreparedAnswer::Answer(head, body)) => {
                let (head, body) = self.cross_origin.wrap(head, body);
                access_log.status(head.status.as_u16());
                Response::from_parts(head, ResponseBody::whole(body, access_log))
            }
            Ok(PreparedAnswer::Hold(hold)) => {
                access_log.status(hold.head.status);
                access_log.hold(match hold.mode {
                    HoldMode::Response => "response",
                    HoldMode::Stream => "stream",
                });
                drop(access_log);
                self.front.metrics.holds.inc();
                self.slot.put(LeaveReason::Hold(hold::LeavingConnection::Hold(hold)));
                std::future::pending().await
            }
        }
    }

    async fn prepare(&mut self, answered: OriginAnswer, content: AnswerContent) -> Result<PreparedAnswer, Failure> {
        let OriginAnswer { mut head, body, target } = answered;
        let instruct = match content {
            AnswerContent::Instruct => {
                Some(UnderstoodAnswer::begin(&head.headers).map_err(|why| self.unusable(&why, target))?)
            }
            AnswerContent::Plain => None,
        };
        let (body, rest) = self.collect(body).await?;
        if rest.is_some() && content == AnswerContent::Plain {
            return Err(Failure::new(FailureKind::NoScript));
        }
        let reading = match instruct {
            Some(instruct) => {
                let (status, most) = (head.status.as_u16(), self.front.admission.max_channels());
                UnderstoodAnswer::of(instruct, &head.headers, status, (&body, rest.is_none()), most)
            }
            None => Ok(UnderstoodAnswer { body, ..UnderstoodAnswer::default() }),
        };
        let UnderstoodAnswer { instruct, body, headers, is_changed } =
            reading.map_err(|why| self.unusable(&why, target))?;
        let chained = instruct.hold.is_none() && instruct.links.next.is_some();
        let streams = chained || instruct.hold == Some(HoldMode::Stream);
        if rest.is_some() && !streams {
            return Err(self.unusable(&UnusableAnswer::TooLarge, target));
        }
        if let Some(headers) = headers {
            replace_headers(&mut head, headers);
        }
        if is_changed {
            forget_body(&mut head);
        }
        if content == AnswerContent::Instruct {
            remove_where(&mut head.headers, is_grip);
        }
        apply(&instruct, &mut head);
        self.cross_origin.allow(&mut head.headers);
        if instruct.hold.is_none() && !chained {
            return Ok(PreparedAnswer::Answer(head, body));
        }
        self.check_rights(&instruct, target)?;
        self.check_upload().await?;
        if streams {
            // Published items follow the body, so headers that describe only the origin's body would be wrong.
            forget_body(&mut head);
            if head.status == StatusCode::PARTIAL_CONTENT {
                head.status = StatusCode::OK;
            }
        }
        // The response is meant for one client at one moment, so caches must not store it unless the origin says
        // otherwise.
        head.headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        if streams && (!has_body(head.status.as_u16()) || self.context.request.method == Method::HEAD) {
            return Ok(PreparedAnswer::Answer(head, Bytes::new()));
        }
        if streams && self.cross_origin.script.is_some() {
            return Err(Failure::because(FailureKind::NoScript, "a JSON-P response cannot be a stream"));
        }
        Ok(PreparedAnswer::Hold(Box::new(self.hold(instruct, target, &head, body, rest))))
    }

    /// Reads the body of the origin's response, within the response timeout. If the body is larger than
    /// [`MAX_BODY`], returns its beginning and the unread rest.
    async fn collect(&self, body: BodySource) -> Result<(Bytes, Option<(Incoming, Lease)>), Failure> {
        match body {
            BodySource::Whole(body) => Ok((body, None)),
            BodySource::Incoming(incoming, lease) => {
                collect(incoming, lease, MAX_BODY, self.front.origin.response_timeout(self.route)).await
            }
        }
    }

    /// Checks that the client may hold the channels of an instruct.
    fn check_rights(&mut self, instruct: &Instruct, target: usize) -> Result<(), Failure> {
        if self.rights.holds_nothing {
            return Err(Failure::because(
                FailureKind::NotNamed,
                "a CORS preflight request without a token may hold no channels",
            ));
        }
        if let Some(rights) = self.route.users.as_ref().and_then(|users| users.rights_by(&instruct.meta)) {
            self.rights = rights;
        }
        let admission = &self.front.admission;
        admission.admit(self.route, &self.rights, instruct.names()).map_err(|NotAdmitted { channel, refusal }| {
            let kind = match refusal {
                ChannelRefusal::Rule => FailureKind::NotAllowed,
                ChannelRefusal::Token => FailureKind::NotNamed,
            };
            Failure::because(kind, format!("channel '{channel}': {refusal}"))
        })?;
        if self.context.retry.is_some() {
            // While the connection was held, a publisher may have moved it to other channels. Denials are checked
            // when the connection is subscribed again.
            return Ok(());
        }
        let checked = admission.check_denials(self.route, instruct.names(), &self.implicit(target));
        checked.map_err(|denied| Failure::because(FailureKind::Denied, denied))
    }

    /// Returns the channels that the connection holds regardless of the instruct: those of the target, and the
    /// user's own.
    fn implicit(&self, target: usize) -> Vec<String> {
        self.route.implicit(target, &self.rights)
    }

    /// Waits until the body of the request has been read completely. The request is held only then, because an
    /// unread rest would be taken for the next request.
    async fn check_upload(&self) -> Result<(), Failure> {
        match timeout(self.front.origin.response_timeout(self.route), self.upload.whole()).await {
            Ok(RequestBodyState::Whole) => Ok(()),
            Ok(RequestBodyState::TooLarge) => Err(Failure::new(FailureKind::RequestTooLarge)),
            Ok(RequestBodyState::TooSlow) => Err(Failure::new(FailureKind::RequestSlow)),
            Ok(RequestBodyState::Broken) | Err(_) => Err(Failure::new(FailureKind::RequestBroken)),
        }
    }

    fn hold(
        &mut self,
        instruct: Instruct,
        target: usize,
        head: &response::Parts,
        body: Bytes,
        rest: Option<(Incoming, Lease)>,
    ) -> Hold {
        let mode = instruct.hold.unwrap_or(HoldMode::Stream);
        let implicit = self.implicit(target);
        hints::about_hold(self.route, &self.context.request, &instruct, &implicit);
        let request = match mode {
            HoldMode::Response => replay(self.original(), &self.upload),
            HoldMode::Stream => Box::default(),
        };
        // Without this header, nginx would keep published items back until its buffer is full.
        let unbuffered = mode == HoldMode::Stream && !head.headers.contains_key(X_ACCEL_BUFFERING);
        let mut compacted = compact(head, if unbuffered { "x-accel-buffering: no\r\n".len() } else { 0 });
        if unbuffered {
            compacted.fields.push(&X_ACCEL_BUFFERING, b"no");
        }
        Hold {
            mode,
            implicit,
            instruct,
            head: compacted,
            body,
            body_kind: StreamBody::of(&head.headers),
            rest,
            client: client(self.original()),
            rights: self.rights.clone(),
            jsonp: self.cross_origin.script.take(),
            about: self.context.requester(self.route),
            request,
            cause: self.context.retry.as_mut().and_then(|retry| retry.cause.take()),
            away: None,
            gone: self.context.retry.as_mut().and_then(|retry| retry.gone.take()),
        }
    }

    /// Returns the request as the client sent it.
    fn original(&self) -> &Parts {
        self.original.as_ref().unwrap_or(&self.context.request)
    }

    /// Returns the failure for an origin's response that cannot be used.
    fn unusable(&self, why: &UnusableAnswer, target: usize) -> Failure {
        match why {
            UnusableAnswer::TooLarge => {
                Failure::because(FailureKind::TooLarge, format!("{why} from {}", self.route.targets[target]))
            }
            UnusableAnswer::Instruct(invalid) | UnusableAnswer::Filter(invalid) => {
                Failure::because(FailureKind::Unusable, format!("Failed to parse accept instructions: {invalid}"))
            }
        }
    }
}

/// Replaces the headers that came with an instruct by those of the response that the instruct describes in its
/// body.
fn replace_headers(head: &mut response::Parts, headers: Vec<(HeaderName, HeaderValue)>) {
    head.headers = headers.into_iter().collect();
    head.extensions.remove::<ReasonPhrase>();
}

/// Turns the origin's head into the one for the client. Headers that concern only the connection to the origin, or
/// that the instruct does not expose, are removed. The status is replaced if the instruct sets one.
fn apply(instruct: &Instruct, head: &mut response::Parts) {
    remove_hop_by_hop(&mut head.headers);
    head.headers.remove(CONTENT_LENGTH);
    if !instruct.expose.is_empty() {
        remove_where(&mut head.headers, |name| !instruct.expose.iter().any(|e| e == name.as_str()));
    }
    if let Some((code, reason)) = &instruct.status {
        head.status = StatusCode::from_u16(*code).unwrap_or(head.status);
        head.extensions.remove::<ReasonPhrase>();
        if let Some(reason) = reason.as_ref().and_then(|r| ReasonPhrase::try_from(r.as_bytes()).ok()) {
            head.extensions.insert(reason);
        }
    }
}

/// Removes the headers that describe the origin's body, such as `ETag`, because the client gets another body.
fn forget_body(head: &mut response::Parts) {
    remove_where(&mut head.headers, |name| describes_body(name.as_str().as_bytes()));
}

/// Returns the properties of a request that decide how it must be answered. The connection may serve another
/// request only if this one is HTTP/1.1, does not ask to close the connection, and has no body, not even an empty one
/// that a header announces.
fn client(request: &Parts) -> ClientTraits {
    let body = request.headers.contains_key(CONTENT_LENGTH) || request.headers.contains_key(TRANSFER_ENCODING);
    ClientTraits {
        version: request.version,
        head_only: request.method == Method::HEAD,
        persistent: request.version == Version::HTTP_11
            && !body
            && !names_token(&request.headers, &CONNECTION, "close"),
    }
}
