//! All routes, and the one that fits a request.

use super::{Condition, Protocol, Route};
use crate::grip::{Invalid, invalid};
use std::collections::HashMap;
use std::sync::Arc;

/// What of a request decides its route.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Its host, without the port.
    pub host: &'a str,
    /// Its path, as sent.
    pub path: &'a str,
    /// What it asks for.
    pub protocol: Protocol,
    /// Whether it came over TLS.
    pub secure: bool,
}

/// The routes, by host. A host that has routes of its own never falls back to those of `*`.
#[derive(Debug, Default)]
pub struct Table {
    hosts: HashMap<String, Vec<Arc<Route>>>,
    any: Vec<Arc<Route>>,
}

impl Table {
    /// A table of `routes`, whose order counts.
    ///
    /// # Errors
    /// Two routes have the same condition.
    pub fn new(routes: impl IntoIterator<Item = Route>) -> Result<Self, Invalid> {
        let mut table = Self::default();
        for route in routes {
            let list = match &route.condition.host {
                Some(host) => table.hosts.entry(host.clone()).or_default(),
                None => &mut table.any,
            };
            if list.iter().any(|other| other.condition == route.condition) {
                return invalid(format!("two routes have the same condition: '{}'", route.label()));
            }
            list.push(Arc::new(route));
        }
        Ok(table)
    }

    /// All routes.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.any.iter().chain(self.hosts.values().flatten())
    }

    /// The route for a request.
    pub fn find(&self, query: &Query<'_>) -> Option<&Arc<Route>> {
        let own = if query.host.bytes().any(|b| b.is_ascii_uppercase()) {
            self.hosts.get(&query.host.to_ascii_lowercase())
        } else {
            self.hosts.get(query.host)
        };
        let fitting = own.unwrap_or(&self.any).iter().filter(|route| route.condition.fits(query));
        fitting.reduce(|best, next| if next.condition.replaces(&best.condition) { next } else { best })
    }
}

impl Condition {
    fn fits(&self, query: &Query<'_>) -> bool {
        self.protocol.is_none_or(|p| p == query.protocol)
            && self.secure.is_none_or(|s| s == query.secure)
            && query.path.starts_with(&self.path_beg)
    }

    /// Whether this condition, which stands later, goes before `best`. Pushpin's rule: who names a protocol
    /// beats who does not; then the longer path, or naming `ssl` where the other does not, wins.
    fn replaces(&self, best: &Self) -> bool {
        match (self.protocol.is_some(), best.protocol.is_some()) {
            (true, false) => true,
            (false, true) => false,
            _ => self.path_beg.len() > best.path_beg.len() || (self.secure.is_some() && best.secure.is_none()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse_lines;
    use super::*;

    fn find(lines: &str, host: &str, path: &str) -> Option<u16> {
        let table = Table::new(parse_lines(lines).unwrap()).unwrap();
        let query = Query { host, path, protocol: Protocol::Http, secure: false };
        table.find(&query).map(|route| route.target.port)
    }

    #[test]
    fn a_host_with_routes_never_falls_back() {
        let lines = "* a:1\nexample.com,path_beg=/x a:2";
        assert_eq!(find(lines, "other.com", "/"), Some(1));
        assert_eq!(find(lines, "EXAMPLE.com", "/x/y"), Some(2));
        assert_eq!(find(lines, "example.com", "/"), None);
        assert_eq!(find("example.com a:1", "other.com", "/"), None);
    }

    #[test]
    fn the_longest_path_wins_without_a_segment_boundary() {
        let lines = "*,path_beg=/t a:1\n* a:2\n*,path_beg=/tree a:3";
        assert_eq!(find(lines, "h", "/tr"), Some(1));
        assert_eq!(find(lines, "h", "/tree/1"), Some(3));
        assert_eq!(find(lines, "h", "/"), Some(2));
    }

    #[test]
    fn naming_a_protocol_or_ssl_beats_a_longer_path() {
        assert_eq!(find("*,path_beg=/long a:1\n*,proto=http a:2", "h", "/long"), Some(2));
        assert_eq!(find("*,proto=http a:2\n*,path_beg=/long a:1", "h", "/long"), Some(2));
        assert_eq!(find("*,path_beg=/long a:1\n*,ssl=no a:2", "h", "/long"), Some(2));
        assert_eq!(find("*,ssl=no a:2\n*,path_beg=/long a:1", "h", "/long"), Some(1));
        assert_eq!(find("*,proto=ws a:1", "h", "/"), None);
        assert_eq!(find("*,ssl=yes a:1", "h", "/"), None);
    }

    #[test]
    fn the_same_condition_twice_is_an_error() {
        assert!(Table::new(parse_lines("*,id=a x:1\n*,id=b x:2").unwrap()).is_err());
        assert!(Table::new(parse_lines("*,path_beg=/a x:1\n*,path_beg=/b x:2").unwrap()).is_ok());
    }
}
