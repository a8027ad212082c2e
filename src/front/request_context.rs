//! A request on its way through the front, and the facts about its sender.

use super::Front;
use super::connection_slot::ClientAddress;
use crate::grip::event::mentions_events;
use crate::hold::ServedAgain;
use crate::net::ClientDelay;
use crate::origin::{
    ClientNetwork, Forwarding, OriginRequest, PUSHPIN_ROUTE, RequestPurpose, Requester, has_passed, is_of_proxies,
    named_host, now,
};
use crate::route::{Protocol, Route, RouteQuery};
use crate::wire::answer::{
    LOOP, MAX_FORWARDS_REACHED, NO_EVENTS, NO_HOST, NO_TRACE, NO_TUNNELS, ROUTE_NOT_FOUND, TOO_MANY_CONNECTION_OPTIONS,
    UNKNOWN_CODING, WRONG_HOST, WRONG_TARGET,
};
use crate::wire::{PlainAnswer, RequestPath, RequestSender, is_authority, is_public, names_token};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue, MAX_FORWARDS, UPGRADE};
use hyper::http::request::Parts;
use hyper::{Method, Version};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A request, with everything that is known about its sender.
pub(super) struct RequestContext {
    pub(super) request: Parts,
    /// The address that the request was sent from, if it has one: the client's, or that of a proxy.
    pub(super) peer: Option<Rc<ClientAddress>>,
    /// The client's address, if a trusted proxy names one that differs from the peer's.
    pub(super) proxied: Option<Rc<ClientAddress>>,
    /// The addresses through which the request has come, if the peer is trusted to list them.
    pub(super) way: Option<Box<RequestPath>>,
    /// Whether the client's request arrived over TLS, according to a sender that is trusted to say so.
    pub(super) secure: bool,
    pub(super) sender: RequestSender,
    /// The time that gripd has waited for the client during the request.
    pub(super) waiting: Rc<ClientDelay>,
    /// The state of a request that is served again after a hold.
    pub(super) retry: Option<Box<ServedAgain>>,
}

impl RequestContext {
    pub(super) fn new(
        front: &Front,
        request: Parts,
        peer: Option<Rc<ClientAddress>>,
        waiting: Rc<ClientDelay>,
        retry: Option<Box<ServedAgain>>,
    ) -> Self {
        let forwarding = &*front.origin.forwarding();
        let is_trusted = front.settings.borrow().trusted.as_ref().is_some_and(|verifier| {
            let token = request.headers.get("grip-sig").and_then(|token| token.to_str().ok());
            token.is_some_and(|token| verifier.trusts(token, now()))
        });
        let sender = if is_trusted { RequestSender::GripProxy } else { RequestSender::Client };
        let address = peer.as_ref().map(|peer| peer.address);
        let way = peer.as_ref().and_then(|peer| forwarded_path(forwarding, peer, &request.headers, sender));
        let secure = forwarding.is_secure(&request.headers, address, sender, way.as_deref());
        let client = way.as_ref().and_then(|way| way.client()).filter(|client| Some(*client) != address);
        let proxied = client.and_then(ClientAddress::new);
        Self { request, peer, proxied, way, secure, sender, waiting, retry }
    }

    /// Returns the response to a request that must not be forwarded to any origin, or `None` if the request may be
    /// forwarded.
    pub(super) fn refuse(&self, front: &Front) -> Option<PlainAnswer> {
        let headers = &self.request.headers;
        if let Some(refusal) = self.refuse_method() {
            return Some(refusal);
        }
        if !crate::origin::is_plainly_framed(headers) {
            return Some(UNKNOWN_CODING);
        }
        if crate::origin::names_too_many_headers(headers) {
            return Some(TOO_MANY_CONNECTION_OPTIONS);
        }
        if let Some(refusal) = self.refuse_target() {
            return Some(refusal);
        }
        if front.origin.forwarding().via.as_ref().is_some_and(|via| via.has_passed(headers)) {
            return Some(LOOP);
        }
        if let Some(name) = &front.origin.forwarding().cdn_loop
            && has_passed(headers, name)
        {
            return Some(LOOP);
        }
        let last = |hops: &HeaderValue| hops.to_str().is_ok_and(|hops| hops.trim().parse() == Ok(0_u64));
        if self.request.method == Method::OPTIONS && headers.get(MAX_FORWARDS).is_some_and(last) {
            return Some(MAX_FORWARDS_REACHED);
        }
        None
    }

    /// Returns the response to a request whose method must not be forwarded. This is checked again for a JSON-P
    /// request, since its query may name another method.
    pub(super) fn refuse_method(&self) -> Option<PlainAnswer> {
        match self.request.method.as_str() {
            "CONNECT" => Some(NO_TUNNELS),
            // Some servers call the method TRACK. Methods are case-sensitive (RFC 9110 9.1), but not every server
            // observes that.
            name if name.eq_ignore_ascii_case("TRACE") || name.eq_ignore_ascii_case("TRACK") => Some(NO_TRACE),
            _ => None,
        }
    }

    /// Returns the response to a request whose target or host another server could interpret differently (RFC 9112
    /// 3.2).
    fn refuse_target(&self) -> Option<PlainAnswer> {
        let Parts { method, uri, version, headers, .. } = &self.request;
        match (uri.scheme_str(), uri.authority()) {
            (None, Some(_)) => return Some(WRONG_TARGET),
            (None, None) if uri.path() == "*" && *method != Method::OPTIONS => return Some(WRONG_TARGET),
            (Some(scheme), _) if !matches!(scheme, "http" | "https") => return Some(WRONG_TARGET),
            (Some(_), Some(authority)) if !is_authority(authority.as_str().as_bytes()) => return Some(WRONG_HOST),
            _ => {}
        }
        let mut hosts = headers.get_all(HOST).iter();
        match hosts.next() {
            None if *version == Version::HTTP_11 => Some(NO_HOST),
            Some(host) if !host.is_empty() && !is_authority(host.as_bytes()) => Some(WRONG_HOST),
            _ if hosts.next().is_some() => Some(WRONG_HOST),
            _ => None,
        }
    }

    /// Returns whether the request asks for a WebSocket, even if it is not a valid handshake.
    pub(super) fn is_websocket(&self) -> bool {
        names_token(&self.request.headers, &UPGRADE, "websocket")
    }

    /// Returns the response to a client that sends WebSocket events, by which it could pass itself off as gripd.
    /// Such requests are refused on all routes as soon as any target takes events, since one origin may be the
    /// target of several routes.
    pub(super) fn refuse_events(&self, front: &Front) -> Option<PlainAnswer> {
        let is_events = |value: &HeaderValue| mentions_events(value.as_bytes());
        let forged = !self.sender.is_trusted() && self.request.headers.get_all(CONTENT_TYPE).iter().any(is_events);
        (forged && front.origin.routes().takes_events()).then_some(NO_EVENTS)
    }

    /// Returns the route of the request.
    pub(super) fn route(&self, front: &Front) -> Result<Arc<Route>, PlainAnswer> {
        let routes = front.origin.routes();
        let path = self.request.uri.path();
        let may_choose = front.origin.forwarding().accept_route;
        let chosen = if may_choose { self.request.headers.get(PUSHPIN_ROUTE) } else { None };
        let found = if let Some(retry) = &self.retry {
            routes.again(&retry.about.route)
        } else if let Some(id) = chosen {
            routes.named(id.to_str().unwrap_or_default(), path)
        } else {
            let host = named_host(&self.request).and_then(|host| std::str::from_utf8(host).ok());
            let host = host.filter(|host| !host.is_empty()).unwrap_or("localhost");
            let protocol = if self.is_websocket() { Protocol::WebSocket } else { Protocol::Http };
            routes.find(&RouteQuery { host, path, protocol, secure: self.secure })
        };
        found.cloned().ok_or(ROUTE_NOT_FOUND)
    }

    /// Returns the request that is forwarded to an origin of `route`.
    pub(super) fn origin_request<'a>(&'a self, route: &'a Route) -> OriginRequest<'a> {
        OriginRequest {
            route,
            request: &self.request,
            peer: self.peer.as_ref().map(|peer| peer.address),
            client: self.client().map(|client| client.address),
            peer_text: self.peer.as_ref().map(|peer| &peer.text),
            way: self.way.as_deref(),
            waiting: Some(&self.waiting),
            secure: self.secure,
            sender: self.sender,
            internal: false,
            purpose: RequestPurpose::Plain,
            last_ids: self.retry.as_ref().map_or(&[], |retry| &retry.last_ids),
        }
    }

    /// Returns the properties of the request that gripd needs to send requests of its own to the origin later.
    pub(super) fn requester(&self, route: &Arc<Route>) -> Requester {
        let scheme = if self.secure { "https" } else { "http" };
        let host = named_host(&self.request).filter(|host| !host.is_empty()).unwrap_or(b"localhost");
        let host = String::from_utf8_lossy(host).into_owned();
        let target = self.request.uri.path_and_query().map_or("/", |target| target.as_str());
        let uri = format!("{scheme}://{host}{target}");
        Requester {
            route: Arc::clone(route),
            host,
            uri,
            secure: self.secure,
            client: self.proxied.as_ref().map(|client| client.address),
            source: ClientNetwork::of(self.client().map(|client| client.address)),
        }
    }

    /// Returns the client's address if it is known: the one that a trusted proxy names, or else that of the peer.
    pub(super) fn client(&self) -> Option<&Rc<ClientAddress>> {
        self.proxied.as_ref().or(self.peer.as_ref())
    }
}

/// Returns the addresses through which a request has come, if the peer is trusted to list them.
fn forwarded_path(
    forwarding: &Forwarding,
    peer: &ClientAddress,
    headers: &HeaderMap,
    sender: RequestSender,
) -> Option<Box<RequestPath>> {
    if forwarding.believes(Some(peer.address), sender) {
        return Some(Box::new(forwarding.follow(peer.address, headers, sender)));
    }
    if forwarding.proxies.is_none() {
        hint(forwarding, peer, headers);
    }
    None
}

/// Logs a hint if the request seems to come through a proxy. This is called only if no list of trusted proxies is
/// configured. The hint is logged once in a process.
fn hint(forwarding: &Forwarding, peer: &ClientAddress, headers: &HeaderMap) {
    if forwarding.hinted.load(Relaxed) || is_public(peer.address) {
        return;
    }
    if let Some(header) = headers.keys().find(|name| is_of_proxies(name.as_str()))
        && !forwarding.hinted.swap(true, Relaxed)
    {
        let peer = peer.address;
        tracing::warn!(
            "requests from {peer} have the header {header}, which gripd neither trusts nor passes on: if {peer} is a proxy, list it with \
             [client] proxies = [\"{peer}\"], because otherwise all its clients count as one; if it is not a \
                 proxy, set proxies = []"
        );
    }
}
