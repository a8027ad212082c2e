//! Logs, hints and metrics.

mod hints;
mod line;
pub mod log;
pub mod metrics;
mod rate_limited_line;

pub use hints::Hint;
pub use rate_limited_line::RateLimitedLine;
