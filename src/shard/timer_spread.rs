//! Delays that keep timers from going off at the same time.

use std::cell::Cell;
use std::time::Duration;

const A_SECOND: Duration = Duration::from_secs(1);

/// A source of delays that spread the timers of a shard's connections evenly over a second. It holds the last delay
/// in milliseconds.
#[derive(Debug, Default)]
pub struct TimerSpread(Cell<u32>);

impl TimerSpread {
    /// Returns a delay of less than a second that differs from the recent ones.
    pub fn next(&self) -> Duration {
        // Multiples of 0.618, the fraction of the golden ratio, are spread evenly modulo 1, however many there are.
        // In milliseconds, they repeat after 500 delays.
        let next = (self.0.get() + 618) % 1000;
        self.0.set(next);
        Duration::from_millis(u64::from(next))
    }

    /// Returns how long to wait before the next keep-alive, if nothing was sent for `idle`. The wait is at least one
    /// millisecond. It ends up to a second before `timeout`, as in Pushpin, so that a client with the same timeout
    /// gets the keep-alive in time.
    pub fn wait_until_due(&self, timeout: Duration, idle: Duration) -> Duration {
        timeout.saturating_sub(idle).saturating_sub(self.next()).max(Duration::from_millis(1))
    }

    /// Returns whether a keep-alive is due if nothing was sent for `idle`. It is due up to a second before `timeout`,
    /// because [`wait_until_due`](Self::wait_until_due) shortens the wait by up to a second.
    pub fn is_due(timeout: Duration, idle: Duration) -> bool {
        idle + A_SECOND >= timeout
    }
}
