//! `permessage-deflate` (RFC 7692): what is agreed on, and the streams.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use std::borrow::Cow;
use std::cell::RefCell;

/// Bytes of output that one step of an [`Inflate`] gives at most.
pub const MOST: usize = 64 * 1024;
const POOLED: usize = 16;
const NAME: &str = "permessage-deflate";
/// The bytes that are cut off the end of a compressed message.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// The bytes that are fed after a message that stands alone: its tail, and an empty last block that shows that it is whole.
const ENDING: [u8; 6] = [0, 0, 0xff, 0xff, 3, 0];

/// The window of a client's compression between two of its messages (`client_no_context_takeover`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientWindow {
    /// The client keeps it, and may refer to its earlier messages. That costs a window of memory here for as long as the
    /// client is connected.
    Kept,
    /// Each message stands alone.
    Dropped,
}

/// The agreement with a client about compression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The value of `Sec-WebSocket-Extensions` in the answer.
    pub answer: String,
    /// Whether messages to the client are compressed: not if it asks for a smaller window.
    pub compresses: bool,
    /// The window of the client between messages.
    pub window: ClientWindow,
}

/// Takes the first acceptable offer out of values of `Sec-WebSocket-Extensions`.
///
/// Messages to the client always stand alone, so that one rendering serves everybody. `window` is what the client is
/// allowed.
pub fn negotiate<'a>(offers: impl IntoIterator<Item = &'a str>, window: ClientWindow) -> Option<Agreed> {
    let offer = offers.into_iter().find_map(first_acceptable)?;
    let mut answer = format!("{NAME}; server_no_context_takeover");
    if window == ClientWindow::Dropped {
        answer.push_str("; client_no_context_takeover");
    }
    if let Some(bits) = offer.server_bits {
        answer.push_str(&format!("; server_max_window_bits={bits}"));
    }
    Some(Agreed { answer, compresses: offer.server_bits.is_none_or(|bits| bits == 15), window })
}

/// Returns the first acceptable offer of one header field; what follows a mistake in the grammar is not looked at.
fn first_acceptable(value: &str) -> Option<Offer> {
    let mut text = Text(value);
    loop {
        while text.eat(',') {}
        let name = text.token()?;
        let mut offer = (name == NAME).then(Offer::default);
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

/// An offer that is acceptable so far.
#[derive(Default)]
struct Offer {
    server_alone: bool,
    client_alone: bool,
    client_window: bool,
    server_bits: Option<u8>,
}

impl Offer {
    /// Returns the offer with one more parameter, if it is a known one, is not there yet and has a good value.
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

/// Reads a number from 8 to 15, without leading zeroes.
fn window_bits(value: &str) -> Option<u8> {
    let bits = value.parse::<u8>().ok().filter(|bits| (8..=15).contains(bits))?;
    (value == bits.to_string()).then_some(bits)
}

/// The rest of a header field's value. There may be space between any two of its parts.
struct Text<'a>(&'a str);

impl<'a> Text<'a> {
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

    /// Returns a token, or a quoted string that is one.
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

/// Data that is not what a compressor made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

/// Undoes the compression of a client's messages.
///
/// It takes a decompressor from those of its thread for as long as a message lasts, or keeps one for good if the
/// client refers to its earlier messages.
#[derive(Debug)]
pub struct Inflate {
    stream: Option<Box<Decompress>>,
    window: ClientWindow,
    /// It has more output than it could give.
    pending: bool,
    /// It has read something of a message (or, after a last block, of what follows).
    begun: bool,
    /// Bytes of the ending that it has read.
    ended: u8,
}

thread_local! {
    static INFLATERS: RefCell<Vec<Decompress>> = const { RefCell::new(Vec::new()) };
    static DEFLATER: RefCell<Option<Compress>> = const { RefCell::new(None) };
}

impl Inflate {
    /// Returns one for a client that has this window between messages.
    pub const fn new(window: ClientWindow) -> Self {
        Self { stream: None, window, pending: false, begun: false, ended: 0 }
    }

    /// Returns whether it keeps a decompressor at the moment.
    pub const fn is_held(&self) -> bool {
        self.stream.is_some()
    }

    /// Returns whether [`Inflate::feed`] has output to give without input.
    pub const fn is_pending(&self) -> bool {
        self.pending
    }

    /// Reads `input` until it is used up or `out` has [`MOST`] bytes. Returns how much it read.
    ///
    /// # Errors
    /// The input is corrupt: it must not be used further.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, Corrupt> {
        let mut used = 0;
        while out.len() < MOST && (used < input.len() || self.pending) {
            if out.len() == out.capacity() {
                let wanted = (4 * (input.len() - used)).max(out.len()).max(256);
                out.reserve_exact(wanted.min(MOST - out.len()));
            }
            used += self.step(&input[used..], out)?;
        }
        Ok(used)
    }

    fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, Corrupt> {
        let stream = self.stream.get_or_insert_with(take_inflater);
        let before = (stream.total_in(), out.len());
        let status = stream.decompress_vec(input, out, FlushDecompress::None).map_err(|_| Corrupt)?;
        let used = usize::try_from(stream.total_in() - before.0).map_err(|_| Corrupt)?;
        self.pending = status != Status::StreamEnd && out.len() == out.capacity();
        self.begun |= used > 0;
        if status == Status::StreamEnd {
            // Bytes that may follow a last block do not refer to what was before it.
            stream.reset(false);
            self.begun = false;
        } else if used == 0 && out.len() == before.1 && !input.is_empty() {
            return Err(Corrupt);
        }
        Ok(used)
    }

    /// Ends a message, for which `out` gets what is left of its output. Returns whether that is all: if it is not,
    /// call it again.
    ///
    /// # Errors
    /// The message was corrupt or cut short.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<bool, Corrupt> {
        let ending = match self.window {
            ClientWindow::Kept => &TAIL[..],
            ClientWindow::Dropped => &ENDING,
        };
        if self.begun || self.ended > 0 || self.pending {
            let used = self.feed(&ending[usize::from(self.ended)..], out)?;
            self.ended += u8::try_from(used).map_err(|_| Corrupt)?;
            if usize::from(self.ended) < ending.len() || self.pending {
                return Ok(false);
            }
        }
        if self.window == ClientWindow::Dropped {
            if self.begun {
                return Err(Corrupt);
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

/// Takes a decompressor back. It is as new: it was reset at the end of its stream.
fn put_inflater(inflater: Box<Decompress>) {
    INFLATERS.with_borrow_mut(|pool| {
        if pool.len() < POOLED {
            pool.push(*inflater);
        }
    });
}

/// Compresses one message, on its own. The thread's compressor does it; nothing if that fails.
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
