//! Routes, pure: which origin a request goes to.

mod line;
mod table;

pub use line::{parse_line, parse_lines};
pub use table::{Query, Table};

use std::fmt;

/// A condition and the origin of the requests that fit it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Which requests it is for.
    pub condition: Condition,
    /// Its name, if it has one.
    pub id: Option<String>,
    /// What stands before the names of the origin's channels.
    pub prefix: String,
    /// Whether clients are told why an answer of the origin could not be used.
    pub debug: bool,
    /// Where its requests go.
    pub target: Target,
    /// Options that mean something in Pushpin but nothing to this version.
    pub ignored: Vec<String>,
}

/// Which requests a route is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// The host, in lower case; `None` is any host without a route of its own.
    pub host: Option<String>,
    /// Only plain HTTP or only WebSocket requests.
    pub protocol: Option<Protocol>,
    /// Only requests over TLS, or only those without.
    pub secure: Option<bool>,
    /// How the path begins; empty fits all. There is no boundary: `/a` fits `/ab`.
    pub path_beg: String,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// An answer.
    Http,
    /// A WebSocket.
    WebSocket,
}

/// An origin's address: a host name or an IP address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The host, without the brackets of an IPv6 address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Route {
    /// What logs call it: its id, or its host and path.
    pub fn label(&self) -> impl fmt::Display {
        let host = self.condition.host.as_deref().unwrap_or("*");
        match &self.id {
            Some(id) => [id, ""],
            None => [host, &self.condition.path_beg],
        }
        .concat()
    }
}
