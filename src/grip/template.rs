//! Texts with `%` directives, in which content filters fill in values.

use super::{InvalidText, invalid};
use std::borrow::Cow;

/// The number of bytes that directives may add to a text. Without a limit, a short text with many directives would
/// become gigabytes for a client with long values.
pub const MAX_ADDED: usize = 64 << 10;

/// The maximum number of directives in one text. The number is limited because each directive looks up a value.
const MAX_DIRECTIVES: usize = 4096;

/// Returns `text` with each directive replaced by the result of `fill`, which gets the letter and the name of the
/// directive. `%x` has the letter `x` and no name, `%(name)x` has a name as well. `%%` stands for a per cent sign.
///
/// # Errors
/// A per cent sign begins no directive, `fill` returns an error, there are more than 4,096 directives, or the values
/// add more than 65,536 bytes to the text.
pub(super) fn render<'a>(
    text: &[u8],
    mut fill: impl FnMut(u8, Option<&str>) -> Result<Cow<'a, [u8]>, InvalidText>,
) -> Result<Vec<u8>, InvalidText> {
    let mut out = Vec::with_capacity(text.len());
    let (mut rest, mut added, mut directives) = (text, 0, 0);
    while let Some(at) = rest.iter().position(|b| *b == b'%') {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        let name;
        (name, rest) = split_name(rest)?;
        let Some((letter, tail)) = rest.split_first() else {
            return invalid("the text ends with an incomplete directive '%'");
        };
        rest = tail;
        match (letter, name) {
            (b'%', None) => out.push(b'%'),
            _ if directives == MAX_DIRECTIVES => {
                return invalid(format!("the content has more than {MAX_DIRECTIVES} directives"));
            }
            (letter, name) => {
                directives += 1;
                let value = fill(*letter, name)?;
                added += value.len();
                if added > MAX_ADDED {
                    return invalid(format!("the substituted values add more than {MAX_ADDED} bytes"));
                }
                out.extend_from_slice(&value);
            }
        }
    }
    out.extend_from_slice(rest);
    Ok(out)
}

/// Returns the name in parentheses at the beginning of `text`, if there is one, and the text after it. `text` is what
/// follows the per cent sign of a directive.
fn split_name(text: &[u8]) -> Result<(Option<&str>, &[u8]), InvalidText> {
    let Some(inner) = text.strip_prefix(b"(") else { return Ok((None, text)) };
    let Some(end) = inner.iter().position(|b| *b == b')') else { return invalid("a '%(' has no ')'") };
    match std::str::from_utf8(&inner[..end]) {
        Ok(name) => Ok((Some(name), &inner[end + 1..])),
        Err(_) => invalid("a name in '%(...)' is not UTF-8"),
    }
}

/// Returns the error for a directive that a filter does not know.
pub(super) fn unknown<T>(letter: u8) -> Result<T, InvalidText> {
    invalid(format!("unknown directive '%{}'", char::from(letter).escape_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> Result<String, String> {
        let fill = |letter: u8, name: Option<&str>| match letter {
            b's' => Ok(format!("<{}>", name.unwrap_or("-")).into_bytes().into()),
            other => unknown(other),
        };
        render(text.as_bytes(), fill).map(|b| String::from_utf8(b).unwrap()).map_err(|e| e.to_string())
    }

    #[test]
    fn directives_are_filled_in() {
        assert_eq!(shown("a %s, %(b c)s, 100%%").unwrap(), "a <->, <b c>, 100%");
        assert_eq!(shown("").unwrap(), "");
    }

    #[test]
    fn broken_directives_are_errors() {
        assert_eq!(shown("50%").unwrap_err(), "the text ends with an incomplete directive '%'");
        assert_eq!(shown("%(a").unwrap_err(), "a '%(' has no ')'");
        assert_eq!(shown("%(a)").unwrap_err(), "the text ends with an incomplete directive '%'");
        assert_eq!(shown("%q").unwrap_err(), "unknown directive '%q'");
        assert_eq!(shown("%(a)%").unwrap_err(), "unknown directive '%%'");
    }

    #[test]
    fn there_may_be_only_so_many_directives() {
        let filled = |count: usize| render("%s".repeat(count).as_bytes(), |_, _| Ok(b""[..].into()));
        assert!(filled(4096).is_ok());
        assert_eq!(filled(4097).unwrap_err().to_string(), "the content has more than 4096 directives");
        assert!(render("%%".repeat(9000).as_bytes(), |_, _| Ok(b""[..].into())).is_ok());
    }

    #[test]
    fn values_may_add_only_so_much() {
        let value = vec![b'x'; 1 << 10];
        let filled = |count: usize| render("%s".repeat(count).as_bytes(), |_, _| Ok(value.as_slice().into()));
        assert_eq!(filled(64).unwrap().len(), 64 << 10);
        assert_eq!(filled(65).unwrap_err().to_string(), "the substituted values add more than 65536 bytes");
    }

    proptest! {
        #[test]
        fn text_without_per_cent_signs_stays_and_any_other_is_no_panic(text in ".{0,40}") {
            let plain = text.replace('%', "");
            prop_assert_eq!(shown(&plain).unwrap(), plain);
            let _ = shown(&text);
        }
    }
}
