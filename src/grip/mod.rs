//! The vocabulary of GRIP, pure: what an item is, what an instruct says, how a request is signed.
//!
//! Nothing here knows a socket, a clock or a runtime.

pub mod base64;
pub mod channel;
pub mod fields;
pub mod format;
pub mod instruct;
pub mod invalid;
pub mod item;
pub mod signature;

pub use channel::Channel;
pub use format::{Format, Formats};
pub use instruct::{HoldMode, Instruct, KeepAlive, KeepAliveMode};
pub use invalid::{Invalid, invalid};
pub use item::Item;

/// The value of `Grip-Feature`: what an origin may rely on. It grows with what gripd can do.
pub const FEATURES: &str = "status";
