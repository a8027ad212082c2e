//! The table of all routes, in which the route of a request is found.

use super::{Route, RouteQuery};
use crate::grip::InvalidText;
use crate::wire::canonical_host;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The routes, by host. A request for a host that has routes of its own never falls back to the routes of `*`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RouteTable {
    hosts: HashMap<String, Vec<Arc<Route>>>,
    any: Vec<Arc<Route>>,
    /// Whether a target takes WebSocket events as requests.
    takes_events: bool,
    /// Whether a route accepts users' tokens in the queries of requests.
    has_tokens: bool,
}

impl RouteTable {
    /// Returns a table of `routes`, whose order matters.
    ///
    /// # Errors
    /// Two routes have the same condition, or the same name although one of them has a rule for channels. The index
    /// of the second one is returned with the error.
    pub fn new(routes: impl IntoIterator<Item = Route>) -> Result<Self, (usize, InvalidText)> {
        let mut table = Self::default();
        let mut conditions = HashSet::new();
        for (index, route) in routes.into_iter().enumerate() {
            if !route.condition.is_by_id_only() && !conditions.insert(route.condition.clone()) {
                let why = format!("two routes have the same condition: '{}'", route.name);
                return Err((index, InvalidText::new(why)));
            }
            if table.routes().any(|other| other.name == route.name && (other.is_ruled() || route.is_ruled())) {
                let why =
                    format!("two routes have the id '{}': the id of a route with channels must be unique", route.name);
                return Err((index, InvalidText::new(why)));
            }
            let list = match &route.condition.host {
                Some(host) => table.hosts.entry(host.clone()).or_default(),
                None => &mut table.any,
            };
            table.has_tokens |= route.has_tokens();
            table.takes_events |= route.targets.iter().any(|target| target.over_http);
            list.push(Arc::new(route));
        }
        Ok(table)
    }

    /// Returns all routes.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.any.iter().chain(self.hosts.values().flatten())
    }

    /// Returns whether a target takes WebSocket events as requests, so that clients must not send such requests.
    pub const fn takes_events(&self) -> bool {
        self.takes_events
    }

    /// Returns whether a route accepts users' tokens in the queries of requests.
    pub const fn has_tokens(&self) -> bool {
        self.has_tokens
    }

    /// Returns the route for a request.
    pub fn find(&self, query: &RouteQuery<'_>) -> Option<&Arc<Route>> {
        let own = if self.hosts.is_empty() || query.host.is_empty() {
            None
        } else {
            self.hosts.get(&*canonical_host(query.host))
        };
        let fitting = own.unwrap_or(&self.any).iter();
        let fitting = fitting.filter(|route| route.condition.fits(query));
        fitting.reduce(|best, next| if next.condition.replaces(&best.condition) { next } else { best })
    }

    /// Returns the route with an id, if exactly one route has this id and the path begins as its condition demands.
    /// As in Pushpin, the rest of the condition does not matter.
    pub fn named(&self, id: &str, path: &str) -> Option<&Arc<Route>> {
        let named = self.the_only(|route| route.id.as_deref() == Some(id))?;
        if path.starts_with(&named.condition.path_beg) { Some(named) } else { None }
    }

    /// Returns the route of this table that corresponds to a route of an earlier table: the route for the same
    /// requests, or the only one with the same id.
    pub fn again(&self, route: &Route) -> Option<&Arc<Route>> {
        let by_id = route.condition.is_by_id_only();
        let same = |other: &&Arc<Route>| other.condition == route.condition && (!by_id || other.id == route.id);
        let by_name = || self.the_only(|other| other.id.is_some() && other.id == route.id);
        self.routes().find(same).or_else(by_name)
    }

    /// Returns the route for which `wanted` is true, if there is exactly one.
    fn the_only(&self, wanted: impl Fn(&Route) -> bool) -> Option<&Arc<Route>> {
        let mut found = self.routes().filter(|route| wanted(route));
        let first = found.next();
        if found.next().is_some() { None } else { first }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Protocol, TargetPlace, routes_of};
    use super::*;

    fn find(lines: &str, host: &str, path: &str) -> Option<u16> {
        let table = RouteTable::new(routes_of(lines)).unwrap();
        let query = RouteQuery { host, path, protocol: Protocol::Http, secure: false };
        table.find(&query).and_then(|route| match &route.targets[0].place {
            TargetPlace::Address(address) => Some(address.port),
            TargetPlace::Test => None,
        })
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
    fn every_spelling_of_a_host_leads_to_its_route() {
        for host in ["jwt.test", "JWT.TEST", "jwt.test.", "Jwt.Test.:80", "jwt.test:8080"] {
            assert_eq!(find("* a:1\njwt.test a:2", host, "/"), Some(2), "{host}");
            assert_eq!(find("* a:1\nJwt.Test. a:2", host, "/"), Some(2), "{host}");
        }
        for host in ["[::1]", "[0:0::1]:80"] {
            assert_eq!(find("* a:1\n[0::1] a:2", host, "/"), Some(2), "{host}");
        }
        assert_eq!(find("* a:1\n127.0.0.1 a:2", "127.1", "/"), Some(2));
        assert_eq!(find("* a:1\njwt.test a:2", "jwt.test.other", "/"), Some(1));
        let twice = routes_of("jwt.test a:1\njwt.test. a:2");
        assert!(RouteTable::new(twice).is_err());
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
        assert!(RouteTable::new(routes_of("*,id=a x:1\n*,id=b x:2")).is_err());
        assert!(RouteTable::new(routes_of("*,path_beg=/a x:1\n*,path_beg=/b x:2")).is_ok());
    }

    #[test]
    fn ids_lead_to_routes_whatever_their_condition() {
        let table = RouteTable::new(routes_of("h,id=a,path_beg=/x a:1\nid=b a:2\n*,id=c a:3\nh,id=c a:4")).unwrap();
        let found = |id, path| table.named(id, path).map(|route| route.targets[0].to_string());
        assert_eq!(found("a", "/x/1").as_deref(), Some("a:1"));
        assert_eq!(found("a", "/y"), None);
        assert_eq!(found("b", "/").as_deref(), Some("a:2"));
        // An id that two routes share leads to neither.
        assert_eq!((found("c", "/"), found("d", "/")), (None, None));
        assert_eq!(find("id=b a:2", "", "/"), None);
    }

    #[test]
    fn a_route_is_found_again_in_another_table() {
        let old = RouteTable::new(routes_of("*,id=a a:1\nh a:2")).unwrap();
        let new = RouteTable::new(routes_of("h a:9\nx,id=a a:8")).unwrap();
        let again: Vec<_> = old.routes().map(|route| new.again(route).unwrap().targets[0].to_string()).collect();
        assert_eq!(again, ["a:8", "a:9"]);
        assert!(RouteTable::default().again(old.routes().next().unwrap()).is_none());
        // The condition is compared before the id, because an id may be added, removed, or given to another route.
        let old = RouteTable::new(routes_of("* a:1\nh,id=x a:2")).unwrap();
        let new = RouteTable::new(routes_of("*,id=x a:8\nh,id=x a:9")).unwrap();
        let again: Vec<_> = old.routes().map(|route| new.again(route).unwrap().targets[0].to_string()).collect();
        assert_eq!(again, ["a:8", "a:9"]);
    }
}
