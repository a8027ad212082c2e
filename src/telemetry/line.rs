//! The form of a log line: it takes one line on the screen, is shown in the order in which it was composed, and is
//! not too long.

use std::borrow::Cow;

/// The number of bytes after which a line is cut. Targets of requests and names of channels may be longer than that.
const MAX_LINE: usize = 8 << 10;

/// Returns a line in which all characters are escaped that would change how this line or the following lines are
/// shown. A line that is too long is cut. The returned line ends with a newline.
pub(super) fn tidy(line: &[u8]) -> Cow<'_, [u8]> {
    if line.len() <= MAX_LINE && line.is_ascii() {
        return line.into();
    }
    let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line));
    let mut tidy = String::with_capacity(text.len().min(MAX_LINE));
    let mut chars = text.char_indices();
    for (at, c) in chars.by_ref() {
        if tidy.len() >= MAX_LINE {
            tidy.push_str(&format!("... ({} bytes are left out)", text.len() - at));
            break;
        }
        if changes_the_display(c) { tidy.extend(c.escape_unicode()) } else { tidy.push(c) }
    }
    tidy.push('\n');
    tidy.into_bytes().into()
}

/// Returns whether a character is a control character beyond ASCII, or changes the direction of text, breaks a line,
/// or is invisible. The control characters of ASCII are escaped by the formatter.
const fn changes_the_display(c: char) -> bool {
    matches!(
        c,
        '\u{80}'..='\u{9f}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use super::tidy;

    fn tidied(text: &str) -> String {
        String::from_utf8(tidy(text.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn what_changes_the_display_is_escaped_and_the_rest_stays() {
        assert_eq!(tidied("uri=/a\u{9b}31m\n"), "uri=/a\\u{9b}31m\n");
        assert_eq!(tidied("a\u{202e}b\u{85}c\u{2028}d\n"), "a\\u{202e}b\\u{85}c\\u{2028}d\n");
        for plain in ["plain\n", "channel=\"Gespräch 人\"\n"] {
            assert_eq!(tidied(plain), plain);
        }
    }

    #[test]
    fn long_lines_are_cut_and_say_so() {
        let line = tidied(&format!("uri=/{}\n", "é".repeat(30_000)));
        assert!(line.len() < 8300 && line.ends_with(" bytes are left out)\n"), "{}", line.len());
        assert_eq!(line.matches('\n').count(), 1);
    }
}
