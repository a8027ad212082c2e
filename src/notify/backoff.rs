//! The pauses after failed requests to a webhook. Pure: the caller passes in random numbers.

use std::time::Duration;

/// The first pause.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The maximum pause, as a multiple of the first pause.
const MAX_FACTOR: u32 = 60;
/// The largest random change to a pause, up or down, in thousandths of the pause.
const SPREAD: u32 = 200;

/// Pauses that double up to a maximum. Each is made longer or shorter at random, by at most a fifth, so that
/// requests that failed at the same time are not all repeated at the same time.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    factor: u32,
}

impl Backoff {
    /// Creates a backoff whose first pause is `first`.
    pub(super) const fn new(first: Duration) -> Self {
        Self { first, factor: 1 }
    }

    /// Returns the next pause. `random` should be a random number: it decides how much longer or shorter the pause
    /// is.
    pub(super) fn next(&mut self, random: u64) -> Duration {
        let pause = self.first * self.factor;
        self.factor = (self.factor * 2).min(MAX_FACTOR);
        // The remainder is at most `2 * SPREAD`, so it fits.
        let share = u32::try_from(random % u64::from(2 * SPREAD + 1)).unwrap_or(SPREAD);
        pause / 1000 * (1000 - SPREAD + share)
    }

    /// Starts again with the first pause, because a request has succeeded.
    pub(super) const fn reset(&mut self) {
        self.factor = 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        let mut backoff = Backoff::new(FIRST_PAUSE);
        let pauses: Vec<u64> = (0..8).map(|_| backoff.next(200).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        backoff.reset();
        assert_eq!([backoff.next(0), backoff.next(400)], [800, 2400].map(Duration::from_millis));
    }

    proptest! {
        #[test]
        fn chance_is_a_fifth_at_most(random in any::<u64>(), step in 0u32..9) {
            let (mut backoff, mut even) = (Backoff::new(FIRST_PAUSE), Backoff::new(FIRST_PAUSE));
            for _ in 0..step {
                backoff.next(random);
                even.next(200);
            }
            let (pause, even) = (backoff.next(random), even.next(200));
            prop_assert!(pause >= even * 4 / 5 && pause <= even * 6 / 5);
        }
    }
}
