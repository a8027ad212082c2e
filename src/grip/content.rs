//! The contents that WebSocket messages of each kind may have, whoever sends them.

use super::message::MessageKind;

/// The most that a control frame carries (RFC 6455 5.5).
pub(super) const MAX_CONTROL: usize = 125;

/// Returns the kind that JSON calls by this name.
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
        MessageKind::Ping | MessageKind::Pong if content.len() > MAX_CONTROL => Some("over 125 bytes of content"),
        _ => None,
    }
}
