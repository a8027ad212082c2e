//! Responses to clients that are not held: those of origins, which are passed on, and those that gripd makes up, in
//! particular for failures. This is the only place where a [`Failure`] becomes a response.

use super::Front;
use super::access_log::AccessLog;
use super::cross_origin::CrossOrigin;
use super::explanation;
use super::response_body::ResponseBody;
use crate::origin::{BodySource, Failure, FailureKind, FailureSide, OriginAnswer};
use crate::route::Route;
use crate::telemetry::RateLimitedLine;
use crate::wire::{PlainAnswer, answer};
use bytes::Bytes;
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode, Uri};

/// Returns a response of gripd's own.
pub(super) fn respond(
    answer: &PlainAnswer,
    cross_origin: &CrossOrigin,
    mut access_log: AccessLog,
) -> Response<ResponseBody> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    cross_origin.allow(response.headers_mut());
    let (head, body) = cross_origin.wrap(response.into_parts().0, Bytes::from(answer.body()));
    access_log.status(head.status.as_u16());
    Response::from_parts(head, ResponseBody::whole(body, access_log))
}

/// Returns the response to a request that is not forwarded to any origin. If the method is the reason, `Allow`
/// lists the methods that are supported (RFC 9110 15.5.6).
pub(super) fn refuse(
    refusal: &PlainAnswer,
    cross_origin: &CrossOrigin,
    access_log: AccessLog,
) -> Response<ResponseBody> {
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
) -> Response<ResponseBody> {
    let OriginAnswer { mut head, body, .. } = answered;
    cross_origin.allow(&mut head.headers);
    let body = match body {
        BodySource::Incoming(incoming, lease) => match ResponseBody::relayed(incoming, lease, access_log) {
            Ok(body) => body,
            Err(broken) => {
                let (error, access_log) = *broken;
                let failure = Failure::because(FailureKind::Unusable, error);
                return fail(front, route, &request.uri, &failure, cross_origin, access_log);
            }
        },
        BodySource::Whole(body) => ResponseBody::whole(body, access_log),
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
) -> Response<ResponseBody> {
    log(failure, uri, route);
    if failure.kind == FailureKind::RequestSlow {
        front.metrics.slow_bodies.inc();
    }
    let mut answer = of_failure(failure);
    if front.settings.borrow().debug || route.debug {
        answer = answer.explained(explanation::of_failure(failure, route));
    }
    let mut response = respond(&answer, cross_origin, access_log);
    if matches!(failure.kind, FailureKind::RequestSlow | FailureKind::RequestBroken | FailureKind::GaveWay) {
        // The client may still send the rest of the body, which would be taken for the next request.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Returns the response to a client whose request has failed.
const fn of_failure(failure: &Failure) -> PlainAnswer {
    match failure.kind {
        FailureKind::TimedOut => answer::ORIGIN_TIMED_OUT,
        FailureKind::Busy | FailureKind::NoDescriptor => answer::ORIGIN_BUSY,
        FailureKind::GaveWay => answer::SLOW_REQUEST_ENDED,
        FailureKind::RequestBroken => answer::REQUEST_BROKEN,
        FailureKind::RequestSlow => answer::REQUEST_SLOW,
        FailureKind::RequestTooLarge => answer::REQUEST_TOO_LARGE,
        FailureKind::NoScript => answer::NOT_JSONP,
        FailureKind::NotNamed => answer::NOT_NAMED,
        FailureKind::Denied => answer::DENIED,
        FailureKind::NotAllowed
        | FailureKind::Unreachable
        | FailureKind::Broken
        | FailureKind::Unusable
        | FailureKind::TooLarge
        | FailureKind::Lost => answer::ORIGIN_FAILED,
    }
}

/// Logs a failure, at a level that depends on the side that has caused it.
fn log(failure: &Failure, uri: &Uri, route: &Route) {
    static LINE: RateLimitedLine = RateLimitedLine::new();
    if failure.kind == FailureKind::NoDescriptor {
        // Every request may fail like this, so the line is written at most once a second.
        LINE.log(|left_out| tracing::error!(left_out, "cannot send requests to origins: {}", failure.explain()));
        return;
    }
    let (error, uri) = (failure.explain(), uri.to_string());
    let uri = route.shown(&uri);
    match failure.side() {
        FailureSide::Client if matches!(failure.kind, FailureKind::NotNamed | FailureKind::Denied) => {
            tracing::info!(%uri, route = %route.name, error, "request refused");
        }
        FailureSide::Client => tracing::debug!(%uri, route = %route.name, error, "request failed"),
        FailureSide::Origin => tracing::warn!(%uri, route = %route.name, error, "request failed"),
    }
}
