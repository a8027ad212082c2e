//! The grammar of GRIP header values: lists, and elements with parameters.

use super::InvalidText;
use std::borrow::Cow;

/// Splits a list at its commas, except for those between double quotes. Elements are trimmed. A comma at the end adds
/// no element. After a quote that is never closed, the rest of the list is one element.
pub fn elements(value: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let text = rest?;
        let (element, tail) = split_outside_quotes(text, b',');
        rest = tail.filter(|t| !t.trim().is_empty());
        Some(element.trim())
    })
    .filter(move |_| !value.trim().is_empty())
}

/// An element of the form `value; name=value; name="va\"lue"`, split into its parts.
#[derive(Debug, PartialEq, Eq)]
pub struct FieldElement<'a> {
    /// The text before the first `;`, trimmed.
    pub value: &'a str,
    parameters: Vec<(&'a str, Cow<'a, str>)>,
}

impl<'a> FieldElement<'a> {
    /// Parses an element. Returns `None` if a quoted value has no closing quote, or if a parameter has no name.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (value, mut rest) = match text.split_once(';') {
            Some((value, rest)) => (value, Some(rest)),
            None => (text, None),
        };
        let mut parameters = Vec::new();
        while let Some(text) = rest {
            let (parameter, tail) = split_outside_quotes(text, b';');
            rest = tail;
            if parameter.trim().is_empty() {
                continue;
            }
            parameters.push(parse_parameter(parameter)?);
        }
        Some(Self { value: value.trim(), parameters })
    }

    /// Returns the value of the first parameter called `name`, without regard to case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_ref())
    }

    /// Returns the names and values of the parameters, in the order of the element.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parameters.iter().map(|(name, value)| (*name, value.as_ref()))
    }
}

fn parse_parameter(text: &str) -> Option<(&str, Cow<'_, str>)> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let (name, value) = (name.trim(), value.trim());
    if name.is_empty() {
        return None;
    }
    match value.strip_prefix('"') {
        Some(quoted) => Some((name, unquote(quoted)?)),
        None => Some((name, Cow::Borrowed(value))),
    }
}

/// Returns the text before the closing quote, with its backslash escapes resolved, or `None` if there is no closing
/// quote.
fn unquote(quoted: &str) -> Option<Cow<'_, str>> {
    let end = closing_quote(quoted)?;
    let inner = &quoted[..end];
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        text.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    Some(Cow::Owned(text))
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|b| {
        let closes = b == b'"' && !escaped;
        escaped = b == b'\\' && !escaped;
        closes
    })
}

/// Parses a whole number of seconds, at most `i32::MAX`. `unreadable` is the error for a value that is no such
/// number, and `negative` is the error for a number below zero.
pub(super) fn seconds(value: &str, unreadable: &str, negative: &str) -> Result<u64, InvalidText> {
    let number: i32 = value.trim().parse().map_err(|_| InvalidText::new(unreadable))?;
    u64::try_from(number).map_err(|_| InvalidText::new(negative))
}

/// Splits `text` at the first `separator` outside double quotes. The second part is `None` if there is no such
/// separator.
pub fn split_outside_quotes(text: &str, separator: u8) -> (&str, Option<&str>) {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if byte == separator && !quoted => return (&text[..at], Some(&text[at + 1..])),
            _ => {}
        }
    }
    (text, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(value: &str) -> Vec<&str> {
        elements(value).collect()
    }

    #[test]
    fn lists_are_cut_at_commas_outside_quotes() {
        assert_eq!(list("a, b ,c"), ["a", "b", "c"]);
        assert_eq!(list(r#"a; f="x,y", b"#), [r#"a; f="x,y""#, "b"]);
        assert_eq!(list("a,,b"), ["a", "", "b"]);
        assert_eq!(list("a,"), ["a"]);
        assert_eq!(list(r#"a, "b, c"#), ["a", r#""b, c"#]);
        assert_eq!(list("  "), Vec::<&str>::new());
    }

    #[test]
    fn parameters_are_found_in_any_case_and_unquoted() {
        let element = FieldElement::parse(r#"room; prev-id=7; Filter="a\"b;c"; flag"#).unwrap();
        assert_eq!(element.value, "room");
        assert_eq!(element.get("PREV-ID"), Some("7"));
        assert_eq!(element.get("filter"), Some(r#"a"b;c"#));
        assert_eq!(element.get("flag"), Some(""));
        assert_eq!(element.get("missing"), None);
        assert_eq!(element.parameters().map(|(name, _)| name).collect::<Vec<_>>(), ["prev-id", "Filter", "flag"]);
    }

    #[test]
    fn broken_parameters_are_none() {
        assert_eq!(FieldElement::parse(r#"a; b="c"#), None);
        assert_eq!(FieldElement::parse("a; =c"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_taken_apart_without_losing_commas(text in ".{0,60}") {
            for element in elements(&text) {
                prop_assert!(text.contains(element));
                let _ = FieldElement::parse(element);
            }
        }

        #[test]
        fn plain_names_survive_a_list(names in prop::collection::vec("[a-z0-9_-]{1,8}", 1..6)) {
            let joined = names.join(", ");
            prop_assert_eq!(elements(&joined).collect::<Vec<_>>(), names);
        }
    }
}
