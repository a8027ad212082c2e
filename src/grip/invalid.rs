//! The error for input that cannot be understood.

use std::fmt;

/// The reason why some input cannot be used. It is worded as in Pushpin if Pushpin has the same error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid(String);

impl Invalid {
    /// Returns an error with this reason.
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Invalid {}

/// Returns an [`Invalid`] error with this reason.
///
/// # Errors
/// The function always returns an error.
pub fn invalid<T>(why: impl Into<String>) -> Result<T, Invalid> {
    Err(Invalid::new(why))
}
