//! A channel's name.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// The name of a channel: any text, the empty one included. Cloning shares the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel(Arc<str>);

impl Channel {
    /// A channel called `prefix` followed by `name`.
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
