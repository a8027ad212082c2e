//! JSON as publishers and origins write it, which is not always JSON by the letter.

use serde_json::Value;
use std::borrow::Cow;
use std::fmt;

/// Reads a JSON text. Three faults that common programs commit are put right, as in Pushpin: a byte order mark in front, raw
/// control characters within strings, and half a surrogate pair, which becomes U+FFFD. JavaScript writes such halves when
/// it cuts a text within an emoji.
///
/// # Errors
/// What is wrong, and where.
pub fn read(text: &[u8]) -> Result<Value, Fault> {
    match serde_json::from_slice(text) {
        Ok(value) => Ok(value),
        // Few texts have a fault, and only those pay for a second look.
        Err(strict) => serde_json::from_slice(&mend(text)).map_err(|_| Fault::new(&strict, text)),
    }
}

/// A fault in a JSON text.
#[derive(Debug)]
pub struct Fault {
    /// The fault, with its line and column.
    what: String,
    /// The place in the array that the top object has as `items`, if the fault is within it.
    item: Option<usize>,
}

impl Fault {
    fn new(error: &serde_json::Error, text: &[u8]) -> Self {
        let before = text.split_inclusive(|byte| *byte == b'\n').take(error.line().saturating_sub(1));
        let at = before.map(<[u8]>::len).sum::<usize>() + error.column();
        Self { what: error.to_string(), item: item_at(&text[..at.min(text.len())]) }
    }
}

impl std::error::Error for Fault {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match self.item {
            Some(item) => write!(f, ", in items[{item}]"),
            None => Ok(()),
        }
    }
}

/// Returns the place of the item in a batch, `{"items": [...]}`, within which a text ends.
fn item_at(text: &[u8]) -> Option<usize> {
    let (mut depth, mut item, mut in_string, mut escaped) = (0_usize, None, false, false);
    for byte in text {
        if in_string {
            in_string = escaped || *byte != b'"';
            escaped = !escaped && *byte == b'\\';
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                if *byte == b'[' && depth == 2 {
                    item = Some(0);
                }
            }
            b']' | b'}' => {
                if depth == 2 {
                    item = None;
                }
                depth = depth.saturating_sub(1);
            }
            b',' if depth == 2 => item = item.map(|item| item + 1),
            _ => {}
        }
    }
    item
}

/// Puts right what [`read`] allows. The rest stays as it is.
fn mend(text: &[u8]) -> Cow<'_, [u8]> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut out = Vec::with_capacity(text.len() + 16);
    let (mut rest, mut in_string) = (text, false);
    while let Some((&byte, tail)) = rest.split_first() {
        match byte {
            b'"' => {
                in_string = !in_string;
                out.push(byte);
            }
            b'\\' if in_string => {
                rest = mend_escape(rest, &mut out);
                continue;
            }
            0..=0x1f if in_string => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
        rest = tail;
    }
    out.into()
}

/// Copies an escape, or U+FFFD in the place of half a surrogate pair. Returns what follows.
fn mend_escape<'a>(text: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();
    let (escape, rest) = match unit(text) {
        Some(0xdc00..=0xdfff) => (REPLACEMENT, &text[6..]),
        Some(0xd800..=0xdbff) => match unit(&text[6..]) {
            Some(0xdc00..=0xdfff) => text.split_at(12),
            _ => (REPLACEMENT, &text[6..]),
        },
        Some(_) => text.split_at(6),
        None => text.split_at(text.len().min(2)),
    };
    out.extend_from_slice(escape);
    rest
}

/// The UTF-16 unit of the escape `\uXXXX` with which a text begins.
fn unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn lenient(text: &str) -> Value {
        read(text.as_bytes()).unwrap_or_else(|fault| panic!("{text:?}: {fault}"))
    }

    fn fault(text: &str) -> String {
        read(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn three_common_faults_are_put_right() {
        assert_eq!(lenient("\u{feff}{\"a\": 1}"), json!({ "a": 1 }));
        assert_eq!(lenient("[\"a\nb\tc\u{1}\", \"d\\\"\n\"]"), json!(["a\nb\tc\u{1}", "d\"\n"]));
        assert_eq!(lenient("{\n\"k\ney\": \"\n\"}"), json!({ "k\ney": "\n" }));
        for half in ["\\ud83d", "\\uDE00", "\\ude00\\uD83D"] {
            let expected = "\u{fffd}".repeat(half.len() / 6);
            assert_eq!(lenient(&format!("[\"x{half}y\"]")), json!([format!("x{expected}y")]), "{half}");
        }
        // Whole pairs, other escapes and escaped backslashes stay what they are.
        assert_eq!(lenient("[\"\\ud83d\\ude00 \\ud83d \\u00e9 \\\\ud83d\"]"), json!(["😀 \u{fffd} é \\ud83d"]));
        assert_eq!(lenient("[\"\\ud83d\\ud83d\\ude00\"]"), json!(["\u{fffd}😀"]));
    }

    #[test]
    fn other_faults_are_told_with_their_place() {
        assert_eq!(fault("{\"a\": }"), "expected value at line 1 column 7");
        assert_eq!(
            fault("{\"items\": [\n{\"channel\": \"a]\"},\n{\"channel\" \"b\"}]}"),
            "expected `:` at line 3 column 12, in items[1]"
        );
        assert_eq!(fault("{\"items\": [{}, {}], \"x\": nope}"), "expected ident at line 1 column 27");
        for broken in ["", "\u{feff}", "{\"a\": \"\\", "[\"\\u12", "[\"\\ud83d", "[01]", "[1,]", "[\"a\" \"b\"]"] {
            assert!(!fault(broken).is_empty(), "{broken:?}");
        }
        assert!(read(b"[\"\xff\"]").is_err());
    }

    proptest! {
        #[test]
        fn what_is_json_is_read_as_such_and_nothing_is_a_panic(text in "[\\[\\]{}\",:\\\\ud8c\n\t0-9a]{0,40}") {
            match (read(text.as_bytes()), serde_json::from_str::<Value>(&text)) {
                (lenient, Ok(strict)) => prop_assert_eq!(lenient.unwrap(), strict),
                (Ok(_), Err(_)) => prop_assert!(text.contains(|c: char| c.is_control()) || text.contains("\\u")),
                (Err(fault), Err(_)) => prop_assert!(!fault.to_string().is_empty()),
            }
        }

        #[test]
        fn texts_survive_with_raw_control_characters(text in "[a-z\"\\\\\u{0}-\u{1f}😀é]{0,20}") {
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
            prop_assert_eq!(lenient(&format!("[\"{escaped}\"]")), json!([text]));
        }
    }
}
