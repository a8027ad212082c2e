//! Logs and metrics.

mod line;
pub mod log;
pub mod metrics;
mod rate_limited_line;

pub use rate_limited_line::RateLimitedLine;
