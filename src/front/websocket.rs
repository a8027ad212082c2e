//! WebSocket handshakes. If the origin refuses a handshake, its response is relayed. If it accepts, the connection
//! becomes a session.

use super::access_log::AccessLog;
use super::answer::relay;
use super::connection_slot::{ConnectionSlot, LeaveReason};
use super::cross_origin::CrossOrigin;
use super::head::compact;
use super::request_context::RequestContext;
use super::response_body::ResponseBody;
use super::{Front, answer, hints};
use crate::grip::extension;
use crate::grip::instruct::is_grip;
use crate::grip::{ControlMessage, MessageKind, Rights, SocketEvent};
use crate::origin::{
    Failure, FailureKind, Handshake, OriginAnswer, OriginSocket, RequestBody, Requester, accept_for,
    is_conversations_own, remove_hop_by_hop, remove_where,
};
use crate::route::Route;
use crate::session::AcceptedSocket;
use crate::wire::answer::BAD_HANDSHAKE;
use crate::wire::deflate::{ClientWindow, negotiate};
use crate::wire::{RequestSender, names_token};
use hyper::Response;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::http::response;
use hyper::{Method, Version};
use std::rc::Rc;
use std::sync::Arc;

/// A request for a WebSocket, and the context in which it is answered.
pub(super) struct HandshakeRequest<'a> {
    pub(super) front: &'a Front,
    pub(super) slot: &'a ConnectionSlot,
    pub(super) context: &'a RequestContext,
    pub(super) upload: &'a RequestBody,
    pub(super) route: &'a Arc<Route>,
    /// The rights of the client.
    pub(super) rights: Rights,
    pub(super) access_log: AccessLog,
}

/// Answers a handshake. If the handshake is refused, returns the response. Otherwise puts a session into the slot, so
/// that the connection leaves hyper, and stays pending until it is dropped.
pub(super) async fn open(asked: HandshakeRequest<'_>) -> Response<ResponseBody> {
    let HandshakeRequest { front, slot, context, upload, route, mut rights, mut access_log } = asked;
    let cross_origin = CrossOrigin::default();
    if !is_handshake(&context.request) || !upload.is_whole() {
        let mut refused = answer::respond(&BAD_HANDSHAKE, &cross_origin, access_log);
        refused.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return refused;
    }
    let about = Rc::new(context.requester(route));
    let opened = match front.origin.open(&context.origin_request(route), &about).await {
        Ok(Handshake::Refused(answered)) => {
            access_log.answered(answered.head.status.as_u16(), answered.target);
            hints::about_refused_websocket(route, &answered);
            let answered = refused(answered, context.sender);
            return relay(front, route, &context.request, &cross_origin, answered, access_log);
        }
        Ok(Handshake::Accepted(opened)) => opened,
        Err(failure) => return answer::fail(front, route, &context.request.uri, &failure, &cross_origin, access_log),
    };
    if let OriginSocket::Conversation { conversation, .. } = &opened
        && let Some(named) = route.users.as_ref().and_then(|users| users.rights_by(&conversation.meta()))
    {
        rights = named;
    }
    let implicit = route.implicit(opened.target(), &rights);
    let subscribed = subscriptions(&opened);
    let named = subscribed.iter().map(String::as_str);
    if let Err(denied) = front.admission.check_denials(route, named, &implicit) {
        let failure = Failure::because(FailureKind::Denied, denied);
        return answer::fail(front, route, &context.request.uri, &failure, &cross_origin, access_log);
    }
    access_log.answered(101, opened.target());
    access_log.hold("websocket");
    drop(access_log);
    slot.put(LeaveReason::Session(Box::new(opening(front, context, about, opened, rights))));
    std::future::pending().await
}

/// Returns the channels to which an origin subscribes a client in the events that came with its response.
fn subscriptions(opened: &OriginSocket) -> Vec<String> {
    let OriginSocket::Conversation { reply, .. } = opened else { return Vec::new() };
    let named = reply.events.iter().filter_map(|event| match event {
        SocketEvent::Message(MessageKind::Text, text) => match ControlMessage::parse(text.strip_prefix(b"c:")?) {
            Ok(ControlMessage::Subscribe { channel, .. }) => Some(channel),
            _ => None,
        },
        _ => None,
    });
    named.collect()
}

/// Returns whether a request is a valid handshake (RFC 6455 4.2.1).
fn is_handshake(request: &Parts) -> bool {
    let Parts { method, uri, version, headers, .. } = request;
    let is_13 = single_value(headers, &SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    let has_key = single_value(headers, &SEC_WEBSOCKET_KEY).is_some_and(|key| is_key(key.as_bytes()));
    let upgrades = names_token(headers, &CONNECTION, "upgrade");
    let has_body = headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0");
    let has_path = uri.path().starts_with('/') || uri.authority().is_some();
    *method == Method::GET && *version == Version::HTTP_11 && has_path && upgrades && is_13 && has_key && !has_body
}

/// Returns the value of a header that occurs exactly once.
fn single_value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() { None } else { first }
}

/// Returns whether a key is 16 bytes in base64: 22 characters and the padding.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.strip_suffix(b"==").is_some_and(|digits| digits.len() == 22 && digits.iter().all(is_digit))
}

/// Returns the response of an origin that has refused a handshake, without the headers that belong to the
/// handshake. GRIP headers are kept only for a trusted GRIP proxy.
fn refused(mut answered: OriginAnswer, sender: RequestSender) -> OriginAnswer {
    let headers = &mut answered.head.headers;
    remove_where(headers, |name| {
        [SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS].contains(name) || (!sender.is_trusted() && is_grip(name))
    });
    answered
}

/// Returns the session of a client whose handshake an origin has accepted.
fn opening(
    front: &Front,
    context: &RequestContext,
    about: Rc<Requester>,
    mut opened: OriginSocket,
    rights: Rights,
) -> AcceptedSocket {
    let headers = &context.request.headers;
    let origins = match &mut opened {
        OriginSocket::Conversation { head, .. } | OriginSocket::Socket { head, .. } => {
            Some(std::mem::take(&mut head.headers))
        }
        OriginSocket::Echo { .. } => None,
    };
    let extensions = |headers: &HeaderMap| extension::message_prefix(headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter());
    let spoken = origins.as_ref().and_then(extensions);
    // If the client is a trusted GRIP proxy, that proxy interprets the messages of the origin, even if it has not
    // offered to do so.
    let prefix = if context.sender.is_trusted() || about.route.no_grip { None } else { spoken.clone() };
    let settings = front.sessions.settings();
    let window = if settings.context_takeover { ClientWindow::Kept } else { ClientWindow::Dropped };
    let offers = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter().filter_map(|value| value.to_str().ok());
    let agreed = if settings.compression { negotiate(offers, window) } else { None };
    let relayed = if context.sender.is_trusted() { extensions(headers).and(spoken) } else { None };
    let relayed = relayed.map(|prefix| extension::answer(&prefix));
    let answered: Vec<String> =
        relayed.into_iter().chain(agreed.as_ref().map(|agreed| agreed.answer.clone())).collect();
    let mut head = handshake_headers(headers, origins.unwrap_or_default(), context.sender);
    if let Ok(value) = HeaderValue::try_from(answered.join(", "))
        && !value.is_empty()
    {
        head.insert(SEC_WEBSOCKET_EXTENSIONS, value);
    }
    let (head, prefix) = (compact(&parts(&opened, head), 0), prefix.map(Into::into));
    AcceptedSocket { head, opened, prefix, deflate: agreed, about, rights }
}

/// Returns the headers of the response to the client: the origin's headers, plus those that complete the WebSocket
/// handshake.
fn handshake_headers(asked: &HeaderMap, mut headers: HeaderMap, sender: RequestSender) -> HeaderMap {
    remove_hop_by_hop(&mut headers);
    remove_where(&mut headers, |name: &HeaderName| {
        is_conversations_own(name)
            || [SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS].contains(name)
            || (!sender.is_trusted() && is_grip(name))
    });
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    let key = asked.get(SEC_WEBSOCKET_KEY).map_or(&b""[..], HeaderValue::as_bytes);
    if let Ok(accept) = HeaderValue::try_from(accept_for(key)) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    headers
}

/// Returns the head of the response. If the origin speaks WebSocket itself, the reason phrase is the origin's.
fn parts(opened: &OriginSocket, headers: HeaderMap) -> response::Parts {
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = hyper::StatusCode::SWITCHING_PROTOCOLS;
    if let OriginSocket::Socket { head, .. } = opened {
        parts.extensions = head.extensions.clone();
    }
    parts.headers = headers;
    parts
}
