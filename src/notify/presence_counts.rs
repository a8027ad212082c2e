//! The number of connections of channels and users, as one webhook counts them. The module `outbox` queues the
//! events that follow. The caller passes in the current time.

use super::event::{EventKind, HeldName, Moment, UnixMillis, WebhookEvent};
use super::presence::{JoinEvent, Presence};
use crate::grip::Channel;
use smallvec::{SmallVec, smallvec};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The events that follow from one join or leave. Mostly there are none. A join has two if the channel or user had
/// left, its grace is over, and the leave was not queued yet: that leave, and the join.
pub(super) type Changes = SmallVec<[WebhookEvent; 2]>;

/// The channels and users that have connections.
#[derive(Debug)]
pub(super) struct PresenceCounts {
    channels: Presence<Channel>,
    users: Presence<Arc<str>>,
}

impl PresenceCounts {
    /// Returns an empty count. A leave becomes an event if nobody has joined again for `grace`.
    pub(super) fn new(grace: Duration) -> Self {
        Self { channels: Presence::new(grace), users: Presence::new(grace) }
    }

    /// Counts one more connection that holds a channel.
    pub(super) fn channel_joined(&mut self, channel: &Channel, now: Moment) -> Changes {
        joined(self.channels.joined(channel, || channel.clone(), now.instant), || channel.clone().into(), now)
    }

    /// Counts one fewer connection that holds a channel.
    pub(super) fn channel_left(&mut self, channel: &Channel, now: Moment) -> Changes {
        self.channels.left(channel, now).map(|channel| left(channel, now.time)).into_iter().collect()
    }

    /// Counts one more connection of a user.
    pub(super) fn user_joined(&mut self, user: &str, now: Moment) -> Changes {
        joined(self.users.joined(user, || user.into(), now.instant), || HeldName::User(user.into()), now)
    }

    /// Counts one fewer connection of a user.
    pub(super) fn user_left(&mut self, user: &str, now: Moment) -> Changes {
        self.users.left(user, now).map(|user| left(user, now.time)).into_iter().collect()
    }

    /// Returns the time at which the next grace is over.
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.channels.deadline(), self.users.deadline()].into_iter().flatten().min()
    }

    /// Removes and returns at most `most` of the leaves whose grace is over at `now`.
    pub(super) fn due(&mut self, now: Instant, most: usize) -> Vec<WebhookEvent> {
        let channels = self.channels.due(now, most);
        let users = self.users.due(now, most - channels.len());
        leaves(channels, users)
    }

    /// Removes and returns at most `most` of the leaves that are not events yet, whether or not their grace is over.
    pub(super) fn flush(&mut self, most: usize) -> Vec<WebhookEvent> {
        let channels = self.channels.flush(most);
        let users = self.users.flush(most - channels.len());
        leaves(channels, users)
    }
}

fn joined(joined: JoinEvent, name: impl Fn() -> HeldName, now: Moment) -> Changes {
    let first = || WebhookEvent { time: now.time, kind: EventKind::Joined(name()) };
    match joined {
        JoinEvent::Still => Changes::new(),
        JoinEvent::First => smallvec![first()],
        JoinEvent::Again(since) => smallvec![left(name(), since), first()],
    }
}

fn left(name: impl Into<HeldName>, time: UnixMillis) -> WebhookEvent {
    WebhookEvent { time, kind: EventKind::Left(name.into()) }
}

fn leaves(channels: Vec<(Channel, UnixMillis)>, users: Vec<(Arc<str>, UnixMillis)>) -> Vec<WebhookEvent> {
    let channels = channels.into_iter().map(|(channel, time)| left(channel, time));
    channels.chain(users.into_iter().map(|(user, time)| left(user, time))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leave_and_a_late_return_are_two_events_and_a_quick_return_is_none() {
        let start = Instant::now();
        let at = |ms| Moment { instant: start + Duration::from_millis(ms), time: UnixMillis::from_millis(ms) };
        let event = |ms, what| WebhookEvent { time: UnixMillis::from_millis(ms), kind: what };
        let (room, grace) = (Channel::from("room"), Duration::from_secs(5));
        let mut counting = PresenceCounts::new(grace);
        assert_eq!(counting.channel_joined(&room, at(0))[..], [event(0, EventKind::Joined(room.clone().into()))]);
        assert!(counting.channel_joined(&room, at(1)).is_empty());
        assert!(counting.channel_left(&room, at(2)).is_empty() && counting.channel_left(&room, at(3)).is_empty());
        assert!(counting.channel_joined(&room, at(4)).is_empty());
        assert!(counting.channel_left(&room, at(5)).is_empty());
        assert_eq!(counting.deadline(), Some(at(5005).instant));
        let (left, joined) = (EventKind::Left(room.clone().into()), EventKind::Joined(room.clone().into()));
        assert_eq!(counting.channel_joined(&room, at(9000))[..], [event(5, left), event(9000, joined)]);
        // A user with the same name as a channel is counted separately. The leaves of channels are returned before
        // those of users.
        assert_eq!(counting.user_joined("room", at(9001)).len(), 1);
        assert!(counting.user_left("room", at(9002)).is_empty() && counting.channel_left(&room, at(9003)).is_empty());
        let (room, user) = (EventKind::Left(room.into()), EventKind::Left(HeldName::User("room".into())));
        assert_eq!(counting.due(at(9004).instant, 9), []);
        assert_eq!(counting.due(at(20_000).instant, 1), [event(9003, room)]);
        assert_eq!(counting.flush(9), [event(9002, user)]);
        assert_eq!(counting.deadline(), None);
    }

    #[test]
    fn without_a_grace_a_leave_is_told_at_once() {
        let now = Moment::now();
        let mut counting = PresenceCounts::new(Duration::ZERO);
        assert_eq!(counting.user_joined("456", now).len(), 1);
        assert_eq!(counting.user_left("456", now)[..], [left(Arc::<str>::from("456"), now.time)]);
    }
}
