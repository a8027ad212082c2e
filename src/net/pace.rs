//! How slowly the other side of a connection may send or read.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// The least pace of a client while gripd waits for it.
///
/// A client may fall behind `rate` by as much as `grace`: it may be silent for that long, or be slower for longer, and
/// wins time back by being faster. Time in which gripd does not wait for it does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How far a client may fall behind.
    pub grace: Duration,
    /// Bytes a second.
    pub rate: u64,
}

impl Default for Limits {
    /// What a phone on a bad line survives: a minute of silence, and 500 bytes a second.
    fn default() -> Self {
        Self { grace: Duration::from_secs(60), rate: 500 }
    }
}

/// One direction of a connection, measured against its limits.
#[derive(Debug)]
pub struct Pace {
    limits: Limits,
    /// How long gripd still waits.
    left: Duration,
    /// Since when gripd waits.
    since: Option<Instant>,
    /// Wakes the task when the time is over. Kept, since a client that was waited for once is likely to be again.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    /// A pace of which nothing is spent yet.
    pub const fn new(limits: Limits) -> Self {
        Self { limits, left: limits.grace, since: None, timer: None }
    }

    /// Notes that gripd waits for the other side. Ready when it has waited for too long.
    pub fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let deadline = tokio::time::Instant::from_std(since + self.left);
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

    /// Notes that the other side has sent or taken so many bytes, and that gripd no longer waits.
    pub fn moved(&mut self, bytes: usize) {
        let Some(since) = self.since.take() else { return };
        self.spend(since.elapsed(), bytes);
    }

    /// Accounts for a wait after which so many bytes have moved.
    pub fn spend(&mut self, waited: Duration, bytes: usize) {
        let won = Duration::from_micros((bytes as u64).saturating_mul(1_000_000) / self.limits.rate.max(1));
        // Time that is used up is not won back.
        let left = self.left.checked_sub(waited).filter(|left| !left.is_zero());
        self.left = left.map_or(Duration::ZERO, |left| left.saturating_add(won).min(self.limits.grace));
    }

    /// Returns how long gripd would wait now.
    pub const fn left(&self) -> Duration {
        self.left
    }
}

/// Since when gripd waits for a client in the middle of a request: for its body, or for room to answer.
///
/// The client's connection keeps it up to date, and whoever needs what the request occupies looks at it.
#[derive(Debug, Default)]
pub struct ClientDelay {
    /// Since when the next piece of a request body is awaited.
    pub for_body: Cell<Option<Instant>>,
    /// Since when the client has taken nothing of an answer.
    pub for_room: Cell<Option<Instant>>,
}

impl ClientDelay {
    /// Returns since when the client is waited for, if it is.
    pub fn since(&self) -> Option<Instant> {
        self.for_room.get().or_else(|| self.for_body.get())
    }

    /// Notes whether something is awaited. The beginning of a wait is kept.
    pub fn note(cell: &Cell<Option<Instant>>, waits: bool) {
        if waits != cell.get().is_some() {
            cell.set(waits.then(Instant::now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { grace: Duration::from_secs(10), rate: 100 };

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
        let waits = (0..).take_while(|_| {
            pace.spend(Duration::from_secs(1), 1);
            pace.left() > Duration::ZERO
        });
        assert_eq!(waits.count(), 10);
    }

    #[test]
    fn the_beginning_of_a_wait_is_kept() {
        let waiting = ClientDelay::default();
        ClientDelay::note(&waiting.for_body, true);
        let since = waiting.since();
        ClientDelay::note(&waiting.for_body, true);
        assert!(since.is_some() && waiting.since() == since);
        ClientDelay::note(&waiting.for_body, false);
        assert_eq!(waiting.since(), None);
    }

    #[tokio::test]
    async fn the_wait_ends_when_the_time_is_over() {
        let mut pace = Pace::new(Limits { grace: Duration::from_millis(20), rate: 100 });
        let begin = Instant::now();
        std::future::poll_fn(|cx| pace.poll_wait(cx)).await;
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
}
