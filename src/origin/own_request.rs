//! Requests that gripd makes itself on behalf of a client: those for links and those of HTTP filters.

use super::{
    BodySource, ClientNetwork, Failure, FailureKind, Lane, Lease, OriginClient, OriginRequest, OwnRequestPermit,
    RequestBody, RequestPurpose,
};
use crate::grip::item::ItemId;
use crate::grip::link::resolve;
use crate::route::{Address, Protocol, Rewrite, Route, RouteQuery, RouteTable, Target, TargetPlace};
use crate::wire::{RequestSender, is_same_authority};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode, Uri};
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// The size in bytes of the largest response body that is kept in memory as a whole, unless the body consists of
/// WebSocket events. Pushpin has the same limit.
pub const MAX_BODY: usize = 100_000;

/// The properties of a client's request that are needed for gripd's own requests on behalf of that client.
#[derive(Clone, Debug)]
pub struct Requester {
    /// The route of the client's request.
    pub route: Arc<Route>,
    /// The host that the client's request named, with its port if it named one.
    pub host: String,
    /// The absolute URI to which links are relative: the URI of the client's request, or of the link that was
    /// requested last.
    pub uri: String,
    /// Whether the client's request came over TLS.
    pub secure: bool,
    /// The client's address, if a trusted proxy is between the client and gripd. `None` if the client itself has
    /// connected, as far as gripd knows.
    pub client: Option<IpAddr>,
    /// The client as a source of requests, which takes turns with other sources.
    pub source: ClientNetwork,
}

/// A request that gripd makes itself.
#[derive(Debug)]
pub struct OwnRequest<'a> {
    /// The method of the request.
    pub method: Method,
    /// The absolute URI of the request.
    pub uri: &'a Uri,
    /// The additional request headers.
    pub headers: &'a [(HeaderName, String)],
    /// The body of the request.
    pub body: Bytes,
    /// The id of the item that the client received last in each of its channels, for `Grip-Last`.
    pub last_ids: &'a [(String, ItemId)],
}

/// A response from the origin that is collected in memory and not relayed to a client.
#[derive(Debug)]
pub struct CollectedAnswer {
    /// The status of the response.
    pub status: StatusCode,
    /// The headers of the response.
    pub headers: HeaderMap,
    /// The body of the response, or the beginning of a body that is too large to be kept.
    pub body: Bytes,
    /// The rest of a body that is too large to be kept. It has not been read from the connection yet.
    pub rest: Option<(Incoming, Lease)>,
}

impl Requester {
    /// Returns the URI of the client's request, or of the last link, for logs: without the tokens of users.
    pub fn shown(&self) -> Cow<'_, str> {
        self.route.shown(&self.uri)
    }

    /// Returns the absolute URI of a link in a response of the origin, as a client would write it. Returns `None` if
    /// the link is not a reference to an HTTP resource.
    ///
    /// A route may replace the beginning of paths (`path_rem`, `replace_beg`). If the link's path begins as the
    /// origin sees paths, the replacement is undone. If the path begins as clients write paths, it is left as it is.
    /// If it begins in both ways, the longer beginning decides. A link to another host is left as it is.
    pub fn resolve(&self, reference: &str) -> Option<Uri> {
        let uri = resolve(&self.uri, reference)?;
        let authority = uri.authority()?.as_str();
        let Rewrite { cut, begin, .. } = &self.route.rewrite;
        if (*cut == 0 && begin.is_empty()) || !is_same_authority(&self.host, authority) {
            return Some(uri);
        }
        let own: Uri = self.uri.parse().ok()?;
        let Some(removed) = own.path().get(..*cut) else { return Some(uri) };
        let path = uri.path();
        let is_own = begins_with(path, begin) && (begin.starts_with(removed) || !begins_with(path, removed));
        let Some(rest) = path.strip_prefix(begin.as_str()) else { return Some(uri) };
        if !is_own {
            return Some(uri);
        }
        let query = uri.query().map_or_else(String::new, |query| format!("?{query}"));
        format!("{}://{authority}{removed}{rest}{query}", uri.scheme_str()?).parse().ok()
    }

    /// Returns the route for a request to `uri`. A URI on the host of the client's request is served by the routes of
    /// this gripd, whatever its scheme, because a proxy in front of gripd may have terminated TLS. gripd does not
    /// connect to that host by its name, since the client has chosen the name. The route is the current version of
    /// the client's own route if the path fits, or else the one that the table has for the path. An `http` URI on
    /// another host gets a route that leads to that host. An `https` URI on another host is an error.
    fn route_for(&self, routes: &RouteTable, uri: &Uri) -> Result<Arc<Route>, Failure> {
        let authority = uri.authority().map_or("", |a| a.as_str());
        if is_same_authority(&self.host, authority) {
            return self
                .own_route(routes, uri)
                .cloned()
                .ok_or_else(|| Failure::because(FailureKind::Unreachable, format!("Route not found for {uri}")));
        }
        if uri.scheme_str() != Some("http") {
            let why = format!("{uri} is on another host, and TLS to origins is not supported");
            return Err(Failure::because(FailureKind::Unreachable, why));
        }
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let address = Address { host, port: uri.port_u16().unwrap_or(80) };
        let untrusted = self.route.targets.iter().any(|target| target.untrusted);
        let place = TargetPlace::Address(address);
        let target = Target { place, host: None, channels: Vec::new(), untrusted, over_http: false, one_event: false };
        let (signer, name) = (self.route.signer.clone(), Arc::clone(&self.route.name));
        Ok(Arc::new(Route { signer, name, targets: vec![target], ..Route::default() }))
    }

    fn own_route<'a>(&self, routes: &'a RouteTable, uri: &Uri) -> Option<&'a Arc<Route>> {
        if uri.path().starts_with(&self.route.condition.path_beg) {
            return routes.again(&self.route);
        }
        routes.find(&RouteQuery { host: &self.host, path: uri.path(), protocol: Protocol::Http, secure: self.secure })
    }
}

/// Returns whether a path begins with `other`, and `other` ends at the border of a segment of the path.
fn begins_with(path: &str, other: &str) -> bool {
    path.strip_prefix(other)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || other.is_empty() || other.ends_with('/'))
}

impl OriginClient {
    /// Sends a request on behalf of a client, and reads the body of the response until its end, or until more than
    /// [`MAX_BODY`] bytes were read. The rest of a larger body is returned unread.
    ///
    /// # Errors
    /// There is no route for the URI, the request is not valid, or there is no usable response. The error says why.
    pub async fn ask(&self, about: &Requester, ask: OwnRequest<'_>) -> Result<CollectedAnswer, Failure> {
        let route = about.route_for(&self.routes(), ask.uri)?;
        let request = request(&ask)?;
        let origin_request = OriginRequest {
            route: &route,
            request: &request,
            peer: None,
            client: None,
            peer_text: None,
            way: None,
            waiting: None,
            secure: about.secure,
            sender: RequestSender::Client,
            internal: true,
            purpose: RequestPurpose::Plain,
            last_ids: ask.last_ids,
        };
        let answered = self.send(&origin_request, &RequestBody::of(ask.body)).await?;
        let (body, rest) = match answered.body {
            BodySource::Whole(body) => (body, None),
            BodySource::Incoming(incoming, lease) => {
                collect(incoming, lease, MAX_BODY, self.response_timeout(&route)).await?
            }
        };
        Ok(CollectedAnswer { status: answered.head.status, headers: answered.head.headers, body, rest })
    }

    /// Sends the request of an HTTP filter, whose response says whether to deliver an item and with which content.
    /// Waits for a turn first. The time limit `filter_timeout` begins after this wait.
    ///
    /// # Errors
    /// There is no usable response in time. The error says why.
    pub async fn ask_filter(&self, about: &Requester, ask: OwnRequest<'_>) -> Result<CollectedAnswer, Failure> {
        let route = about.route_for(&self.routes(), ask.uri)?;
        let _turn = self.turn(Lane::Filters, about, &route).await;
        let limit = self.settings().filter_timeout;
        let asked = timeout(limit, self.ask(about, ask));
        asked.await.unwrap_or_else(|_| Err(Failure::over_time(FailureKind::TimedOut, "filter_timeout", limit)))
    }

    /// Waits for a turn to send one of gripd's own requests to the origin of a URI. Returns an error if there is no
    /// route for the URI.
    pub(super) async fn turn_for(&self, lane: Lane, about: &Requester, uri: &Uri) -> Result<OwnRequestPermit, Failure> {
        let route = about.route_for(&self.routes(), uri)?;
        Ok(self.turn(lane, about, &route).await)
    }

    /// Waits for a turn to send one of gripd's own requests to the origin of a route, on behalf of a client.
    pub async fn turn(&self, lane: Lane, about: &Requester, route: &Route) -> OwnRequestPermit {
        let origin = route.targets.first().map_or_else(String::new, Target::to_string);
        self.shield.turns.next(lane, origin, about.source).await
    }

    /// Returns the time until a link that is due every `period` is requested next: see [`super::Shield::wait`].
    pub fn link_wait(&self, uri: &Uri, period: Duration) -> Duration {
        self.shield.wait(&uri.to_string(), period)
    }
}

fn request(ask: &OwnRequest<'_>) -> Result<Parts, Failure> {
    let mut request = Request::builder().method(ask.method.clone()).uri(ask.uri.clone());
    request = request.header(HOST, ask.uri.authority().map_or("localhost", |a| a.as_str()));
    for (name, value) in ask.headers {
        request = request.header(name, HeaderValue::from_bytes(value.as_bytes()).map_err(unaskable)?);
    }
    if ask.method == Method::POST {
        request = request.header(CONTENT_LENGTH, ask.body.len());
    }
    let (parts, ()) = request.body(()).map_err(unaskable)?.into_parts();
    Ok(parts)
}

fn unaskable(error: impl Into<hyper::http::Error>) -> Failure {
    Failure::because(FailureKind::Unusable, error.into())
}

/// Reads a body until its end, or until more than `most` bytes were read. In the second case, the rest of the body is
/// returned with its connection.
///
/// # Errors
/// The body ended early, or was not read within `patience`.
pub async fn collect(
    mut incoming: Incoming,
    lease: Lease,
    most: usize,
    patience: Duration,
) -> Result<(Bytes, Option<(Incoming, Lease)>), Failure> {
    let mut body = BytesMut::new();
    let read = async {
        while let Some(frame) = incoming.frame().await {
            if let Ok(data) = frame?.into_data() {
                body.extend_from_slice(&data);
            }
            if body.len() > most {
                return Ok::<_, hyper::Error>(false);
            }
        }
        Ok(true)
    };
    match timeout(patience, read).await {
        Err(_) => Err(Failure::over_time(FailureKind::TimedOut, "response_timeout", patience)),
        Ok(Err(error)) => Err(Failure::because(FailureKind::Broken, error)),
        Ok(Ok(false)) => Ok((body.freeze(), Some((incoming, lease)))),
        Ok(Ok(true)) => {
            lease.finish();
            Ok((body.freeze(), None))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::routes_of;

    fn goes_to(lines: &str, link: &str) -> Result<String, String> {
        let table = RouteTable::new(routes_of(lines)).unwrap();
        let query = RouteQuery { host: "chat.example", path: "/events", protocol: Protocol::Http, secure: false };
        let route = Arc::clone(table.find(&query).unwrap());
        let uri = "http://Chat.example/events?x".to_owned();
        let asking = Requester {
            route,
            host: "Chat.example".to_owned(),
            uri,
            secure: false,
            client: None,
            source: ClientNetwork::default(),
        };
        let route = asking.route_for(&table, &link.parse().unwrap());
        route.map(|route| route.targets[0].to_string()).map_err(|failure| failure.explain())
    }

    #[test]
    fn what_is_on_the_clients_host_stays_here() {
        for link in ["http://chat.example/next", "http://chat.example:80/", "https://chat.example/next"] {
            assert_eq!(goes_to("*,path_beg=/ o:1", link).unwrap(), "o:1", "{link}");
        }
        // A link to another path takes the route for that path, or fails. gripd never connects to the host that the
        // client named.
        assert_eq!(goes_to("*,path_beg=/events o:1\n* o:2", "http://chat.example/x").unwrap(), "o:2");
        assert!(goes_to("*,path_beg=/events o:1", "http://chat.example/x").unwrap_err().contains("Route not found"));
    }

    #[test]
    fn links_among_the_paths_of_the_origin_are_those_of_clients() {
        let led = |line: &str, path: &str, link: &str| {
            let table = RouteTable::new(routes_of(line)).unwrap();
            let query = RouteQuery { host: "h", path, protocol: Protocol::Http, secure: false };
            let route = Arc::clone(table.find(&query).unwrap());
            let uri = format!("http://h{path}");
            let asking = Requester {
                route,
                host: "h".to_owned(),
                uri,
                secure: false,
                client: None,
                source: ClientNetwork::default(),
            };
            asking.resolve(link).unwrap().to_string()
        };
        for (line, path, link, leads_to) in [
            ("*,path_beg=/api,replace_beg= o:1", "/api/s", "/next?x=1", "http://h/api/next?x=1"),
            ("*,path_beg=/api,replace_beg= o:1", "/api/s", "/api/next", "http://h/api/next"),
            ("*,path_beg=/api,replace_beg= o:1", "/api/s", "next", "http://h/api/next"),
            ("*,path_beg=/api,replace_beg= o:1", "/api/s", "../next", "http://h/api/next"),
            ("*,path_beg=/api,replace_beg= o:1", "/api/s", "http://h/next", "http://h/api/next"),
            ("*,path_beg=/api,replace_beg= o:1", "/api/s", "http://other/next", "http://other/next"),
            ("*,path_beg=/api/,replace_beg=/v2/ o:1", "/api/s", "/v2/next", "http://h/api/next"),
            ("*,path_beg=/api,replace_beg= o:1", "/api/s", "/apis/next", "http://h/api/apis/next"),
            ("*,path_beg=/api,replace_beg=/api/v2 o:1", "/api/s", "/api/v2/next", "http://h/api/next"),
            ("*,path_beg=/api,replace_beg=/api/v2 o:1", "/api/s", "/api/next", "http://h/api/next"),
            ("*,path_beg=/,replace_beg=/backend/ o:1", "/s", "/backend/next", "http://h/next"),
            ("*,path_beg=/,replace_beg=/backend/ o:1", "/s", "/next", "http://h/next"),
            ("*,replace_beg=/backend o:1", "/s", "/backend/next", "http://h/next"),
            ("*,path_rem=3 o:1", "/v1/s", "/v10/next", "http://h/v1/v10/next"),
            // The path begins neither as the origin sees paths nor as clients write them, so it is left as it is.
            ("*,path_beg=/api/,replace_beg=/v2/ o:1", "/api/s", "/v3/next", "http://h/v3/next"),
            ("*,path_rem=3 o:1", "/v1/s", "/next", "http://h/v1/next"),
            ("*,path_rem=3 o:1", "/v1/s", "/v1/next", "http://h/v1/next"),
            ("*,path_rem=9 o:1", "/v1/s", "/next", "http://h/next"),
            ("*,path_beg=/api o:1", "/api/s", "/next", "http://h/next"),
        ] {
            assert_eq!(led(line, path, link), leads_to, "{line} {path} {link}");
        }
    }

    #[test]
    fn what_is_elsewhere_is_asked_there() {
        assert_eq!(goes_to("* o:1", "http://other.example:8080/").unwrap(), "other.example:8080");
        assert!(goes_to("* o:1", "https://other.example/").unwrap_err().contains("TLS to origins is not supported"));
    }
}
