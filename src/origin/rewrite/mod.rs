//! The target and the headers of a request as it is forwarded to an origin.

mod forwarded;
mod framing;
mod hop;
mod marks;
mod names;
mod passing;
mod via;

pub(super) use forwarded::says_secure;
pub use forwarded::{ForwardedEdit, ForwardedFor, ForwardedProto, has_passed, is_of_proxies};
pub(super) use framing::take_over;
pub use hop::{is_plainly_framed, names_too_many_headers, remove_hop_by_hop, remove_where};
pub use names::is_reserved;
pub(super) use names::{is_imitation, listed_in_connection, may_be_trailer};
pub use via::Via;

use super::{Forwarding, OriginRequest, RequestPurpose};
use crate::grip::{FEATURES, instruct};
use crate::route::{Rewrite, Route, Target};
use hyper::Uri;
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_EXTENSIONS, UPGRADE};
use hyper::http::request::Parts;
use hyper::http::uri::PathAndQuery;
use passing::{HeaderRewriter, is_set_by_route};

/// The header in which a client can name the route of its request, as in Pushpin.
pub const PUSHPIN_ROUTE: HeaderName = HeaderName::from_static("pushpin-route");

/// Returns the target of a request for the origin: path and query of `uri`, byte for byte except for the changes of
/// the route. The scheme and the authority of an absolute URI are left out.
pub(super) fn target(uri: &Uri, rewrite: &Rewrite) -> Uri {
    let root = || Uri::from(PathAndQuery::from_static("/"));
    let Some(target) = uri.path_and_query().filter(|target| !target.as_str().is_empty()) else { return root() };
    if rewrite.cut == 0 && rewrite.begin.is_empty() && uri.authority().is_none() {
        return target.clone().into();
    }
    // The path of an absolute URI may be empty, but the target of a request must not be: a slash is added.
    let path = target.path().as_bytes();
    let rest = path.get(rewrite.cut..).unwrap_or_default();
    let path = [rewrite.begin.as_bytes(), rest].concat();
    // `*` is not a path (RFC 9112 3.2.4), and stays as it is.
    let slash: &[u8] = if path.starts_with(b"/") || path == b"*" { b"" } else { b"/" };
    let query = target.query().map_or_else(String::new, |query| format!("?{query}"));
    let changed = [slash, &path, query.as_bytes()].concat();
    PathAndQuery::try_from(changed.as_slice()).map_or_else(|_| root(), Uri::from)
}

/// Returns the headers of a request for an origin. As in Pushpin, the headers that the route sets come first, and all
/// other changes are made to the result. The marked copies of `orig_headers` are of this result too.
pub(super) fn headers(
    origin_request: &OriginRequest<'_>,
    target: &Target,
    settings: &Forwarding,
    signature: Option<HeaderValue>,
) -> HeaderMap {
    let (request, route) = (origin_request.request, origin_request.route);
    let replaced = replace(&request.headers, &route.rewrite);
    let from = replaced.as_ref().unwrap_or(&request.headers);
    let rewriting = HeaderRewriter {
        origin_request,
        settings,
        from,
        is_believed: settings.believes(origin_request.peer, origin_request.sender),
    };
    let mut to = HeaderMap::with_capacity(from.len() + 4);
    to.insert(HOST, host(request, route, target));
    rewriting.copy(&mut to);
    if let Some(via) = &settings.via
        && !origin_request.internal
    {
        via.tell(request.version, &mut to);
    }
    if let Some(name) = &settings.cdn_loop
        && let Some(value) = forwarded::cdn_loop(from, name)
    {
        to.insert(forwarded::CDN_LOOP, value);
    }
    if !origin_request.sender.is_trusted() && !route.no_grip {
        introduce(origin_request, signature, &mut to);
    } else if origin_request.purpose == RequestPurpose::Events
        && let Some(signature) = signature
    {
        to.insert(HeaderName::from_static("grip-sig"), signature);
    }
    if origin_request.purpose != RequestPurpose::Plain {
        upgrade(origin_request, &mut to);
    }
    if origin_request.secure {
        let scheme = if origin_request.purpose == RequestPurpose::Plain { "https" } else { "wss" };
        proto(settings.proto, scheme, &mut to);
    }
    rewriting.add_forwarding_headers(&mut to);
    if route.rewrite.mark_originals && !origin_request.sender.is_trusted() {
        let passes = rewriting.is_believed || settings.forwarded_for != ForwardedFor::Settled;
        // A header that a client must not send is not copied to a marked name either. Headers that have come under a
        // marked name are not checked.
        let is_kept = |name: &HeaderName| {
            !instruct::is_grip(name)
                && !is_imitation(name, from, route)
                && (passes || !is_of_proxies(name.as_str()) || is_set_by_route(name, route))
        };
        for (name, value) in marks::originals(from, &settings.need_mark, is_kept) {
            to.append(name, value);
        }
    }
    to
}

/// Returns the headers after the changes of the route, or `None` if the route changes none.
fn replace(headers: &HeaderMap, rewrite: &Rewrite) -> Option<HeaderMap> {
    if rewrite.headers.is_empty() {
        return None;
    }
    let mut headers = headers.clone();
    for (name, value) in &rewrite.headers {
        headers.remove(name);
        if let Some(value) = value {
            headers.insert(name, value.clone());
        }
    }
    Some(headers)
}

/// Adds the headers that tell the origin that a GRIP proxy sends the request, which features of GRIP the proxy has,
/// and which items the client received last.
fn introduce(origin_request: &OriginRequest<'_>, signature: Option<HeaderValue>, to: &mut HeaderMap) {
    if let Some(signature) = signature {
        to.insert(HeaderName::from_static("grip-sig"), signature);
    }
    to.insert(HeaderName::from_static("grip-feature"), HeaderValue::from_static(FEATURES));
    for (channel, id) in origin_request.last_ids {
        if let Ok(value) = HeaderValue::from_bytes(format!("{channel}; last-id={id}").as_bytes()) {
            to.append(HeaderName::from_static("grip-last"), value);
        }
    }
}

/// Adds the headers of a request about a WebSocket. A handshake gets `Connection: Upgrade` and `Upgrade: websocket`.
/// Every request offers the extension `grip`, with which the origin can send control messages, unless the route has
/// `no_grip`. The extension is offered for a trusted GRIP proxy as well, which then carries out these messages
/// itself.
fn upgrade(origin_request: &OriginRequest<'_>, to: &mut HeaderMap) {
    if origin_request.purpose == RequestPurpose::WebSocket {
        to.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        to.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    if !origin_request.route.no_grip {
        to.insert(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static("grip"));
    }
}

fn proto(mode: ForwardedProto, scheme: &'static str, to: &mut HeaderMap) {
    let scheme = HeaderValue::from_static(scheme);
    if mode != ForwardedProto::Nothing {
        to.insert(forwarded::PROTO, scheme.clone());
    }
    if mode == ForwardedProto::Both {
        to.insert(forwarded::PROTOCOL, scheme);
    }
}

/// Returns the value of `Host`: the host that the target or the route sets, or else the one that the client named, or
/// else `localhost`. The port 80 is left out, because it is the default port of HTTP.
fn host(request: &Parts, route: &Route, target: &Target) -> HeaderValue {
    let configured = target.host.as_ref().or(route.rewrite.as_host.as_ref());
    let named = configured.map(|host| host.as_bytes()).or_else(|| super::named_host(request));
    let host = named.filter(|h| !h.is_empty()).unwrap_or(b"localhost");
    let host = host.strip_suffix(b":80").unwrap_or(host);
    HeaderValue::from_bytes(host).unwrap_or(HeaderValue::from_static("localhost"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::parse_line;
    use crate::wire::{Network, ProxyHeader, RequestSender, TrustedProxies};
    use hyper::Request;

    struct Case {
        line: &'static str,
        settings: Forwarding,
        sender: RequestSender,
        secure: bool,
    }

    fn plain(line: &'static str) -> Case {
        Case {
            line,
            settings: Forwarding { via: None, ..Forwarding::default() },
            sender: RequestSender::Client,
            secure: false,
        }
    }

    impl Case {
        fn rewrite(&self, uri: &str, headers: &[(&'static str, &str)]) -> (String, Vec<(String, String)>) {
            let mut request = Request::builder().uri(uri);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let parts = request.body(()).unwrap().into_parts().0;
            let route = parse_line(self.line).unwrap().unwrap();
            let origin_request = OriginRequest {
                route: &route,
                request: &parts,
                peer: Some([9, 9, 9, 9].into()),
                client: None,
                peer_text: None,
                way: None,
                waiting: None,
                secure: self.secure,
                sender: self.sender,
                internal: false,
                purpose: RequestPurpose::Plain,
                last_ids: &[("a".into(), "7".into())],
            };
            let map = super::headers(
                &origin_request,
                &route.targets[0],
                &self.settings,
                Some(HeaderValue::from_static("signed")),
            );
            let pairs = map.iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned()));
            (target(&parts.uri, &route.rewrite).to_string(), pairs.collect())
        }

        fn headers(&self, headers: &[(&'static str, &str)]) -> Vec<(String, String)> {
            self.rewrite("/", headers).1
        }
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    fn value<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
        headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    #[test]
    fn connection_headers_stay_here_and_grip_is_ours() {
        let headers = plain("* o:1").headers(&[
            ("host", "ex.com:80"),
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("keep-alive", "5"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "x"),
            ("expect", "100-continue"),
            ("accept-encoding", "gzip"),
            ("grip-sig", "forged"),
            ("grip-last", "forged"),
            ("eb9bf0f5-host", "forged"),
            ("x-forwarded-proto", "https"),
            ("cookie", "a=1"),
            ("content-encoding", "gzip"),
        ]);
        let expected = [
            ("host", "ex.com"),
            ("cookie", "a=1"),
            ("content-encoding", "gzip"),
            ("grip-sig", "signed"),
            ("grip-feature", FEATURES),
            ("grip-last", "a; last-id=7"),
            ("x-forwarded-for", "9.9.9.9"),
        ];
        assert_eq!(headers, pairs(&expected));
    }

    #[test]
    fn a_trusted_proxys_headers_pass_and_no_grip_adds_none() {
        let trusted = Case { sender: RequestSender::GripProxy, ..plain("*,orig_headers o:1") };
        let headers = trusted.headers(&[("host", "h"), ("grip-sig", "theirs"), ("eb9bf0f5-x", "1")]);
        assert_eq!(headers, pairs(&[("host", "h"), ("grip-sig", "theirs"), ("eb9bf0f5-x", "1")]));
        let headers = plain("*,no_grip o:1").headers(&[("host", "h"), ("grip-sig", "forged")]);
        assert_eq!(headers, pairs(&[("host", "h"), ("x-forwarded-for", "9.9.9.9")]));
    }

    #[test]
    fn the_target_is_the_path_and_query_byte_for_byte() {
        let case = plain("* o:1");
        let (uri, headers) = case.rewrite("http://abs.example:8080/a/../%2e%2e//b?x=%20&y", &[("host", "other")]);
        assert_eq!(uri, "/a/../%2e%2e//b?x=%20&y");
        assert_eq!(headers[0], ("host".into(), "abs.example:8080".into()));
        assert_eq!(case.headers(&[])[0], ("host".into(), "localhost".into()));
        assert_eq!(case.rewrite("*", &[]).0, "*");
        for whole in ["http://h", "http://h/", "http://h#x", "http://h?x"] {
            let uri = target(&whole.parse().unwrap(), &Rewrite::default());
            assert!(uri.path_and_query().is_some_and(|target| target.as_str().starts_with('/')), "{whole}");
        }
    }

    #[test]
    fn routes_change_path_host_and_headers() {
        let case = plain("*,path_beg=/a,replace_beg=/b,as_host=as:1,header=X-Set:1,header=X-Gone: o:1");
        let (uri, headers) = case.rewrite("/a/x?q", &[("host", "h"), ("x-gone", "1"), ("x-set", "0")]);
        assert_eq!((uri.as_str(), value(&headers, "host")), ("/b/x?q", Some("as:1")));
        assert_eq!((value(&headers, "x-set"), value(&headers, "x-gone")), (Some("1"), None));
        assert_eq!(plain("*,path_rem=2 o:1").rewrite("/a/x", &[]).0, "/x");
        assert_eq!(plain("*,path_rem=9 o:1").rewrite("/a/x", &[]).0, "/");
        assert_eq!(plain("*,path_beg=/p,replace_beg=x o:1").rewrite("/p/y?a=b", &[]).0, "/x/y?a=b");
        // The query is not a part of the path, so `path_rem` does not cut it off.
        assert_eq!(plain("*,path_rem=5 o:1").rewrite("/a?x=secret", &[]).0, "/?x=secret");
        let both = plain("*,as_host=as o:1,host=target:80");
        assert_eq!(value(&both.headers(&[("host", "h")]), "host"), Some("target"));
    }

    #[test]
    fn forwarded_addresses_are_merged_by_the_rule_for_the_sender() {
        let came = [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2, 3.3.3.3")];
        let mut case = plain("* o:1");
        case.settings.forwarded_for = ForwardedFor::UNCHANGED;
        assert_eq!(value(&case.headers(&came), "x-forwarded-for"), Some("1.1.1.1, 2.2.2.2, 3.3.3.3"));
        case.settings.forwarded_for = ForwardedFor::Edited(ForwardedEdit { truncate: Some(0), append: true });
        assert_eq!(value(&case.headers(&came), "x-forwarded-for"), Some("9.9.9.9"));
        case.sender = RequestSender::GripProxy;
        assert_eq!(value(&case.headers(&came), "x-forwarded-for"), Some("1.1.1.1, 2.2.2.2, 3.3.3.3"));
    }

    #[test]
    fn proxies_are_believed_and_clients_are_not() {
        let came = [
            ("x-forwarded-for", "6.6.6.6, 1.1.1.1"),
            ("forwarded", "for=1.1.1.1"),
            ("x-real-ip", "1.1.1.1"),
            ("x-forwarded-host", "example.com"),
            ("x-forwarded-proto", "https"),
        ];
        let mut case = plain("* o:1");
        let headers = case.headers(&came);
        assert_eq!(value(&headers, "x-forwarded-for"), Some("9.9.9.9"));
        for forged in ["forwarded", "x-real-ip", "x-forwarded-host", "x-forwarded-proto"] {
            assert_eq!(value(&headers, forged), None, "{forged}");
        }
        case.settings.proxies =
            Some(TrustedProxies::new(vec![Network::parse("9.0.0.0/8").unwrap()], ProxyHeader::Either));
        let headers = case.headers(&came);
        assert_eq!(value(&headers, "x-forwarded-for"), Some("1.1.1.1, 9.9.9.9"));
        // The addresses come from one header, and only this header is passed on.
        assert_eq!(value(&headers, "forwarded"), None);
        assert_eq!(value(&headers, "x-real-ip"), Some("1.1.1.1"));
        assert_eq!(value(&headers, "x-forwarded-host"), Some("example.com"));
    }

    #[test]
    fn what_a_route_sets_is_sent() {
        let line = "*,header=X-Forwarded-Host:e.com,header=X-Real-IP:1.2.3.4,header=X_Api_Key:k,header=X-Plain:1 o:1";
        let headers = plain(line).headers(&[("x-forwarded-host", "forged"), ("x_api_key", "forged")]);
        let expected = [("x-forwarded-host", "e.com"), ("x-real-ip", "1.2.3.4"), ("x_api_key", "k"), ("x-plain", "1")];
        for (name, set) in expected {
            assert_eq!(value(&headers, name), Some(set), "{name}");
        }
    }

    #[test]
    fn only_tls_is_told() {
        let mut case = plain("* o:1");
        assert_eq!(value(&case.headers(&[]), "x-forwarded-proto"), None);
        case.secure = true;
        assert_eq!(value(&case.headers(&[]), "x-forwarded-proto"), Some("https"));
        assert_eq!(value(&case.headers(&[]), "x-forwarded-protocol"), None);
        case.settings.proto = ForwardedProto::Both;
        assert_eq!(value(&case.headers(&[]), "x-forwarded-protocol"), Some("https"));
        case.settings.proto = ForwardedProto::Nothing;
        case.settings.forwarded_for = ForwardedFor::UNCHANGED;
        assert_eq!(
            value(&case.headers(&[("x-forwarded-proto", "as it came")]), "x-forwarded-proto"),
            Some("as it came")
        );
    }

    #[test]
    fn loops_routes_and_originals() {
        let mut case = plain("*,orig_headers o:1");
        case.settings.cdn_loop = Some("me".into());
        case.settings.accept_route = true;
        case.settings.need_mark = vec![HeaderName::from_static("x-b")];
        let headers = case.headers(&[
            ("host", "h"),
            ("cdn-loop", "cdn"),
            ("pushpin-route", "r"),
            ("x-b", "1"),
            ("eb9bf0f5-host", "first"),
        ]);
        assert_eq!((value(&headers, "cdn-loop"), value(&headers, "pushpin-route")), (Some("cdn, me"), None));
        assert_eq!((value(&headers, "x-b"), value(&headers, "eb9bf0f5-x-b")), (Some("1"), None));
        assert_eq!(
            (value(&headers, "eb9bf0f5-host"), value(&headers, "eb9bf0f5-cdn-loop")),
            (Some("first"), Some("cdn"))
        );
    }

    #[test]
    fn a_length_beside_chunks_is_not_forwarded() {
        let headers = plain("* o:1").headers(&[("transfer-encoding", "chunked"), ("content-length", "5")]);
        assert!(headers.iter().all(|(name, _)| name != "content-length" && name != "transfer-encoding"));
    }
}
