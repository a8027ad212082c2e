//! WebSocket compression with `permessage-deflate` (RFC 7692): the negotiation, and the compression itself.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use std::borrow::Cow;
use std::cell::RefCell;

/// The largest output of one call of [`Decompressor::feed`] or [`Decompressor::finish`], in bytes (64 KiB).
pub const MAX_OUTPUT: usize = 64 * 1024;
const POOLED: usize = 16;
const NAME: &str = "permessage-deflate";
/// The bytes that are cut off the end of a compressed message.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// The bytes that are fed to the decompressor after a message that was compressed on its own. They consist of the
/// tail that was cut off and an empty final block. The decompressor gets to the end of that block only if the message
/// was complete.
const ENDING: [u8; 6] = [0, 0, 0xff, 0xff, 3, 0];

/// The treatment of a client's compression window between two of its messages (`client_no_context_takeover`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientWindow {
    /// The client keeps its window, and its messages may refer to earlier ones. gripd must then keep a window in
    /// memory as long as the client is connected.
    Kept,
    /// The client compresses each message on its own.
    Dropped,
}

/// The agreement with a client about compression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgreedDeflate {
    /// The value of `Sec-WebSocket-Extensions` in the response.
    pub answer: String,
    /// Whether messages to the client are compressed. They are not if the client asks for a window of less than 15
    /// bits, because one rendering with 15 bits serves all clients.
    pub compresses: bool,
    /// The treatment of the client's window between messages.
    pub window: ClientWindow,
}

/// Accepts the first acceptable offer in the values of `Sec-WebSocket-Extensions`. Returns `None` if there is none.
///
/// Each message to the client is compressed on its own, so that one rendering serves all clients. `window` says
/// whether the client may keep its window between messages.
pub fn negotiate<'a>(offers: impl IntoIterator<Item = &'a str>, window: ClientWindow) -> Option<AgreedDeflate> {
    let offer = offers.into_iter().find_map(first_acceptable)?;
    let mut answer = format!("{NAME}; server_no_context_takeover");
    if window == ClientWindow::Dropped {
        answer.push_str("; client_no_context_takeover");
    }
    if let Some(bits) = offer.server_bits {
        answer.push_str(&format!("; server_max_window_bits={bits}"));
    }
    Some(AgreedDeflate { answer, compresses: offer.server_bits.is_none_or(|bits| bits == 15), window })
}

/// Returns the first acceptable offer in the value of one header. Parsing stops at the first error in the syntax.
fn first_acceptable(value: &str) -> Option<DeflateOffer> {
    let mut text = RestOfField(value);
    loop {
        while text.eat(',') {}
        let name = text.token()?;
        let mut offer = (name == NAME).then(DeflateOffer::default);
        while text.eat(';') {
            let name = text.token()?;
            let value = if text.eat('=') { Some(text.value()?) } else { None };
            offer = offer.and_then(|offer| offer.with(name, value.as_deref()));
        }
        if !text.ends_element() {
            return None;
        }
        if offer.is_some() {
            return offer;
        }
    }
}

/// An offer of `permessage-deflate` whose parameters have all been acceptable so far.
#[derive(Default)]
struct DeflateOffer {
    server_alone: bool,
    client_alone: bool,
    client_window: bool,
    server_bits: Option<u8>,
}

impl DeflateOffer {
    /// Adds a parameter to the offer. Returns `None` if the parameter is unknown, repeated, or has an invalid value.
    fn with(mut self, name: &str, value: Option<&str>) -> Option<Self> {
        let again = match name {
            "server_no_context_takeover" if value.is_none() => std::mem::replace(&mut self.server_alone, true),
            "client_no_context_takeover" if value.is_none() => std::mem::replace(&mut self.client_alone, true),
            "client_max_window_bits" if value.is_none_or(|v| window_bits(v).is_some()) => {
                std::mem::replace(&mut self.client_window, true)
            }
            "server_max_window_bits" => self.server_bits.replace(window_bits(value?)?).is_some(),
            _ => return None,
        };
        (!again).then_some(self)
    }
}

/// Parses a number from 8 to 15, without leading zeros.
fn window_bits(value: &str) -> Option<u8> {
    let bits = value.parse::<u8>().ok().filter(|bits| (8..=15).contains(bits))?;
    (value == bits.to_string()).then_some(bits)
}

/// The part of a header value that has not been parsed yet. There may be spaces and tabs between any two tokens.
struct RestOfField<'a>(&'a str);

impl<'a> RestOfField<'a> {
    fn skip_space(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.skip_space();
        self.0.strip_prefix(wanted).map(|rest| self.0 = rest).is_some()
    }

    fn ends_element(&mut self) -> bool {
        self.skip_space();
        self.0.is_empty() || self.0.starts_with(',')
    }

    fn token(&mut self) -> Option<&'a str> {
        self.skip_space();
        let end = self.0.find(|c| !is_token(c)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        (!token.is_empty()).then_some(token)
    }

    /// Parses a token, or a quoted string whose content is a token (RFC 6455 9.1).
    fn value(&mut self) -> Option<Cow<'a, str>> {
        if !self.eat('"') {
            return self.token().map(Cow::Borrowed);
        }
        let mut value = String::new();
        let mut chars = self.0.chars();
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => value.push(chars.next()?),
                other => value.push(other),
            }
        }
        self.0 = chars.as_str();
        (!value.is_empty() && value.chars().all(is_token)).then_some(Cow::Owned(value))
    }
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

/// The error of compressed data that cannot be decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorruptData;

/// The decompression of a client's messages.
///
/// It takes a decompressor from the pool of its thread while a message lasts. If the client may refer to earlier
/// messages, it keeps that decompressor for good.
#[derive(Debug)]
pub struct Decompressor {
    stream: Option<Box<Decompress>>,
    window: ClientWindow,
    /// Whether the decompressor may have more output, for which there was no room.
    pending: bool,
    /// Whether bytes have been read since the message began, or since its last final block.
    begun: bool,
    /// The number of bytes that have been read of the ending, which is fed after each message.
    ended: u8,
}

thread_local! {
    static INFLATERS: RefCell<Vec<Decompress>> = const { RefCell::new(Vec::new()) };
    static DEFLATER: RefCell<Option<Compress>> = const { RefCell::new(None) };
}

impl Decompressor {
    /// Creates the decompression for a client that treats its window in this way.
    pub const fn new(window: ClientWindow) -> Self {
        Self { stream: None, window, pending: false, begun: false, ended: 0 }
    }

    /// Returns whether this holds a decompressor at the moment.
    pub const fn is_held(&self) -> bool {
        self.stream.is_some()
    }

    /// Returns whether [`Decompressor::feed`] may produce output without more input.
    pub const fn is_pending(&self) -> bool {
        self.pending
    }

    /// Decompresses `input` into `out`, until the input is used up or `out` has [`MAX_OUTPUT`] bytes. Returns the
    /// number of bytes that were read.
    ///
    /// # Errors
    /// The input is corrupt. Nothing more must be fed after this.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, CorruptData> {
        let mut used = 0;
        while out.len() < MAX_OUTPUT && (used < input.len() || self.pending) {
            if out.len() == out.capacity() {
                let wanted = (4 * (input.len() - used)).max(out.len()).max(256);
                out.reserve_exact(wanted.min(MAX_OUTPUT - out.len()));
            }
            used += self.step(&input[used..], out)?;
        }
        Ok(used)
    }

    fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, CorruptData> {
        let stream = self.stream.get_or_insert_with(take_inflater);
        let before = (stream.total_in(), out.len());
        let status = stream.decompress_vec(input, out, FlushDecompress::None).map_err(|_| CorruptData)?;
        let used = usize::try_from(stream.total_in() - before.0).map_err(|_| CorruptData)?;
        self.pending = status != Status::StreamEnd && out.len() == out.capacity();
        self.begun |= used > 0;
        if status == Status::StreamEnd {
            // Bytes after a final block begin a new stream, and do not refer to data before that block.
            stream.reset(false);
            self.begun = false;
        } else if used == 0 && out.len() == before.1 && !input.is_empty() {
            return Err(CorruptData);
        }
        Ok(used)
    }

    /// Ends a message, and appends the remaining output to `out`. Returns whether the message is complete. If it is
    /// not, `out` is full: the caller must empty it and call this again.
    ///
    /// # Errors
    /// The message was corrupt or cut short.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<bool, CorruptData> {
        let ending = match self.window {
            ClientWindow::Kept => &TAIL[..],
            ClientWindow::Dropped => &ENDING,
        };
        if self.begun || self.ended > 0 || self.pending {
            let used = self.feed(&ending[usize::from(self.ended)..], out)?;
            self.ended += u8::try_from(used).map_err(|_| CorruptData)?;
            if usize::from(self.ended) < ending.len() || self.pending {
                return Ok(false);
            }
        }
        if self.window == ClientWindow::Dropped {
            if self.begun {
                return Err(CorruptData);
            }
            self.stream.take().into_iter().for_each(put_inflater);
        }
        (self.begun, self.ended) = (false, 0);
        Ok(true)
    }
}

fn take_inflater() -> Box<Decompress> {
    let pooled = INFLATERS.with_borrow_mut(Vec::pop);
    Box::new(pooled.unwrap_or_else(|| Decompress::new(false)))
}

/// Returns a decompressor to the pool of its thread, unless the pool is full. It needs no reset, because it was reset
/// at the end of its stream.
fn put_inflater(inflater: Box<Decompress>) {
    INFLATERS.with_borrow_mut(|pool| {
        if pool.len() < POOLED {
            pool.push(*inflater);
        }
    });
}

/// Compresses one message on its own, with the compressor of this thread. Returns `None` if that fails.
pub fn deflate(content: &[u8]) -> Option<Vec<u8>> {
    DEFLATER.with_borrow_mut(|kept| {
        let stream = kept.get_or_insert_with(|| Compress::new(Compression::default(), false));
        stream.reset();
        compress(stream, content)
    })
}

fn compress(stream: &mut Compress, content: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(content.len() + content.len() / 512 + 64);
    loop {
        let used = usize::try_from(stream.total_in()).ok()?;
        stream.compress_vec(&content[used..], &mut out, FlushCompress::Sync).ok()?;
        if out.len() < out.capacity() {
            break;
        }
        out.reserve(1024);
    }
    if !out.ends_with(&TAIL) {
        return None;
    }
    out.truncate(out.len() - TAIL.len());
    Some(out)
}

#[cfg(test)]
mod tests;
