//! The delay of refusals, which limits how fast tokens can be guessed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The interval between two refusals of tokens from one address.
const REFUSAL_INTERVAL: Duration = Duration::from_millis(100);
/// The number of refusals that one address receives without a delay, so that somebody who mistypes a token is not
/// delayed.
const FREE_REFUSALS: u32 = 20;
/// The longest delay of a refusal.
const MAX_DELAY: Duration = Duration::from_secs(5);
/// The number of addresses that may be remembered before those are forgotten that have paused. Addresses that have
/// sent a wrong token in the last moments are remembered even beyond this number.
const MOST_ADDRESSES: usize = 4096;

/// Spreads the refusals of wrong tokens over time, for each address separately. Requests with a valid token are never
/// delayed. This slows down clients that wait for the reply before they guess again, and does not replace a long
/// secret.
#[derive(Debug, Default)]
pub(super) struct GuessDelays {
    /// The time at which the last refusal of each address would be due if there were one every [`REFUSAL_INTERVAL`].
    due: Mutex<HashMap<IpAddr, Instant>>,
}

impl GuessDelays {
    /// Returns how long the next refusal of an address is delayed.
    pub(super) fn delay(&self, address: IpAddr, now: Instant) -> Duration {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        if due.len() >= MOST_ADDRESSES {
            due.retain(|_, due| *due > now);
        }
        let next = due.get(&address).copied().unwrap_or(now).max(now) + REFUSAL_INTERVAL;
        let delay = next.duration_since(now).saturating_sub(REFUSAL_INTERVAL * FREE_REFUSALS);
        if delay < MAX_DELAY {
            due.insert(address, next);
        }
        delay.min(MAX_DELAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_few_are_answered_at_once_and_many_are_not() {
        let (guesses, begin) = (GuessDelays::default(), Instant::now());
        assert!((0..FREE_REFUSALS).all(|_| guesses.delay(ONE, begin).is_zero()));
        assert_eq!(guesses.delay(ONE, begin), REFUSAL_INTERVAL);
        assert_eq!(guesses.delay(ONE, begin), 2 * REFUSAL_INTERVAL);
        assert!((0..1000).map(|_| guesses.delay(ONE, begin)).all(|delay| delay <= MAX_DELAY));
        // Other addresses are not delayed, and neither is this address after a pause.
        assert!(guesses.delay([10, 0, 0, 1].into(), begin).is_zero());
        assert!(guesses.delay(ONE, begin + Duration::from_secs(60)).is_zero());
    }

    #[test]
    fn addresses_that_have_paused_are_forgotten() {
        let (guesses, begin) = (GuessDelays::default(), Instant::now());
        for n in 0..2 * MOST_ADDRESSES {
            let address = IpAddr::from(u32::try_from(n).unwrap().to_be_bytes());
            guesses.delay(address, begin + Duration::from_secs(n as u64));
        }
        assert!(guesses.due.lock().unwrap().len() <= MOST_ADDRESSES);
    }
}
