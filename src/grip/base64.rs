//! Base64, decoded as leniently as in Pushpin.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode::Indifferent;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

const LENIENT: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(Indifferent));

/// Encodes `bytes` as Base64 with padding.
pub fn encode(bytes: &[u8]) -> String {
    LENIENT.encode(bytes)
}

/// Decodes a Base64 text. Padding is optional, and ASCII white space is ignored. Returns `None` if `text` is not
/// valid Base64.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let text: String = text.split_ascii_whitespace().collect();
    LENIENT.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    #[test]
    fn padding_and_line_ends_do_not_matter() {
        for text in ["aGVsbG8=", "aGVsbG8", "aGVs\nbG8=\n"] {
            assert_eq!(decode(text).as_deref(), Some(&b"hello"[..]), "{text:?}");
        }
        assert_eq!(decode("a*b"), None);
        assert_eq!(encode(b"hello"), "aGVsbG8=");
    }
}
