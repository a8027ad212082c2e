//! The error for input that cannot be understood.

use std::fmt;

/// The reason why some input cannot be used. It is worded as in Pushpin if Pushpin has the same error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidText(String);

impl InvalidText {
    /// Returns an error with this reason.
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for InvalidText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidText {}

/// Returns an [`InvalidText`] error with this reason.
///
/// # Errors
/// The function always returns an error.
pub fn invalid<T>(why: impl Into<String>) -> Result<T, InvalidText> {
    Err(InvalidText::new(why))
}
