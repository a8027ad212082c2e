//! The timeouts for the head of a request and for idle connections.

use super::activity::Activity;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

/// A timer that tells when a connection is idle for too long, or when its client takes too long to send a head.
///
/// hyper's own timer has one limit for both, and is created and dropped for each request. This timer is reset only
/// when it fires, or when a head begins whose deadline is earlier.
pub(super) struct HeadTimer {
    sleep: Pin<Box<Sleep>>,
    header_timeout: Duration,
    idle_timeout: Duration,
    /// The time at which the client began to send a head that is still incomplete.
    begun: Option<Instant>,
}

/// The limit that a connection has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReachedLimit {
    /// The head of a request took too long.
    Head,
    /// The connection was idle for too long.
    Idle,
}

impl HeadTimer {
    pub(super) fn new(header_timeout: Duration, idle_timeout: Duration) -> Self {
        let sleep = Box::pin(sleep(header_timeout.min(idle_timeout)));
        Self { sleep, header_timeout, idle_timeout, begun: None }
    }

    /// Returns `Poll::Ready` if the connection must end. This must be called after hyper has read everything that
    /// has arrived, so that a complete head does not count as an incomplete one.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, activity: &Activity) -> Poll<ReachedLimit> {
        if !activity.has_begun_head() {
            self.begun = None;
        } else if self.begun.is_none() {
            let now = Instant::now();
            self.begun = Some(now);
            self.ring_by(now + self.header_timeout);
        }
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            let now = Instant::now();
            let (due, overdue) = match self.begun {
                Some(begun) => (begun + self.header_timeout, ReachedLimit::Head),
                // The connection is busy or has unsent bytes. It cannot be overdue sooner than the shorter timeout from
                // now.
                None if !activity.is_idle() => (now + self.header_timeout.min(self.idle_timeout), ReachedLimit::Idle),
                None => (activity.idle_since() + self.idle_timeout, ReachedLimit::Idle),
            };
            if due <= now {
                return Poll::Ready(overdue);
            }
            self.sleep.as_mut().reset(due);
        }
    }

    /// Sets the timer to fire no later than `due`.
    fn ring_by(&mut self, due: Instant) {
        if self.sleep.deadline() > due {
            self.sleep.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;
    use tokio::time::advance;

    const HEAD: Duration = Duration::from_secs(5);

    /// Advances the clock by this many seconds, and returns the limit that the connection has reached.
    async fn after(timer: &mut HeadTimer, activity: &Activity, seconds: f64) -> Option<ReachedLimit> {
        advance(Duration::from_secs_f64(seconds)).await;
        match timer.poll(&mut Context::from_waker(Waker::noop()), activity) {
            Poll::Ready(overdue) => Some(overdue),
            Poll::Pending => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_a_limit_of_its_own_that_begins_with_it() {
        let activity = Activity::new(1);
        let mut timer = HeadTimer::new(HEAD, 2 * HEAD);
        assert_eq!(after(&mut timer, &activity, 9.0).await, None);
        activity.note_received();
        assert_eq!(after(&mut timer, &activity, 0.5).await, None);
        assert_eq!(after(&mut timer, &activity, 4.9).await, None);
        assert_eq!(after(&mut timer, &activity, 0.2).await, Some(ReachedLimit::Head));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_begins_while_the_timer_is_far_away_ends_in_its_time() {
        let activity = Activity::new(1);
        let mut timer = HeadTimer::new(HEAD, 4 * HEAD);
        assert_eq!(after(&mut timer, &activity, 6.0).await, None);
        activity.note_received();
        assert_eq!(after(&mut timer, &activity, 0.0).await, None);
        assert_eq!(after(&mut timer, &activity, 5.1).await, Some(ReachedLimit::Head));
    }

    #[tokio::test(start_paused = true)]
    async fn while_an_answer_is_sent_nothing_is_overdue() {
        let activity = Activity::new(1);
        let mut timer = HeadTimer::new(HEAD, 2 * HEAD);
        activity.begin();
        activity.write();
        activity.end(2);
        // The client has sent the next head, or a part of it. hyper does not read it before the response is sent.
        activity.note_received();
        assert_eq!(after(&mut timer, &activity, 100.0).await, None);
        activity.flush();
        assert_eq!(after(&mut timer, &activity, 0.0).await, None);
        assert_eq!(after(&mut timer, &activity, 4.9).await, None);
        assert_eq!(after(&mut timer, &activity, 0.2).await, Some(ReachedLimit::Head));
        let activity = Activity::new(1);
        let mut timer = HeadTimer::new(HEAD, 2 * HEAD);
        activity.begin();
        activity.write();
        activity.end(2);
        assert_eq!(after(&mut timer, &activity, 100.0).await, None);
        activity.flush();
        assert_eq!(after(&mut timer, &activity, 9.9).await, None);
        assert_eq!(after(&mut timer, &activity, 0.2).await, Some(ReachedLimit::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_from_the_end_of_its_last_request() {
        for idle_timeout in [HEAD / 5, 2 * HEAD] {
            let activity = Activity::new(1);
            let mut timer = HeadTimer::new(HEAD, idle_timeout);
            assert_eq!(after(&mut timer, &activity, 0.9).await, None);
            activity.note_received();
            activity.begin();
            // No limit applies while a request is in progress.
            assert_eq!(after(&mut timer, &activity, 100.0).await, None);
            activity.end(2);
            let left = idle_timeout.as_secs_f64();
            assert_eq!(after(&mut timer, &activity, left - 0.1).await, None, "{idle_timeout:?}");
            assert_eq!(after(&mut timer, &activity, 0.2).await, Some(ReachedLimit::Idle), "{idle_timeout:?}");
        }
    }
}
