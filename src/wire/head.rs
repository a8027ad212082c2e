//! The heads of responses that gripd writes without hyper.

use hyper::header::{DATE, HeaderName};
use hyper::{StatusCode, Version};
use std::io::Write;
use std::time::SystemTime;

/// The way in which a response tells the length of its body (RFC 9112 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// The body is sent in chunks, and its length is not known in advance.
    Chunked,
    /// The body has this many bytes.
    Length(usize),
    /// The body lasts until the connection ends, as in HTTP/1.0.
    UntilClose,
    /// The head says nothing about the length, either because there is no body, or because HTTP/2 frames mark the end
    /// of the body.
    None,
}

impl Framing {
    /// Returns the framing of a body whose length is not known yet, in a response of this version of HTTP.
    pub const fn endless(version: Version) -> Self {
        match version {
            Version::HTTP_11 => Self::Chunked,
            Version::HTTP_09 | Version::HTTP_10 => Self::UntilClose,
            // From HTTP/2 on the frames say where a body ends.
            _ => Self::None,
        }
    }
}

/// The persistence of an HTTP/1 connection after a response (RFC 9112 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// The connection may serve another request.
    KeepAlive,
    /// The connection ends with the response.
    Close,
}

/// Header fields, stored as the lines in which they are sent. All of them are in one allocation, so that a held
/// connection needs little memory for them.
#[derive(Clone, Debug, Default)]
pub struct HeaderLines(Vec<u8>);

impl HeaderLines {
    /// Returns no fields yet, with room for so many bytes of lines.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Adds a field. The value must not contain a line end; all values come from parsed HTTP or checked JSON.
    pub fn push(&mut self, name: &HeaderName, value: &[u8]) {
        self.push_raw(name.as_str().as_bytes(), value);
    }

    /// Adds a field that was taken from other [`HeaderLines`].
    pub(super) fn push_raw(&mut self, name: &[u8], value: &[u8]) {
        self.0.extend_from_slice(name);
        self.0.extend_from_slice(b": ");
        self.0.extend_from_slice(value);
        self.0.extend_from_slice(b"\r\n");
    }

    /// Releases memory that the fields do not need.
    pub fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }

    /// Returns whether there is a field with this name.
    pub fn contains(&self, name: &HeaderName) -> bool {
        self.lines().any(|line| named(line, name))
    }

    /// Removes every field with this name.
    pub fn remove(&mut self, name: &HeaderName) {
        self.0 = self.lines().filter(|line| !named(line, name)).flatten().copied().collect();
    }

    /// Removes the fields that describe the body with which they came. They would be false for another body, and a
    /// cache would take the two bodies for the same (RFC 9110 8.8 and 14.4, RFC 9530, RFC 9111 5.1).
    pub fn forget_body(&mut self) {
        let describes = |line: &&[u8]| describes_body(line.split(|byte| *byte == b':').next().unwrap_or_default());
        if self.lines().any(|line| describes(&line)) {
            self.0 = self.lines().filter(|line| !describes(line)).flatten().copied().collect();
        }
    }

    /// Returns the names and values of the fields, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines().filter_map(|line| {
            let at = line.windows(2).position(|w| w == b": ")?;
            Some((&line[..at], line[at + 2..].strip_suffix(b"\r\n")?))
        })
    }

    /// Writes the fields with capital letters in their names, as most servers do, because some clients do not ignore
    /// the case of names.
    fn write_capitalized(&self, out: &mut Vec<u8>) {
        // These names, or beginnings of names, have further capital letters.
        const SPECIAL: [&[u8]; 3] = [b"ETag", b"WWW-Authenticate", b"Sec-WebSocket-"];
        for line in self.lines() {
            let start = out.len();
            out.extend_from_slice(line);
            let line = &mut out[start..];
            let mut begins = true;
            for byte in line.iter_mut().take_while(|byte| **byte != b':') {
                if begins {
                    byte.make_ascii_uppercase();
                }
                begins = *byte == b'-';
            }
            for name in SPECIAL {
                if line.len() > name.len()
                    && line[..name.len()].eq_ignore_ascii_case(name)
                    && (line[name.len()] == b':' || name.ends_with(b"-"))
                {
                    line[..name.len()].copy_from_slice(name);
                }
            }
        }
    }

    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split_inclusive(|b| *b == b'\n')
    }
}

/// Returns whether the field with this name, in lower case, is a validator, a digest, a range or an age, and thus
/// describes one particular body.
pub fn describes_body(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 8] = [
        b"etag",
        b"last-modified",
        b"digest",
        b"content-digest",
        b"repr-digest",
        b"content-md5",
        b"content-range",
        b"age",
    ];
    NAMES.contains(&name)
}

fn named(line: &[u8], name: &HeaderName) -> bool {
    line.strip_prefix(name.as_str().as_bytes()).is_some_and(|rest| rest.first() == Some(&b':'))
}

/// Returns whether a response with this status has a body (RFC 9110 6.4.1).
pub const fn has_body(status: u16) -> bool {
    !matches!(status, 100..=199 | 204 | 304)
}

/// The status line and header fields of a response, without the fields that frame the body.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// The status code, three digits.
    pub status: u16,
    /// The reason phrase, if it is not the code's usual one.
    pub reason: Option<Box<str>>,
    /// The header fields, without those that frame the body.
    pub fields: HeaderLines,
}

impl ResponseHead {
    /// Returns whether a response with this status has a body.
    pub const fn has_body(&self) -> bool {
        has_body(self.status)
    }

    /// Sets the `Date` field to `now`, in place of a date that is there already.
    pub fn date(&mut self, now: SystemTime) {
        self.fields.remove(&DATE);
        self.fields.push(&DATE, httpdate::fmt_http_date(now).as_bytes());
    }
}

/// The head of a response, with everything that HTTP/1 adds for a particular connection.
#[derive(Clone, Copy, Debug)]
pub struct AnswerHead<'a> {
    /// The head without these additions.
    pub head: &'a ResponseHead,
    /// The version of HTTP that the client speaks.
    pub version: Version,
    /// The way in which the response tells the length of its body.
    pub framing: Framing,
    /// Whether the connection may serve another request after the response.
    pub persistence: Persistence,
}

impl AnswerHead<'_> {
    /// Returns the bytes of the head, as HTTP/1 sends it.
    pub fn render(&self) -> Vec<u8> {
        let ResponseHead { status, reason, fields } = self.head;
        let mut out = Vec::with_capacity(fields.0.len() + 128);
        let version = if self.version == Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" };
        let code = StatusCode::from_u16(*status).ok();
        let usual = code.and_then(|code| code.canonical_reason()).unwrap_or("Undefined Reason");
        let reason = reason.as_deref().unwrap_or(usual);
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{version} {status:03} {reason}\r\n");
        fields.write_capitalized(&mut out);
        match self.framing {
            Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            Framing::Length(length) => drop(write!(out, "Content-Length: {length}\r\n")),
            Framing::UntilClose | Framing::None => {}
        }
        if self.persistence == Persistence::Close {
            out.extend_from_slice(b"Connection: close\r\n");
        }
        out.extend_from_slice(b"\r\n");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::CONTENT_TYPE;

    fn head(status: u16, reason: Option<&str>) -> ResponseHead {
        let mut fields = HeaderLines::default();
        fields.push(&CONTENT_TYPE, b"text/plain");
        fields.push(&HeaderName::from_static("x-a"), b"1");
        fields.push(&HeaderName::from_static("x-a"), b"2");
        ResponseHead { status, reason: reason.map(Into::into), fields }
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    fn render(head: &ResponseHead, version: Version, framing: Framing, persistence: Persistence) -> String {
        text(AnswerHead { head, version, framing, persistence }.render())
    }

    #[test]
    fn names_are_capitalized_as_is_usual() {
        let mut fields = HeaderLines::default();
        for name in ["etag", "etags", "www-authenticate", "sec-websocket-accept", "x-3d-a--b", "date"] {
            fields.push(&HeaderName::from_static(name), b"w-w: w");
        }
        let mut out = Vec::new();
        fields.write_capitalized(&mut out);
        let names: Vec<String> =
            text(out).lines().map(|line| line.strip_suffix(": w-w: w").unwrap().to_owned()).collect();
        assert_eq!(names, ["ETag", "Etags", "WWW-Authenticate", "Sec-WebSocket-Accept", "X-3d-A--B", "Date"]);
    }

    #[test]
    fn a_head_says_how_its_body_is_framed() {
        let head = head(200, None);
        let fields = "Content-Type: text/plain\r\nX-A: 1\r\nX-A: 2\r\n";
        assert_eq!(
            render(&head, Version::HTTP_11, Framing::Chunked, Persistence::Close),
            format!("HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
        );
        assert_eq!(
            render(&head, Version::HTTP_11, Framing::Length(5), Persistence::KeepAlive),
            format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 5\r\n\r\n")
        );
        assert_eq!(
            render(&head, Version::HTTP_10, Framing::UntilClose, Persistence::Close),
            format!("HTTP/1.0 200 OK\r\n{fields}Connection: close\r\n\r\n")
        );
    }

    #[test]
    fn reasons_are_given_usual_or_undefined() {
        let line = |head: ResponseHead| {
            let head = render(&head, Version::HTTP_11, Framing::None, Persistence::KeepAlive);
            head.lines().next().unwrap().to_owned()
        };
        assert_eq!(line(head(404, Some("Nope Sir"))), "HTTP/1.1 404 Nope Sir");
        assert_eq!(line(head(404, None)), "HTTP/1.1 404 Not Found");
        assert_eq!(line(head(799, None)), "HTTP/1.1 799 Undefined Reason");
    }

    #[test]
    fn each_version_has_its_way_to_end_a_body_of_unknown_length() {
        let ways = [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2].map(Framing::endless);
        assert_eq!(ways, [Framing::UntilClose, Framing::Chunked, Framing::None]);
    }

    #[test]
    fn fields_are_found_and_removed_by_their_whole_name() {
        let mut fields = head(200, None).fields;
        assert!(fields.contains(&CONTENT_TYPE) && !fields.contains(&DATE));
        assert!(!fields.contains(&HeaderName::from_static("content")));
        fields.remove(&HeaderName::from_static("x-a"));
        assert_eq!(fields.0, b"content-type: text/plain\r\n");
    }

    #[test]
    fn some_statuses_have_no_body() {
        assert!(head(200, None).has_body() && head(401, None).has_body());
        assert!(!head(204, None).has_body() && !head(304, None).has_body());
    }
}
