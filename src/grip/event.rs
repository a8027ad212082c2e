//! The events of WebSocket over HTTP. Requests carry events from the client to the origin, and responses carry events
//! from the origin to the client.

use super::InvalidText;
use super::content::{MAX_CONTROL, problem};
use super::media::is_media_type;
use super::message::{CloseError, CloseReason, MessageKind};
use bytes::Bytes;

/// The media type of a body that consists of events.
pub const MEDIA_TYPE: &str = "application/websocket-events";

/// Something that happens on a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketEvent {
    /// In a request, the client asks for a WebSocket. In a response, the origin accepts it.
    Open,
    /// A whole message.
    Message(MessageKind, Bytes),
    /// The sender closes the WebSocket, for this reason if there is one.
    Close(Option<CloseReason>),
    /// The connection was lost without a close.
    Disconnect,
}

impl SocketEvent {
    /// Returns the name of the event's type, as it is written in a body.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Open => "OPEN",
            Self::Message(MessageKind::Text, _) => "TEXT",
            Self::Message(MessageKind::Binary, _) => "BINARY",
            Self::Message(MessageKind::Ping, _) => "PING",
            Self::Message(MessageKind::Pong, _) => "PONG",
            Self::Close(_) => "CLOSE",
            Self::Disconnect => "DISCONNECT",
        }
    }

    /// Returns the content of the event: that of a message, or the payload of the Close frame. Other events have no
    /// content.
    pub fn content(&self) -> Bytes {
        match self {
            Self::Message(_, content) => content.clone(),
            Self::Close(reason) => CloseReason::payload(reason.as_ref()).into(),
            Self::Open | Self::Disconnect => Bytes::new(),
        }
    }

    /// Appends the event to a body.
    pub fn write(&self, out: &mut Vec<u8>) {
        write(self.name(), &self.content(), out);
    }

    /// Returns the event of the type `name`, or `None` if the type is unknown. The error says why the content is not
    /// valid for the type.
    fn of(name: &[u8], content: Bytes) -> Result<Option<Self>, &'static str> {
        let kind = match name {
            b"OPEN" => return Ok(Some(Self::Open)),
            b"DISCONNECT" => return Ok(Some(Self::Disconnect)),
            b"CLOSE" => return close(&content).map(Some),
            b"TEXT" => MessageKind::Text,
            b"BINARY" => MessageKind::Binary,
            b"PING" => MessageKind::Ping,
            b"PONG" => MessageKind::Pong,
            _ => return Ok(None),
        };
        match problem(kind, &content) {
            None => Ok(Some(Self::Message(kind, content))),
            Some(problem) => Err(problem),
        }
    }
}

/// Returns whether a body of this `Content-Type` consists of events.
pub fn is_events(content_type: &[u8]) -> bool {
    is_media_type(content_type, MEDIA_TYPE)
}

/// Returns whether some origin could take a `Content-Type` for that of events. If the value is a list, an origin may
/// look at only one of its elements, so each element is checked.
pub fn mentions_events(content_type: &[u8]) -> bool {
    content_type.split(|byte| *byte == b',').any(is_events)
}

/// Parses a whole body. Events of unknown types are left out. The contents of messages are slices of `body` and are
/// not copied.
///
/// # Errors
/// An event is malformed. The error says what is wrong, and at which byte the event begins. Unlike in Pushpin,
/// content that is shorter than its stated length is an error. As in Pushpin, the line end after the content of the
/// last event may be missing.
pub fn read_all(body: &Bytes) -> Result<Vec<SocketEvent>, InvalidText> {
    let mut events = Vec::new();
    let mut at = 0;
    while at < body.len() {
        let (event, end) =
            read(body, at).map_err(|why| InvalidText::new(format!("the event at byte {at} has {why}")))?;
        events.extend(event);
        at = end;
    }
    Ok(events)
}

/// Appends an event of the type `name` to a body.
pub(super) fn write(name: &str, content: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    if !content.is_empty() {
        out.extend_from_slice(format!(" {:x}\r\n", content.len()).as_bytes());
        out.extend_from_slice(content);
    }
    out.extend_from_slice(b"\r\n");
}

/// Returns the event that begins at byte `at`, or `None` if its type is unknown, and the position at which it ends.
fn read(body: &Bytes, at: usize) -> Result<(Option<SocketEvent>, usize), &'static str> {
    let Some(length) = body[at..].windows(2).position(|pair| pair == b"\r\n") else {
        return Err("no line end after its type");
    };
    let (line, start) = (&body[at..at + length], at + length + 2);
    let Some(space) = line.iter().position(|b| *b == b' ') else {
        return Ok((SocketEvent::of(line, Bytes::new())?, start));
    };
    let size = size(&line[space + 1..]).ok_or("a length that is not a hexadecimal number")?;
    let Some(end) = start.checked_add(size).filter(|end| *end <= body.len()) else {
        return Err("less content than its length says");
    };
    let event = SocketEvent::of(&line[..space], body.slice(start..end))?;
    match &body[end..] {
        [b'\r', b'\n', ..] => Ok((event, end + 2)),
        [] | [b'\r'] => Ok((event, body.len())),
        _ => Err("no line end after its content"),
    }
}

/// Parses the hexadecimal length of an event. The digits are checked first, because `from_str_radix` also accepts a
/// sign.
fn size(digits: &[u8]) -> Option<usize> {
    let digits = std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
    usize::from_str_radix(digits, 16).ok()
}

fn close(content: &[u8]) -> Result<SocketEvent, &'static str> {
    if content.len() > MAX_CONTROL {
        return Err("over 125 bytes of content, the maximum for PING, PONG and CLOSE");
    }
    match CloseReason::read(content) {
        Ok(reason) => Ok(SocketEvent::Close(reason)),
        // Common libraries write the code 0 if they have no code, so an invalid code counts as no reason.
        Err(CloseError::Code) => Ok(SocketEvent::Close(None)),
        Err(CloseError::Text) => Err("a close reason that is not UTF-8"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(body: &str) -> Result<Vec<SocketEvent>, String> {
        read_all(&Bytes::from(body.to_owned())).map_err(|e| e.to_string())
    }

    fn error(body: &str) -> String {
        read(body).unwrap_err()
    }

    fn text(content: &'static str) -> SocketEvent {
        SocketEvent::Message(MessageKind::Text, Bytes::from(content))
    }

    fn body(events: &[SocketEvent]) -> Bytes {
        let mut body = Vec::new();
        events.iter().for_each(|event| event.write(&mut body));
        body.into()
    }

    #[test]
    fn events_are_written_as_pushpin_writes_them() {
        let close = |code| SocketEvent::Close(Some(CloseReason::new(code, "out")));
        assert_eq!(body(&[SocketEvent::Open, text(""), SocketEvent::Close(None)]), "OPEN\r\nTEXT\r\nCLOSE\r\n");
        let written = body(&[text("hello, world"), close(4001)]);
        assert_eq!(&written[..], b"TEXT c\r\nhello, world\r\nCLOSE 5\r\n\x0f\xa1out\r\n");
        let ping = SocketEvent::Message(MessageKind::Ping, Bytes::new());
        assert_eq!(body(&[ping, SocketEvent::Disconnect]), "PING\r\nDISCONNECT\r\n");
    }

    #[test]
    fn lengths_are_hexadecimal_in_any_case_and_unknown_events_are_skipped() {
        let read = read("OPEN 0\r\n\r\nNOISE 3\r\na\r\n\r\nTEXT A\r\n0123456789\r\nHUM\r\nPONG 00a\r\n0123456789\r\n");
        let pong = SocketEvent::Message(MessageKind::Pong, Bytes::from("0123456789"));
        assert_eq!(read.unwrap(), [SocketEvent::Open, text("0123456789"), pong]);
        assert_eq!(read_all(&Bytes::new()).unwrap(), []);
    }

    #[test]
    fn the_last_content_may_end_the_body() {
        for end in ["", "\r", "\r\n"] {
            assert_eq!(read(&format!("OPEN\r\nTEXT 2\r\nhi{end}")).unwrap(), [SocketEvent::Open, text("hi")]);
        }
        assert_eq!(error("OPEN\r\nTEXT"), "the event at byte 6 has no line end after its type");
        assert_eq!(error("OPEN\r\nTEXT 2\r"), "the event at byte 6 has no line end after its type");
    }

    #[test]
    fn errors_say_what_and_where() {
        assert_eq!(error("OPEN\r\nTEXT 3\r\nhi"), "the event at byte 6 has less content than its length says");
        assert_eq!(error("TEXT 2\r\nhi\nOPEN\r\n"), "the event at byte 0 has no line end after its content");
        for length in ["", "x", "-1", "+1", "0x1", " 1", "1 ", "11111111111111111"] {
            let why = error(&format!("TEXT {length}\r\nhi\r\n"));
            assert_eq!(why, "the event at byte 0 has a length that is not a hexadecimal number", "{length:?}");
        }
        let far = error("TEXT ffffffffffffffff\r\nhi\r\n");
        assert_eq!(far, "the event at byte 0 has less content than its length says");
    }

    #[test]
    fn contents_are_fit_for_frames() {
        let read = |body: &[u8]| read_all(&Bytes::copy_from_slice(body)).map_err(|e| e.to_string());
        assert!(read(b"TEXT 1\r\n\xff\r\n").unwrap_err().ends_with("has text that is not UTF-8"));
        assert!(read(b"BINARY 1\r\n\xff\r\n").is_ok());
        for name in ["PING", "PONG", "CLOSE"] {
            let long = format!("{name} 7e\r\n{}\r\n", "\u{3}".repeat(126));
            assert!(
                read(long.as_bytes())
                    .unwrap_err()
                    .ends_with("has over 125 bytes of content, the maximum for PING, PONG and CLOSE")
            );
        }
        let close = |payload: &[u8]| read(&[b"CLOSE 2\r\n", payload, b"\r\n"].concat());
        assert_eq!(close(&[3, 232]).unwrap(), [SocketEvent::Close(Some(CloseReason::new(1000, "")))]);
        assert_eq!(read(b"CLOSE 0\r\n\r\n").unwrap(), [SocketEvent::Close(None)]);
        for none in [close(&[3, 237]), close(&[0, 0]), read(b"CLOSE 1\r\n\x03\r\n")] {
            assert_eq!(none.unwrap(), [SocketEvent::Close(None)]);
        }
        assert!(read(b"CLOSE 3\r\n\x03\xe8\xff\r\n").is_err());
    }

    #[test]
    fn the_media_type_may_have_parameters() {
        for yes in ["application/websocket-events", "Application/WebSocket-Events ; charset=utf-8"] {
            assert!(is_events(yes.as_bytes()), "{yes}");
        }
        for no in ["", "application/json", "application/websocket-events2", ";application/websocket-events"] {
            assert!(!is_events(no.as_bytes()), "{no}");
        }
    }

    fn any_event() -> impl Strategy<Value = SocketEvent> {
        let message = |kind| move |content: Vec<u8>| SocketEvent::Message(kind, content.into());
        let close = (3000..5000_u16, "[a-z\u{e9}]{0,20}").prop_map(|(code, text)| Some(CloseReason::new(code, &text)));
        prop_oneof![
            Just(SocketEvent::Open),
            Just(SocketEvent::Disconnect),
            Just(SocketEvent::Close(None)),
            close.prop_map(SocketEvent::Close),
            ".{0,40}".prop_map(|text| SocketEvent::Message(MessageKind::Text, text.into())),
            prop::collection::vec(any::<u8>(), 0..300).prop_map(message(MessageKind::Binary)),
            prop::collection::vec(any::<u8>(), 0..125).prop_map(message(MessageKind::Ping)),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(events in prop::collection::vec(any_event(), 0..10)) {
            let body = body(&events);
            let read = read_all(&body).unwrap();
            prop_assert_eq!(&read, &events);
            for event in &read {
                if let SocketEvent::Message(_, content) = event && !content.is_empty() {
                    prop_assert!(body.as_ptr_range().contains(&content.as_ptr()));
                }
            }
        }

        #[test]
        fn a_cut_body_is_an_error_or_has_whole_events(
            events in prop::collection::vec(any_event(), 1..5),
            at in any::<prop::sample::Index>(),
        ) {
            let body = body(&events);
            if let Ok(read) = read_all(&body.slice(..at.index(body.len()))) {
                prop_assert!(events.starts_with(&read));
            }
        }

        #[test]
        fn any_bytes_are_events_or_an_error(
            body in prop::collection::vec(any::<u8>(), 0..60),
            line in "(TEXT|CLOSE|X)( [0-9a-f]{0,3})?\r\n",
        ) {
            let _ = read_all(&[line.as_bytes(), &body].concat().into());
        }
    }
}
