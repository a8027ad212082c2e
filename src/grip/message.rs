//! The kinds of WebSocket messages, and the reasons for closing a WebSocket (RFC 6455).

use std::fmt;

const LONGEST_REASON: usize = 123;

/// The kind of a WebSocket message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// A text in UTF-8.
    Text,
    /// Arbitrary bytes.
    Binary,
    /// A ping, which asks the other side for a pong.
    Ping,
    /// A pong, the answer to a ping.
    Pong,
}

impl MessageKind {
    /// Returns whether a message of this kind may have this content.
    pub fn takes(self, content: &[u8]) -> bool {
        super::content::problem(self, content).is_none()
    }

    /// Returns whether messages of this kind concern the connection and not the application.
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Ping | Self::Pong)
    }
}

/// The reason for closing a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseReason {
    /// The status code (RFC 6455 7.4).
    pub code: u16,
    /// The explanation for people. A Close frame has room for 123 bytes of it.
    pub reason: String,
}

impl CloseReason {
    /// Returns a reason with this code. The text is shortened to 123 bytes, because a Close frame has no room for
    /// more.
    pub fn new(code: u16, reason: &str) -> Self {
        Self { code, reason: cut(reason).to_owned() }
    }

    /// Parses the payload of a Close frame. Returns `None` if the payload is empty.
    ///
    /// # Errors
    /// The code is cut short or must not be sent, or the text is not UTF-8.
    pub fn read(payload: &[u8]) -> Result<Option<Self>, CloseError> {
        let Some((code, reason)) = payload.split_first_chunk() else {
            return if payload.is_empty() { Ok(None) } else { Err(CloseError::Code) };
        };
        let code = u16::from_be_bytes(*code);
        if !may_be_sent(code) {
            return Err(CloseError::Code);
        }
        let reason = std::str::from_utf8(reason).map_err(|_| CloseError::Text)?;
        Ok(Some(Self::new(code, reason)))
    }

    /// Returns the payload of a Close frame with this reason. The payload is empty if there is no reason.
    pub fn payload(this: Option<&Self>) -> Vec<u8> {
        this.map(|close| [&close.code.to_be_bytes(), cut(&close.reason).as_bytes()].concat()).unwrap_or_default()
    }
}

fn cut(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(LONGEST_REASON)]
}

/// Returns whether a Close frame may have this code. These are the codes that RFC 6455 7.4 allows in a frame, and 1012
/// to 1014, which were registered later.
pub const fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// A fault in the payload of a Close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseError {
    /// The code is cut short or must not be sent. If a client sent the frame, its WebSocket is closed with 1002.
    Code,
    /// The reason is not UTF-8. If a client sent the frame, its WebSocket is closed with 1007.
    Text,
}

impl fmt::Display for CloseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Code => "invalid close code",
            Self::Text => "close reason is not UTF-8",
        })
    }
}

impl std::error::Error for CloseError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_and_pongs_are_control() {
        use MessageKind::{Binary, Ping, Pong, Text};
        assert_eq!([Text, Binary, Ping, Pong].map(MessageKind::is_control), [false, false, true, true]);
    }

    #[test]
    fn reasons_are_cut_between_characters() {
        assert_eq!(CloseReason::new(1000, &"a".repeat(200)).reason.len(), 123);
        assert_eq!(CloseReason::new(1000, &"ä".repeat(100)).reason, "ä".repeat(61));
        assert_eq!(CloseReason::new(1000, "bye").reason, "bye");
    }

    #[test]
    fn some_codes_must_not_be_sent() {
        let codes: Vec<u16> = (0..=u16::MAX).filter(|c| CloseReason::read(&c.to_be_bytes()).is_ok()).collect();
        let expected: Vec<u16> = (1000..=1003).chain(1007..=1014).chain(3000..=4999).collect();
        assert_eq!(codes, expected);
    }

    #[test]
    fn payloads_are_read_and_written() {
        assert_eq!(CloseReason::read(b""), Ok(None));
        assert_eq!(CloseReason::read(b"\x03"), Err(CloseError::Code));
        assert_eq!(CloseReason::read(b"\x03\xe8\xff"), Err(CloseError::Text));
        assert_eq!(CloseReason::read(b"\x03\xed\xff"), Err(CloseError::Code));
        let close = CloseReason::new(1001, "späť");
        assert_eq!(CloseReason::read(&CloseReason::payload(Some(&close))), Ok(Some(close)));
        assert!(CloseReason::payload(None).is_empty());
        let long = CloseReason { code: 1000, reason: "a".repeat(200) };
        assert_eq!(CloseReason::payload(Some(&long)).len(), 125);
    }
}
