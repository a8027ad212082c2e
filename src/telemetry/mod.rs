//! Logs and metrics.

mod line;
pub mod log;
pub mod metrics;
mod rate_limited_line;

pub use rate_limited_line::RateLimitedLine;

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Calls `f` if this is the first call of `once` with this `subject` in the process. It is for warnings that need
/// not be repeated.
pub fn once(subject: &'static str, f: impl FnOnce()) {
    static SAID: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.get_or_insert_default().insert(subject) {
        drop(said);
        f();
    }
}
