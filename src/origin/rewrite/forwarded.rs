//! The headers that tell origins through which proxies and how a request has come: `X-Forwarded-For`,
//! `X-Forwarded-Proto` and `CDN-Loop`.

use crate::wire::X_FORWARDED_FOR;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use std::net::IpAddr;

pub(super) const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) const PROTOCOL: HeaderName = HeaderName::from_static("x-forwarded-protocol");
pub(super) const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");

/// The rule by which `X-Forwarded-For` is written for origins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedFor {
    /// The header contains only trusted information: the addresses of the client and of the listed proxies. Any other
    /// forwarding information sent by the client is removed.
    Settled,
    /// The header is edited, as Pushpin does. Other headers about proxies are passed on as they are, except for
    /// `X-Forwarded-Proto` and `X-Forwarded-Protocol` if gripd decides about these.
    Edited(ForwardedEdit),
}

/// The changes to the list of addresses in `X-Forwarded-For`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForwardedEdit {
    /// The number of addresses that are kept of those received, counted from the end of the list. `None` keeps all.
    pub truncate: Option<usize>,
    /// Whether the address that the request was sent from is added.
    pub append: bool,
}

/// The headers that tell origins about TLS, which they cannot see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedProto {
    /// No header is set.
    Nothing,
    /// `X-Forwarded-Proto`.
    #[default]
    Proto,
    /// `X-Forwarded-Proto` and `X-Forwarded-Protocol`.
    Both,
}

impl ForwardedFor {
    /// The rule that keeps all addresses and adds none.
    pub const UNCHANGED: Self = Self::Edited(ForwardedEdit { truncate: None, append: false });
}

impl ForwardedEdit {
    /// Returns the value of `X-Forwarded-For` for the origin, or `None` if there are no addresses. `address` is the
    /// one from which the request was sent.
    pub(super) fn apply(self, headers: &HeaderMap, address: Option<IpAddr>) -> Option<HeaderValue> {
        let values = headers.get_all(X_FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
        let mut addresses: Vec<&str> = values.flat_map(|v| v.split(',')).map(str::trim).collect();
        if let Some(most) = self.truncate {
            addresses.drain(..addresses.len().saturating_sub(most));
        }
        let own = if self.append { address.map(|address| address.to_canonical().to_string()) } else { None };
        addresses.extend(own.as_deref());
        if addresses.is_empty() {
            return None;
        }
        HeaderValue::try_from(addresses.join(", ")).ok()
    }
}

/// Returns whether a name is that of a header in which proxies report where a request comes from, or how it came. The
/// name must be in lower case.
pub fn is_of_proxies(name: &str) -> bool {
    const OTHERS: [&str; 8] = [
        "cf-connecting-ip",
        "client-ip",
        "fastly-client-ip",
        "forwarded",
        "true-client-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-real-ip",
    ];
    name.starts_with("x-forwarded-") || OTHERS.contains(&name)
}

/// Returns whether the client's request came over TLS, according to `X-Forwarded-Proto`, or else
/// `X-Forwarded-Protocol`. Only the last element of the last header counts, because the proxy in front of gripd has
/// written it. Returns `None` if there is neither header, or if they are empty.
pub(in crate::origin) fn says_secure(headers: &HeaderMap) -> Option<bool> {
    let of = |name| headers.get_all(name).iter().next_back().filter(|value: &&HeaderValue| !value.is_empty());
    let value = of(PROTO).or_else(|| of(PROTOCOL))?.as_bytes();
    let last = value.rsplit(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
    Some(last.eq_ignore_ascii_case(b"https") || last.eq_ignore_ascii_case(b"wss"))
}

/// Returns whether a request has passed the proxy of this name already, according to `CDN-Loop` (RFC 8586).
pub fn has_passed(headers: &HeaderMap, name: &str) -> bool {
    visited(headers).any(|cdn| cdn.split(';').next().is_some_and(|id| id.trim().eq_ignore_ascii_case(name)))
}

/// Returns the value of `CDN-Loop` for the origin: the elements that were received, and this proxy after them.
pub(super) fn cdn_loop(headers: &HeaderMap, name: &str) -> Option<HeaderValue> {
    let all: Vec<&str> = visited(headers).chain([name]).collect();
    HeaderValue::try_from(all.join(", ")).ok()
}

fn visited(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CDN_LOOP).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|cdn| !cdn.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn addresses_are_kept_cut_and_added() {
        let incoming = headers(&[(X_FORWARDED_FOR, "1.1.1.1"), (X_FORWARDED_FOR, "2.2.2.2, 3.3.3.3")]);
        let client = Some("::ffff:9.9.9.9".parse().unwrap());
        let apply = |truncate, append| ForwardedEdit { truncate, append }.apply(&incoming, client).unwrap();
        assert_eq!(apply(None, false), "1.1.1.1, 2.2.2.2, 3.3.3.3");
        assert_eq!(apply(Some(1), true), "3.3.3.3, 9.9.9.9");
        assert_eq!(apply(Some(0), true), "9.9.9.9");
        assert_eq!(ForwardedEdit::default().apply(&HeaderMap::new(), client), None);
        assert_eq!(ForwardedEdit { truncate: Some(0), append: false }.apply(&incoming, client), None);
    }

    #[test]
    fn the_word_of_who_stands_before_is_taken_exactly() {
        for (name, value) in [(PROTO, "https"), (PROTO, "HTTPS"), (PROTO, "https, https"), (PROTOCOL, "wss")] {
            assert_eq!(says_secure(&headers(&[(name, value)])), Some(true), "{value}");
        }
        assert_eq!(says_secure(&headers(&[(PROTO, ""), (PROTOCOL, "wss")])), Some(true));
        for (name, value) in [(PROTO, "http"), (PROTO, "https, http"), (PROTO, "https://")] {
            assert_eq!(says_secure(&headers(&[(name, value)])), Some(false), "{value}");
        }
        assert_eq!(says_secure(&headers(&[(PROTO, "http"), (PROTOCOL, "https")])), Some(false));
        // A proxy adds its header after the client's header.
        assert_eq!(says_secure(&headers(&[(PROTO, "https"), (PROTO, "http")])), Some(false));
        assert_eq!(says_secure(&headers(&[(CDN_LOOP, "https")])), None);
    }

    #[test]
    fn loops_are_seen_and_marked() {
        let came = headers(&[(CDN_LOOP, "a; v=1, b"), (CDN_LOOP, "c")]);
        assert!(has_passed(&came, "A") && has_passed(&came, "c") && !has_passed(&came, "d"));
        assert_eq!(cdn_loop(&came, "d").unwrap(), "a; v=1, b, c, d");
    }
}
