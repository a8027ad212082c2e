//! Hosts and ports, as clients name them.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::borrow::Cow;

/// Returns the host of an authority, without the port.
pub fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// Returns the host of an authority in its canonical spelling, by which hosts are compared.
///
/// Names are converted to lower case and lose the final dot of the DNS root. Addresses are converted to their usual
/// form: `[0:0::1]` becomes `[::1]`, and `127.1`, `0x7f.1` and `[::ffff:127.0.0.1]` become `127.0.0.1`, because
/// resolvers read them that way. Two spellings of one host must never lead to different routes.
pub fn canonical_host(authority: &str) -> Cow<'_, str> {
    let host = without_port(authority);
    let host = host.strip_suffix('.').unwrap_or(host);
    if let Some(ip) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let Ok(ip) = ip.parse::<Ipv6Addr>() else { return host.into() };
        return ip.to_ipv4_mapped().map_or_else(|| format!("[{ip}]"), |ip| ip.to_string()).into();
    }
    if host.bytes().next().is_some_and(|byte| byte.is_ascii_digit())
        && host.parse::<Ipv4Addr>().is_err()
        && let Some(ip) = ipv4(host)
    {
        return ip.to_string().into();
    }
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) { host.to_ascii_lowercase().into() } else { host.into() }
}

/// Parses an IPv4 address of one to four numbers in decimal, octal (`0` in front) or hexadecimal (`0x` in front)
/// digits. The last number fills all remaining bytes, as in `inet_aton`.
fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let numbers: Vec<u32> = text.split('.').map(number).collect::<Option<_>>()?;
    let (last, leading) = numbers.split_last()?;
    if leading.len() > 3 || leading.iter().any(|byte| *byte > 255) {
        return None;
    }
    let bits_left = 32 - 8 * u32::try_from(leading.len()).ok()?;
    if bits_left < 32 && *last >> bits_left != 0 {
        return None;
    }
    let high = leading.iter().fold(0_u32, |all, byte| all << 8 | byte);
    Some(Ipv4Addr::from_bits(high.checked_shl(bits_left).unwrap_or(0) | last))
}

fn number(text: &str) -> Option<u32> {
    let lower = text.to_ascii_lowercase();
    let (digits, radix) = match lower.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None if lower.len() > 1 && lower.starts_with('0') => (&lower[1..], 8),
        None => (&lower[..], 10),
    };
    if digits.starts_with('+') { None } else { u32::from_str_radix(digits, radix).ok() }
}

/// Returns whether two authorities name the same host and port. Ports 80 and 443 count as no port.
pub fn is_same_authority(one: &str, other: &str) -> bool {
    canonical_host(one) == canonical_host(other) && named_port(one) == named_port(other)
}

/// Returns the port of an authority. The result is empty if there is no port, or if it is the default port of HTTP or
/// HTTPS.
fn named_port(authority: &str) -> &str {
    let port = authority.strip_prefix(without_port(authority)).unwrap_or_default();
    let port = port.strip_prefix(':').unwrap_or_default();
    if matches!(port, "80" | "443") { "" } else { port }
}

/// Returns whether a text is a host, perhaps with a port, and nothing else. Anything else could change the meaning of
/// a URI that contains the text.
pub fn is_authority(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((ip, port)) => return ip.parse::<Ipv6Addr>().is_ok() && is_port(port),
            None => return false,
        },
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    is_host(host.as_bytes()) && is_port(port)
}

/// Returns whether a host consists of labels of letters, digits, `-` and `_` that are separated by single dots. It
/// may end with a dot, which stands for the DNS root.
fn is_host(host: &[u8]) -> bool {
    let mut last = b'.';
    for &byte in host {
        match byte {
            b'.' if last == b'.' => return false,
            b'.' | b'-' | b'_' => {}
            _ if byte.is_ascii_alphanumeric() => {}
            _ => return false,
        }
        last = byte;
    }
    !host.is_empty()
}

/// Returns whether a text is empty, or consists of a colon and a port. The port may be missing.
fn is_port(text: &str) -> bool {
    match text.strip_prefix(':') {
        Some(port) => port.is_empty() || (port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()),
        None => text.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::{canonical_host, is_authority, is_same_authority, without_port};

    #[test]
    fn an_authority_is_a_host_and_perhaps_a_port() {
        for good in ["a", "a.", "a.b.:80", "a.b-c_d:80", "127.0.0.1", "[::1]", "[::1]:80", "a:"] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        let bad = [
            "", ":80", "a#", "a/b", "a@b", "a b", "a,b", "a:80:443", "a:x", "a:99999", "[a]", "[::1", "a?b", "a\\b",
            ".", "..", "a..", ".a", "a..b", ":", "é",
        ];
        for bad in bad {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
        assert!(!is_authority(b"a\xff"));
    }

    #[test]
    fn a_host_has_one_spelling() {
        for (authority, host) in [
            ("jwt.test", "jwt.test"),
            ("JWT.Test.:443", "jwt.test"),
            ("jwt.test.", "jwt.test"),
            ("[::1]:80", "[::1]"),
            ("[0:0:0::0:1]", "[::1]"),
            ("[2001:DB8::a]", "[2001:db8::a]"),
            ("[::ffff:127.0.0.1]:1", "127.0.0.1"),
            ("127.0.0.1.", "127.0.0.1"),
            ("127.1:8000", "127.0.0.1"),
            ("0x7f.0.0.1", "127.0.0.1"),
            ("0177.1", "127.0.0.1"),
            ("2130706433", "127.0.0.1"),
            ("1.2.3", "1.2.0.3"),
            // These are names, not addresses.
            ("1.2.3.4.5", "1.2.3.4.5"),
            ("1.2.3.256", "1.2.3.256"),
            ("1a.2", "1a.2"),
            ("web.1", "web.1"),
            ("", ""),
        ] {
            assert_eq!(canonical_host(authority), host, "{authority}");
        }
    }

    #[test]
    fn authorities_are_compared_by_host_and_port() {
        for same in ["a", "A.:80", "a:443", "a."] {
            assert!(is_same_authority("a", same), "{same}");
        }
        assert!(is_same_authority("[::1]:80", "[0::1]") && is_same_authority("a:1", "A.:1"));
        for other in ["b", "a:1", "a.b", "a:8080"] {
            assert!(!is_same_authority("a", other), "{other}");
        }
    }

    #[test]
    fn only_a_port_is_taken_off() {
        for (authority, host) in [("a:80", "a"), ("a", "a"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("", "")] {
            assert_eq!(without_port(authority), host);
        }
    }
}
