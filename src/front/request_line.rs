//! The first line of each request, before hyper reads it.

use super::activity::Activity;
use crate::grip::percent::encode;

/// Finds the request lines in what a client sends, and percent-encodes in them what hyper refuses in a target, while other
/// proxies pass it on.
///
/// A line is only mended where it is certain that it is one: at the beginning of a connection, and after requests without
/// bodies of which each ended with what was read. Everywhere else only hyper knows where a head begins, and a byte more
/// within a body would move all that follows.
#[derive(Debug)]
pub(super) struct RequestLines {
    position: Position,
    /// When the connection became idle, by the clock of all connections, as of the last read.
    since: u64,
}

/// The position of the next byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    /// At the beginning of a head.
    Head,
    /// Behind a head that ended with what was read.
    Behind,
    /// Somewhere.
    Unknown,
}

impl RequestLines {
    /// Returns the lines of a connection whose next byte begins a head.
    pub(super) const fn new(activity: &Activity) -> Self {
        Self { position: Position::Head, since: activity.since() }
    }

    /// Returns what hyper is to read instead of these bytes, if that is something else.
    pub(super) fn read(&mut self, bytes: &[u8], activity: &Activity) -> Option<Vec<u8>> {
        let answered = std::mem::replace(&mut self.since, activity.since()) != self.since;
        let begins = match self.position {
            _ if activity.is_busy() || activity.has_carried_body() => false,
            Position::Head => !answered,
            Position::Behind => answered,
            Position::Unknown => false,
        };
        self.position = if begins && bytes.ends_with(b"\r\n\r\n") { Position::Behind } else { Position::Unknown };
        if begins { mend(bytes) } else { None }
    }
}

/// Returns a head with its target mended, if there is anything to mend and the first line is whole.
fn mend(bytes: &[u8]) -> Option<Vec<u8>> {
    // Blank lines before it are no part of it (RFC 9112 2.2).
    let begin = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'))?;
    let length = bytes[begin..].iter().position(|byte| *byte == b'\n')?;
    let line = &bytes[begin..begin + length];
    if !line.iter().any(|byte| matches!(byte, b'"' | b'<' | b'>' | b'`' | 0x80..)) {
        return None;
    }
    let blank = |byte: &u8| *byte == b' ';
    let (first, last) = (line.iter().position(blank)?, line.iter().rposition(blank)?);
    let target = encode_target(line.get(first + 1..last)?)?;
    Some([&bytes[..=begin + first], &target, &bytes[begin + last..]].concat())
}

/// Percent-encodes the characters of a target that hyper refuses. Those that it accepts stay as they are, on every
/// connection.
fn encode_target(target: &[u8]) -> Option<Vec<u8>> {
    let is_text = std::str::from_utf8(target).is_ok();
    let (path, query) = target.split_at(target.iter().position(|byte| *byte == b'?').unwrap_or(target.len()));
    let odd = |byte: u8| matches!(byte, b'<' | b'>' | b'`') || (byte >= 0x80 && !is_text);
    // In a path hyper accepts quotes, and in a query backticks.
    let (new_path, new_query) = (encode(path, odd), encode(query, |byte| byte == b'"' || (byte != b'`' && odd(byte))));
    if new_path.is_none() && new_query.is_none() {
        return None;
    }
    Some([new_path.as_deref().unwrap_or(path), new_query.as_deref().unwrap_or(query)].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::http::uri::PathAndQuery;

    /// An event on a connection.
    enum Step {
        /// So much is read.
        Read(&'static str),
        /// hyper has read the head of a request; with a body, or without one.
        Begin(bool),
        /// The request is answered.
        End,
    }
    use Step::{Begin, End, Read};

    /// Returns what hyper has read.
    fn read(steps: &[Step]) -> String {
        let activity = Activity::new(1);
        let mut lines = RequestLines::new(&activity);
        let (mut out, mut clock) = (String::new(), 1);
        for step in steps {
            match step {
                Read(text) => {
                    let mended = lines.read(text.as_bytes(), &activity);
                    out += &mended.map_or_else(|| (*text).to_owned(), |bytes| String::from_utf8(bytes).unwrap());
                }
                Begin(has_body) => {
                    activity.begin();
                    if *has_body {
                        activity.note_body();
                    }
                }
                End => {
                    clock += 1;
                    activity.end(clock);
                }
            }
        }
        out
    }

    const HEAD: &str = "GET /<a> HTTP/1.1\r\nCookie: \"<>\"\r\n\r\n";
    const MENDED: &str = "GET /%3Ca%3E HTTP/1.1\r\nCookie: \"<>\"\r\n\r\n";
    const PLAIN: &str = "GET / HTTP/1.1\r\n\r\n";

    #[test]
    fn targets_are_mended_and_nothing_else() {
        assert_eq!(read(&[Read(HEAD)]), MENDED);
        assert_eq!(read(&[Read(HEAD), Begin(false), End, Read(HEAD)]), [MENDED, MENDED].concat());
        assert_eq!(read(&[Read("\r\n\nGET /< HTTP/1.1\r\n\r\n")]), "\r\n\nGET /%3C HTTP/1.1\r\n\r\n");
        assert_eq!(
            read(&[Read("GET /< HTTP/1.1\r\nHo"), Read("st: <\r\n\r\n")]),
            "GET /%3C HTTP/1.1\r\nHost: <\r\n\r\n"
        );
        for line in ["G<T /x HTTP/1.1", "\"GET\" /x HTTP/1.1", "GET /x HTTP/<", "GET<", "GET <", "<GET / x"] {
            let head: &'static str = format!("{line}\r\n\r\n").leak();
            assert_eq!(read(&[Read(head)]), head);
        }
    }

    #[test]
    fn what_may_be_no_request_line_stays() {
        // Two requests at once, the second of which may have a body.
        let both: &'static str = [PLAIN, "POST / HTTP/1.1\r\n\r\n"].concat().leak();
        let body = "<\nGET / HTTP/1.1\r\n\r\n";
        let first = [Read(both), Begin(false), End];
        assert_eq!(
            read(&[first, [Begin(true), Read(body), End]].into_iter().flatten().collect::<Vec<_>>()),
            [both, body].concat()
        );
        // More than the head, less than the head, a second read before the answer, and one while it is made.
        for more in ["GET /x", "x"] {
            let more: &'static str = [PLAIN, more].concat().leak();
            assert_eq!(read(&[Read(more), Begin(false), End, Read(HEAD)]), [more, HEAD].concat());
        }
        assert_eq!(read(&[Read("GET / HTTP"), Read(HEAD)]), ["GET / HTTP", HEAD].concat());
        assert_eq!(read(&[Read(PLAIN), Read(HEAD)]), [PLAIN, HEAD].concat());
        assert_eq!(read(&[Read(PLAIN), Begin(false), Read(HEAD), End, Read(HEAD)]), [PLAIN, HEAD, HEAD].concat());
        assert_eq!(read(&[Read(PLAIN), Begin(true), End, Read(HEAD)]), [PLAIN, HEAD].concat());
    }

    #[test]
    fn what_hyper_refuses_is_encoded_and_what_it_accepts_stays() {
        for byte in (0x21..=0xff).filter(|byte| !matches!(byte, b'#' | 0x7f)) {
            for target in [vec![b'/', byte], vec![b'/', b'?', byte]] {
                match (PathAndQuery::try_from(&target[..]), encode_target(&target)) {
                    (Ok(_), encoded) => assert_eq!(encoded, None, "{target:?}"),
                    (Err(_), encoded) => assert!(PathAndQuery::try_from(&encoded.unwrap()[..]).is_ok(), "{target:?}"),
                }
            }
        }
        assert_eq!(encode_target("/grüße".as_bytes()), None);
        assert_eq!(encode_target(b"/gr\xfc\xc3\x9fe").unwrap(), b"/gr%FC%C3%9Fe");
    }
}
