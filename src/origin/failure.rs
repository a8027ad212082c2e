//! The failures between gripd and an origin.

use hyper::Method;
use std::error::Error;
use std::fmt;
use std::time::Duration;

/// A kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// No connection could be made: the host is unknown, refused the connection, could not be reached, took too long
    /// or is in a private network that is forbidden. For gripd's own requests: there is no route for the URI, or the
    /// URI requires TLS.
    Unreachable,
    /// All connections to the origin stayed in use for the time that a request may wait for one (`connection_wait`),
    /// or the limit of WebSockets that are relayed to the origin is reached.
    Busy,
    /// The process may not open another file descriptor for a connection.
    NoDescriptor,
    /// The origin did not respond in time.
    TimedOut,
    /// The connection to the origin ended before the response was complete.
    Broken,
    /// The origin's response is not valid HTTP or cannot be used, or no valid request can be made for the origin.
    Unusable,
    /// The body of a response is too large to be kept in memory, which is necessary if the response holds, for
    /// example.
    TooLarge,
    /// The response is too large, or of the wrong kind, to be wrapped in a script (JSON-P).
    NoScript,
    /// The origin of a WebSocket has left, or has broken the protocol.
    Lost,
    /// The response holds a channel that the rule of the route does not admit.
    NotAllowed,
    /// The response holds a channel that the client's token does not name.
    NotNamed,
    /// The response holds a channel that is denied to the client.
    Denied,
    /// The connection was closed because its client was slow while other requests waited for a connection to the
    /// origin.
    GaveWay,
    /// The client's request body did not arrive whole.
    RequestBroken,
    /// The client sent its request body too slowly.
    RequestSlow,
    /// The request body is too large for a request that is held.
    RequestTooLarge,
}

/// The side that has caused a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureSide {
    /// The client has caused the failure: its request cannot be served, or it was too slow.
    Client,
    /// The origin, its configuration or a limit of gripd has caused the failure.
    Origin,
}

/// An error that says why a request has no usable response from its origin.
#[derive(Debug)]
pub struct Failure {
    /// The kind of failure.
    pub kind: FailureKind,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// Returns a failure that has no further cause.
    pub const fn new(kind: FailureKind) -> Self {
        Self { kind, source: None }
    }

    /// Returns the failure of something that has taken longer than `limit`, which is the value of `setting`.
    pub fn over_time(kind: FailureKind, setting: &str, limit: Duration) -> Self {
        Self::because(kind, format!("{setting} ({} s) has expired", limit.as_secs_f64()))
    }

    /// Returns a failure with its cause.
    pub fn because(kind: FailureKind, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, source: Some(source.into()) }
    }

    pub(super) fn from_hyper(error: hyper::Error) -> Self {
        let kind = if error.is_user() {
            FailureKind::RequestBroken
        } else if error.is_parse() {
            FailureKind::Unusable
        } else {
            FailureKind::Broken
        };
        Self::because(kind, error)
    }

    /// Returns the side that has caused the failure.
    pub const fn side(&self) -> FailureSide {
        match self.kind {
            FailureKind::RequestBroken
            | FailureKind::RequestSlow
            | FailureKind::RequestTooLarge
            | FailureKind::GaveWay
            | FailureKind::NotNamed
            | FailureKind::Denied => FailureSide::Client,
            _ => FailureSide::Origin,
        }
    }

    /// Returns the text for somebody who debugs a route: the cause alone if it says more than the kind of failure,
    /// otherwise the same as [`Failure::explain`].
    pub fn detail(&self) -> String {
        match (self.kind, self.source()) {
            (
                FailureKind::Unreachable | FailureKind::Unusable | FailureKind::TooLarge | FailureKind::NotAllowed,
                Some(cause),
            ) => cause.to_string(),
            _ => self.explain(),
        }
    }

    /// Returns the failure and its causes, in one line.
    pub fn explain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            FailureKind::Unreachable => "cannot connect to the origin",
            FailureKind::NoDescriptor => {
                "the process has reached its limit of open files; raise it (ulimit -n, LimitNOFILE)"
            }
            FailureKind::Busy => "all connections to the origin are in use",
            FailureKind::TimedOut => "the origin did not answer in time",
            FailureKind::Broken => "the connection to the origin ended before the response was complete",
            FailureKind::Unusable => "the origin's response is not valid",
            FailureKind::TooLarge => "the origin's response is too large",
            FailureKind::Lost => "the connection to the origin was lost",
            FailureKind::NoScript => "the origin's response cannot be encoded as JSON-P",
            FailureKind::NotAllowed => "the origin's response names a channel that the route does not allow",
            FailureKind::NotNamed => "the client's token does not allow one of the channels",
            FailureKind::Denied => "one of the channels is currently denied to the client",
            FailureKind::GaveWay => {
                "the request was ended because its client was slow while other requests waited for a connection \
                 to the origin"
            }
            FailureKind::RequestSlow => {
                "the client sent the request body too slowly (see [client] body_timeout, least_rate and body_total)"
            }
            FailureKind::RequestBroken => "the request body is incomplete",
            FailureKind::RequestTooLarge => "the request body is too large to be kept while the request is held",
        })
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

/// The failure of a request to one target.
pub(super) struct FailedRequest {
    pub(super) failure: Failure,
    /// Whether the origin cannot have received any byte of the request, so that it may be sent again.
    pub(super) unsent: bool,
}

impl FailedRequest {
    pub(super) const fn unsent(failure: Failure) -> Self {
        Self { failure, unsent: true }
    }

    pub(super) const fn sent(failure: Failure) -> Self {
        Self { failure, unsent: false }
    }

    pub(super) fn may_retry(&self, method: &Method) -> bool {
        self.unsent || (self.failure.kind == FailureKind::Broken && method.is_idempotent())
    }
}
