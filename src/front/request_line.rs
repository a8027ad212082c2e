//! The first line of each request, before hyper reads it.

use super::activity::Activity;
use crate::grip::percent::{encode, is_odd};

/// Finds the request lines in what a client sends, and percent-encodes in them what no target may have: hyper would refuse
/// the request, while other proxies pass it on.
///
/// It follows connections on which each request ends with what was read for it. After a body, or a request that came
/// together with another, it leaves everything as it is: where the next line begins is then known only to hyper, and a
/// byte more within a body would move all that follows.
#[derive(Debug)]
pub(super) struct RequestLines {
    place: Place,
    /// When the connection became idle, by the clock of all connections, as of the last read.
    since: u64,
}

/// The place at which the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// At the beginning of a head, or in its first line.
    Line,
    /// Behind the first line; `ended`: the head may have ended.
    Behind { ended: bool },
    /// Nobody knows.
    Unknown,
}

impl RequestLines {
    /// The lines of a connection whose next byte begins a head.
    pub(super) const fn new(activity: &Activity) -> Self {
        Self { place: Place::Line, since: activity.since() }
    }

    /// Returns what hyper is to read in the place of these bytes, if that is something else.
    pub(super) fn read(&mut self, bytes: &[u8], activity: &Activity) -> Option<Vec<u8>> {
        if activity.is_busy() || activity.has_carried_body() {
            self.place = Place::Unknown;
        } else if activity.since() != self.since {
            self.since = activity.since();
            let ended = self.place == Place::Behind { ended: true };
            self.place = if ended { Place::Line } else { Place::Unknown };
        }
        match self.place {
            Place::Unknown => None,
            Place::Behind { .. } => {
                self.place = Place::Behind { ended: bytes.ends_with(b"\r\n\r\n") };
                None
            }
            Place::Line => self.read_line(bytes),
        }
    }

    fn read_line(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        if end.is_some() {
            self.place = Place::Behind { ended: bytes.ends_with(b"\r\n\r\n") };
        }
        let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        let mut mended = encode(line, is_odd)?;
        mended.extend_from_slice(rest);
        Some(mended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What hyper reads of these pieces; between two of them a request is answered where it says so.
    fn read(pieces: &[&str]) -> String {
        let activity = Activity::new(1);
        let mut lines = RequestLines::new(&activity);
        let (mut out, mut clock) = (String::new(), 1);
        for piece in pieces {
            if *piece == "answered" {
                activity.begin();
                clock += 1;
                activity.end(clock);
                continue;
            }
            let mended = lines.read(piece.as_bytes(), &activity);
            out += &mended.map_or_else(|| (*piece).to_owned(), |bytes| String::from_utf8(bytes).unwrap());
        }
        out
    }

    #[test]
    fn targets_are_encoded_and_headers_stay() {
        let head = "GET /\"é HTTP/1.1\r\nCookie: \"<é>\"\r\n\r\n";
        let mended = "GET /%22%C3%A9 HTTP/1.1\r\nCookie: \"<é>\"\r\n\r\n";
        assert_eq!(read(&[head]), mended);
        assert_eq!(read(&[&head[..6], &head[6..]]), mended);
        assert_eq!(read(&[&head[..3], &head[3..28], &head[28..]]), mended);
        assert_eq!(read(&[head, "answered", head]), [mended, mended].concat());
    }

    #[test]
    fn what_may_be_no_request_line_stays() {
        let head = "GET /\"b HTTP/1.1\r\n\r\n";
        let mended = "GET /%22b HTTP/1.1\r\n\r\n";
        // A head that begins in what was read before, and one behind a head that had not ended.
        let half = "GET / HTTP/1.1\r\n\r\nGET /x";
        assert_eq!(read(&[half, "answered", head]), [half, head].concat());
        assert_eq!(
            read(&["GET / HTTP/1.1\r\n", "X: \"\r\n\r\n", "answered", head]),
            "GET / HTTP/1.1\r\nX: \"\r\n\r\n".to_owned() + mended
        );
        let activity = Activity::new(1);
        let mut lines = RequestLines::new(&activity);
        activity.begin();
        assert_eq!(lines.read(head.as_bytes(), &activity), None);
        activity.end(2);
        assert_eq!(lines.read(head.as_bytes(), &activity), None);
        let activity = Activity::new(1);
        let mut lines = RequestLines::new(&activity);
        assert!(lines.read(head.as_bytes(), &activity).is_some());
        activity.begin();
        activity.carry_body();
        activity.end(2);
        assert_eq!(lines.read(head.as_bytes(), &activity), None);
    }
}
