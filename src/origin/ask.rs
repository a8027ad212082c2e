//! Asking an origin without a client: links and filters.

use super::{Failure, Kind, Lane, Lease, Origin, OriginRequest, Purpose, Sharer, Source, Turn, Upload};
use crate::grip::item::Id;
use crate::grip::link::resolve;
use crate::route::{Address, Place, Protocol, Query, Rewrite, Route, Table, Target};
use crate::wire::{Sender, is_same_authority};
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

/// The largest body that is kept whole, as Pushpin has it.
pub const MAX_BODY: usize = 100_000;

/// On whose behalf an origin is asked.
#[derive(Clone, Debug)]
pub struct Asking {
    /// The route of the request that is held.
    pub route: Arc<Route>,
    /// The host that the client's request named, with its port if it named one.
    pub host: String,
    /// The whole URI to which links are relative: that of the request, or of the last link.
    pub uri: String,
    /// Whether the request came over TLS.
    pub secure: bool,
    /// The client's address, if another one has connected: that of a proxy.
    pub client: Option<IpAddr>,
    /// The client, as one that takes turns with others.
    pub source: Sharer,
}

/// A request of gripd's own.
#[derive(Debug)]
pub struct Ask<'a> {
    /// How.
    pub method: Method,
    /// The whole URI.
    pub uri: &'a Uri,
    /// The additional request headers.
    pub headers: &'a [(HeaderName, String)],
    /// The body.
    pub body: Bytes,
    /// The last ids that the client has had of its channels.
    pub last_ids: &'a [(String, Id)],
}

/// A response from the origin that is collected in memory and not relayed to a client.
#[derive(Debug)]
pub struct CollectedAnswer {
    /// Its status.
    pub status: StatusCode,
    /// The headers of the response.
    pub headers: HeaderMap,
    /// Its body, or the beginning of it.
    pub body: Bytes,
    /// The rest of a body that is too large to be kept.
    pub rest: Option<(Incoming, Lease)>,
}

impl Asking {
    /// Returns its URI as logs show it: without the tokens of users.
    pub fn shown(&self) -> Cow<'_, str> {
        self.route.shown(&self.uri)
    }

    /// Returns the whole URI of a link that stands in an answer of the origin, as a client would write it. `None`: it is no
    /// link.
    ///
    /// A route may change the beginning of paths. A link that begins as paths do after the change is one among the origin's
    /// own paths, and the change is undone; one that begins as the client's path does is written for clients. Where the
    /// one beginning continues the other, the longer one decides.
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

    /// Returns the route of a request for a URI. A URI on the host of the client's request stays here, whatever its scheme:
    /// TLS may have ended before gripd, and the client says which host that is. It takes the route of the request, as that
    /// is now, or the one for its path. Any other URI goes to the host that it names.
    fn route_for(&self, routes: &Table, uri: &Uri) -> Result<Arc<Route>, Failure> {
        let authority = uri.authority().map_or("", |a| a.as_str());
        if is_same_authority(&self.host, authority) {
            return self
                .own_route(routes, uri)
                .cloned()
                .ok_or_else(|| Failure::because(Kind::Unreachable, format!("Route not found for {uri}")));
        }
        if uri.scheme_str() != Some("http") {
            let why = format!("{uri} is on another host, and TLS to origins is not supported");
            return Err(Failure::because(Kind::Unreachable, why));
        }
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let address = Address { host, port: uri.port_u16().unwrap_or(80) };
        let untrusted = self.route.targets.iter().any(|target| target.untrusted);
        let place = Place::Address(address);
        let target = Target { place, host: None, channels: Vec::new(), untrusted, over_http: false, one_event: false };
        let (signer, name) = (self.route.signer.clone(), Arc::clone(&self.route.name));
        Ok(Arc::new(Route { signer, name, targets: vec![target], ..Route::default() }))
    }

    fn own_route<'a>(&self, routes: &'a Table, uri: &Uri) -> Option<&'a Arc<Route>> {
        if uri.path().starts_with(&self.route.condition.path_beg) {
            return routes.again(&self.route);
        }
        routes.find(&Query { host: &self.host, path: uri.path(), protocol: Protocol::Http, secure: self.secure })
    }
}

/// Returns whether a path begins with another one, up to the border of a segment.
fn begins_with(path: &str, other: &str) -> bool {
    path.strip_prefix(other)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || other.is_empty() || other.ends_with('/'))
}

impl Origin {
    /// Sends a request of gripd's own, and reads the answer as far as it is kept.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn ask(&self, about: &Asking, ask: Ask<'_>) -> Result<CollectedAnswer, Failure> {
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
            sender: Sender::Client,
            internal: true,
            purpose: Purpose::Plain,
            last_ids: ask.last_ids,
        };
        let answered = self.send(&origin_request, &Upload::of(ask.body)).await?;
        let (body, rest) = match answered.body {
            Source::Whole(body) => (body, None),
            Source::Incoming(incoming, lease) => {
                collect(incoming, lease, MAX_BODY, self.response_timeout(&route)).await?
            }
        };
        Ok(CollectedAnswer { status: answered.head.status, headers: answered.head.headers, body, rest })
    }

    /// Asks whether, and what, to deliver: an HTTP filter.
    ///
    /// # Errors
    /// Why there is no answer in time.
    pub async fn ask_filter(&self, about: &Asking, ask: Ask<'_>) -> Result<CollectedAnswer, Failure> {
        let route = about.route_for(&self.routes(), ask.uri)?;
        let _turn = self.turn(Lane::Filters, about, &route).await;
        let limit = self.settings.filter_timeout;
        let asked = timeout(limit, self.ask(about, ask));
        asked.await.unwrap_or_else(|_| Err(Failure::over_time(Kind::TimedOut, "filter_timeout", limit)))
    }

    /// Waits until the origin of a URI may be asked once more by gripd itself.
    pub(super) async fn turn_for(&self, lane: Lane, about: &Asking, uri: &Uri) -> Result<Turn, Failure> {
        let route = about.route_for(&self.routes(), uri)?;
        Ok(self.turn(lane, about, &route).await)
    }

    /// Waits until the origin of a route may be asked once more by gripd itself, on behalf of a client.
    pub async fn turn(&self, lane: Lane, about: &Asking, route: &Route) -> Turn {
        let origin = route.targets.first().map_or_else(String::new, Target::to_string);
        self.shield.turns.next(lane, origin, about.source).await
    }

    /// Returns how long to wait until a link with this time is asked: see [`super::Shield::wait`].
    pub fn link_wait(&self, uri: &Uri, period: Duration) -> Duration {
        self.shield.wait(&uri.to_string(), period)
    }
}

fn request(ask: &Ask<'_>) -> Result<Parts, Failure> {
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
    Failure::because(Kind::Unusable, error.into())
}

/// Reads a body to its end, or until it is larger than what is kept; then the rest is returned as well.
///
/// # Errors
/// It broke off, or did not come in time.
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
        Err(_) => Err(Failure::over_time(Kind::TimedOut, "response_timeout", patience)),
        Ok(Err(error)) => Err(Failure::because(Kind::Broken, error)),
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
    use crate::route::parse_lines;

    fn goes_to(lines: &str, link: &str) -> Result<String, String> {
        let table = Table::new(parse_lines(lines).unwrap()).unwrap();
        let query = Query { host: "chat.example", path: "/events", protocol: Protocol::Http, secure: false };
        let route = Arc::clone(table.find(&query).unwrap());
        let uri = "http://Chat.example/events?x".to_owned();
        let asking = Asking {
            route,
            host: "Chat.example".to_owned(),
            uri,
            secure: false,
            client: None,
            source: Sharer::default(),
        };
        let route = asking.route_for(&table, &link.parse().unwrap());
        route.map(|route| route.targets[0].to_string()).map_err(|failure| failure.explain())
    }

    #[test]
    fn what_is_on_the_clients_host_stays_here() {
        for link in ["http://chat.example/next", "http://chat.example:80/", "https://chat.example/next"] {
            assert_eq!(goes_to("*,path_beg=/ o:1", link).unwrap(), "o:1", "{link}");
        }
        // Another path has its own route, or none; it is never looked for at the host that the client named.
        assert_eq!(goes_to("*,path_beg=/events o:1\n* o:2", "http://chat.example/x").unwrap(), "o:2");
        assert!(goes_to("*,path_beg=/events o:1", "http://chat.example/x").unwrap_err().contains("Route not found"));
    }

    #[test]
    fn links_among_the_paths_of_the_origin_are_those_of_clients() {
        let led = |line: &str, path: &str, link: &str| {
            let table = Table::new(parse_lines(line).unwrap()).unwrap();
            let query = Query { host: "h", path, protocol: Protocol::Http, secure: false };
            let route = Arc::clone(table.find(&query).unwrap());
            let uri = format!("http://h{path}");
            let asking =
                Asking { route, host: "h".to_owned(), uri, secure: false, client: None, source: Sharer::default() };
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
            // A path that the origin would never see is somebody else's.
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
