//! Headers whose value is a list of tokens, such as `Connection` and `Vary` (RFC 9110 5.6.1).

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

/// Returns the tokens of all headers with this name, in their order and without the spaces and tabs around them.
pub fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    values.flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// Returns whether a header with this name contains a token. The case of letters does not matter.
pub fn names_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|one| one.eq_ignore_ascii_case(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::CONNECTION;

    #[test]
    fn a_token_is_found_in_any_line_in_any_case_and_only_as_a_whole() {
        let mut headers = HeaderMap::new();
        headers.append(CONNECTION, HeaderValue::from_static("close ,\tUpgrade"));
        headers.append(CONNECTION, HeaderValue::from_static("x-hop"));
        for token in ["close", "upgrade", "X-Hop"] {
            assert!(names_token(&headers, &CONNECTION, token), "{token}");
        }
        for other in ["up", "hop", "close ,", "upgrade, x-hop"] {
            assert!(!names_token(&headers, &CONNECTION, other), "{other}");
        }
    }
}
