//! The rules for the content of each kind of WebSocket message, which are the same for all senders.

use super::message::MessageKind;

/// The maximum length of the payload of a control frame, in bytes (RFC 6455 5.5).
pub(super) const MAX_CONTROL: usize = 125;

/// Returns the kind of message that JSON calls `name`, or `None` if there is no such kind.
pub(super) fn kind_named(name: &str) -> Option<MessageKind> {
    match name {
        "text" => Some(MessageKind::Text),
        "binary" => Some(MessageKind::Binary),
        "ping" => Some(MessageKind::Ping),
        "pong" => Some(MessageKind::Pong),
        _ => None,
    }
}

/// Returns the reason why `content` cannot be a whole message of this kind, if there is one.
pub(super) fn problem(kind: MessageKind, content: &[u8]) -> Option<&'static str> {
    match kind {
        MessageKind::Text if std::str::from_utf8(content).is_err() => Some("text that is not UTF-8"),
        MessageKind::Ping | MessageKind::Pong if content.len() > MAX_CONTROL => {
            Some("over 125 bytes of content, the maximum for PING, PONG and CLOSE")
        }
        _ => None,
    }
}
