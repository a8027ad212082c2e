//! The correction of request lines before hyper reads them.

use super::activity::Activity;
use crate::grip::percent::encode;

/// Finds the request lines in the bytes of a client, and percent-encodes those characters of the target that hyper
/// refuses, although other proxies pass them on.
///
/// A line is changed only where it certainly is a request line: at the beginning of a connection, and after
/// requests without bodies, if each of them ended where a read ended. In all other places, only hyper knows where a
/// head begins, and an additional byte within a body would shift everything after it.
#[derive(Debug)]
pub(super) struct RequestLines {
    position: LinePosition,
    /// The time at which the connection became idle, by the clock of the list of idle connections, as of the last
    /// read. If it has changed by the next read, a request was answered in between.
    since: u64,
}

/// The position of the next byte in the stream of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LinePosition {
    /// The next byte begins a head.
    Head,
    /// The last read ended with a head. The next byte begins a head if the request has been answered by then.
    AfterHead,
    /// It is not known whether the next byte begins a head.
    Unknown,
}

impl RequestLines {
    /// Returns the state of a connection whose next byte begins a head.
    pub(super) const fn new(activity: &Activity) -> Self {
        Self { position: LinePosition::Head, since: activity.since() }
    }

    /// Returns the bytes that hyper must read instead of `bytes`. Returns `None` if hyper reads `bytes` as they are,
    /// because there is nothing to correct or it is not certain that a request line begins there.
    pub(super) fn read(&mut self, bytes: &[u8], activity: &Activity) -> Option<Vec<u8>> {
        let answered = std::mem::replace(&mut self.since, activity.since()) != self.since;
        let begins = match self.position {
            _ if activity.is_busy() || activity.has_carried_body() => false,
            LinePosition::Head => !answered,
            LinePosition::AfterHead => answered,
            LinePosition::Unknown => false,
        };
        self.position =
            if begins && bytes.ends_with(b"\r\n\r\n") { LinePosition::AfterHead } else { LinePosition::Unknown };
        if begins { correct_target(bytes) } else { None }
    }
}

/// Returns a head with a corrected target, or `None` if there is nothing to correct or the first line is
/// incomplete.
fn correct_target(bytes: &[u8]) -> Option<Vec<u8>> {
    // Blank lines before a request line are not a part of it (RFC 9112 2.2).
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

/// Percent-encodes the characters of a target that hyper refuses, or returns `None` if there are none. The
/// characters that hyper accepts stay as they are, so that a target with only such characters is forwarded
/// unchanged, whether or not its line was checked.
fn encode_target(target: &[u8]) -> Option<Vec<u8>> {
    let is_text = std::str::from_utf8(target).is_ok();
    let (path, query) = target.split_at(target.iter().position(|byte| *byte == b'?').unwrap_or(target.len()));
    let odd = |byte: u8| matches!(byte, b'<' | b'>' | b'`') || (byte >= 0x80 && !is_text);
    // hyper accepts quotes in a path, and backticks in a query.
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
        /// This text is read.
        Read(&'static str),
        /// hyper has read the head of a request. The flag says whether the request has a body.
        Begin(bool),
        /// The request is answered.
        End,
    }
    use Step::{Begin, End, Read};

    /// Performs the steps on a new connection, and returns the text that hyper reads.
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
        // Two requests arrive in one read, and the second may have a body.
        let both: &'static str = [PLAIN, "POST / HTTP/1.1\r\n\r\n"].concat().leak();
        let body = "<\nGET / HTTP/1.1\r\n\r\n";
        let first = [Read(both), Begin(false), End];
        assert_eq!(
            read(&[first, [Begin(true), Read(body), End]].into_iter().flatten().collect::<Vec<_>>()),
            [both, body].concat()
        );
        // The cases are a read with more than a head, a read with less, a second read before hyper has begun the
        // request, one while the request is in progress, and one after a request with a body.
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
