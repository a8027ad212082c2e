//! Timers that do not go off together.

use std::cell::Cell;
use std::time::Duration;

const A_SECOND: Duration = Duration::from_secs(1);

/// Spreads the timers of a shard's connections evenly over a second.
#[derive(Debug, Default)]
pub struct Spread(Cell<u32>);

impl Spread {
    /// Returns a time of up to a second, another one each time.
    pub fn next(&self) -> Duration {
        // Steps of the golden ratio's share of a second never come close to an earlier one.
        let next = (self.0.get() + 618) % 1000;
        self.0.set(next);
        Duration::from_millis(u64::from(next))
    }

    /// Returns how long to wait with a keep-alive when nothing was sent for `idle`: up to a second less than its time, as
    /// Pushpin does, lest the client's own be missed.
    pub fn rest(&self, timeout: Duration, idle: Duration) -> Duration {
        timeout.saturating_sub(idle).saturating_sub(self.next()).max(Duration::from_millis(1))
    }

    /// Returns whether the keep-alive is due: within the second that is taken off it counts as such.
    pub fn is_due(timeout: Duration, idle: Duration) -> bool {
        idle + A_SECOND >= timeout
    }
}
