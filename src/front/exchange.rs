//! An answer with an instruct: read it whole, then answer or hold.

use super::access::Access;
use super::body::Reply;
use super::slot::Slot;
use super::{Front, answer};
use crate::grip::instruct::is_grip;
use crate::grip::{Channel, HoldMode, Instruct};
use crate::hold::{Client, Hold};
use crate::origin::{BodyState, Failure, Kind, Lease, Upload, remove_hop_by_hop, remove_where};
use crate::route::Route;
use crate::wire::head::has_body;
use crate::wire::{Fields, Head};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::http::response;
use hyper::{Method, Response, StatusCode, Version};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;
use tokio::time::timeout;

/// The largest body of an answer with an instruct, as Pushpin has it.
const MAX_BODY: usize = 100_000;

/// A request whose answer carries an instruct.
pub(super) struct Exchange<'a> {
    pub(super) front: &'a Front,
    pub(super) slot: &'a Slot,
    pub(super) route: &'a Arc<Route>,
    pub(super) request: Parts,
    pub(super) upload: Upload,
}

impl Exchange<'_> {
    /// Follows the instruct: answers, or leaves a hold in the slot and never returns.
    pub(super) async fn follow(
        &self,
        response: Response<Incoming>,
        lease: Lease,
        mut access: Access,
    ) -> Response<Reply> {
        match self.prepare(response, lease).await {
            Err(failure) => answer::fail(self.front, self.route, &self.request.uri, &failure, access),
            Ok(Prepared::Answer(head, body)) => {
                access.status(head.status.as_u16());
                Response::from_parts(head, Reply::whole(body, access))
            }
            Ok(Prepared::Hold(hold)) => {
                access.status(hold.head.status);
                access.hold(hold.mode);
                drop(access);
                self.front.metrics.holds.fetch_add(1, Relaxed);
                self.slot.put(hold);
                std::future::pending().await
            }
        }
    }

    async fn prepare(&self, response: Response<Incoming>, lease: Lease) -> Result<Prepared, Failure> {
        let (mut head, body) = response.into_parts();
        let instruct = Instruct::parse(&head.headers);
        let instruct = instruct.map_err(|error| {
            Failure::because(Kind::Unusable, format!("Failed to parse accept instructions: {error}"))
        })?;
        self.check(&instruct)?;
        let body = self.collect(body, lease).await?;
        apply(&instruct, &mut head);
        let Some(mode) = instruct.hold else { return Ok(Prepared::Answer(head, body)) };
        self.check_upload().await?;
        if mode == HoldMode::Stream && (!has_body(head.status.as_u16()) || self.request.method == Method::HEAD) {
            return Ok(Prepared::Answer(head, body));
        }
        Ok(Prepared::Hold(Box::new(self.hold(mode, instruct, &head, body))))
    }

    /// Refuses what exceeds a limit, and says what is left undone.
    fn check(&self, instruct: &Instruct) -> Result<(), Failure> {
        let (asked, most) = (instruct.channels.len(), self.front.settings.max_channels);
        if asked > most {
            let why = format!("it names {asked} channels, and max_channels is {most}");
            return Err(Failure::because(Kind::Unusable, why));
        }
        for name in &instruct.ignored {
            crate::telemetry::once(name, || {
                tracing::warn!(route = %self.route.label(), "{name} is not supported yet and has no effect");
            });
        }
        Ok(())
    }

    /// Reads the whole answer, in the time and to the size that are allowed.
    async fn collect(&self, body: Incoming, lease: Lease) -> Result<Bytes, Failure> {
        let collected = timeout(self.front.origin.response_timeout(), Limited::new(body, MAX_BODY).collect()).await;
        match collected {
            Err(_) => Err(Failure::new(Kind::TimedOut)),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Failure::because(
                Kind::TooLarge,
                format!("GRIP instruct response too large from {}", self.route.target),
            )),
            Ok(Err(error)) => Err(Failure::because(Kind::Broken, error)),
            Ok(Ok(body)) => {
                lease.finish();
                // A copy of its own: one small part would keep the origin connection's whole buffer.
                Ok(Bytes::copy_from_slice(&body.to_bytes()))
            }
        }
    }

    /// A request is held only when it was read whole: a body left unread would be taken for the next request.
    async fn check_upload(&self) -> Result<(), Failure> {
        match timeout(self.front.origin.response_timeout(), self.upload.whole()).await {
            Ok(BodyState::Whole) => Ok(()),
            Ok(BodyState::TooLarge) => Err(Failure::new(Kind::RequestTooLarge)),
            Ok(BodyState::Broken) | Err(_) => Err(Failure::new(Kind::RequestBroken)),
        }
    }

    fn hold(&self, mode: HoldMode, instruct: Instruct, head: &response::Parts, body: Bytes) -> Hold {
        let prefix = &self.route.prefix;
        Hold {
            mode,
            channels: instruct.channels.iter().map(|name| Channel::prefixed(prefix, name)).collect(),
            timeout: instruct.hold_timeout(),
            keep_alive: instruct.keep_alive,
            head: compact(head),
            body,
            client: client(&self.request),
        }
    }
}

/// What comes of an answer with an instruct.
enum Prepared {
    Answer(response::Parts, Bytes),
    Hold(Box<Hold>),
}

/// Makes the origin's head the client's: its status, and without what is GRIP's or the connection's.
fn apply(instruct: &Instruct, head: &mut response::Parts) {
    remove_hop_by_hop(&mut head.headers);
    head.headers.remove(CONTENT_LENGTH);
    remove_where(&mut head.headers, is_grip);
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

/// A copy of the head that keeps nothing of the origin's connection.
fn compact(head: &response::Parts) -> Head {
    let mut fields = Fields::default();
    for (name, value) in &head.headers {
        fields.push(name, value.as_bytes());
    }
    let reason = head.extensions.get::<ReasonPhrase>();
    let reason = reason.and_then(|r| std::str::from_utf8(r.as_bytes()).ok()).map(Into::into);
    let mut compact = Head { status: head.status.as_u16(), reason, fields };
    if !head.headers.contains_key(DATE) {
        compact.date(SystemTime::now());
    }
    compact
}

/// What the request says of how it must be answered. Only the plainest requests leave their connection fit
/// for another: HTTP/1.1, without a body, and without a wish to close.
fn client(request: &Parts) -> Client {
    let old = request.version == Version::HTTP_10;
    let body = request.headers.contains_key(CONTENT_LENGTH) || request.headers.contains_key(TRANSFER_ENCODING);
    Client {
        old,
        head_only: request.method == Method::HEAD,
        persistent: !old && !body && !wants_close(&request.headers),
    }
}

fn wants_close(headers: &HeaderMap) -> bool {
    let close = |value: &HeaderValue| {
        value.as_bytes().split(|b| *b == b',').any(|word| word.trim_ascii().eq_ignore_ascii_case(b"close"))
    };
    headers.get_all(CONNECTION).iter().any(close)
}
