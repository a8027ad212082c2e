//! The rendering of frames and messages.

use super::super::deflate::deflate;
use super::{BINARY, CLOSE, COMPRESSED, CONTINUATION, FINAL, MASKED, PING, PONG, TEXT};
use crate::grip::message::{CloseReason, MessageKind};
use bytes::Bytes;
use std::sync::OnceLock;

/// The number of bytes that content must have at least to be worth compressing.
const WORTH_DEFLATING: usize = 32;

/// Masks bytes, or unmasks them.
pub(super) fn mask(bytes: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    rest.iter_mut().zip(key.into_iter().cycle()).for_each(|(byte, key)| *byte ^= key);
}

const fn opcode(kind: MessageKind) -> u8 {
    match kind {
        MessageKind::Text => TEXT,
        MessageKind::Binary => BINARY,
        MessageKind::Ping => PING,
        MessageKind::Pong => PONG,
    }
}

/// A piece of a message that is sent as one frame.
#[derive(Clone, Copy, Debug)]
pub struct Fragment<'a> {
    /// The kind of the message.
    pub kind: MessageKind,
    /// The content of the piece.
    pub content: &'a [u8],
    /// Whether the message begins with this piece.
    pub first: bool,
    /// Whether the message ends with this piece.
    pub last: bool,
}

impl<'a> Fragment<'a> {
    /// Creates a piece that is a whole message.
    pub const fn whole(kind: MessageKind, content: &'a [u8]) -> Self {
        Self { kind, content, first: true, last: true }
    }

    /// Returns the frame of the piece for a client.
    pub fn frame(&self) -> Bytes {
        unmasked_frame(self.lead(), self.content)
    }

    /// Returns the frame of the piece for an origin, masked with a key.
    pub fn masked(&self, key: [u8; 4]) -> Vec<u8> {
        masked_frame(self.lead(), self.content, key)
    }

    /// Returns the first byte of the frame's head.
    const fn lead(&self) -> u8 {
        let opcode = if self.first { opcode(self.kind) } else { CONTINUATION };
        if self.last { opcode | FINAL } else { opcode }
    }
}

/// Returns the first byte and the length of a frame, in a buffer that has room for the key and the payload.
fn head(lead: u8, length: usize, masked: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(length + 14);
    out.push(lead);
    match length {
        0..126 => out.push(masked | length as u8),
        126..0x1_0000 => {
            out.push(masked | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(masked | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out
}

fn unmasked_frame(lead: u8, content: &[u8]) -> Bytes {
    let mut out = head(lead, content.len(), 0);
    out.extend_from_slice(content);
    out.into()
}

fn masked_frame(lead: u8, content: &[u8], key: [u8; 4]) -> Vec<u8> {
    let mut out = head(lead, content.len(), MASKED);
    out.extend_from_slice(&key);
    let at = out.len();
    out.extend_from_slice(content);
    mask(&mut out[at..], key);
    out
}

/// Returns the frame of a whole message for a client.
pub fn frame(kind: MessageKind, content: &[u8]) -> Bytes {
    Fragment::whole(kind, content).frame()
}

/// Returns a Close frame for a client.
pub fn close(reason: Option<&CloseReason>) -> Bytes {
    unmasked_frame(FINAL | CLOSE, &CloseReason::payload(reason))
}

/// Returns a Close frame for an origin, masked with a key.
pub fn masked_close(reason: Option<&CloseReason>, key: [u8; 4]) -> Vec<u8> {
    masked_frame(FINAL | CLOSE, &CloseReason::payload(reason), key)
}

/// The form in which messages are sent to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageForm {
    /// Messages are not compressed.
    Plain,
    /// Messages are compressed (RFC 7692) if that makes them smaller.
    Deflated,
}

/// A message for clients, rendered once for all of them. Its frame and its content share one allocation.
#[derive(Debug)]
pub struct RenderedMessage {
    kind: MessageKind,
    plain: Bytes,
    content: Bytes,
    deflated: OnceLock<Bytes>,
}

impl RenderedMessage {
    /// Renders a message.
    pub fn new(kind: MessageKind, content: &[u8]) -> Self {
        let plain = frame(kind, content);
        let content = plain.slice(plain.len() - content.len()..);
        Self { kind, plain, content, deflated: OnceLock::new() }
    }

    /// Returns the kind of the message.
    pub const fn kind(&self) -> MessageKind {
        self.kind
    }

    /// Returns the frame of the message without compression.
    pub const fn plain(&self) -> &Bytes {
        &self.plain
    }

    /// Returns the content of the message.
    pub const fn content(&self) -> &Bytes {
        &self.content
    }

    /// Returns the frame with compressed content, or the plain frame if compression would not make it smaller. The
    /// first call compresses the content.
    pub fn deflated(&self) -> &Bytes {
        self.deflated.get_or_init(|| self.deflate().unwrap_or_else(|| self.plain.clone()))
    }

    fn deflate(&self) -> Option<Bytes> {
        if self.kind.is_control() || self.content.len() < WORTH_DEFLATING {
            return None;
        }
        let content = deflate(&self.content).filter(|content| content.len() < self.content.len())?;
        Some(unmasked_frame(opcode(self.kind) | FINAL | COMPRESSED, &content))
    }

    /// Returns the frame of the message in this form.
    pub fn select(&self, form: MessageForm) -> &Bytes {
        match form {
            MessageForm::Plain => self.plain(),
            MessageForm::Deflated => self.deflated(),
        }
    }

    /// Returns the number of bytes of the plain frame.
    pub const fn len(&self) -> usize {
        self.plain.len()
    }

    /// Returns whether the message has no content.
    pub const fn is_empty(&self) -> bool {
        self.content.is_empty()
    }
}
