//! Connections as such: those that gripd opens, and how slow the other side may be.

mod connect;
mod descriptors;
mod outbound;
mod pace;

pub use connect::{connect, connect_to_one_of};
pub use descriptors::{Counted, Descriptors, is_shortage};
pub use outbound::Outbound;
pub use pace::{ClientDelay, Limits, Pace};
