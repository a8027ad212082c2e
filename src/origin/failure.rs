//! The failures between gripd and an origin.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// A kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No connection: unknown host, refused, unreachable, or too slow.
    Unreachable,
    /// All connections stayed in use.
    Busy,
    /// The process may not open another connection.
    NoDescriptor,
    /// No answer in time.
    TimedOut,
    /// The connection ended before an answer came.
    Broken,
    /// The origin has sent no HTTP answer, or none that can be used.
    Unusable,
    /// An answer that holds has too large a body.
    TooLarge,
    /// An answer is too large, or of the wrong kind, to be made a script.
    NoScript,
    /// The origin of a WebSocket is gone, or not to be understood.
    Lost,
    /// An answer holds a channel that its route does not admit.
    NotAllowed,
    /// An answer holds a channel that the client's token does not name.
    NotNamed,
    /// An answer holds a channel that is denied to the client.
    Denied,
    /// The client was slow while others waited for the origin's connections.
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
pub enum Side {
    /// The client sent something that cannot be served.
    Client,
    /// The origin did not do its part.
    Origin,
}

/// Why a request has no answer from its origin.
#[derive(Debug)]
pub struct Failure {
    /// The kind of failure.
    pub kind: Kind,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// Returns a failure that has no further cause.
    pub const fn new(kind: Kind) -> Self {
        Self { kind, source: None }
    }

    /// Returns the failure of something that has taken longer than `limit`, which is the value of `setting`.
    pub fn over_time(kind: Kind, setting: &str, limit: Duration) -> Self {
        Self::because(kind, format!("{setting} ({} s) is over", limit.as_secs_f64()))
    }

    /// Returns a failure with its cause.
    pub fn because(kind: Kind, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, source: Some(source.into()) }
    }

    pub(super) fn from_hyper(error: hyper::Error) -> Self {
        let kind = if error.is_user() {
            Kind::RequestBroken
        } else if error.is_parse() {
            Kind::Unusable
        } else {
            Kind::Broken
        };
        Self::because(kind, error)
    }

    /// Returns the side that has caused it.
    pub const fn side(&self) -> Side {
        match self.kind {
            Kind::RequestBroken
            | Kind::RequestSlow
            | Kind::RequestTooLarge
            | Kind::GaveWay
            | Kind::NotNamed
            | Kind::Denied => Side::Client,
            _ => Side::Origin,
        }
    }

    /// Returns the text for somebody who debugs a route: the cause, if that says more than the kind.
    pub fn detail(&self) -> String {
        match (self.kind, self.source()) {
            (Kind::Unreachable | Kind::Unusable | Kind::TooLarge | Kind::NotAllowed, Some(cause)) => cause.to_string(),
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
            Kind::Unreachable => "cannot connect to the origin",
            Kind::NoDescriptor => "the process has reached its limit of open files; raise it (ulimit -n, LimitNOFILE)",
            Kind::Busy => "all connections to the origin are in use",
            Kind::TimedOut => "the origin did not answer in time",
            Kind::Broken => "the origin closed the connection without an answer",
            Kind::Unusable => "the origin's response is not valid",
            Kind::TooLarge => "the origin's answer is too large to be held",
            Kind::Lost => "the origin is lost",
            Kind::NoScript => "the origin's response cannot be encoded as JSON-P",
            Kind::NotAllowed => "the origin's response holds a channel that the route does not allow",
            Kind::NotNamed => "the client's token does not allow one of the channels",
            Kind::Denied => "one of the channels is currently denied to the client",
            Kind::GaveWay => {
                "the request was ended because its client was slow while others waited for a connection to the origin"
            }
            Kind::RequestSlow => "the client sent the request body too slowly (body_timeout, least_rate, body_total)",
            Kind::RequestBroken => "the request body is incomplete",
            Kind::RequestTooLarge => "the request body is too large for a request that is held",
        })
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}
