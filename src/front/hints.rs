//! Hints about routes: mistakes of which an origin's response, or its absence, is a sign. They are looked for only where
//! a response is unusual, so that they cost nothing otherwise.

use crate::grip::instruct::is_grip;
use crate::grip::{Instruct, is_media_type};
use crate::origin::{Failure, FailureKind, OriginAnswer};
use crate::route::Route;
use crate::telemetry::Hint;
use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::response;

/// Returns whether [`about_answer`] has to look at an ordinary response of this route with this status.
pub(super) const fn concern_answer(route: &Route, status: u16) -> bool {
    route.no_grip || matches!(status, 404 | 405)
}

/// Gives hints about an ordinary response: the route ignores its `Grip-*` headers, or it says that there is no
/// `/publish`.
pub(super) fn about_answer(route: &Route, request: &Parts, head: &response::Parts) {
    if route.no_grip && Instruct::concerns(&head.headers) {
        let name = head.headers.keys().find(|name| is_grip(name));
        Hint::GripUnused.log(Some(&route.name), || {
            format!(
                "The origin's response to {} uses GRIP ({}), but gripd passes it on as it is, because the route has \
                 the option no_grip. If gripd is to hold connections on this route, remove the option.",
                request.uri.path(),
                name.map_or("Content-Type: application/grip-instruct", |name| name.as_str()),
            )
        });
    }
    if matches!(head.status.as_u16(), 404 | 405) && is_publish(request) {
        publish_to_clients(Some(route), request, &format!("the origin answered it with {}", head.status.as_u16()));
    }
}

/// Gives a hint if a request to publish failed because the origin cannot be reached.
pub(super) fn about_failure(route: &Route, request: &Parts, failure: &Failure) {
    if failure.kind == FailureKind::Unreachable && is_publish(request) {
        publish_to_clients(Some(route), request, "the origin cannot be reached");
    }
}

/// Gives a hint if a request to publish has no route.
pub(super) fn about_request_without_route(request: &Parts) {
    if is_publish(request) {
        publish_to_clients(None, request, "no route matches it");
    }
}

/// Gives a hint about the response by which an origin has not accepted a WebSocket.
pub(super) fn about_refused_websocket(route: &Route, answered: &OriginAnswer) {
    let Some(target) = route.targets.get(answered.target).filter(|target| !target.over_http) else { return };
    let status = answered.head.status.as_u16();
    if speaks_only_http(status) {
        Hint::WebSocketRefused.log(Some(&route.name), || {
            format!(
                "The origin {target} answered a WebSocket handshake with the status {status} instead of 101. If it \
                 speaks only HTTP, add over_http to the target of the route: '{target},over_http'. gripd then sends it \
                 the events of each WebSocket by HTTP requests."
            )
        });
    }
}

/// Returns whether a server that does not speak WebSocket may answer a handshake with this status. A success means that
/// it took the handshake for an ordinary request. Of the errors, these say that the server does not know the path, the
/// method, or the upgrade. Others, such as 401, 403 and 429, are decisions about this client, and 5xx mostly failures.
const fn speaks_only_http(status: u16) -> bool {
    matches!(status, 200..=299 | 400 | 404 | 405 | 406 | 426 | 501)
}

/// Gives a hint if a connection is about to be held without a channel. `implicit` are the channels that it holds
/// besides those of the instruct.
pub(super) fn about_hold(route: &Route, request: &Parts, instruct: &Instruct, implicit: &[String]) {
    // A next link may name channels later, or may be all that the origin wants.
    if instruct.hold.is_none() || instruct.links.next.is_some() || !instruct.channels.is_empty() || !implicit.is_empty()
    {
        return;
    }
    Hint::NoChannel.log(Some(&route.name), || {
        format!(
            "The origin's response to {} holds the connection without a channel, so that no item can reach it. Add the \
             header Grip-Channel to the response, with the name of the channel to which you publish.",
            request.uri.path()
        )
    });
}

/// Returns whether a request looks like one to the control API that publishes items. Libraries send JSON to
/// `/publish/` below the path of `GRIP_URL`. By hand, curl sends the same with the type of a form.
fn is_publish(request: &Parts) -> bool {
    let path = request.uri.path();
    let path = path.strip_suffix('/').unwrap_or(path);
    let is_json = |value: &HeaderValue| is_media_type(value.as_bytes(), "application/json");
    let is_json = || request.headers.get(CONTENT_TYPE).is_some_and(is_json);
    request.method == Method::POST && (path == "/publish" || path.ends_with("/publish") && is_json())
}

fn publish_to_clients(route: Option<&Route>, request: &Parts, outcome: &str) {
    Hint::PublishToClients.log(route.map(|route| &*route.name), || {
        format!(
            "A request that looks like a publish (POST {}) came to the address for clients, and {outcome}. Publishers \
             use the control port, which is 5561 unless it is configured: set GRIP_URL to http://localhost:5561.",
            request.uri.path()
        )
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    fn request(method: &str, uri: &str, media_type: &str) -> Parts {
        let request = Request::builder().method(method).uri(uri).header("content-type", media_type);
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_publish_is_recognized_by_its_method_path_and_type() {
        for uri in ["/publish", "/publish/", "/realm/publish/?x=y"] {
            assert!(is_publish(&request("POST", uri, "application/json")), "{uri}");
        }
        assert!(is_publish(&request("POST", "/a/publish/", "application/json; charset=utf-8")));
        assert!(is_publish(&request("POST", "/publish", "application/x-www-form-urlencoded")));
        for (method, uri, media_type) in [
            ("GET", "/publish/", "application/json"),
            ("POST", "/article/5/publish", "application/x-www-form-urlencoded"),
            ("POST", "/publish/a", "application/json"),
            ("POST", "/republish", "application/json"),
        ] {
            assert!(!is_publish(&request(method, uri, media_type)), "{method} {uri} {media_type}");
        }
    }

    #[test]
    fn decisions_about_a_client_are_no_sign_of_a_missing_over_http() {
        assert!([200, 400, 404, 405, 426, 501].into_iter().all(speaks_only_http));
        assert!(![302, 401, 403, 409, 429, 500, 502, 503].into_iter().any(speaks_only_http));
    }
}
