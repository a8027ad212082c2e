//! The frames of a WebSocket (RFC 6455 5), read and written without any I/O.

mod render;
mod utf8;

use super::deflate::{CorruptData, Decompressor, MAX_OUTPUT};
use crate::grip::message::{CloseError, CloseReason, MessageKind};
use render::mask;
use std::fmt;
use utf8::Utf8;

pub use render::{Fragment, MessageForm, RenderedMessage, close, frame, masked_close};

const FINAL: u8 = 0x80;
const COMPRESSED: u8 = 0x40;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// The number of bytes that the payload of a control frame has at most (RFC 6455 5.5).
const LONGEST_CONTROL: u64 = 125;
/// The number of bytes that are unmasked at a time before they are decompressed.
const SCRATCH: usize = 2048;

/// A part of what the other side sends: a piece of a message, or a control frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FramePart {
    /// A piece of a message. Pieces do not correspond to frames: a frame may give several pieces or none, and a piece
    /// of a compressed message may have content of several frames.
    Data {
        /// The kind of the message: text or binary.
        kind: MessageKind,
        /// The bytes of the piece. Text may be cut within a character.
        content: Vec<u8>,
        /// Whether the message begins with this piece.
        first: bool,
        /// Whether the message ends with this piece.
        last: bool,
    },
    /// A ping, with its payload.
    Ping(Vec<u8>),
    /// A pong, with its payload.
    Pong(Vec<u8>),
    /// A Close frame, with its code and reason if it has them. Nothing after it is read.
    Close(Option<CloseReason>),
}

/// A violation of the protocol by the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolViolation {
    /// A frame breaks a rule of the protocol, which the text names.
    Protocol(&'static str),
    /// A text message or the reason of a Close frame is not UTF-8.
    Text,
    /// A compressed message cannot be decompressed.
    Deflate,
}

impl ProtocolViolation {
    /// Returns the code and reason of the Close frame that answers this violation. The code is 1002 for a broken
    /// rule, and 1007 otherwise (RFC 6455 7.4.1).
    pub fn reason(&self) -> CloseReason {
        let code = if matches!(self, Self::Protocol(_)) { 1002 } else { 1007 };
        CloseReason::new(code, self.words())
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Protocol(rule) => rule,
            Self::Text => "text is not UTF-8",
            Self::Deflate => "corrupt compressed message",
        }
    }
}

impl fmt::Display for ProtocolViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

impl std::error::Error for ProtocolViolation {}

impl From<CorruptData> for ProtocolViolation {
    fn from(_: CorruptData) -> Self {
        Self::Deflate
    }
}

impl From<CloseError> for ProtocolViolation {
    fn from(bad: CloseError) -> Self {
        match bad {
            CloseError::Code => Self::Protocol("invalid close code"),
            CloseError::Text => Self::Text,
        }
    }
}

const fn protocol<T>(rule: &'static str) -> Result<T, ProtocolViolation> {
    Err(ProtocolViolation::Protocol(rule))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DecoderState {
    Head,
    Data,
    Control,
    Done,
}

/// The side of a WebSocket that sends frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FrameSide {
    /// A client, whose frames are masked (RFC 6455 5.3).
    Client,
    /// An origin, whose frames are not masked.
    Origin,
}

/// A decoder of frames. Between messages, it holds no memory on the heap, unless the client keeps its compression
/// window.
#[derive(Debug)]
pub struct FrameDecoder {
    /// The number of bytes of the frame's payload that have not been read yet.
    left: u64,
    inflate: Option<Decompressor>,
    /// The payload of the control frame that is being read.
    control: Box<[u8]>,
    /// The kind of the message that is being read, or `None` between messages.
    message: Option<MessageKind>,
    /// The head of the current frame, as far as it has been read.
    head: [u8; 14],
    /// The number of bytes that have been read of a head that is not yet complete.
    have: u8,
    /// The masking key of the current frame, rotated so that its first byte applies to the next byte of the payload.
    key: [u8; 4],
    utf8: Utf8,
    state: DecoderState,
    side: FrameSide,
    /// Whether the message that is being read is compressed.
    compressed: bool,
    /// Whether no piece of the current message has been returned yet.
    first: bool,
}

impl FrameDecoder {
    /// Creates a decoder for what a client sends. `inflate` is given if compression was agreed on.
    pub fn of_client(inflate: Option<Decompressor>) -> Self {
        Self::new(FrameSide::Client, inflate)
    }

    /// Creates a decoder for what an origin sends.
    pub fn of_origin() -> Self {
        Self::new(FrameSide::Origin, None)
    }

    fn new(side: FrameSide, inflate: Option<Decompressor>) -> Self {
        Self {
            left: 0,
            inflate,
            control: Box::default(),
            message: None,
            head: [0; 14],
            have: 0,
            key: [0; 4],
            utf8: Utf8::default(),
            state: DecoderState::Head,
            side,
            compressed: false,
            first: false,
        }
    }

    /// Reads the next part from `input`, and removes the bytes that were read from its front.
    ///
    /// The caller repeats this until the result is `None`, which means that all of the input was read. There may be a
    /// part even if the input is empty, because a compressed message is returned in pieces of at most 64 KiB. After a
    /// Close frame or a violation, all input is ignored.
    ///
    /// # Errors
    /// The other side has violated the protocol.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<FramePart>, ProtocolViolation> {
        let part = self.step(input);
        if matches!(part, Err(_) | Ok(Some(FramePart::Close(_)))) {
            *self = Self { state: DecoderState::Done, ..Self::new(self.side, None) };
        }
        part
    }

    fn step(&mut self, input: &mut &[u8]) -> Result<Option<FramePart>, ProtocolViolation> {
        loop {
            match self.state {
                DecoderState::Head => {
                    if !self.gather(input) {
                        return Ok(None);
                    }
                    self.open()?;
                }
                DecoderState::Control => return self.control(input),
                DecoderState::Data => {
                    let part = self.data(input)?;
                    if part.is_some() || self.state == DecoderState::Data {
                        return Ok(part);
                    }
                }
                DecoderState::Done => {
                    *input = &[];
                    return Ok(None);
                }
            }
        }
    }

    /// Reads more of a frame's head. Returns whether the head is complete.
    fn gather(&mut self, input: &mut &[u8]) -> bool {
        loop {
            let (have, wanted) = (usize::from(self.have), self.wanted());
            if have == wanted {
                self.have = 0;
                return true;
            }
            let Some(bytes) = input.split_off(..input.len().min(wanted - have)).filter(|b| !b.is_empty()) else {
                return false;
            };
            self.head[have..have + bytes.len()].copy_from_slice(bytes);
            self.have += bytes.len() as u8;
        }
    }

    /// Returns the number of bytes in the frame's head, as far as the bytes that have been read tell it.
    fn wanted(&self) -> usize {
        if self.have < 2 {
            return 2;
        }
        let length = match self.head[1] & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + if self.head[1] & MASKED == 0 { 0 } else { 4 }
    }

    /// Checks the head of a frame, and begins to read the frame's payload.
    fn open(&mut self) -> Result<(), ProtocolViolation> {
        match (self.side, self.head[1] & MASKED != 0) {
            (FrameSide::Client, false) => return protocol("frame is not masked"),
            (FrameSide::Origin, true) => return protocol("frame is masked"),
            _ => {}
        }
        let [_, _, rest @ ..] = self.head;
        let (length, key) = payload_length(self.head[1] & !MASKED, rest)?;
        self.left = length;
        self.key = key;
        if self.head[0] & 0x08 == 0 { self.open_data() } else { self.open_control() }
    }

    fn open_data(&mut self) -> Result<(), ProtocolViolation> {
        let rsv = self.head[0] & RESERVED;
        let kind = match self.head[0] & 0x0f {
            CONTINUATION => None,
            TEXT => Some(MessageKind::Text),
            BINARY => Some(MessageKind::Binary),
            _ => return protocol("reserved opcode"),
        };
        if rsv != 0 && (rsv != COMPRESSED || kind.is_none() || self.inflate.is_none()) {
            return protocol("reserved bit is set");
        }
        match (kind, self.message) {
            (None, None) => return protocol("continuation frame without a message"),
            (Some(_), Some(_)) => return protocol("new message before the end of the previous one"),
            (None, Some(_)) => {}
            (Some(_), None) => (self.message, self.first, self.compressed) = (kind, true, rsv != 0),
        }
        self.state = DecoderState::Data;
        Ok(())
    }

    fn open_control(&mut self) -> Result<(), ProtocolViolation> {
        if self.head[0] & RESERVED != 0 {
            return protocol("reserved bit is set");
        }
        if self.head[0] & 0x0f > PONG {
            return protocol("reserved opcode");
        }
        if !self.is_final() {
            return protocol("control frame is fragmented");
        }
        if self.left > LONGEST_CONTROL {
            return protocol("control frame is too long");
        }
        self.control = vec![0; self.left as usize].into();
        self.state = DecoderState::Control;
        Ok(())
    }

    const fn is_final(&self) -> bool {
        self.head[0] & FINAL != 0
    }

    fn control(&mut self, input: &mut &[u8]) -> Result<Option<FramePart>, ProtocolViolation> {
        let bytes = self.take(input);
        let at = self.control.len() - self.left as usize - bytes.len();
        self.control[at..at + bytes.len()].copy_from_slice(&bytes);
        if self.left > 0 {
            return Ok(None);
        }
        self.state = DecoderState::Head;
        let payload = std::mem::take(&mut self.control).into_vec();
        Ok(Some(match self.head[0] & 0x0f {
            CLOSE => FramePart::Close(CloseReason::read(&payload)?),
            PING => FramePart::Ping(payload),
            _ => FramePart::Pong(payload),
        }))
    }

    /// Reads and unmasks as much of the frame's payload as `input` has.
    fn take(&mut self, input: &mut &[u8]) -> Vec<u8> {
        let length = self.available(input);
        let mut bytes = input[..length].to_vec();
        if self.side == FrameSide::Client {
            mask(&mut bytes, self.key);
        }
        self.advance(input, length);
        bytes
    }

    fn available(&self, input: &[u8]) -> usize {
        usize::try_from(self.left).map_or(input.len(), |left| left.min(input.len()))
    }

    fn advance(&mut self, input: &mut &[u8], length: usize) {
        *input = &input[length..];
        self.left -= length as u64;
        self.key.rotate_left(length % 4);
    }

    /// Reads more of a data frame. At the end of the frame, the state becomes [`DecoderState::Head`].
    fn data(&mut self, input: &mut &[u8]) -> Result<Option<FramePart>, ProtocolViolation> {
        let (content, complete) = if self.compressed {
            self.inflated(input)?
        } else {
            let content = self.take(input);
            (content, self.left == 0)
        };
        let Some(kind) = self.message else { return protocol("continuation frame without a message") };
        let last = complete && self.is_final();
        if kind == MessageKind::Text {
            self.utf8.check(&content)?;
            if last {
                self.utf8.end()?;
            }
        }
        if complete {
            self.state = DecoderState::Head;
        }
        if last {
            self.message = None;
        }
        if content.is_empty() && !last {
            return Ok(None);
        }
        let first = std::mem::take(&mut self.first);
        Ok(Some(FramePart::Data { kind, content, first, last }))
    }

    /// Decompresses the part of the frame's payload that `input` has, until there are [`MAX_OUTPUT`] bytes of output.
    /// Returns the content, and whether the frame is complete.
    fn inflated(&mut self, input: &mut &[u8]) -> Result<(Vec<u8>, bool), ProtocolViolation> {
        let Some(mut inflate) = self.inflate.take() else { return protocol("reserved bit is set") };
        let mut out = Vec::new();
        loop {
            let mut scratch = [0; SCRATCH];
            let scratch = &mut scratch[..self.available(input).min(SCRATCH)];
            scratch.copy_from_slice(&input[..scratch.len()]);
            mask(scratch, self.key);
            let used = inflate.feed(scratch, &mut out)?;
            self.advance(input, used);
            if out.len() >= MAX_OUTPUT || self.available(input) == 0 {
                break;
            }
        }
        let mut complete = self.left == 0 && !inflate.is_pending();
        if complete && self.is_final() {
            complete = inflate.finish(&mut out)?;
        }
        self.inflate = Some(inflate);
        Ok((out, complete))
    }
}

/// Returns the length of the payload and the masking key. `short` is the length in the second byte of a frame's head,
/// and `rest` holds the bytes of the head that follow.
fn payload_length(short: u8, rest: [u8; 12]) -> Result<(u64, [u8; 4]), ProtocolViolation> {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = rest;
    let (length, key, least) = match short {
        126 => (u64::from(u16::from_be_bytes([a, b])), [c, d, e, f], 126),
        127 => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), [i, j, k, l], 1 << 16),
        short => (u64::from(short), [a, b, c, d], 0),
    };
    if length < least {
        return protocol("frame length is not in its shortest form");
    }
    if length >> 63 != 0 {
        return protocol("frame length has its top bit set");
    }
    Ok((length, key))
}

#[cfg(test)]
mod tests;
