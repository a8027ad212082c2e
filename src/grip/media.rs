//! Media types, as `Content-Type` has them (RFC 9110 8.3.1).

/// Returns whether a `Content-Type` has this media type, without regard to case, surrounding white space and
/// parameters.
pub fn is_media_type(content_type: &[u8], media_type: &str) -> bool {
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(media_type.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::is_media_type;

    #[test]
    fn case_blanks_and_parameters_make_no_difference() {
        for same in ["a/b", "A/B", " a/b ", "a/b;x=y", "a/b ; charset=utf-8", "A/b\t;", "a/b;"] {
            assert!(is_media_type(same.as_bytes(), "a/b"), "{same}");
        }
        for other in ["", "a", "a/bc", "a/b, c/d", "a /b", "\"a/b\"", "x;a/b"] {
            assert!(!is_media_type(other.as_bytes(), "a/b"), "{other}");
        }
    }
}
