//! Limits for clients that send or read slowly.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// The lowest speed that a client must keep while gripd waits for it.
///
/// A client may fall behind `rate` by at most `grace`, which is a time: it may be silent for that long or be slow for
/// longer, and it makes up for lost time when it is faster again. Only time in which gripd waits for the client
/// counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaceLimits {
    /// The time by which a client may fall behind.
    pub grace: Duration,
    /// The lowest speed in bytes per second. If it is 0, any speed is enough, and only silence for longer than
    /// `grace` counts.
    pub rate: u64,
    /// The longest time that gripd waits for the client in total, no matter how fast it is. There is no such limit if
    /// this is `None`.
    pub total: Option<Duration>,
}

impl Default for PaceLimits {
    /// Returns limits that a phone with a bad connection can keep: a minute of silence, and 500 bytes per second.
    fn default() -> Self {
        Self { grace: Duration::from_secs(60), rate: 500, total: None }
    }
}

/// The progress of one direction of a connection, measured against its limits.
#[derive(Debug)]
pub struct Pace {
    limits: PaceLimits,
    /// The part of the grace that is left.
    left: Duration,
    /// The time that gripd has waited in total.
    waited: Duration,
    /// The time at which the current wait began, or `None` if gripd is not waiting.
    since: Option<Instant>,
    /// The timer that wakes the task when gripd has waited for too long. It is kept after a wait, because a client
    /// that was slow once is likely to be slow again.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    /// Creates a measurement for these limits, with all of the grace left.
    pub const fn new(limits: PaceLimits) -> Self {
        Self { limits, left: limits.grace, waited: Duration::ZERO, since: None, timer: None }
    }

    /// Notes that gripd waits for the other side. Returns `Ready` when gripd has waited for too long.
    pub fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let deadline = since + self.remaining();
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

    /// Notes that the other side has sent or read this many bytes, and that gripd no longer waits.
    pub fn end_wait(&mut self, bytes: usize) {
        let Some(since) = self.since.take() else { return };
        self.charge_wait(since.elapsed(), bytes);
    }

    /// Subtracts a wait from the remaining time, and adds the time that the bytes transferred after it make up for.
    pub fn charge_wait(&mut self, waited: Duration, bytes: usize) {
        self.waited += waited;
        let won = time_for(bytes, self.limits.rate).unwrap_or(self.limits.grace);
        // Once the grace is used up, no number of bytes restores it.
        let left = self.left.checked_sub(waited).filter(|left| !left.is_zero());
        self.left = left.map_or(Duration::ZERO, |left| left.saturating_add(won).min(self.limits.grace));
    }

    /// Returns the longest time that gripd would wait now.
    pub fn remaining(&self) -> Duration {
        let total = self.limits.total.map(|total| total.saturating_sub(self.waited));
        total.map_or(self.left, |total| total.min(self.left))
    }
}

/// Returns the time that this many bytes take at a rate in bytes per second, or `None` if the rate is 0.
fn time_for(bytes: usize, rate: u64) -> Option<Duration> {
    if rate == 0 {
        return None;
    }
    Some(Duration::from_micros((bytes as u64).saturating_mul(1_000_000) / rate))
}

/// The speed in bytes per second at which a client makes up for all of the time that gripd waits for it.
const FULL_CREDIT_RATE: u64 = 32 << 10;

/// The time that gripd has waited for a client in the middle of a request, either for its body or until it reads more
/// of the response.
///
/// The client's connection keeps this value up to date. If other requests wait for a connection to the same origin,
/// the value shows which clients are slow, so that their connections can be closed for the others. A client that
/// sends a byte now and then counts as slow, like a silent one: transferred bytes only make up for as much time as
/// they take at 32 KiB per second.
#[derive(Debug, Default)]
pub struct ClientDelay {
    /// The duration of the waits that are over, less the time that transferred bytes have made up for.
    before: Cell<Duration>,
    since: Cell<Option<Instant>>,
}

impl ClientDelay {
    /// Starts again from zero, because a request has been given a connection to an origin. A wait that is not over
    /// counts from now on.
    pub fn reset(&self) {
        self.before.set(Duration::ZERO);
        if self.since.get().is_some() {
            self.since.set(Some(Instant::now()));
        }
    }

    /// Notes that gripd waits. If it is waiting already, the beginning of that wait is kept.
    pub fn begin_wait(&self) {
        if self.since.get().is_none() {
            self.since.set(Some(Instant::now()));
        }
    }

    /// Notes that gripd no longer waits, and that this many bytes have been transferred.
    pub fn finish_wait(&self, bytes: usize) {
        let Some(since) = self.since.take() else { return };
        let waited = self.before.get() + since.elapsed();
        self.before.set(waited.saturating_sub(time_for(bytes, FULL_CREDIT_RATE).unwrap_or_default()));
    }

    /// Returns the time that gripd has waited until `now`, including a wait that is not over.
    pub fn waited(&self, now: Instant) -> Duration {
        self.before.get() + self.since.get().map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Notes that gripd has been waiting since this time.
    #[cfg(test)]
    pub fn wait_since(&self, since: Instant) {
        self.since.set(Some(since));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PaceLimits = PaceLimits { grace: Duration::from_secs(10), rate: 100, total: None };

    #[test]
    fn silence_is_borne_for_the_grace_and_speed_wins_time_back() {
        let mut pace = Pace::new(LIMITS);
        pace.charge_wait(Duration::from_secs(4), 100);
        assert_eq!(pace.remaining(), Duration::from_secs(7));
        pace.charge_wait(Duration::from_secs(1), 100);
        assert_eq!(pace.remaining(), Duration::from_secs(7));
        // Even a fast transfer does not allow a silence that is longer than the grace.
        pace.charge_wait(Duration::ZERO, 1_000_000);
        assert_eq!(pace.remaining(), LIMITS.grace);
    }

    #[test]
    fn a_drip_runs_out_of_time() {
        let mut pace = Pace::new(LIMITS);
        let waits = (0..1000).take_while(|_| {
            pace.charge_wait(Duration::from_secs(1), 1);
            pace.remaining() > Duration::ZERO
        });
        assert_eq!(waits.count(), 10);
    }

    #[test]
    fn without_a_rate_only_silence_counts() {
        let mut pace = Pace::new(PaceLimits { rate: 0, ..LIMITS });
        (0..100).for_each(|_| pace.charge_wait(Duration::from_secs(9), 1));
        assert_eq!(pace.remaining(), LIMITS.grace);
        pace.charge_wait(Duration::from_secs(11), 0);
        assert_eq!(pace.remaining(), Duration::ZERO);
    }

    #[test]
    fn the_total_is_a_bound_for_the_fast_as_well() {
        let mut pace = Pace::new(PaceLimits { total: Some(Duration::from_secs(15)), ..LIMITS });
        pace.charge_wait(Duration::from_secs(9), 1_000_000);
        assert_eq!(pace.remaining(), Duration::from_secs(6));
        pace.charge_wait(Duration::from_secs(6), 1_000_000);
        assert_eq!(pace.remaining(), Duration::ZERO);
    }

    #[test]
    fn a_drip_keeps_gripd_waiting_and_speed_makes_up_for_it() {
        let delay = ClientDelay::default();
        let begin = Instant::now();
        for _ in 0..3 {
            delay.since.set(begin.checked_sub(Duration::from_secs(1)));
            delay.finish_wait(2);
        }
        let waited = delay.waited(Instant::now());
        assert!(waited > Duration::from_millis(2900), "{waited:?}");
        delay.begin_wait();
        delay.finish_wait(1 << 20);
        assert_eq!(delay.waited(Instant::now()), Duration::ZERO);
        delay.begin_wait();
        delay.reset();
        assert!(delay.waited(Instant::now()) < Duration::from_secs(1));
    }

    #[tokio::test]
    async fn the_wait_ends_when_the_time_is_over() {
        let mut pace = Pace::new(PaceLimits { grace: Duration::from_millis(20), rate: 100, total: None });
        let begin = Instant::now();
        std::future::poll_fn(|cx| pace.poll_wait(cx)).await;
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
}
