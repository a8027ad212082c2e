//! How slowly the other side of a connection may send or read.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// The least pace of a client while gripd waits for it.
///
/// A client may fall behind `rate` by as much as `grace`: it may be silent for that long, or be slower for longer, and
/// wins time back by being faster. Time in which gripd does not wait for it does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How far a client may fall behind.
    pub grace: Duration,
    /// Bytes a second; 0: only silence counts.
    pub rate: u64,
    /// How long gripd waits in all, however fast it goes meanwhile.
    pub total: Option<Duration>,
}

impl Default for Limits {
    /// Limits that a phone on a bad line survives: a minute of silence, and 500 bytes a second.
    fn default() -> Self {
        Self { grace: Duration::from_secs(60), rate: 500, total: None }
    }
}

/// One direction of a connection, measured against its limits.
#[derive(Debug)]
pub struct Pace {
    limits: Limits,
    /// How long gripd still waits.
    left: Duration,
    /// How long it has waited in all.
    waited: Duration,
    /// Since when gripd waits.
    since: Option<Instant>,
    /// Wakes the task when the time is over. Kept, since a client that was waited for once is likely to be again.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    /// Returns a pace of which nothing is spent yet.
    pub const fn new(limits: Limits) -> Self {
        Self { limits, left: limits.grace, waited: Duration::ZERO, since: None, timer: None }
    }

    /// Notes that gripd waits for the other side. Ready when it has waited for too long.
    pub fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let deadline = since + self.left();
        let timer = match &mut self.timer {
            Some(timer) => {
                if timer.deadline() != deadline {
                    timer.as_mut().reset(deadline);
                }
                timer
            }
            None => self.timer.insert(Box::pin(tokio::time::sleep_until(deadline))),
        };
        timer.as_mut().poll(cx)
    }

    /// Notes that the other side has sent or taken this many bytes, and that gripd no longer waits.
    pub fn moved(&mut self, bytes: usize) {
        let Some(since) = self.since.take() else { return };
        self.spend(since.elapsed(), bytes);
    }

    /// Accounts for a wait after which this many bytes have moved.
    pub fn spend(&mut self, waited: Duration, bytes: usize) {
        self.waited += waited;
        let won = time_for(bytes, self.limits.rate).unwrap_or(self.limits.grace);
        // Time that is used up is not won back.
        let left = self.left.checked_sub(waited).filter(|left| !left.is_zero());
        self.left = left.map_or(Duration::ZERO, |left| left.saturating_add(won).min(self.limits.grace));
    }

    /// Returns how long gripd would wait now.
    pub fn left(&self) -> Duration {
        let total = self.limits.total.map(|total| total.saturating_sub(self.waited));
        total.map_or(self.left, |total| total.min(self.left))
    }
}

/// Returns how long this many bytes take. `None`: that does not matter.
fn time_for(bytes: usize, rate: u64) -> Option<Duration> {
    if rate == 0 {
        return None;
    }
    Some(Duration::from_micros((bytes as u64).saturating_mul(1_000_000) / rate))
}

/// Bytes a second at which a client keeps nobody waiting, when others wait for what it occupies.
const FAST: u64 = 32 << 10;

/// How long gripd has waited for a client in the middle of a request: for its body, or for room to answer.
///
/// The client's connection keeps it up to date, and whoever needs what the request occupies looks at it. A client that
/// sends a byte now and then keeps gripd waiting as much as one that is silent: only what moves at a decent speed makes
/// up for time.
#[derive(Debug, Default)]
pub struct ClientDelay {
    /// The waits that are over, less the time that the bytes which moved have made up for.
    before: Cell<Duration>,
    since: Cell<Option<Instant>>,
}

impl ClientDelay {
    /// Forgets what was: another request begins to occupy something.
    pub fn reset(&self) {
        self.before.set(Duration::ZERO);
        if self.since.get().is_some() {
            self.since.set(Some(Instant::now()));
        }
    }

    /// Notes that gripd waits. The beginning of a wait is kept.
    pub fn begins(&self) {
        if self.since.get().is_none() {
            self.since.set(Some(Instant::now()));
        }
    }

    /// Notes that gripd no longer waits, as this many bytes have moved.
    pub fn ends(&self, bytes: usize) {
        let Some(since) = self.since.take() else { return };
        let waited = self.before.get() + since.elapsed();
        self.before.set(waited.saturating_sub(time_for(bytes, FAST).unwrap_or_default()));
    }

    /// Returns how long gripd has waited.
    pub fn so_far(&self, now: Instant) -> Duration {
        self.before.get() + self.since.get().map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Notes that gripd has waited since then.
    #[cfg(test)]
    pub fn wait_since(&self, since: Instant) {
        self.since.set(Some(since));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { grace: Duration::from_secs(10), rate: 100, total: None };

    #[test]
    fn silence_is_borne_for_the_grace_and_speed_wins_time_back() {
        let mut pace = Pace::new(LIMITS);
        pace.spend(Duration::from_secs(4), 100);
        assert_eq!(pace.left(), Duration::from_secs(7));
        pace.spend(Duration::from_secs(1), 100);
        assert_eq!(pace.left(), Duration::from_secs(7));
        // However fast it was, it may never be silent for longer.
        pace.spend(Duration::ZERO, 1_000_000);
        assert_eq!(pace.left(), LIMITS.grace);
    }

    #[test]
    fn a_drip_runs_out_of_time() {
        let mut pace = Pace::new(LIMITS);
        let waits = (0..1000).take_while(|_| {
            pace.spend(Duration::from_secs(1), 1);
            pace.left() > Duration::ZERO
        });
        assert_eq!(waits.count(), 10);
    }

    #[test]
    fn without_a_rate_only_silence_counts() {
        let mut pace = Pace::new(Limits { rate: 0, ..LIMITS });
        (0..100).for_each(|_| pace.spend(Duration::from_secs(9), 1));
        assert_eq!(pace.left(), LIMITS.grace);
        pace.spend(Duration::from_secs(11), 0);
        assert_eq!(pace.left(), Duration::ZERO);
    }

    #[test]
    fn the_total_is_a_bound_for_the_fast_as_well() {
        let mut pace = Pace::new(Limits { total: Some(Duration::from_secs(15)), ..LIMITS });
        pace.spend(Duration::from_secs(9), 1_000_000);
        assert_eq!(pace.left(), Duration::from_secs(6));
        pace.spend(Duration::from_secs(6), 1_000_000);
        assert_eq!(pace.left(), Duration::ZERO);
    }

    #[test]
    fn a_drip_keeps_gripd_waiting_and_speed_makes_up_for_it() {
        let delay = ClientDelay::default();
        let begin = Instant::now();
        for _ in 0..3 {
            delay.since.set(begin.checked_sub(Duration::from_secs(1)));
            delay.ends(2);
        }
        let waited = delay.so_far(Instant::now());
        assert!(waited > Duration::from_millis(2900), "{waited:?}");
        delay.begins();
        delay.ends(1 << 20);
        assert_eq!(delay.so_far(Instant::now()), Duration::ZERO);
        delay.begins();
        delay.reset();
        assert!(delay.so_far(Instant::now()) < Duration::from_secs(1));
    }

    #[tokio::test]
    async fn the_wait_ends_when_the_time_is_over() {
        let mut pace = Pace::new(Limits { grace: Duration::from_millis(20), rate: 100, total: None });
        let begin = Instant::now();
        std::future::poll_fn(|cx| pace.poll_wait(cx)).await;
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
}
