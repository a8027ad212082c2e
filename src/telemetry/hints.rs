//! Hints: log lines for somebody who is stuck. Each says what has happened, the probable reason, and what to do.

use super::rate_limited_line::LineState;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The shortest time between two hints of the same kind about the same route.
const INTERVAL: Duration = Duration::from_secs(60);

/// The number of routes and kinds of hints for which the time of the last hint is remembered. It is bounded because
/// the routes may be replaced by others while gripd runs.
const MOST_REMEMBERED: usize = 1024;

/// A kind of hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hint {
    /// The origin has answered a WebSocket handshake as a server does that does not speak WebSocket.
    WebSocketRefused,
    /// The origin holds a connection without any channel.
    NoChannel,
    /// The origin uses GRIP on a route without GRIP.
    GripUnused,
    /// An item has a format or a member that gripd does not know.
    UnknownMember,
    /// A publisher sends its items to the port of clients.
    PublishToClients,
    /// The origin listens on one of the loopback addresses, and the target of the route is the other.
    OtherLoopback,
    /// A client speaks TLS to the address for clients.
    TlsToClients,
    /// Somebody speaks TLS to the control port.
    TlsToControl,
    /// Somebody speaks ZeroMQ to the control port.
    ZeroMqToControl,
}

impl Hint {
    /// Every kind, in the order in which the variants are declared.
    pub const ALL: [Self; 9] = [
        Self::WebSocketRefused,
        Self::NoChannel,
        Self::GripUnused,
        Self::UnknownMember,
        Self::PublishToClients,
        Self::OtherLoopback,
        Self::TlsToClients,
        Self::TlsToControl,
        Self::ZeroMqToControl,
    ];

    /// Returns the name of the kind in log lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WebSocketRefused => "websocket-refused",
            Self::NoChannel => "no-channel",
            Self::GripUnused => "grip-unused",
            Self::UnknownMember => "unknown-member",
            Self::PublishToClients => "publish-to-clients",
            Self::OtherLoopback => "other-loopback",
            Self::TlsToClients => "tls-to-clients",
            Self::TlsToControl => "tls-to-control",
            Self::ZeroMqToControl => "zeromq-to-control",
        }
    }

    /// Returns whether the hint is no warning: the configuration may be intended, or any client can cause the hint.
    const fn is_harmless(self) -> bool {
        matches!(self, Self::WebSocketRefused | Self::GripUnused | Self::PublishToClients | Self::TlsToClients)
    }

    /// Logs the hint, unless one of the same kind was logged about the same route within the last minute. `route` is
    /// the name of the route, or `None` if the hint is about no route.
    pub fn log(self, route: Option<&str>, text: impl FnOnce() -> String) {
        static LIMITER: HintLimiter = HintLimiter::new();
        let Some(left_out) = LIMITER.at(Instant::now(), self, route.unwrap_or_default()) else { return };
        let (hint, route, text) = (self.name(), route.map(tracing::field::display), text());
        let left_out = (left_out > 0).then_some(left_out);
        if self.is_harmless() {
            tracing::info!(hint, route, left_out, "{text}");
        } else {
            tracing::warn!(hint, route, left_out, "{text}");
        }
    }
}

/// The times of the last hints.
struct HintLimiter(Mutex<BTreeMap<(Hint, Box<str>), LineState>>);

impl HintLimiter {
    const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// Returns how many hints were left out since the last one, or `None` if this one is left out as well.
    fn at(&self, now: Instant, hint: Hint, route: &str) -> Option<u64> {
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (hint, Box::from(route));
        if remembered.len() >= MOST_REMEMBERED && !remembered.contains_key(&key) {
            remembered.retain(|_, state| !state.is_due(now, INTERVAL));
            if remembered.len() >= MOST_REMEMBERED {
                return None;
            }
        }
        remembered.entry(key).or_default().at(now, INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_route_gets_one_hint_of_each_kind_in_a_minute() {
        let (limiter, begin) = (HintLimiter::new(), Instant::now());
        for route in ["a", "b"] {
            for hint in Hint::ALL {
                assert_eq!(limiter.at(begin, hint, route), Some(0), "{hint:?} {route}");
                assert!((1..13).all(|n| limiter.at(begin + Duration::from_secs(4 * n), hint, route).is_none()));
            }
        }
        assert_eq!(limiter.at(begin + INTERVAL, Hint::NoChannel, "a"), Some(12));
        assert_eq!(limiter.at(begin + INTERVAL, Hint::NoChannel, "a"), None);
        assert_eq!(limiter.at(begin + 2 * INTERVAL, Hint::NoChannel, "a"), Some(1));
    }

    #[test]
    fn routes_that_are_gone_are_forgotten() {
        let (limiter, begin) = (HintLimiter::new(), Instant::now());
        let name = |number: usize| format!("route {number}");
        for number in 0..MOST_REMEMBERED {
            assert_eq!(limiter.at(begin, Hint::NoChannel, &name(number)), Some(0));
        }
        assert_eq!(limiter.at(begin, Hint::NoChannel, "new"), None);
        let later = begin + INTERVAL;
        assert_eq!(limiter.at(later, Hint::NoChannel, "new"), Some(0));
        assert_eq!(limiter.0.lock().unwrap().len(), 1);
    }

    #[test]
    fn names_are_distinct() {
        let names: std::collections::BTreeSet<_> = Hint::ALL.iter().map(|hint| hint.name()).collect();
        assert_eq!(names.len(), Hint::ALL.len());
    }
}
