//! One request on its way through the front: whose it is, and where it goes.

use super::Front;
use crate::grip::event::is_events;
use crate::hold::Retry;
use crate::origin::{Asking, Errand, PUSHPIN_ROUTE, Purpose, has_passed, named_host, now, says_secure};
use crate::route::{Protocol, Query, Route};
use crate::wire::answer::{LOOP, NO_EVENTS, NO_TUNNELS, ROUTE_NOT_FOUND, UNKNOWN_CODING, WRONG_HOST};
use crate::wire::{Answer, is_authority, without_port};
use hyper::Method;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue, UPGRADE};
use hyper::http::request::Parts;
use std::net::IpAddr;
use std::sync::Arc;

/// A request, and what is known of who sent it.
pub(super) struct Visit {
    pub(super) request: Parts,
    /// The client's address, if it has one.
    pub(super) address: Option<IpAddr>,
    /// Whether it came over TLS, by the word of who stands before gripd.
    pub(super) secure: bool,
    /// Whether another GRIP proxy sent it, which is trusted.
    pub(super) trusted: bool,
    /// What made it be served again.
    pub(super) retry: Option<Box<Retry>>,
}

impl Visit {
    pub(super) fn new(front: &Front, request: Parts, address: Option<IpAddr>, retry: Option<Box<Retry>>) -> Self {
        let secure = front.origin.forwarding().accept_proto && says_secure(&request.headers);
        let trusted = front.settings.trusted.as_ref().is_some_and(|verifier| {
            let token = request.headers.get("grip-sig").and_then(|token| token.to_str().ok());
            token.is_some_and(|token| verifier.trusts(token, now()))
        });
        Self { request, address, secure, trusted, retry }
    }

    /// What is not for an origin at all.
    pub(super) fn refuse(&self, front: &Front) -> Option<Answer> {
        let Parts { method, headers, .. } = &self.request;
        if *method == Method::CONNECT {
            return Some(NO_TUNNELS);
        }
        if !crate::origin::is_plainly_framed(headers) {
            return Some(UNKNOWN_CODING);
        }
        let wrong = |host: &[u8]| !host.is_empty() && !is_authority(host);
        if named_host(&self.request).is_some_and(wrong) || headers.get_all(HOST).iter().nth(1).is_some() {
            return Some(WRONG_HOST);
        }
        let name = front.origin.forwarding().cdn_loop.as_ref();
        name.is_some_and(|name| has_passed(headers, name)).then_some(LOOP)
    }

    /// Whether it asks for a WebSocket. As in Pushpin, `Connection` need not name `Upgrade`.
    pub(super) fn is_websocket(&self) -> bool {
        let upgrade = self.request.headers.get(UPGRADE);
        upgrade.is_some_and(|upgrade| upgrade.as_bytes().trim_ascii().eq_ignore_ascii_case(b"websocket"))
    }

    /// Refuses WebSocket events, by which a client could pass itself off as gripd: as soon as any origin takes them,
    /// since one origin may be behind several routes.
    pub(super) fn refuse_events(&self, front: &Front) -> Option<Answer> {
        let is_events = |value: &HeaderValue| is_events(value.as_bytes());
        let forged = !self.trusted && self.request.headers.get_all(CONTENT_TYPE).iter().any(is_events);
        (forged && front.origin.routes().takes_events()).then_some(NO_EVENTS)
    }

    /// The route of the request.
    pub(super) fn route(&self, front: &Front) -> Result<Arc<Route>, Answer> {
        let routes = front.origin.routes();
        let path = self.request.uri.path();
        let chosen = self.request.headers.get(PUSHPIN_ROUTE).filter(|_| front.origin.forwarding().accept_route);
        let found = if let Some(retry) = &self.retry {
            routes.again(&retry.about.route)
        } else if let Some(id) = chosen {
            routes.named(id.to_str().unwrap_or_default(), path)
        } else {
            let host = named_host(&self.request).and_then(|host| std::str::from_utf8(host).ok());
            let host = without_port(host.filter(|host| !host.is_empty()).unwrap_or("localhost"));
            let protocol = if self.is_websocket() { Protocol::WebSocket } else { Protocol::Http };
            routes.find(&Query { host, path, protocol, secure: self.secure })
        };
        found.cloned().ok_or(ROUTE_NOT_FOUND)
    }

    /// What an origin is sent on its behalf.
    pub(super) fn errand<'a>(&'a self, route: &'a Route) -> Errand<'a> {
        Errand {
            route,
            request: &self.request,
            address: self.address,
            secure: self.secure,
            trusted: self.trusted,
            internal: false,
            purpose: Purpose::Plain,
            last_ids: self.retry.as_ref().map_or(&[], |retry| &retry.last_ids),
        }
    }

    /// On whose behalf its origin is asked again.
    pub(super) fn about(&self, route: &Arc<Route>) -> Asking {
        let scheme = if self.secure { "https" } else { "http" };
        let host = named_host(&self.request).filter(|host| !host.is_empty()).unwrap_or(b"localhost");
        let host = String::from_utf8_lossy(host).into_owned();
        let target = self.request.uri.path_and_query().map_or("/", |target| target.as_str());
        let uri = format!("{scheme}://{host}{target}");
        Asking { route: Arc::clone(route), host, uri, secure: self.secure }
    }
}
