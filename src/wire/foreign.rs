//! Protocols that some clients speak to a port for HTTP by mistake.

/// A protocol other than HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForeignProtocol {
    /// ZMTP, the protocol of ZeroMQ sockets.
    ZeroMq,
    /// TLS.
    Tls,
}

impl ForeignProtocol {
    /// Returns the protocol of a client that begins with these bytes, if it is one that can be recognized.
    pub fn of(begin: &[u8]) -> Option<Self> {
        match begin {
            // The signature of a greeting: eight bytes between 0xFF and 0x7F (ZMTP 3.0, section 2.2).
            [0xFF, _, _, _, _, _, _, _, _, 0x7F, ..] => Some(Self::ZeroMq),
            // A handshake record of TLS, whose major version is always 3 (RFC 8446 5.1).
            [0x16, 0x03, ..] => Some(Self::Tls),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ForeignProtocol;

    #[test]
    fn protocols_are_recognized_by_their_first_bytes() {
        let greeting = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01NULL";
        assert_eq!(ForeignProtocol::of(greeting), Some(ForeignProtocol::ZeroMq));
        assert_eq!(ForeignProtocol::of(b"\x16\x03\x01\x02\0\x01"), Some(ForeignProtocol::Tls));
        for other in [&b""[..], b"GET / HTTP/1.1", b"\xff", b"\xff\xfb\x1f\xff\xfb\x20\xff\xfb\x18\xff", b"\x16"] {
            assert_eq!(ForeignProtocol::of(other), None, "{other:?}");
        }
    }
}
