//! Percent-encoding of characters that a URI must not contain (RFC 3986), but that common programs send in request
//! targets and links.

use std::fmt::Write;

/// Returns whether a byte is not allowed in a URI and must be percent-encoded. Control characters and spaces are not
/// included.
pub(super) const fn is_odd(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'`' | b'\\' | b'^' | b'{' | b'|' | b'}' | 0x80..)
}

/// Percent-encodes the bytes for which `odd` returns `true`. Returns `None` if `text` has no such bytes.
pub fn encode(text: &[u8], odd: impl Fn(u8) -> bool) -> Option<Vec<u8>> {
    let first = text.iter().position(|byte| odd(*byte))?;
    let mut encoded = String::new();
    let mut out = text[..first].to_vec();
    for &byte in &text[first..] {
        if odd(byte) {
            encoded.clear();
            // Writing to a `String` cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
            out.extend_from_slice(encoded.as_bytes());
        } else {
            out.push(byte);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_characters_are_encoded_and_others_stay() {
        let encoded = |text: &str| encode(text.as_bytes(), is_odd).map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(encoded("/a?b=\"<`é>\\^{|}").unwrap(), "/a?b=%22%3C%60%C3%A9%3E%5C%5E%7B%7C%7D");
        assert_eq!(encoded("/a%22?b=c&d='()*~!;:@$,[]#x"), None);
    }

    #[test]
    fn what_is_encoded_is_a_uri() {
        let all: Vec<u8> = (0x21..=0xff).filter(|byte| *byte != 0x7f).collect();
        let target = [b"/", &encode(&all, is_odd).unwrap()[..]].concat();
        assert!(hyper::http::uri::PathAndQuery::try_from(&target[..]).is_ok());
    }
}
