//! Connections as such: those that gripd opens, and how slow the other side may be.

mod descriptors;
mod outbound;
mod pace;

pub use descriptors::{Counted, Descriptors};
pub use outbound::Outbound;
pub use pace::{ClientDelay, Limits, Pace};
