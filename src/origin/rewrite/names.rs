//! Names of headers that clients must not use as they like, because gripd sets, rewrites or trusts these headers.
//!
//! Many origins do not tell two spellings of a name apart: CGI and WSGI (RFC 3875 4.1.18) turn both `Grip-Last` and
//! `Grip_Last` into `HTTP_GRIP_LAST`. A rule about a name therefore holds for every spelling of it: in headers, in
//! trailers, and in what `Connection` asks to be removed.

use super::forwarded::is_of_proxies;
use super::hop::named_by_connection;
use super::is_set_by_route;
use super::marks::MARK;
use crate::grip::identity::TokenPlace;
use crate::origin::OriginRequest;
use crate::route::{Route, UserSource};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use std::borrow::Cow;

/// The beginnings of reserved names. gripd sets or trusts these headers, or they frame the message.
const RESERVED_BEGINNINGS: [&str; 7] =
    ["grip-", "meta-", "set-meta-", "sec-websocket-", "content-bytes-", "proxy-", MARK];

/// The reserved names besides those with a reserved beginning. gripd sets or trusts these headers, or they frame the
/// message.
const RESERVED: [&str; 18] = [
    "accept-encoding",
    "cdn-loop",
    "connection",
    "connection-id",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "max-forwards",
    "pushpin-route",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// The names of headers that identify a client. They must not be sent as trailers (RFC 9110 6.5.1), nor be removed
/// because `Connection` names them.
const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "set-cookie"];

/// Returns whether a header is reserved for gripd, in any spelling of its name.
pub fn is_reserved(name: &HeaderName) -> bool {
    is_reserved_plain(&hyphenated(name.as_str()))
}

/// Returns whether a header name is reserved for gripd. `name` must be in lower case and use hyphens.
fn is_reserved_plain(name: &str) -> bool {
    RESERVED.contains(&name)
        || RESERVED_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
        || is_of_proxies(name)
}

/// Returns whether a route sets or removes the header `name`, or identifies users by it. `name` must be in lower case
/// and use hyphens. A header of the route that is spelled exactly like `own` does not count.
fn is_of_route(name: &str, own: Option<&HeaderName>, route: &Route) -> bool {
    let same = |other: &HeaderName| own != Some(other) && hyphenated(other.as_str()) == name;
    let of_user = match route.users.as_ref().map(|users| &users.source) {
        Some(UserSource::Header(header, _)) => same(header),
        Some(UserSource::Token(bearer)) => bearer.places.iter().any(|place| match place {
            TokenPlace::Header(header) => same(header),
            TokenPlace::Cookie(_) | TokenPlace::Query(_) => false,
        }),
        Some(UserSource::Meta(_)) | None => false,
    };
    of_user || route.rewrite.headers.iter().any(|(header, _)| same(header))
}

/// Returns a name with hyphens in place of all characters that are neither letters nor digits. CGI programs cannot
/// tell apart names that become equal in this way (RFC 3875 4.1.18). That is so with underscores in all servers, and
/// with the other characters in some.
fn hyphenated(name: &str) -> Cow<'_, str> {
    if is_plain(name) {
        return name.into();
    }
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect::<String>().into()
}

/// Returns whether a name consists only of letters, digits and hyphens, as most names do.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| IS_PLAIN[usize::from(byte)])
}

/// The bytes of which plain names consist: letters, digits and the hyphen. The check is a lookup in a table because
/// every header is checked, and comparisons would take twice as long.
const IS_PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        plain[byte] = matches!(byte as u8, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-');
        byte += 1;
    }
    plain
};

/// Returns whether a header imitates a header that clients must not set, or another header of the request. The name
/// of the imitation has other characters where the imitated name has hyphens.
pub(in crate::origin) fn is_imitation(name: &HeaderName, headers: &HeaderMap, route: &Route) -> bool {
    if is_plain(name.as_str()) || is_set_by_route(name, route) {
        return false;
    }
    let plain = hyphenated(name.as_str());
    is_reserved_plain(&plain) || is_of_route(&plain, Some(name), route) || headers.contains_key(&*plain)
}

/// Returns the headers that are removed because `Connection` names them: they concern only this connection (RFC 9110
/// 7.6.1).
///
/// Reserved headers, headers of the route and headers that identify the client are left out. A client must not be
/// able to remove a header that a trusted proxy or the route has set, or that every recipient needs.
pub(in crate::origin) fn listed_in_connection(headers: &HeaderMap, route: &Route) -> Vec<HeaderName> {
    named_by_connection(headers).filter(|name| is_removable(name, route)).collect()
}

fn is_removable(name: &HeaderName, route: &Route) -> bool {
    let plain = hyphenated(name.as_str());
    !is_reserved_plain(&plain) && !is_of_route(&plain, None, route) && !CREDENTIALS.contains(&&*plain)
}

/// Returns the value of `Trailer` for the origin: the announced trailers that a client may send, or `None` if there
/// are none. hyper sends only trailers that are announced.
pub(super) fn trailers(announced: &HeaderValue, origin_request: &OriginRequest<'_>) -> Option<HeaderValue> {
    let text = announced.to_str().ok()?;
    let allowed = |name: &&str| match HeaderName::try_from(*name) {
        Ok(name) => may_be_trailer(&name) && !is_of_route(&hyphenated(name.as_str()), None, origin_request.route),
        Err(_) => false,
    };
    let names: Vec<&str> = text.split(',').map(str::trim).filter(allowed).collect();
    if names.is_empty() { None } else { HeaderValue::try_from(names.join(", ")).ok() }
}

/// Returns whether a client's trailer of this name may be sent to an origin. Reserved names are excluded because an
/// origin may merge trailers with the headers.
pub(in crate::origin) fn may_be_trailer(name: &HeaderName) -> bool {
    let plain = hyphenated(name.as_str());
    !is_reserved_plain(&plain) && !CREDENTIALS.contains(&&*plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::parse_line;
    use hyper::header::CONNECTION;

    fn route() -> Route {
        parse_line("*,user_header=X-User,user_proxies=::1,header=X-Key:1,header=X-Token:1 o:1").unwrap().unwrap()
    }

    fn name(text: &str) -> HeaderName {
        HeaderName::try_from(text).unwrap()
    }

    #[test]
    fn an_underscore_hides_nothing() {
        let mut headers = HeaderMap::new();
        headers.insert("x-both", HeaderValue::from_static("1"));
        for imitation in [
            "grip_last",
            "grip_sig",
            "GRIP-SIG_X",
            "meta_user",
            "connection_id",
            "x_forwarded_for",
            "x-forwarded_proto",
            "content_length",
            "transfer_encoding",
            "eb9bf0f5_host",
            "x_user",
            "x_key",
            "x_both",
            "proxy_connection",
            "sec_websocket_key",
            "x_real_ip",
            "true_client_ip",
            "grip.last",
            "grip!sig",
            "x*user",
            "x.token",
            "cdn_loop",
        ] {
            assert!(is_imitation(&name(imitation), &headers, &route()), "{imitation}");
        }
        for other in ["x-user", "grip-sig", "x_api_key", "session_id", "user_agent", "x.api.key"] {
            assert!(!is_imitation(&name(other), &headers, &route()), "{other}");
        }
    }

    #[test]
    fn a_name_is_no_imitation_of_itself() {
        let route = parse_line("*,user_header=Remote_User,user_proxies=::1,header=X_Key:1 o:1").unwrap().unwrap();
        assert!(!is_imitation(&name("remote_user"), &HeaderMap::new(), &route));
        assert!(!is_imitation(&name("x_key"), &HeaderMap::new(), &route));
        assert!(is_imitation(&name("remote.user"), &HeaderMap::new(), &route));
    }

    #[test]
    fn connection_removes_only_what_is_the_connections() {
        let mut headers = HeaderMap::new();
        let listed =
            "close, X-Hop, X-User, x_user, X-Key, Sec-WebSocket-Key, X-Forwarded-For, Grip-Sig, Cookie, Host, x_hop";
        headers.insert(CONNECTION, HeaderValue::from_static(listed));
        assert_eq!(listed_in_connection(&headers, &route()), [name("x-hop"), name("x_hop")]);
    }

    #[test]
    fn trailers_say_nothing_that_headers_may_not() {
        for refused in [
            "grip-last",
            "grip_last",
            "x-forwarded-for",
            "connection-id",
            "meta-user",
            "eb9bf0f5-x",
            "proxy-connection",
            "content-length",
            "transfer-encoding",
            "host",
            "cookie",
            "authorization",
            "sec-websocket-key",
            "forwarded",
        ] {
            assert!(!may_be_trailer(&name(refused)), "{refused}");
        }
        assert!(
            may_be_trailer(&name("content-digest"))
                && may_be_trailer(&name("x-sum"))
                && may_be_trailer(&name("etag"))
                && may_be_trailer(&name("expires"))
        );
    }
}
