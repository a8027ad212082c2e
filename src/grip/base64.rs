//! Base64, as leniently as Pushpin reads it.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode::Indifferent;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

const LENIENT: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(Indifferent));

/// Returns the text for `bytes`, padded.
pub fn encode(bytes: &[u8]) -> String {
    LENIENT.encode(bytes)
}

/// Returns the bytes that `text` stands for, padded or not; white space in it means nothing. `None`: it is not base64.
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
