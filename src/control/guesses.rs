//! How fast tokens may be guessed.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How far apart the refusals of wrong tokens are, all connections together.
const EVERY: Duration = Duration::from_millis(100);
/// Refusals that may come at once: somebody who mistypes does not notice anything.
const BURST: u32 = 20;
/// The longest that a refusal waits.
const LONGEST: Duration = Duration::from_secs(5);

/// Spreads refusals over time. A good token is never delayed, since only refusals are.
#[derive(Debug, Default)]
pub(super) struct Guesses {
    /// When all refusals so far would have been due.
    due: Mutex<Option<Instant>>,
}

impl Guesses {
    /// Returns how long the next refusal waits.
    pub(super) fn delay(&self, now: Instant) -> Duration {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let next = due.unwrap_or(now).max(now) + EVERY;
        let delay = next.duration_since(now).saturating_sub(EVERY * BURST);
        if delay < LONGEST {
            *due = Some(next);
        }
        delay.min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_answered_at_once_and_many_are_not() {
        let (guesses, begin) = (Guesses::default(), Instant::now());
        assert!((0..BURST).all(|_| guesses.delay(begin).is_zero()));
        assert_eq!(guesses.delay(begin), EVERY);
        assert_eq!(guesses.delay(begin), 2 * EVERY);
        assert!((0..1000).map(|_| guesses.delay(begin)).all(|delay| delay <= LONGEST));
        // A pause makes up for it.
        assert!(guesses.delay(begin + Duration::from_secs(60)).is_zero());
    }
}
