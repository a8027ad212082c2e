//! The client of a request that has come through proxies.

use super::Network;
use crate::grip::fields::split_outside_quotes;
use hyper::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};
use std::net::{IpAddr, SocketAddr};

/// The header in which proxies commonly list the addresses that a request came from, the client's first.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The trusted proxies, which are believed when they report the addresses of their clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<Network>,
    header: ProxyHeader,
}

/// The header in which the trusted proxies report where a request comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyHeader {
    /// `X-Forwarded-For` if a request has it, else `Forwarded`.
    #[default]
    Either,
    /// `X-Forwarded-For`.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// The kind of peer that has sent a request to gripd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestSender {
    /// A client, or a proxy that is not a trusted GRIP proxy.
    Client,
    /// Another GRIP proxy, whose signature (`Grip-Sig`) shows that it is trusted.
    GripProxy,
}

impl RequestSender {
    /// Returns whether the sender is a trusted GRIP proxy.
    pub const fn is_trusted(self) -> bool {
        matches!(self, Self::GripProxy)
    }
}

/// The way on which a request has come from its client to gripd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPath {
    /// The addresses that the request came from: the client's first, then those of the proxies, and the peer's last.
    hops: Vec<IpAddr>,
    /// The trusted elements of `Forwarded`, in their order. The element for the peer, which gripd adds for the next
    /// server, is not among them.
    forwarded: Vec<String>,
}

impl TrustedProxies {
    /// Creates the set of the proxies whose addresses are in one of these networks and that report clients in this
    /// header.
    pub const fn new(networks: Vec<Network>, header: ProxyHeader) -> Self {
        Self { networks, header }
    }

    /// Returns whether an address belongs to a trusted proxy.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }

    /// Returns the networks that contain the trusted proxies.
    pub fn networks(&self) -> &[Network] {
        &self.networks
    }

    /// Finds the way on which a request came from its client to `peer`, which sent it to gripd.
    ///
    /// The list in the header is read from its end. Each proxy appends the address from which it got the request, so
    /// an address is believed if the server that appended it is a trusted proxy: `peer` for the last address, and the
    /// server whose address follows for any other. The first address that does not belong to a trusted proxy is the
    /// client's. The addresses before it are ignored, because anybody may have written them. A trusted GRIP proxy is
    /// believed even if its address is not in the networks.
    pub fn follow(&self, peer: IpAddr, headers: &HeaderMap, sender: RequestSender) -> RequestPath {
        let peer = peer.to_canonical();
        let mut way = RequestPath { hops: Vec::new(), forwarded: Vec::new() };
        if sender.is_trusted() || self.contains(peer) {
            let by_list = match self.header {
                ProxyHeader::Either => headers.contains_key(X_FORWARDED_FOR),
                ProxyHeader::XForwardedFor => true,
                ProxyHeader::Forwarded => false,
            };
            if by_list {
                way.hops = self.believed(elements(headers, &X_FORWARDED_FOR).map(address));
            } else {
                let texts: Vec<&[u8]> = elements(headers, &FORWARDED).collect();
                way.hops = self.believed(texts.iter().map(|text| forwarded_address(text)));
                let kept = texts[..way.hops.len()].iter().rev();
                way.forwarded = kept.map(|text| String::from_utf8_lossy(text.trim_ascii()).into_owned()).collect();
            }
        }
        way.hops.push(peer);
        way
    }

    /// Returns the believed addresses, the client's first. `listed` gives the addresses in a header from the last to
    /// the first, with `None` for one that cannot be parsed.
    fn believed(&self, listed: impl Iterator<Item = Option<IpAddr>>) -> Vec<IpAddr> {
        let mut believed = Vec::new();
        for address in listed {
            let Some(address) = address else { break };
            believed.push(address);
            if !self.contains(address) {
                break;
            }
        }
        believed.reverse();
        believed
    }
}

impl RequestPath {
    /// Returns the address of the client.
    pub fn client(&self) -> Option<IpAddr> {
        self.hops.first().copied()
    }

    /// Returns the value of `X-Forwarded-For` for the next server: the addresses of the client and of the proxies on
    /// the way, including the peer.
    pub fn x_forwarded_for(&self) -> Option<HeaderValue> {
        let text = match &self.hops[..] {
            [client] => client.to_string(),
            hops => hops.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", "),
        };
        HeaderValue::try_from(text).ok()
    }

    /// Returns whether `Forwarded` says that the client uses TLS.
    pub fn is_secure(&self) -> bool {
        let proto = self.forwarded.first().and_then(|element| parameter(element.as_bytes(), "proto"));
        proto.is_some_and(|proto| proto.trim_matches('"').eq_ignore_ascii_case("https"))
    }

    /// Returns the value of `Forwarded` for the next server (RFC 7239), or `None` if no element of the peer's
    /// `Forwarded` was believed.
    pub fn forwarded(&self) -> Option<HeaderValue> {
        if self.forwarded.is_empty() {
            return None;
        }
        let peer = self.hops.last()?;
        let own = if peer.is_ipv6() { format!("for=\"[{peer}]\"") } else { format!("for={peer}") };
        HeaderValue::try_from(format!("{}, {own}", self.forwarded.join(", "))).ok()
    }
}

/// Returns the elements of a list in a header, from the last to the first. Empty elements count as absent (RFC 9110
/// 5.6.1).
///
/// The list is split from its end, where trusted proxies have appended their elements. An unclosed quote that a
/// client has put before them therefore cannot hide them.
fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let values = headers.get_all(name).iter().rev().map(HeaderValue::as_bytes);
    values.flat_map(split_from_end).filter(|element| !element.trim_ascii().is_empty())
}

/// Splits a list at commas outside of quoted strings. Reads the list from its end, and returns the last element
/// first.
fn split_from_end(text: &[u8]) -> Vec<&[u8]> {
    let (mut parts, mut end, mut quoted) = (Vec::new(), text.len(), false);
    for (at, byte) in text.iter().enumerate().rev() {
        match byte {
            b'"' if text[..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 0 => quoted = !quoted,
            b',' if !quoted => {
                parts.push(&text[at + 1..end]);
                end = at;
            }
            _ => {}
        }
    }
    parts.push(&text[..end]);
    parts
}

/// Reads an address, with or without a port or a zone, as proxies write it.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let bare = bare.split_once('%').map_or(bare, |(address, _)| address);
    let address = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

/// Returns the address in an element of `Forwarded`, which is the value of its `for` parameter.
fn forwarded_address(element: &[u8]) -> Option<IpAddr> {
    let value = parameter(element, "for")?;
    address(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value).as_bytes())
}

/// Returns the value of a parameter in an element of `Forwarded`, or `None` if the parameter is missing or repeated.
fn parameter<'a>(element: &'a [u8], name: &str) -> Option<&'a str> {
    let (mut rest, mut found) = (Some(std::str::from_utf8(element).ok()?), None);
    while let Some(text) = rest {
        let (pair, tail) = split_outside_quotes(text, b';');
        rest = tail;
        if let Some((own, value)) = pair.split_once('=')
            && own.trim().eq_ignore_ascii_case(name)
            && found.replace(value.trim()).is_some()
        {
            return None;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn proxies() -> TrustedProxies {
        proxies_by(ProxyHeader::Either)
    }

    fn proxies_by(header: ProxyHeader) -> TrustedProxies {
        let networks = ["10.0.0.0/8", "::1"].iter().map(|text| Network::parse(text).unwrap()).collect();
        TrustedProxies::new(networks, header)
    }

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    /// Returns the client's address, and the values of `X-Forwarded-For` and `Forwarded` for the next server.
    fn follow(peer: &str, pairs: &[(HeaderName, &str)]) -> (String, String, Option<String>) {
        let way = proxies().follow(peer.parse().unwrap(), &headers(pairs), RequestSender::Client);
        let text = |value: HeaderValue| value.to_str().unwrap().to_owned();
        (way.client().unwrap().to_string(), text(way.x_forwarded_for().unwrap()), way.forwarded().map(text))
    }

    fn client(peer: &str, list: &str) -> String {
        follow(peer, &[(X_FORWARDED_FOR, list)]).0
    }

    #[test]
    fn only_proxies_are_believed() {
        assert_eq!(client("9.9.9.9", "1.1.1.1"), "9.9.9.9");
        assert_eq!(client("10.0.0.1", "1.1.1.1"), "1.1.1.1");
        assert_eq!(client("::ffff:10.0.0.1", "1.1.1.1"), "1.1.1.1");
        assert_eq!(client("10.0.0.1", ""), "10.0.0.1");
        assert_eq!(follow("10.0.0.1", &[]).0, "10.0.0.1");
    }

    #[test]
    fn the_last_address_that_is_no_proxys_is_the_clients() {
        assert_eq!(client("10.0.0.1", "6.6.6.6, 1.1.1.1, 10.0.0.2"), "1.1.1.1");
        assert_eq!(client("10.0.0.1", "10.0.0.3, 10.0.0.2"), "10.0.0.3");
        assert_eq!(client("10.0.0.1", "6.6.6.6, nonsense, 10.0.0.2"), "10.0.0.2");
        assert_eq!(client("10.0.0.1", "6.6.6.6, unknown"), "10.0.0.1");
        assert_eq!(client("10.0.0.1", "6.6.6.6, 1.1.1.1, , 10.0.0.2,"), "1.1.1.1");
        let several = [(X_FORWARDED_FOR, "6.6.6.6"), (X_FORWARDED_FOR, "1.1.1.1, 10.0.0.2")];
        assert_eq!(follow("10.0.0.1", &several).0, "1.1.1.1");
    }

    #[test]
    fn addresses_are_read_as_proxies_write_them() {
        for (text, expected) in [
            ("1.1.1.1:80", "1.1.1.1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:80", "2001:db8::1"),
            ("2001:DB8::1", "2001:db8::1"),
            ("::ffff:1.1.1.1", "1.1.1.1"),
            (" 1.1.1.1 ", "1.1.1.1"),
            ("fe80::1%eth0", "fe80::1"),
        ] {
            assert_eq!(client("::1", text), expected, "{text}");
        }
    }

    #[test]
    fn forwarded_says_it_as_well() {
        let by = |text: &str| follow("10.0.0.1", &[(FORWARDED, text)]).0;
        assert_eq!(by("for=1.1.1.1"), "1.1.1.1");
        assert_eq!(by("For=\"[2001:db8::1]:4711\";proto=https, for=10.0.0.2"), "2001:db8::1");
        assert_eq!(by("for=6.6.6.6, for=1.1.1.1;by=10.0.0.9"), "1.1.1.1");
        assert_eq!(by("for=6.6.6.6, proto=https;for=\"1.1.1.1\""), "1.1.1.1");
        for hidden in ["for=_hidden", "for=unknown", "proto=https", "for=6.6.6.6;for=1.1.1.1", "for=\"6.6.6.6, x"] {
            assert_eq!(by(hidden), "10.0.0.1", "{hidden}");
        }
        assert_eq!(by("for=6.6.6.6;x=\"a, for=1.1.1.1\""), "6.6.6.6");
    }

    #[test]
    fn one_header_decides() {
        let both = [(X_FORWARDED_FOR, "1.1.1.1"), (FORWARDED, "for=2.2.2.2")];
        let by = |header, pairs: &[(HeaderName, &str)]| {
            let way = proxies_by(header).follow([10, 0, 0, 1].into(), &headers(pairs), RequestSender::Client);
            way.client().unwrap().to_string()
        };
        assert_eq!(by(ProxyHeader::Either, &both), "1.1.1.1");
        assert_eq!(by(ProxyHeader::XForwardedFor, &both), "1.1.1.1");
        assert_eq!(by(ProxyHeader::Forwarded, &both), "2.2.2.2");
        assert_eq!(by(ProxyHeader::Either, &both[1..]), "2.2.2.2");
        assert_eq!(by(ProxyHeader::XForwardedFor, &both[1..]), "10.0.0.1");
        assert_eq!(by(ProxyHeader::Forwarded, &both[..1]), "10.0.0.1");
    }

    #[test]
    fn a_stranger_cannot_spoil_what_a_proxy_adds() {
        for before in [b"\xff".as_slice(), b"\"", b"for=6.6.6.6;x=\"", b"for=6.6.6.6;x=\"\\", b"\\\"", b"a;\"b, c"] {
            let line = |appended: &[u8]| {
                let mut map = HeaderMap::new();
                let name = if appended.starts_with(b", for") { FORWARDED } else { X_FORWARDED_FOR };
                map.append(name, HeaderValue::from_bytes(&[before, appended].concat()).unwrap());
                proxies().follow([10, 0, 0, 1].into(), &map, RequestSender::Client).client().unwrap().to_string()
            };
            assert_eq!(line(b", 7.7.7.7"), "7.7.7.7", "{}", before.escape_ascii());
            assert_eq!(line(b", for=7.7.7.7"), "7.7.7.7", "{}", before.escape_ascii());
            assert_eq!(line(b", for=\"7.7.7.7:80\";proto=https"), "7.7.7.7", "{}", before.escape_ascii());
        }
    }

    #[test]
    fn forwarded_tells_of_tls() {
        let secure = |text: &str| {
            proxies().follow([10, 0, 0, 1].into(), &headers(&[(FORWARDED, text)]), RequestSender::Client).is_secure()
        };
        assert!(secure("for=1.1.1.1;proto=https") && secure("for=6.6.6.6, for=1.1.1.1;Proto=\"HTTPS\", for=10.0.0.2"));
        assert!(!secure("for=6.6.6.6;proto=https, for=1.1.1.1") && !secure("for=1.1.1.1;proto=http"));
    }

    #[test]
    fn the_next_server_is_told_what_is_believed_and_no_more() {
        let told = |peer, list| follow(peer, &[(X_FORWARDED_FOR, list)]).1;
        assert_eq!(told("9.9.9.9", "1.1.1.1"), "9.9.9.9");
        assert_eq!(told("10.0.0.1", "6.6.6.6, 1.1.1.1:80, 10.0.0.2"), "1.1.1.1, 10.0.0.2, 10.0.0.1");
        let (_, list, forwarded) = follow("::1", &[(FORWARDED, "for=6.6.6.6, for=1.1.1.1;proto=https, for=10.0.0.2")]);
        assert_eq!(list, "1.1.1.1, 10.0.0.2, ::1");
        assert_eq!(forwarded.unwrap(), "for=1.1.1.1;proto=https, for=10.0.0.2, for=\"[::1]\"");
    }

    #[test]
    fn somebody_who_is_vouched_for_is_believed() {
        let way = proxies().follow(
            [9, 9, 9, 9].into(),
            &headers(&[(X_FORWARDED_FOR, "6.6.6.6, 1.1.1.1")]),
            RequestSender::GripProxy,
        );
        assert_eq!(way.client(), Some([1, 1, 1, 1].into()));
    }

    proptest! {
        #[test]
        fn a_stranger_cannot_choose_its_address(list in "[ -~]{0,60}", elements in "([ -~]|[\",;=\\\\]){0,60}") {
            // A proxy appends the address that it sees to whatever it was sent.
            let (list, elements) = (format!("{list}, 7.7.7.7"), format!("{elements}, for=7.7.7.7"));
            prop_assert_eq!(client("10.0.0.1", &list), "7.7.7.7");
            prop_assert_eq!(follow("10.0.0.1", &[(FORWARDED, &elements)]).0, "7.7.7.7");
        }
    }
}
