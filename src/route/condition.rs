//! Which requests a route is for.

use std::fmt;

/// The properties of a request that decide its route.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Its host in any spelling, with or without a port.
    pub host: &'a str,
    /// Its path, as sent.
    pub path: &'a str,
    /// The protocol that it asks for.
    pub protocol: Protocol,
    /// Whether it came over TLS.
    pub secure: bool,
}

/// The protocol that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// An answer.
    Http,
    /// A WebSocket.
    WebSocket,
}

/// Which requests a route is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Condition {
    /// The host, in lower case; `None` is any host without a route of its own, the empty one none at all: the route
    /// is found by its id.
    pub host: Option<String>,
    /// Only plain HTTP or only WebSocket requests.
    pub protocol: Option<Protocol>,
    /// Only requests over TLS, or only those without.
    pub secure: Option<bool>,
    /// How the path begins; empty fits all. There is no boundary: `/a` fits `/ab`.
    pub path_beg: String,
}

impl fmt::Display for Condition {
    /// Writes host and path, and the other conditions that tell it from others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.host.as_deref().unwrap_or("*"), self.path_beg)?;
        match self.protocol {
            None => {}
            Some(Protocol::Http) => f.write_str(",proto=http")?,
            Some(Protocol::WebSocket) => f.write_str(",proto=ws")?,
        }
        match self.secure {
            None => Ok(()),
            Some(secure) => f.write_str(if secure { ",ssl=yes" } else { ",ssl=no" }),
        }
    }
}

impl Condition {
    /// Returns whether only an id leads to it.
    pub const fn is_by_id_only(&self) -> bool {
        matches!(&self.host, Some(host) if host.is_empty())
    }

    pub(super) fn fits(&self, query: &Query<'_>) -> bool {
        self.protocol.is_none_or(|p| p == query.protocol)
            && self.secure.is_none_or(|s| s == query.secure)
            && query.path.starts_with(&self.path_beg)
    }

    /// Returns whether this condition, which stands later, goes before `best`. Pushpin's rule: who names a protocol beats
    /// who does not; then the longer path, or naming `ssl` where the other does not, wins.
    pub(super) fn replaces(&self, best: &Self) -> bool {
        match (self.protocol.is_some(), best.protocol.is_some()) {
            (true, false) => true,
            (false, true) => false,
            _ => self.path_beg.len() > best.path_beg.len() || (self.secure.is_some() && best.secure.is_none()),
        }
    }
}
