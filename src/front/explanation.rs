//! Explanations of failures for developers, in the place of the short texts for clients. They are for routes that are
//! being debugged, because they name the targets.

use crate::origin::{Failure, FailureKind, named_host};
use crate::route::{Route, RouteTable, Target};
use hyper::http::request::Parts;

/// The number of routes that an explanation lists.
const MOST_ROUTES: usize = 20;

/// Returns the reason for a failure, the route and its targets, and what to do.
pub(super) fn of_failure(failure: &Failure, route: &Route) -> String {
    let targets: Vec<String> = route.targets.iter().map(Target::to_string).collect();
    let mut text = format!("{}\n\nRoute: {}\nTarget: {}", failure.detail(), route.name, targets.join(", "));
    if let Some(remedy) = remedy(failure.kind) {
        text.push_str("\n\n");
        text.push_str(remedy);
    }
    text
}

/// Returns the text for a request that no route matches. It lists the routes.
pub(super) fn of_missing_route(request: &Parts, routes: &RouteTable) -> String {
    let host = named_host(request).map_or_else(|| "localhost".into(), String::from_utf8_lossy);
    let (path, count) = (request.uri.path(), routes.routes().count());
    let mut text =
        format!("Route not found\n\nNo route matches the host {host} and the path {path}. The routes are:\n");
    for route in routes.routes().take(MOST_ROUTES) {
        text.push_str(&format!("\n{}", route.name));
    }
    if count > MOST_ROUTES {
        text.push_str(&format!("\nand {} more", count - MOST_ROUTES));
    }
    text
}

/// Returns what can be done about a failure, or `None` if its reason says enough.
const fn remedy(kind: FailureKind) -> Option<&'static str> {
    match kind {
        FailureKind::Unreachable => Some("Start the origin, or correct the target of the route."),
        FailureKind::TimedOut => Some(
            "Let the origin answer sooner, or raise response_timeout. To push data later, an origin does not wait: it \
             answers at once, with Grip-Hold and Grip-Channel.",
        ),
        FailureKind::Broken | FailureKind::Lost => {
            Some("The origin has closed the connection, or has crashed. Its own log may say why.")
        }
        FailureKind::Unusable => {
            Some("The origin has answered, but gripd cannot use the response. Correct the response.")
        }
        FailureKind::TooLarge => Some(
            "Let the origin send a smaller response: gripd has to keep this one in memory, because of its Grip headers.",
        ),
        FailureKind::NotAllowed => Some(
            "Correct Grip-Channel in the response, or add a pattern for the channel to the option channels of the route.",
        ),
        FailureKind::NotNamed => {
            Some("Give the client a token that names the channel, or correct Grip-Channel in the response.")
        }
        FailureKind::Denied => Some("The denial ends by itself, or by DELETE /denied/NAME on the control port."),
        FailureKind::Busy => {
            Some("Let the origin answer sooner, or raise connections and connection_wait in [origin].")
        }
        FailureKind::NoScript => Some("Request the URL without a JSON-P callback."),
        FailureKind::NoDescriptor
        | FailureKind::GaveWay
        | FailureKind::RequestBroken
        | FailureKind::RequestSlow
        | FailureKind::RequestTooLarge => None,
    }
}
