//! The protection of the control API from web pages.
//!
//! A page in a browser can send requests to any port of the machine on which the browser runs. Without this
//! protection, any page could publish items and close connections.

use super::reply::ApiReply;
use crate::net::Peer;
use crate::wire::{canonical_host, without_port};
use hyper::header::{HOST, HeaderMap, ORIGIN};
use hyper::{Method, Request, Version};
use std::net::IpAddr;

/// The question of a health probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HealthProbe {
    /// The question whether gripd is running.
    Alive,
    /// The question whether gripd accepts traffic, which it does until it drains.
    Ready,
}

/// Returns the question that a path asks, if it is a path for health probes.
pub(super) fn health_of(path: &str) -> Option<HealthProbe> {
    match path.strip_suffix('/').unwrap_or(path) {
        "/healthz" => Some(HealthProbe::Alive),
        "/readyz" => Some(HealthProbe::Ready),
        _ => None,
    }
}

/// Refuses requests that the control API cannot carry out: `CONNECT` and `TRACE` (RFC 9110 9.3), and requests without
/// exactly one `Host` header (RFC 9112 3.2). HTTP/1.0 requests may lack the header.
pub(super) fn refuse_malformed<B>(request: &Request<B>) -> Option<ApiReply> {
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Some(ApiReply::not_allowed(request.method(), "GET, HEAD, POST, PUT, DELETE"));
    }
    let hosts = request.headers().get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) {
        return Some(ApiReply::text(400, "The request must have exactly one Host header."));
    }
    None
}

/// Refuses requests that a browser has sent for a web page. Such requests have an `Origin` header or come from
/// another site.
pub(super) fn refuse_pages(headers: &HeaderMap) -> Option<ApiReply> {
    let cross_site = headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site");
    if headers.contains_key(ORIGIN) || cross_site {
        return Some(ApiReply::text(403, "Requests from web pages are refused: publish from your backend."));
    }
    None
}

/// Refuses requests to a loopback address whose host name is not known to mean this machine. The domain of a hostile
/// page may resolve to a loopback address (DNS rebinding). `hosts` are the configured further names of this machine.
pub(super) fn refuse_host<B>(caller: Peer, request: &Request<B>, hosts: &[String]) -> Option<ApiReply> {
    // Browsers cannot connect to a Unix socket, so no domain can lead to one.
    let Peer::Tcp { local, .. } = caller else { return None };
    if !local.ip().to_canonical().is_loopback() {
        return None;
    }
    let header = request.headers().get(HOST).map(|host| host.to_str().unwrap_or("?"));
    // If the request target is an absolute URI, its authority takes precedence over the `Host` header (RFC 9112
    // 3.2.2). Both must be known, because some servers look at the header nevertheless.
    let named = [request.uri().authority().map(|authority| authority.as_str()), header];
    let is_known = |host: &str| {
        let host = canonical_host(host);
        is_loopback(&host) || hosts.iter().any(|other| canonical_host(other) == host)
    };
    let unknown = named.into_iter().flatten().find(|host| !is_known(host))?;
    let name: String = without_port(unknown).chars().filter(|c| !c.is_control()).take(100).collect();
    let advice = if name.is_empty() { String::new() } else { format!("add hosts = [\"{name}\"] to [control], ") };
    Some(ApiReply::text(
        403,
        format!(
            "The host '{name}' is not a known name of this machine, so the request may come from a hostile web page. \
             Use http://localhost:{}, {advice}or send a token, if tokens are configured.",
            local.port()
        ),
    ))
}

/// Returns whether a host in canonical spelling is a name or an address of this machine.
fn is_loopback(host: &str) -> bool {
    let name = host.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| is_this_machine(ip.to_canonical()))
}

/// Returns whether an address leads to this machine. A connection to the unspecified address arrives on loopback.
fn is_this_machine(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn request(method: Method, target: &str, headers: &[(&'static str, &str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, HeaderValue::from_str(value).unwrap());
        }
        request.body(()).unwrap()
    }

    fn pages(headers: &[(&'static str, &str)]) -> bool {
        refuse_pages(request(Method::GET, "/", headers).headers()).is_some()
    }

    /// Returns whether a request is refused. `local` is the local address of its connection. An empty `local` stands
    /// for a Unix socket.
    fn refused(local: &str, target: &str, host: &str) -> bool {
        let tcp = |local| Peer::Tcp { local, remote: "10.0.0.2:1".parse().unwrap() };
        let caller = if local.is_empty() { Peer::Unix } else { tcp(local.parse().unwrap()) };
        refuse_host(caller, &request(Method::GET, target, &[("host", host)]), &["gripd.internal".to_owned()]).is_some()
    }

    #[test]
    fn web_pages_are_refused() {
        assert!(pages(&[("origin", "http://evil.example")]) && pages(&[("origin", "null")]));
        assert!(pages(&[("sec-fetch-site", "cross-site")]));
        assert!(!pages(&[("sec-fetch-site", "none")]) && !pages(&[]));
    }

    #[test]
    fn on_loopback_the_host_must_be_this_machine() {
        for host in [
            "localhost",
            "localhost:5561",
            "localhost.",
            "127.0.0.1:5561",
            "127.1.2.3",
            "127.1",
            "[::1]:5561",
            "LOCALHOST",
            "0.0.0.0:5561",
            "[::]",
            "gripd.internal",
            "Gripd.Internal.:5561",
        ] {
            assert!(!refused("127.0.0.1:5561", "/", host), "{host}");
            assert!(!refused("[::1]:5561", "/", host), "{host}");
        }
        for host in ["evil.example", "evil.example:5561", "localhost.evil.example", "10.0.0.1", ""] {
            assert!(refused("127.0.0.1:5561", "/", host), "{host}");
            assert!(refused("[::1]:5561", "/", host), "{host}");
        }
        assert!(!refused("", "/", "evil.example") && !refused("10.0.0.1:5561", "/", "evil.example"));
    }

    #[test]
    fn a_whole_uri_names_a_host_as_well() {
        assert!(refused("127.0.0.1:5561", "http://evil.example/publish", "localhost"));
        assert!(refused("127.0.0.1:5561", "http://localhost/publish", "evil.example"));
        assert!(!refused("127.0.0.1:5561", "http://localhost:5561/publish", "localhost"));
    }

    #[test]
    fn tunnels_and_traces_are_none_of_its_business() {
        let host = [("host", "localhost")];
        for method in [Method::CONNECT, Method::TRACE] {
            assert!(refuse_malformed(&request(method, "localhost:1", &host)).is_some());
        }
        assert!(refuse_malformed(&request(Method::GET, "/", &[])).is_some());
        assert!(refuse_malformed(&request(Method::GET, "/", &[host[0], host[0]])).is_some());
        assert!(refuse_malformed(&request(Method::GET, "/", &host)).is_none());
    }

    #[test]
    fn probes_are_known_by_their_path() {
        assert_eq!(
            (health_of("/healthz"), health_of("/readyz/")),
            (Some(HealthProbe::Alive), Some(HealthProbe::Ready))
        );
        assert_eq!((health_of("/"), health_of("/healthz/x"), health_of("/publish")), (None, None, None));
    }
}
