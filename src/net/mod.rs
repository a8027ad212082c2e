//! Connections as such: those that gripd opens, and how slow the other side may be.

mod outbound;
mod pace;

pub use outbound::Outbound;
pub use pace::{ClientDelay, Limits, Pace};
