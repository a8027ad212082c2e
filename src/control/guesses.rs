//! How fast tokens may be guessed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How far apart the refusals of wrong tokens of one address are.
const EVERY: Duration = Duration::from_millis(100);
/// Refusals that may come at once: somebody who mistypes does not notice anything.
const BURST: u32 = 20;
/// The longest that a refusal waits.
const LONGEST: Duration = Duration::from_secs(5);
/// Addresses that are remembered; beyond it those that have paused are forgotten.
const MOST_ADDRESSES: usize = 4096;

/// Spreads the refusals of wrong tokens over time, for each address. A good token is never delayed, since only refusals
/// are: this makes guessing slow for those who wait for the answer, and is no substitute for a long secret.
#[derive(Debug, Default)]
pub(super) struct Guesses {
    /// When all refusals of an address so far would have been due.
    due: Mutex<HashMap<IpAddr, Instant>>,
}

impl Guesses {
    /// Returns how long the next refusal of an address waits.
    pub(super) fn delay(&self, address: IpAddr, now: Instant) -> Duration {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        if due.len() >= MOST_ADDRESSES {
            due.retain(|_, due| *due > now);
        }
        let next = due.get(&address).copied().unwrap_or(now).max(now) + EVERY;
        let delay = next.duration_since(now).saturating_sub(EVERY * BURST);
        if delay < LONGEST {
            due.insert(address, next);
        }
        delay.min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_few_are_answered_at_once_and_many_are_not() {
        let (guesses, begin) = (Guesses::default(), Instant::now());
        assert!((0..BURST).all(|_| guesses.delay(ONE, begin).is_zero()));
        assert_eq!(guesses.delay(ONE, begin), EVERY);
        assert_eq!(guesses.delay(ONE, begin), 2 * EVERY);
        assert!((0..1000).map(|_| guesses.delay(ONE, begin)).all(|delay| delay <= LONGEST));
        // Others are not concerned, and a pause makes up for it.
        assert!(guesses.delay([10, 0, 0, 1].into(), begin).is_zero());
        assert!(guesses.delay(ONE, begin + Duration::from_secs(60)).is_zero());
    }

    #[test]
    fn addresses_that_have_paused_are_forgotten() {
        let (guesses, begin) = (Guesses::default(), Instant::now());
        for n in 0..2 * MOST_ADDRESSES {
            let address = IpAddr::from(u32::try_from(n).unwrap().to_be_bytes());
            guesses.delay(address, begin + Duration::from_secs(n as u64));
        }
        assert!(guesses.due.lock().unwrap().len() <= MOST_ADDRESSES);
    }
}
