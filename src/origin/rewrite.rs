//! What a request looks like when it is forwarded.

use crate::grip::{FEATURES, instruct};
use hyper::Uri;
use hyper::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHORIZATION,
    TE, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::http::uri::PathAndQuery;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Path and query, byte for byte. Where the client named a whole URI, the origin gets its path.
pub(super) fn target(uri: &Uri) -> Uri {
    uri.path_and_query().cloned().map_or_else(|| Uri::from(PathAndQuery::from_static("/")), Uri::from)
}

/// The headers for the origin.
pub(super) fn headers(request: &Parts, signature: Option<HeaderValue>) -> HeaderMap {
    let from = &request.headers;
    let mut to = HeaderMap::with_capacity(from.len() + 4);
    to.insert(HOST, host(request));
    let listed = listed_in_connection(from);
    let in_chunks = from.contains_key(TRANSFER_ENCODING);
    for (name, value) in from {
        let drop = is_hop_by_hop(name)
            || is_decided_here(name)
            || instruct::is_grip(name)
            || (in_chunks && name == CONTENT_LENGTH)
            || listed.contains(name);
        if !drop {
            to.append(name.clone(), value.clone());
        }
    }
    if let Some(signature) = signature {
        to.insert(HeaderName::from_static("grip-sig"), signature);
    }
    to.insert(HeaderName::from_static("grip-feature"), HeaderValue::from_static(FEATURES));
    if let Some(addresses) = forwarded_for(from) {
        to.insert(FORWARDED_FOR, addresses);
    }
    to
}

/// Removes what concerns only the connection on which an answer came.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let listed = listed_in_connection(headers);
    remove_where(headers, |name| is_hop_by_hop(name) || listed.contains(name));
}

/// Removes the headers whose name is `unwanted`.
pub fn remove_where(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    let found: Vec<_> = headers.keys().filter(|name| unwanted(name)).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

/// Whether a message's `Transfer-Encoding`, if it has any, is `chunked` alone: no other is undone here.
pub fn is_plainly_framed(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let first = codings.next();
    first.is_none_or(|coding| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"))
        && codings.next().is_none()
}

/// Whether a header is for one connection only (RFC 9110 7.6.1).
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(*name, CONNECTION | TE | TRANSFER_ENCODING | UPGRADE | PROXY_AUTHORIZATION)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "proxy-authenticate")
}

/// The headers that `Connection` names: they are for this connection only as well.
fn listed_in_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|v| v.to_str().ok());
    let names = values.flat_map(|v| v.split(',')).filter_map(|n| HeaderName::try_from(n.trim()).ok());
    // These two are its usual words, and no headers to remove.
    names.filter(|n| n != "close" && n.as_str() != "keep-alive").collect()
}

/// Request headers that are replaced, or must not be forwarded as they are.
///
/// `Accept-Encoding` is one of them: items are appended to what the origin began, so it must not compress it.
fn is_decided_here(name: &HeaderName) -> bool {
    matches!(*name, HOST | ACCEPT_ENCODING | EXPECT)
        || matches!(name.as_str(), "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-protocol")
}

/// `Host`, without the port that is HTTP's own; `localhost` if the client named none.
fn host(request: &Parts) -> HeaderValue {
    let named = request.uri.authority().map(|a| a.as_str().as_bytes());
    let named = named.or_else(|| request.headers.get(HOST).map(HeaderValue::as_bytes));
    let host = named.filter(|h| !h.is_empty()).unwrap_or(b"localhost");
    let host = host.strip_suffix(b":80").unwrap_or(host);
    HeaderValue::from_bytes(host).unwrap_or(HeaderValue::from_static("localhost"))
}

/// The addresses of all `X-Forwarded-For`, in one header.
fn forwarded_for(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(FORWARDED_FOR).iter();
    let first = values.next()?.clone();
    let mut merged = first.as_bytes().to_vec();
    for value in values {
        merged.extend_from_slice(b", ");
        merged.extend_from_slice(value.as_bytes());
    }
    Some(HeaderValue::from_bytes(&merged).unwrap_or(first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    fn rewrite(uri: &str, headers: &[(&'static str, &str)]) -> (String, Vec<(String, String)>) {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        let map = super::headers(&parts, Some(HeaderValue::from_static("signed")));
        let pairs = map.iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned()));
        (target(&parts.uri).to_string(), pairs.collect())
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn connection_headers_stay_here_and_grip_is_ours() {
        let (_, headers) = rewrite(
            "/",
            &[
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
                ("x-forwarded-proto", "https"),
                ("cookie", "a=1"),
                ("content-encoding", "gzip"),
            ],
        );
        let expected = [
            ("host", "ex.com"),
            ("cookie", "a=1"),
            ("content-encoding", "gzip"),
            ("grip-sig", "signed"),
            ("grip-feature", FEATURES),
        ];
        assert_eq!(headers, pairs(&expected));
    }

    #[test]
    fn the_target_is_the_path_and_query_byte_for_byte() {
        let (uri, headers) = rewrite("http://abs.example:8080/a/../%2e%2e//b?x=%20&y", &[("host", "other")]);
        assert_eq!(uri, "/a/../%2e%2e//b?x=%20&y");
        assert_eq!(headers[0], ("host".into(), "abs.example:8080".into()));
        assert_eq!(rewrite("/x", &[]).1[0], ("host".into(), "localhost".into()));
        assert_eq!(rewrite("*", &[]).0, "*");
    }

    #[test]
    fn forwarded_addresses_are_merged() {
        let (_, headers) = rewrite("/", &[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2, 3.3.3.3")]);
        assert!(headers.contains(&("x-forwarded-for".into(), "1.1.1.1, 2.2.2.2, 3.3.3.3".into())));
    }

    #[test]
    fn a_length_beside_chunks_is_not_forwarded() {
        let (_, headers) = rewrite("/", &[("transfer-encoding", "chunked"), ("content-length", "5")]);
        assert!(headers.iter().all(|(name, _)| name != "content-length" && name != "transfer-encoding"));
    }
}
