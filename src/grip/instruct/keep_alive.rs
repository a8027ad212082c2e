//! `Grip-Keep-Alive`: content that keeps the connection of a stream alive.

use super::super::fields::{FieldElement, seconds};
use super::super::{InvalidText, base64, invalid};
use std::time::Duration;

const DEFAULT_TIMEOUT: u64 = 55;
const MIN_INTERVAL: u64 = 1;

/// Content that gripd sends from time to time so that the connection of a stream stays alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// The bytes to send; not empty.
    pub content: Vec<u8>,
    /// The time to wait before the bytes are sent; at least one second.
    pub timeout: Duration,
    /// The event from which the wait is counted.
    pub mode: KeepAliveMode,
}

/// The event from which the wait of a keep-alive is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAliveMode {
    /// The wait is counted from the last bytes that were sent.
    Idle,
    /// The wait is counted from the last keep-alive, no matter what else was sent.
    Interval,
}

impl KeepAlive {
    /// Returns a keep-alive that waits for this many seconds: 55 by default, and at least 1.
    pub(super) fn new(content: Vec<u8>, seconds: Option<u64>, mode: KeepAliveMode) -> Self {
        let timeout = Duration::from_secs(seconds.unwrap_or(DEFAULT_TIMEOUT).max(MIN_INTERVAL));
        Self { content, timeout, mode }
    }

    /// Parses the value of the header `Grip-Keep-Alive`.
    pub(super) fn parse(value: &str) -> Result<Self, InvalidText> {
        let element = FieldElement::parse(value).ok_or_else(|| InvalidText::new("failed to parse Grip-Keep-Alive"))?;
        if element.value.is_empty() {
            return invalid("Grip-Keep-Alive cannot be empty");
        }
        let timeout = element.get("timeout").map(|t| {
            let (unreadable, negative) =
                ("failed to parse Grip-Keep-Alive timeout value", "Grip-Keep-Alive timeout has invalid value");
            seconds(t, unreadable, negative)
        });
        let content = content(element.value, element.get("format"))?;
        let mode = KeepAliveMode::named(element.get("mode").unwrap_or("idle"))?;
        Ok(Self::new(content, timeout.transpose()?, mode))
    }
}

impl KeepAliveMode {
    /// Returns the mode that is called `name`.
    pub(in crate::grip) fn named(name: &str) -> Result<Self, InvalidText> {
        match name {
            "idle" => Ok(Self::Idle),
            "interval" => Ok(Self::Interval),
            other => invalid(format!("no such Grip-Keep-Alive mode '{other}'")),
        }
    }
}

fn content(value: &str, format: Option<&str>) -> Result<Vec<u8>, InvalidText> {
    let content = match format {
        None | Some("raw") => Some(value.as_bytes().to_vec()),
        Some("cstring") => unescape(value),
        Some("base64") => base64::decode(value),
        Some(other) => return Err(InvalidText::new(format!("no such Grip-Keep-Alive format '{other}'"))),
    };
    content
        .filter(|c| !c.is_empty())
        .ok_or_else(|| InvalidText::new(format!("failed to parse Grip-Keep-Alive {} format", format.unwrap_or("raw"))))
}

/// Resolves the escapes `\\`, `\n`, `\r` and `\xHH`. Any other escape is removed, as in Pushpin. Returns `None` if an
/// escape is incomplete, or if `\x` is not followed by two hexadecimal digits.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next()? {
            b'\\' => out.push(b'\\'),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b'x' => out.push(hex_digit(bytes.next()?)? << 4 | hex_digit(bytes.next()?)?),
            _ => {}
        }
    }
    Some(out)
}

fn hex_digit(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).and_then(|d| u8::try_from(d).ok())
}
