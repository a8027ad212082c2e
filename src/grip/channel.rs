//! The names of channels, and the limits of their length.

use super::{InvalidText, invalid};
use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// The maximum length, in bytes, of a channel name that an origin or a route gives, of a route's prefix, and of an
/// item's id. Each of these is kept for as long as a connection holds the channel, and appears in headers, logs and
/// lists.
pub const MAX_NAME: usize = 1024;

/// The maximum length, in bytes, of the name by which a publisher knows a channel: the route's prefix, followed by
/// the name that the origin uses.
pub const MAX_PUBLISHED: usize = 2 * MAX_NAME;

/// Checks that the name of a channel or the id of an item is at most `most` bytes long. `of` is what the error
/// message calls it.
///
/// # Errors
/// `name` is longer than `most` bytes. The error gives its length and the limit.
pub fn check_length(of: &str, name: &str, most: usize) -> Result<(), InvalidText> {
    if name.len() <= most {
        return Ok(());
    }
    let shown: String = name.chars().take(32).collect();
    invalid(format!("{of} '{shown}...' has {} bytes, and at most {most} are allowed", name.len()))
}

/// The name of a channel: any text, the empty one included. Cloning shares the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel(Arc<str>);

impl Channel {
    /// Returns the channel whose name is `prefix` followed by `name`.
    pub fn prefixed(prefix: &str, name: &str) -> Self {
        if prefix.is_empty() {
            return Self::from(name);
        }
        Self(Arc::from([prefix, name].concat()))
    }
}

impl From<&str> for Channel {
    fn from(name: &str) -> Self {
        Self(Arc::from(name))
    }
}

impl Deref for Channel {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Channel {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_too_long_is_refused_with_the_bound() {
        assert!(check_length("the channel", &"x".repeat(1024), MAX_NAME).is_ok());
        // The error shows whole characters of the name, even if they take more than one byte each.
        let error = check_length("the channel", &"é".repeat(513), MAX_NAME).unwrap_err().to_string();
        assert_eq!(error, format!("the channel '{}...' has 1026 bytes, and at most 1024 are allowed", "é".repeat(32)));
    }
}
