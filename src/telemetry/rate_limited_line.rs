//! A limit for log lines that could be written too often.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A log line that is written at most once a second, however often there is a reason for it.
#[derive(Debug, Default)]
pub struct RateLimitedLine(Mutex<LineState>);

/// The time at which a line was last logged, and how often it was left out since then.
#[derive(Debug, Default)]
pub(super) struct LineState {
    last: Option<Instant>,
    left_out: u64,
}

impl LineState {
    /// Returns whether the line may be logged again, `interval` after it was last logged.
    pub(super) fn is_due(&self, now: Instant, interval: Duration) -> bool {
        self.last.is_none_or(|last| now.duration_since(last) >= interval)
    }

    /// Returns how often the line was left out if it may be logged now, and otherwise leaves it out.
    pub(super) fn at(&mut self, now: Instant, interval: Duration) -> Option<u64> {
        if !self.is_due(now, interval) {
            self.left_out += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

impl RateLimitedLine {
    /// Returns a line that has not been logged yet.
    pub const fn new() -> Self {
        Self(Mutex::new(LineState { last: None, left_out: 0 }))
    }

    /// Calls `log` if the line may be logged now. `log` gets the number of times that the line was left out since it
    /// was last logged.
    pub fn log(&self, log: impl FnOnce(u64)) {
        if let Some(left_out) = self.at(Instant::now()) {
            log(left_out);
        }
    }

    fn at(&self, now: Instant) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).at(now, Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_tells_how_many_were_left_out() {
        let (seldom, begin) = (RateLimitedLine::new(), Instant::now());
        assert_eq!(seldom.at(begin), Some(0));
        assert!((1..10).all(|tenth| seldom.at(begin + Duration::from_millis(100 * tenth)).is_none()));
        assert_eq!(seldom.at(begin + Duration::from_secs(1)), Some(9));
        assert_eq!(seldom.at(begin + Duration::from_secs(3)), Some(0));
    }
}
