//! The headers of a request that are passed on, and those that tell the origin through which proxies the request has
//! come.

use super::PUSHPIN_ROUTE;
use super::hop::is_hop_by_hop;
use super::{ForwardedFor, ForwardedProto, forwarded, is_imitation, is_of_proxies, listed_in_connection, marks, names};
use crate::grip::instruct;
use crate::origin::{AcceptProto, Forwarding, OriginRequest, RequestPurpose};
use crate::route::Route;
use crate::wire::X_FORWARDED_FOR;
use hyper::Method;
use hyper::header::{
    ACCEPT_ENCODING, CONTENT_LENGTH, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, MAX_FORWARDS,
    SEC_WEBSOCKET_EXTENSIONS, TRAILER, TRANSFER_ENCODING,
};

/// The header in which some proxies report the client's address.
const REAL_IP: &str = "x-real-ip";

/// The data from which the headers of one request to an origin are made.
pub(super) struct HeaderRewriter<'a> {
    pub(super) origin_request: &'a OriginRequest<'a>,
    pub(super) settings: &'a Forwarding,
    /// The headers of the request, after the changes of the route.
    pub(super) from: &'a HeaderMap,
    /// Whether the sender of the request is believed about the proxies through which the request has come.
    pub(super) is_believed: bool,
}

impl HeaderRewriter<'_> {
    /// Copies the headers that are forwarded. Their values stay as they are, except for `Trailer` and `Max-Forwards`.
    pub(super) fn copy(&self, to: &mut HeaderMap) {
        let Self { origin_request, settings, from, .. } = *self;
        let listed = listed_in_connection(from, origin_request.route);
        let in_chunks = from.contains_key(TRANSFER_ENCODING);
        let decides_proto = settings.accept_proto == AcceptProto::OfAll || settings.proto != ForwardedProto::Nothing;
        let settles = self.rule() == ForwardedFor::Settled;
        for (name, value) in from {
            let drop = is_hop_by_hop(name)
            || matches!(*name, HOST | EXPECT) || *name == X_FORWARDED_FOR
            || (settles && self.is_dropped_when_settled(name) && !is_set_by_route(name, origin_request.route))
            // Items are appended to the origin's body, so the origin must not compress the body.
            || *name == ACCEPT_ENCODING
            // gripd itself negotiates extensions with the client.
            || (origin_request.purpose != RequestPurpose::Plain && *name == SEC_WEBSOCKET_EXTENSIONS)
            || (decides_proto && (*name == forwarded::PROTO || *name == forwarded::PROTOCOL))
            || (settings.cdn_loop.is_some() && *name == forwarded::CDN_LOOP)
            || (settings.accept_route && *name == PUSHPIN_ROUTE)
            || (!origin_request.sender.is_trusted() && !origin_request.internal && instruct::is_grip(name))
            || (marks::is_marked(name) && !origin_request.sender.is_trusted())
            || (in_chunks && name == CONTENT_LENGTH)
            || listed.contains(name)
            || is_imitation(name, from, origin_request.route);
            if drop {
                continue;
            }
            let value = match *name {
                TRAILER => names::trailers(value, origin_request),
                MAX_FORWARDS if origin_request.request.method == Method::OPTIONS => one_less(value),
                _ => Some(value.clone()),
            };
            if let Some(value) = value {
                to.append(name.clone(), value);
            }
        }
    }

    /// Returns whether [`ForwardedFor::Settled`] drops a header. It drops the headers that gripd writes anew, and also
    /// drops all other headers in which proxies report the way of a request, unless the sender is believed.
    fn is_dropped_when_settled(&self, name: &HeaderName) -> bool {
        *name == FORWARDED || name.as_str() == REAL_IP || (!self.is_believed && is_of_proxies(name.as_str()))
    }

    /// Returns the rule by which `X-Forwarded-For` of this request is written.
    const fn rule(&self) -> ForwardedFor {
        let Self { origin_request, settings, .. } = *self;
        if origin_request.sender.is_trusted() { settings.forwarded_for_trusted } else { settings.forwarded_for }
    }

    /// Adds the headers that tell the origin from which addresses the request has come.
    pub(super) fn add_forwarding_headers(&self, to: &mut HeaderMap) {
        let Self { origin_request, settings, from, is_believed } = *self;
        match (self.rule(), origin_request.peer) {
            (ForwardedFor::Settled, Some(_)) if !is_believed && origin_request.peer_text.is_some() => {
                to.extend(origin_request.peer_text.map(|text| (X_FORWARDED_FOR, text.clone())));
            }
            (ForwardedFor::Settled, Some(peer)) => {
                let followed;
                let way = match origin_request.way {
                    Some(way) => way,
                    None => {
                        followed = settings.follow(peer, from, origin_request.sender);
                        &followed
                    }
                };
                if is_believed
                    && from.contains_key(REAL_IP)
                    && !to.contains_key(REAL_IP)
                    && let Some(client) = way.client().and_then(|client| HeaderValue::try_from(client.to_string()).ok())
                {
                    to.insert(HeaderName::from_static(REAL_IP), client);
                }
                if let Some(addresses) = way.x_forwarded_for() {
                    to.insert(X_FORWARDED_FOR, addresses);
                }
                if let Some(elements) = way.forwarded() {
                    to.insert(FORWARDED, elements);
                }
            }
            // A request that gripd makes itself has come from no address.
            (ForwardedFor::Settled, None) => {}
            (ForwardedFor::Edited(edit), peer) => {
                if let Some(addresses) = edit.apply(from, peer) {
                    to.insert(X_FORWARDED_FOR, addresses);
                }
            }
        }
    }
}

/// Returns `Max-Forwards` for the next server (RFC 9110 7.6.2): the number less one. Returns `None` if the value is
/// not a number, or is zero.
fn one_less(hops: &HeaderValue) -> Option<HeaderValue> {
    hops.to_str().ok()?.trim().parse::<u64>().ok()?.checked_sub(1).map(HeaderValue::from)
}

/// Returns whether the route sets a value for a header.
pub(super) fn is_set_by_route(name: &HeaderName, route: &Route) -> bool {
    route.rewrite.headers.iter().any(|(set, value)| set == name && value.is_some())
}
