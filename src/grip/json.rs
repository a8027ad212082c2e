//! A lenient parser for the JSON of publishers and origins, which is not always valid.

use serde_json::Value;
use std::fmt;

/// Parses a JSON text. As in Pushpin, three faults of common programs are corrected: a byte order mark at the
/// beginning, raw control characters within strings, and half a surrogate pair, which becomes U+FFFD. JavaScript
/// writes such halves when it cuts a string within an emoji.
///
/// # Errors
/// The text is not JSON even with these corrections. The error says what is wrong, at which line and column, and in
/// which item if the text is a batch.
pub fn read(text: &[u8]) -> Result<Value, JsonError> {
    if let Ok(value) = serde_json::from_slice(text) {
        return Ok(value);
    }
    // Few texts have a fault, so the text is corrected only if it could not be parsed.
    let mended = mend(text);
    serde_json::from_slice(&mended.text).map_err(|error| JsonError::new(&error, &mended, text))
}

/// A fault in a JSON text.
#[derive(Debug)]
pub struct JsonError {
    /// The description of the JSON error, including its line and column.
    what: String,
    /// The index of the faulty item in the array `items` of a batch, if the fault is within an item.
    item: Option<usize>,
}

impl JsonError {
    fn new(error: &serde_json::Error, mended: &MendedJson, text: &[u8]) -> Self {
        let lines = mended.text.split_inclusive(|byte| *byte == b'\n').take(error.line().saturating_sub(1));
        let at = lines.map(<[u8]>::len).sum::<usize>() + error.column();
        let before = &text[..mended.origin_of(at).min(text.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|byte| **byte != b'\n').count();
        let what = error.to_string();
        let what = what.rsplit_once(" at line ").map_or(&*what, |(what, _)| what);
        Self { what: format!("{what} at line {line} column {column}"), item: item_at(before) }
    }
}

impl std::error::Error for JsonError {}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match self.item {
            Some(item) => write!(f, ", in items[{item}]"),
            None => Ok(()),
        }
    }
}

/// Returns the index of the item of a batch, `{"items": [...]}`, that is unfinished where `text` ends, if there is
/// one. `text` is the beginning of the batch.
fn item_at(text: &[u8]) -> Option<usize> {
    let (mut depth, mut item, mut in_string, mut escaped) = (0_usize, None, false, false);
    // The position at which the last string began, and the last string directly within the top-level object, which is
    // the key if a value follows.
    let (mut begun, mut key) = (0, &b""[..]);
    for (at, byte) in text.iter().enumerate() {
        if in_string {
            in_string = escaped || *byte != b'"';
            escaped = !escaped && *byte == b'\\';
            if !in_string && depth == 1 {
                key = &text[begun + 1..at];
            }
            continue;
        }
        match byte {
            b'"' => (in_string, begun) = (true, at),
            b'[' | b'{' => {
                depth += 1;
                if *byte == b'[' && depth == 2 && key == b"items" {
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
            b',' if depth == 1 => key = b"",
            _ => {}
        }
    }
    item
}

/// A text in which common faults were corrected.
struct MendedJson {
    text: Vec<u8>,
    /// Pairs of a position in `text` and the position in the original text that corresponds to it: one pair for the
    /// beginning, and one after each correction that changed the length.
    places: Vec<(usize, usize)>,
}

impl MendedJson {
    /// Returns the position in the original text that corresponds to the position `at` in the corrected text.
    fn origin_of(&self, at: usize) -> usize {
        let next = self.places.partition_point(|(place, _)| *place <= at);
        let (place, origin) = next.checked_sub(1).map_or((0, 0), |last| self.places[last]);
        origin + (at - place)
    }
}

/// Corrects the faults that [`read`] tolerates. All other bytes stay as they are.
fn mend(original: &[u8]) -> MendedJson {
    let mut rest = original.strip_prefix(b"\xef\xbb\xbf").unwrap_or(original);
    let mut out = Vec::with_capacity(original.len() + 16);
    let mut places = vec![(0, original.len() - rest.len())];
    let mut in_string = false;
    while let Some((&byte, tail)) = rest.split_first() {
        let before = (out.len(), rest.len());
        match byte {
            b'\\' if in_string => rest = mend_escape(rest, &mut out),
            0..=0x1f if in_string => {
                out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
                rest = tail;
            }
            _ => {
                in_string ^= byte == b'"';
                out.push(byte);
                rest = tail;
            }
        }
        if out.len() - before.0 != before.1 - rest.len() {
            places.push((out.len(), original.len() - rest.len()));
        }
    }
    MendedJson { text: out, places }
}

/// Copies the escape at the beginning of `text` to `out`, with U+FFFD instead of half a surrogate pair. Returns the
/// text after the escape.
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

/// Returns the UTF-16 code unit of the escape `\uXXXX` at the beginning of `text`, if `text` begins with one.
fn unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

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
        // Corrected faults do not hide a later fault, and do not change its line and column.
        let text = "\u{feff}{\"items\": [\n{\"a\": \"\t\n\\ud83d\"}, {\"a\" 1}]}";
        assert_eq!(fault(text), "expected `:` at line 3 column 16, in items[1]");
        for elsewhere in ["{\"meta\":[1,2],\"foo\":[{},nope]}", "[[1,2],[3,nope]]", "{\"a\":\"items\",\"b\":[nope]}"] {
            assert!(!fault(elsewhere).contains("items["), "{elsewhere}");
        }
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
