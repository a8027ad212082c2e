//! The condition that decides which requests belong to a route.

use std::fmt;

/// The properties of a request that decide its route.
#[derive(Clone, Copy, Debug)]
pub struct RouteQuery<'a> {
    /// The host of the request in any spelling, with or without a port.
    pub host: &'a str,
    /// The path of the request, as sent.
    pub path: &'a str,
    /// The protocol that the request asks for.
    pub protocol: Protocol,
    /// Whether the client's request arrived over TLS.
    pub secure: bool,
}

/// The protocol that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Plain HTTP.
    Http,
    /// A WebSocket.
    WebSocket,
}

/// The condition that a request must meet to belong to a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RouteCondition {
    /// The host, in the spelling that `canonical_host` returns. `None` stands for every host that has no route of
    /// its own. An empty host fits no request: such a route is found only by its id.
    pub host: Option<String>,
    /// The protocol that a request must ask for. `None` stands for both.
    pub protocol: Option<Protocol>,
    /// Whether a request must have arrived over TLS (`true`) or without TLS (`false`). `None` stands for both.
    pub secure: Option<bool>,
    /// The beginning of the path. An empty text fits every path. There is no segment boundary: `/a` fits `/ab`.
    pub path_beg: String,
}

impl fmt::Display for RouteCondition {
    /// Writes the host and the path, and then `proto` and `ssl` if the condition has them.
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

impl RouteCondition {
    /// Returns whether the route can be found only by its id.
    pub const fn is_by_id_only(&self) -> bool {
        matches!(&self.host, Some(host) if host.is_empty())
    }

    pub(super) fn fits(&self, query: &RouteQuery<'_>) -> bool {
        self.protocol.is_none_or(|p| p == query.protocol)
            && self.secure.is_none_or(|s| s == query.secure)
            && query.path.starts_with(&self.path_beg)
    }

    /// Returns whether this condition, which comes later in the table, has precedence over `best`. As in Pushpin, a
    /// condition with a protocol has precedence over one without. Otherwise, this condition has precedence if its
    /// path is longer, or if it has `ssl` and `best` has not.
    pub(super) fn replaces(&self, best: &Self) -> bool {
        match (self.protocol.is_some(), best.protocol.is_some()) {
            (true, false) => true,
            (false, true) => false,
            _ => self.path_beg.len() > best.path_beg.len() || (self.secure.is_some() && best.secure.is_none()),
        }
    }
}
