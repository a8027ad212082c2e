//! The validation of UTF-8 text that arrives in pieces.

use super::ProtocolViolation;

/// A validator of text that arrives in pieces. It keeps the beginning of a character that is cut by the end of a
/// piece.
#[derive(Debug, Default)]
pub(super) struct Utf8 {
    held: [u8; 4],
    length: u8,
}

impl Utf8 {
    /// Checks the next piece.
    pub(super) fn check(&mut self, mut piece: &[u8]) -> Result<(), ProtocolViolation> {
        while self.length > 0
            && let Some(byte) = piece.split_off_first()
        {
            let length = usize::from(self.length) + 1;
            self.held[length - 1] = *byte;
            let held = self.held;
            self.length = 0;
            self.hold(&held[..length])?;
        }
        if piece.is_empty() { Ok(()) } else { self.hold(piece) }
    }

    /// Checks that the text may end after the last piece, which means that the last character is complete.
    pub(super) const fn end(&self) -> Result<(), ProtocolViolation> {
        if self.length > 0 { Err(ProtocolViolation::Text) } else { Ok(()) }
    }

    /// Checks bytes that begin at the beginning of a character, and keeps the last character if it is incomplete.
    fn hold(&mut self, bytes: &[u8]) -> Result<(), ProtocolViolation> {
        let Err(error) = std::str::from_utf8(bytes) else { return Ok(()) };
        if error.error_len().is_some() {
            return Err(ProtocolViolation::Text);
        }
        let cut = &bytes[error.valid_up_to()..];
        self.held[..cut.len()].copy_from_slice(cut);
        self.length = cut.len() as u8;
        Ok(())
    }
}
