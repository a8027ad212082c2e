//! Headers that concern only one connection (RFC 9110 7.6.1).

use crate::wire::tokens;
use hyper::header::{CONNECTION, HeaderMap, HeaderName, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE};

/// Removes the headers that concern only the connection on which a message came.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = named_by_connection(headers).collect();
    remove_where(headers, |name| is_hop_by_hop(name) || listed.contains(name));
}

/// The number of elements that `Connection` may have. Each of them is compared with each header of the message.
const MOST_NAMED: usize = 100;

/// Returns whether `Connection` has more elements than are allowed.
pub fn names_too_many_headers(headers: &HeaderMap) -> bool {
    tokens(headers, &CONNECTION).nth(MOST_NAMED).is_some()
}

/// Returns the names of headers in `Connection`. Two options are left out: `close`, which names no header, and
/// `keep-alive`, whose header is removed in any case.
pub(super) fn named_by_connection(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    let names = tokens(headers, &CONNECTION)
        .filter(|word| !word.eq_ignore_ascii_case(b"keep-alive") && !word.eq_ignore_ascii_case(b"close"));
    names.filter_map(|name| HeaderName::from_bytes(name).ok())
}

/// Removes the headers for whose names `unwanted` returns `true`.
pub fn remove_where(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    let found: Vec<_> = headers.keys().filter(|name| unwanted(name)).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

/// Returns whether a message has no `Transfer-Encoding`, or only the coding `chunked`. gripd does not decode any
/// other coding.
pub fn is_plainly_framed(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let first = codings.next();
    first.is_none_or(|coding| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"))
        && codings.next().is_none()
}

/// Returns whether a header is for one connection only.
pub(super) fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(*name, CONNECTION | TE | TRANSFER_ENCODING | UPGRADE | PROXY_AUTHORIZATION)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "proxy-authenticate")
}
