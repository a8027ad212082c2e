//! Networks: IP addresses, and blocks of them.

use crate::grip::{InvalidText, invalid};
use std::fmt;
use std::net::IpAddr;

/// An address, or a block of them in CIDR notation (RFC 4632, RFC 4291): `10.0.0.0/8`, `::1`, `2001:db8::/32`.
///
/// An IPv4-mapped IPv6 address (`::ffff:10.0.0.1`) counts as the IPv4 address that it contains. A block of such
/// addresses counts as a block of IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    /// Parses an address, or an address, `/`, and the number of leading bits that all addresses of the network have
    /// in common.
    ///
    /// # Errors
    /// The text is neither of these, the number is larger than the number of bits in the address, or a bit after the
    /// leading ones is set.
    pub fn parse(text: &str) -> Result<Self, InvalidText> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let Ok(address) = address.parse::<IpAddr>() else {
            return invalid(format!("'{text}' is neither an address nor a network like 10.0.0.0/8"));
        };
        let width = width(address);
        let Some(prefix) = prefix.map_or(Some(width), number).filter(|bits| *bits <= width) else {
            return invalid(format!("'{text}' needs a number from 0 to {width} after the '/'"));
        };
        let network = Self { address, prefix };
        if network.has_host_bits() {
            return invalid(format!(
                "'{text}' is not a network: the bits of the address after the first {prefix} must be 0"
            ));
        }
        Ok(network.unmapped())
    }

    /// Returns whether an address is in the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differing = own.to_bits() ^ other.to_bits();
                differing.checked_shr(u32::BITS - self.prefix).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differing = own.to_bits() ^ other.to_bits();
                differing.checked_shr(u128::BITS - self.prefix).unwrap_or(0) == 0
            }
            _ => false,
        }
    }

    fn has_host_bits(&self) -> bool {
        match self.address {
            IpAddr::V4(own) => own.to_bits().checked_shl(self.prefix).unwrap_or(0) != 0,
            IpAddr::V6(own) => own.to_bits().checked_shl(self.prefix).unwrap_or(0) != 0,
        }
    }

    /// Returns the IPv4 network for a network of IPv4-mapped addresses, and any other network unchanged.
    fn unmapped(self) -> Self {
        let mapped = width(self.address) - width(self.address.to_canonical());
        match self.prefix.checked_sub(mapped) {
            Some(prefix) => Self { address: self.address.to_canonical(), prefix },
            None => self,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix == width(self.address) {
            return write!(f, "{}", self.address);
        }
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Returns whether an address belongs neither to a private network, as Pushpin defines them, nor to this machine.
/// Link-local addresses, shared addresses (RFC 6598) and IPv4 addresses translated to IPv6 (RFC 6052) are not public
/// either.
pub fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let shared = a == 100 && (64..128).contains(&b);
            !(ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified() || shared)
        }
        IpAddr::V6(ip) => {
            let translated = ip.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
            let own = ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_unspecified();
            !(own || translated)
        }
    }
}

/// Returns the number of bits of an address of this kind.
const fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { u32::BITS } else { u128::BITS }
}

/// Parses a number of at most three digits, without a sign.
fn number(text: &str) -> Option<u32> {
    let is_number = text.len() <= 3 && text.bytes().all(|b| b.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::{Network, is_public};
    use proptest::prelude::*;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    fn contains(network: &str, address: &str) -> bool {
        Network::parse(network).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn an_address_is_in_a_network_that_begins_like_it() {
        assert!(contains("10.0.0.0/8", "10.255.0.1") && !contains("10.0.0.0/8", "11.0.0.0"));
        assert!(contains("192.168.1.128/25", "192.168.1.200") && !contains("192.168.1.128/25", "192.168.1.127"));
        assert!(contains("127.0.0.1", "127.0.0.1") && !contains("127.0.0.1", "127.0.0.2"));
        assert!(contains("::1", "::1") && !contains("::1", "::2"));
        assert!(contains("2001:db8::/32", "2001:db8:1::1") && !contains("2001:db8::/32", "2001:db9::"));
        assert!(contains("0.0.0.0/0", "255.1.2.3") && contains("::/0", "ffff::"));
        assert!(!contains("0.0.0.0/0", "::1") && !contains("::/0", "127.0.0.1"));
    }

    #[test]
    fn a_mapped_address_counts_as_its_ipv4() {
        assert!(contains("10.0.0.0/8", "::ffff:10.1.2.3") && !contains("::/0", "::ffff:10.1.2.3"));
        assert!(contains("::ffff:10.0.0.0/104", "10.1.2.3") && contains("::ffff:0:0/96", "::ffff:1.2.3.4"));
        assert!(contains("::ffff:10.0.0.1", "10.0.0.1") && !contains("::ffff:10.0.0.1", "10.0.0.2"));
    }

    #[test]
    fn what_is_no_network_is_an_error() {
        let wrong = [
            "",
            "/",
            "/8",
            "10",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0.0/8/8",
            "::/129",
            "10.0.0.0 /8",
            "localhost",
            "10.0.0.0/255.0.0.0",
            "fe80::1%eth0",
            "[::1]",
            "10.0.0.1:80",
            "::/99999999999",
        ];
        for text in wrong {
            let error = Network::parse(text).unwrap_err().to_string();
            assert!(error.contains(&format!("'{text}'")), "{error}");
        }
        for text in ["10.0.0.1/8", "0.0.0.1/0", "::1/64", "2001:db8::1/127", "::ffff:10.0.0.1/104"] {
            let error = Network::parse(text).unwrap_err().to_string();
            assert!(error.contains("the bits of the address after the first"), "{error}");
        }
    }

    #[test]
    fn it_is_written_as_it_is_read() {
        for text in ["10.0.0.0/8", "127.0.0.1", "::1", "2001:db8::/32", "0.0.0.0/0", "::/0"] {
            assert_eq!(Network::parse(text).unwrap().to_string(), text);
        }
        for (text, short) in [("1.2.3.4/32", "1.2.3.4"), ("::/128", "::"), ("::ffff:10.0.0.0/104", "10.0.0.0/8")] {
            assert_eq!(Network::parse(text).unwrap().to_string(), short);
        }
    }

    /// Returns whether the first `bits` bits of two addresses are the same. Compares their digits, so that the tests
    /// check `Network` against a different method.
    fn begins_alike(bits: usize, width: usize, a: u128, b: u128) -> bool {
        format!("{a:0width$b}")[..bits] == format!("{b:0width$b}")[..bits]
    }

    #[test]
    fn private_addresses_are_not_public() {
        let private = [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "169.254.1.1",
            "0.0.0.0",
            "::1",
            "fc00::1",
            "100.64.0.1",
            "64:ff9b::a00:1",
            "fdff::1",
            "fe80::1",
            "::ffff:10.0.0.1",
            "::",
        ];
        for ip in private {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["1.1.1.1", "172.32.0.1", "11.0.0.1", "2606:4700::1111"] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
    }

    proptest! {
        #[test]
        fn the_first_bits_count(a in any::<u32>(), b in any::<u32>(), same in 0..=32_u32, bits in 0..=32_u32) {
            let b = a ^ b.checked_shr(same).unwrap_or(0);
            let base = a & u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            let network = Network::parse(&format!("{}/{bits}", Ipv4Addr::from_bits(base))).unwrap();
            let expected = begins_alike(bits as usize, 32, a.into(), b.into());
            prop_assert_eq!(network.contains(IpAddr::V4(Ipv4Addr::from_bits(b))), expected);
            prop_assert_eq!(Network::parse(&network.to_string()), Ok(network));
        }

        #[test]
        fn so_they_do_of_ipv6(a in any::<u128>(), b in any::<u128>(), same in 0..=128_u32, bits in 0..=128_u32) {
            // With the first bit set, neither address is IPv4-mapped.
            let a = a | 1 << 127;
            let b = (a ^ b.checked_shr(same).unwrap_or(0)) | 1 << 127;
            let base = a & u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            let network = Network::parse(&format!("{}/{bits}", Ipv6Addr::from_bits(base))).unwrap();
            prop_assert_eq!(network.contains(IpAddr::V6(Ipv6Addr::from_bits(b))), begins_alike(bits as usize, 128, a, b));
            prop_assert_eq!(Network::parse(&network.to_string()), Ok(network));
        }

        #[test]
        fn any_text_is_a_network_or_an_error(text in "[0-9a-f:./]{0,20}|.{0,20}") {
            if let Ok(network) = Network::parse(&text) {
                prop_assert_eq!(Network::parse(&network.to_string()), Ok(network));
            }
        }
    }
}
