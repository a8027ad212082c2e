//! Responses to clients that are not held: those of origins, which are passed on, and those that gripd makes up, in
//! particular for failures.

use super::Front;
use super::access_log::AccessLog;
use super::body::Reply;
use super::cross_origin::CrossOrigin;
use crate::origin::{Failure, Kind, OriginAnswer, Side, Source};
use crate::route::Route;
use crate::telemetry::Seldom;
use crate::wire::{Answer, answer};
use bytes::Bytes;
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode, Uri};

/// Returns a response of gripd's own.
pub(super) fn respond(answer: &Answer, cross_origin: &CrossOrigin, mut access_log: AccessLog) -> Response<Reply> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    cross_origin.allow(response.headers_mut());
    let (head, body) = cross_origin.wrap(response.into_parts().0, Bytes::from(answer.body()));
    access_log.status(head.status.as_u16());
    Response::from_parts(head, Reply::whole(body, access_log))
}

/// Returns the response to a request that is not forwarded to any origin. If the method is the reason, `Allow`
/// lists the methods that are supported (RFC 9110 15.5.6).
pub(super) fn refuse(refusal: &Answer, cross_origin: &CrossOrigin, access_log: AccessLog) -> Response<Reply> {
    let mut response = respond(refusal, cross_origin, access_log);
    if refusal.status == 405 {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    }
    response
}

/// Returns an origin's response as the client gets it. The body is relayed as it arrives. If the body is broken
/// from its beginning, returns an error response instead.
pub(super) fn relay(
    front: &Front,
    route: &Route,
    request: &Parts,
    cross_origin: &CrossOrigin,
    answered: OriginAnswer,
    access_log: AccessLog,
) -> Response<Reply> {
    let OriginAnswer { mut head, body, .. } = answered;
    cross_origin.allow(&mut head.headers);
    let body = match body {
        Source::Incoming(incoming, lease) => match Reply::relayed(incoming, lease, access_log) {
            Ok(body) => body,
            Err(broken) => {
                let (error, access_log) = *broken;
                let failure = Failure::because(Kind::Unusable, error);
                return fail(front, route, &request.uri, &failure, cross_origin, access_log);
            }
        },
        Source::Whole(body) => Reply::whole(body, access_log),
    };
    Response::from_parts(head, body)
}

/// Logs a failure, and returns the response that tells the client about it.
pub(super) fn fail(
    front: &Front,
    route: &Route,
    uri: &Uri,
    failure: &Failure,
    cross_origin: &CrossOrigin,
    access_log: AccessLog,
) -> Response<Reply> {
    log(failure, uri, route);
    if failure.kind == Kind::RequestSlow {
        front.metrics.slow_bodies.inc();
    }
    let mut answer = of_failure(failure);
    if front.settings.debug || route.debug {
        answer = answer.explained(failure.detail());
    }
    let mut response = respond(&answer, cross_origin, access_log);
    if matches!(failure.kind, Kind::RequestSlow | Kind::RequestBroken | Kind::GaveWay) {
        // The client may still send the rest of the body, which would be taken for the next request.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Returns the response to a client whose request has failed.
const fn of_failure(failure: &Failure) -> Answer {
    match failure.kind {
        Kind::TimedOut => answer::ORIGIN_TIMED_OUT,
        Kind::Busy | Kind::NoDescriptor => answer::ORIGIN_BUSY,
        Kind::GaveWay => answer::GAVE_WAY,
        Kind::RequestBroken => answer::REQUEST_BROKEN,
        Kind::RequestSlow => answer::REQUEST_SLOW,
        Kind::RequestTooLarge => answer::REQUEST_TOO_LARGE,
        Kind::NoScript => answer::NO_SCRIPT,
        Kind::NotNamed => answer::NOT_NAMED,
        Kind::Denied => answer::DENIED,
        Kind::NotAllowed | Kind::Unreachable | Kind::Broken | Kind::Unusable | Kind::TooLarge | Kind::Lost => {
            answer::ORIGIN_FAILED
        }
    }
}

/// Logs a failure, at a level that depends on the side that has caused it.
fn log(failure: &Failure, uri: &Uri, route: &Route) {
    static LINE: Seldom = Seldom::new();
    if failure.kind == Kind::NoDescriptor {
        // Every request may fail like this, so the line is written at most once a second.
        LINE.log(|left_out| tracing::error!(left_out, "cannot send requests to origins: {}", failure.explain()));
        return;
    }
    let (error, uri) = (failure.explain(), uri.to_string());
    let uri = route.shown(&uri);
    match failure.side() {
        Side::Client if matches!(failure.kind, Kind::NotNamed | Kind::Denied) => {
            tracing::info!(%uri, route = %route.name, error, "request refused");
        }
        Side::Client => tracing::debug!(%uri, route = %route.name, error, "request failed"),
        Side::Origin => tracing::warn!(%uri, route = %route.name, error, "request failed"),
    }
}
