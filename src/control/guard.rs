//! Who may not use the control API: web pages.
//!
//! A page that a browser shows can send requests to any port of the machine it runs on. Without this any
//! page could publish and close.

use super::listen::Caller;
use super::reply::Reply;
use crate::wire::without_port;
use hyper::header::{HOST, HeaderMap, ORIGIN};
use std::net::IpAddr;

/// Why a request with these headers is refused; `None` if it is not.
pub(super) fn refuse(caller: Caller, headers: &HeaderMap) -> Option<Reply> {
    let cross_site = headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site");
    if headers.contains_key(ORIGIN) || cross_site {
        return Some(Reply::text(403, "Requests from web pages are refused: publish from your backend."));
    }
    // A Unix socket has no name that a page's domain could have.
    let Caller::Tcp { local, .. } = caller else { return None };
    let host = headers.get(HOST).map(|host| host.to_str().unwrap_or_default());
    if local.ip().to_canonical().is_loopback() && host.is_some_and(|host| !is_loopback(host)) {
        // A name that some page's domain gave to 127.0.0.1 (DNS rebinding).
        return Some(Reply::text(403, "Host must be localhost or a loopback address here."));
    }
    None
}

fn is_loopback(host: &str) -> bool {
    let name = without_port(host).trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| is_this_machine(ip.to_canonical()))
}

/// A connection to the unspecified address arrives on loopback.
fn is_this_machine(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    /// `local` is the address to which the request came; an empty one is a Unix socket.
    fn refused(local: &str, headers: &[(&'static str, &str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_str(value).unwrap());
        }
        let tcp = |local| Caller::Tcp { local, remote: "10.0.0.2:1".parse().unwrap() };
        let caller = if local.is_empty() { Caller::Unix } else { tcp(local.parse().unwrap()) };
        refuse(caller, &map).is_some()
    }

    #[test]
    fn web_pages_are_refused() {
        assert!(refused("127.0.0.1:5561", &[("origin", "http://evil.example")]));
        assert!(refused("127.0.0.1:5561", &[("origin", "null")]));
        assert!(refused("10.0.0.1:5561", &[("sec-fetch-site", "cross-site")]));
        assert!(!refused("127.0.0.1:5561", &[("sec-fetch-site", "none")]));
        assert!(refused("", &[("origin", "null")]) && refused("", &[("sec-fetch-site", "cross-site")]));
    }

    #[test]
    fn on_loopback_the_host_must_be_loopback() {
        for host in [
            "localhost",
            "localhost:5561",
            "127.0.0.1:5561",
            "127.1.2.3",
            "[::1]:5561",
            "LOCALHOST",
            "0.0.0.0:5561",
            "[::]",
        ] {
            assert!(!refused("127.0.0.1:5561", &[("host", host)]), "{host}");
        }
        for host in ["evil.example", "evil.example:5561", "localhost.evil.example", "10.0.0.1", ""] {
            assert!(refused("127.0.0.1:5561", &[("host", host)]), "{host}");
            assert!(refused("[::1]:5561", &[("host", host)]), "{host}");
        }
        assert!(!refused("127.0.0.1:5561", &[]));
        assert!(!refused("", &[("host", "evil.example")]));
        assert!(!refused("10.0.0.1:5561", &[("host", "gripd.internal:5561")]));
    }
}
