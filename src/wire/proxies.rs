//! Whose request it is, when proxies stand between the client and gripd.

use super::Network;
use hyper::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};
use std::net::{IpAddr, SocketAddr};

/// The header in which proxies commonly list the addresses that a request came from, the client's first.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The proxies whose word about their clients is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies(Vec<Network>);

/// The way that a request has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The addresses that it came from: the client's first, then those of proxies, the peer's last.
    hops: Vec<IpAddr>,
    /// The elements of `Forwarded` that tell the same, without the peer.
    forwarded: Vec<String>,
    /// Whether `X-Forwarded-For` and `Forwarded` name different clients, so that neither is believed.
    pub is_contradictory: bool,
}

impl Proxies {
    /// The proxies that have an address in one of these networks.
    pub const fn new(networks: Vec<Network>) -> Self {
        Self(networks)
    }

    /// Whether an address is that of a proxy.
    pub fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// Returns the networks.
    pub fn networks(&self) -> &[Network] {
        &self.0
    }

    /// Follows a request from the `peer` that sent it back to its client.
    ///
    /// A list is read from its end: each address was written by the one after it, and is believed as long as that one is
    /// a proxy. The first address that is none is the client's. Whatever stands before it, anybody may have written.
    /// `vouched` says that the peer is believed although it is not listed.
    pub fn follow(&self, peer: IpAddr, headers: &HeaderMap, vouched: bool) -> Way {
        let peer = peer.to_canonical();
        let direct = Way { hops: vec![peer], forwarded: Vec::new(), is_contradictory: false };
        if !vouched && !self.contain(peer) {
            return direct;
        }
        let commas: Vec<&str> = texts(headers, &X_FORWARDED_FOR).flat_map(|text| text.split(',')).collect();
        let elements: Vec<&str> = texts(headers, &FORWARDED).flat_map(elements).collect();
        let by_list = self.believed(commas.iter().map(|text| address(text)));
        let by_elements = self.believed(elements.iter().map(|element| forwarded_address(element)));
        if !commas.is_empty() && !elements.is_empty() && by_list.first() != by_elements.first() {
            return Way { is_contradictory: true, ..direct };
        }
        let kept = elements[elements.len() - by_elements.len()..].iter().map(|element| element.trim().to_owned());
        let mut hops = if commas.is_empty() { by_elements.clone() } else { by_list };
        hops.push(peer);
        Way { hops, forwarded: kept.collect(), is_contradictory: false }
    }

    /// Returns the end of a list that is believed.
    fn believed(&self, listed: impl DoubleEndedIterator<Item = Option<IpAddr>>) -> Vec<IpAddr> {
        let mut believed = Vec::new();
        for address in listed.rev() {
            let Some(address) = address else { break };
            believed.push(address);
            if !self.contain(address) {
                break;
            }
        }
        believed.reverse();
        believed
    }
}

impl Way {
    /// Returns the address of the client.
    pub fn client(&self) -> Option<IpAddr> {
        self.hops.first().copied()
    }

    /// Returns `X-Forwarded-For` for the next server: the client, and the proxies on the way to it.
    pub fn x_forwarded_for(&self) -> Option<HeaderValue> {
        let text = match &self.hops[..] {
            [client] => client.to_string(),
            hops => hops.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", "),
        };
        HeaderValue::try_from(text).ok()
    }

    /// Returns `Forwarded` for the next server (RFC 7239), if the peer has sent it.
    pub fn forwarded(&self) -> Option<HeaderValue> {
        let peer = self.hops.last().filter(|_| !self.forwarded.is_empty())?;
        let own = if peer.is_ipv6() { format!("for=\"[{peer}]\"") } else { format!("for={peer}") };
        HeaderValue::try_from(format!("{}, {own}", self.forwarded.join(", "))).ok()
    }
}

fn texts<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    // What is no text is nothing that could be believed.
    headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("?"))
}

/// Reads an address, with or without a port, as proxies write it.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

/// Splits a `Forwarded` header at commas that are not quoted.
fn elements(text: &str) -> Vec<&str> {
    split_outside_quotes(text, ',')
}

/// Reads the address of a `Forwarded` element: the value of its only `for`.
fn forwarded_address(element: &str) -> Option<IpAddr> {
    let mut values = split_outside_quotes(element, ';').into_iter().filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value.trim())
    });
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    address(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}

fn split_outside_quotes(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut begin, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == separator && !quoted => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn proxies() -> Proxies {
        Proxies::new(["10.0.0.0/8", "::1"].iter().map(|text| Network::parse(text).unwrap()).collect())
    }

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    /// Returns the client, `X-Forwarded-For` and `Forwarded`.
    fn follow(peer: &str, pairs: &[(HeaderName, &str)]) -> (String, String, Option<String>) {
        let way = proxies().follow(peer.parse().unwrap(), &headers(pairs), false);
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
        assert_eq!(client("10.0.0.1", "6.6.6.6,"), "10.0.0.1");
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
    fn headers_that_contradict_each_other_are_not_believed() {
        let both = |list, elements| follow("10.0.0.1", &[(X_FORWARDED_FOR, list), (FORWARDED, elements)]);
        assert_eq!(both("1.1.1.1", "for=1.1.1.1").0, "1.1.1.1");
        assert_eq!(both("1.1.1.1", "for=6.6.6.6").0, "10.0.0.1");
        assert_eq!(both("6.6.6.6", "for=1.1.1.1"), ("10.0.0.1".into(), "10.0.0.1".into(), None));
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
        let way = proxies().follow([9, 9, 9, 9].into(), &headers(&[(X_FORWARDED_FOR, "6.6.6.6, 1.1.1.1")]), true);
        assert_eq!(way.client(), Some([1, 1, 1, 1].into()));
    }

    proptest! {
        #[test]
        fn a_stranger_cannot_choose_its_address(list in "[ -~]{0,60}", elements in "[ -~]{0,60}") {
            // A proxy appends the address that it sees to whatever it was sent.
            let (list, elements) = (format!("{list}, 7.7.7.7"), format!("{elements}, for=7.7.7.7"));
            prop_assert_eq!(client("10.0.0.1", &list), "7.7.7.7");
            prop_assert!(["7.7.7.7", "10.0.0.1"].contains(&&*follow("10.0.0.1", &[(FORWARDED, &elements)]).0));
        }
    }
}
