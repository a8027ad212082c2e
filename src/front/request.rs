//! The phases of a request: refuse, route, ask the origin, and relay, or see to its instruct.

use super::access::Access;
use super::body::Reply;
use super::exchange::Exchange;
use super::slot::Slot;
use super::{Front, answer};
use crate::grip::Instruct;
use crate::origin::{Lease, Upload, is_plainly_framed, remove_hop_by_hop};
use crate::route::{Protocol, Query, Route};
use crate::wire::answer::{NO_TUNNELS, NO_WEBSOCKETS, ROUTE_NOT_FOUND, UNKNOWN_CODING, WRONG_HOST};
use crate::wire::{Answer, without_port};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HOST, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response};
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Answers a request, or leaves a hold in the slot and never returns.
pub(super) async fn serve(
    front: Rc<Front>,
    slot: Rc<Slot>,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Infallible> {
    front.metrics.requests.fetch_add(1, Relaxed);
    slot.ask();
    let (request, body) = request.into_parts();
    let ambiguous = request.headers.contains_key(TRANSFER_ENCODING);
    let mut response = answer(&front, &slot, request, body).await;
    slot.give_way(&front.gate);
    if ambiguous {
        // It may have come with a length as well, which hyper has dropped. Whoever sent both may want the
        // connection read differently by others: it ends here (RFC 9112 6.1).
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

async fn answer(front: &Front, slot: &Slot, request: Parts, body: Incoming) -> Response<Reply> {
    let mut access = Access::begin(&request);
    let route = match refuse(&request).map_or_else(|| route(front, &request), Err) {
        Ok(route) => Arc::clone(route),
        Err(refusal) => return answer::respond(&refusal, access),
    };
    access.route(&route);
    let upload = Upload::new(body);
    let (response, lease) = match front.origin.send(&route.target, &request, &upload).await {
        Ok(answered) => answered,
        Err(failure) => return answer::fail(front, &route, &request.uri, &failure, access),
    };
    access.status(response.status().as_u16());
    if !Instruct::concerns(response.headers()) {
        return relay(response, lease, access);
    }
    let exchange = Exchange { front, slot, route: &route, request, upload };
    Box::pin(exchange.follow(response, lease, access)).await
}

/// What is not for an origin at all.
fn refuse(request: &Parts) -> Option<Answer> {
    if request.method == Method::CONNECT {
        return Some(NO_TUNNELS);
    }
    if !is_plainly_framed(&request.headers) {
        return Some(UNKNOWN_CODING);
    }
    let user = request.uri.authority().is_some_and(|a| a.as_str().contains('@'));
    if user || request.headers.get_all(HOST).iter().nth(1).is_some() {
        return Some(WRONG_HOST);
    }
    let upgrade = request.headers.get(UPGRADE)?;
    upgrade.as_bytes().eq_ignore_ascii_case(b"websocket").then_some(NO_WEBSOCKETS)
}

fn route<'a>(front: &'a Front, request: &Parts) -> Result<&'a Arc<Route>, Answer> {
    let authority = request.uri.authority().map(|a| a.as_str());
    let host = authority.or_else(|| request.headers.get(HOST).and_then(|h| h.to_str().ok()));
    let query = Query {
        host: without_port(host.unwrap_or("localhost")),
        path: request.uri.path(),
        protocol: Protocol::Http,
        secure: false,
    };
    front.routes.find(&query).ok_or(ROUTE_NOT_FOUND)
}

/// An ordinary answer: as it comes, without what concerns only the origin's connection.
fn relay(response: Response<Incoming>, lease: Lease, access: Access) -> Response<Reply> {
    let (mut head, body) = response.into_parts();
    remove_hop_by_hop(&mut head.headers);
    Response::from_parts(head, Reply::relayed(body, lease, access))
}
