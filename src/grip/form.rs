//! Decoding of query parameters, which are encoded as forms are (`application/x-www-form-urlencoded`).

use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// Decodes the name or the value of a parameter. Returns `None` if the decoded bytes are not UTF-8.
pub fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('+') {
        return percent_decode_str(text).decode_utf8().ok();
    }
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().ok().map(|text| Cow::Owned(text.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn plus_signs_are_spaces_and_percent_signs_begin_bytes() {
        assert_eq!(decode("a+b%20c%2B%c3%a9").as_deref(), Some("a b c+\u{e9}"));
        assert_eq!(decode("a%zz").as_deref(), Some("a%zz"));
        assert_eq!(decode(""), Some("".into()));
        assert_eq!((decode("%ff"), decode("+%ff")), (None, None));
    }
}
