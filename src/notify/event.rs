//! The events that are sent to webhooks, and their JSON.

use crate::grip::Channel;
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// A point in time, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct UnixMillis(u64);

impl UnixMillis {
    pub(super) const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    pub(super) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) const fn as_millis(self) -> u64 {
        self.0
    }

    pub(super) const fn as_secs(self) -> u64 {
        self.0 / 1000
    }
}

/// A point in time, by the monotonic clock and by the system clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) instant: Instant,
    pub(super) time: UnixMillis,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self { instant: Instant::now(), time: UnixMillis::now() }
    }
}

/// The end of a connection that was held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedConnection {
    /// The connection's id.
    pub connection: String,
    /// The kind of the connection: `stream`, `response` or `websocket`.
    pub kind: &'static str,
    /// The route of the connection: its id, or else its host and path.
    pub route: Arc<str>,
    /// The user of the connection, if known.
    pub user: Option<Arc<str>>,
    /// The reason for the end: `client`, `kicked`, `slow`, `timeout`, `drain`, `origin`, `answered` or `expired`.
    pub reason: &'static str,
    /// The time for which the connection was held.
    pub duration: Duration,
    /// The number of bytes that were sent while the connection was held.
    pub bytes: u64,
}

/// An event, with the time at which it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WebhookEvent {
    pub(super) time: UnixMillis,
    pub(super) kind: EventKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EventKind {
    /// A channel or user has its first connection.
    Joined(HeldName),
    /// A channel or user has lost its last connection.
    Left(HeldName),
    Ended(Arc<EndedConnection>),
    /// This number of events was dropped.
    Dropped(u64),
}

/// The name of a channel or user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HeldName {
    Channel(Channel),
    User(Arc<str>),
}

impl From<Channel> for HeldName {
    fn from(channel: Channel) -> Self {
        Self::Channel(channel)
    }
}

impl From<Arc<str>> for HeldName {
    fn from(user: Arc<str>) -> Self {
        Self::User(user)
    }
}

/// An event with its id, which consists of `boot` and `number`. `boot` is different for each start of gripd and for
/// each webhook. `number` grows by one with each event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NumberedEvent {
    pub(super) boot: Arc<str>,
    pub(super) number: u64,
    pub(super) event: WebhookEvent,
}

impl Serialize for NumberedEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &format_args!("{}-{}", self.boot, self.number))?;
        map.serialize_entry("time", &seconds(self.event.time.0))?;
        match &self.event.kind {
            EventKind::Joined(name) => presence(&mut map, "joined", name)?,
            EventKind::Left(name) => presence(&mut map, "left", name)?,
            EventKind::Ended(ended) => end(&mut map, ended)?,
            EventKind::Dropped(count) => {
                map.serialize_entry("event", "dropped")?;
                map.serialize_entry("count", count)?;
            }
        }
        map.end()
    }
}

fn presence<M: SerializeMap>(map: &mut M, event: &str, name: &HeldName) -> Result<(), M::Error> {
    map.serialize_entry("event", event)?;
    match name {
        HeldName::Channel(channel) => map.serialize_entry("channel", &**channel),
        HeldName::User(user) => map.serialize_entry("user", &**user),
    }
}

fn end<M: SerializeMap>(map: &mut M, ended: &EndedConnection) -> Result<(), M::Error> {
    map.serialize_entry("event", "ended")?;
    map.serialize_entry("connection", &ended.connection)?;
    map.serialize_entry("kind", ended.kind)?;
    map.serialize_entry("route", &*ended.route)?;
    if let Some(user) = &ended.user {
        map.serialize_entry("user", &**user)?;
    }
    map.serialize_entry("reason", ended.reason)?;
    map.serialize_entry("duration", &seconds(u64::try_from(ended.duration.as_millis()).unwrap_or(u64::MAX)))?;
    map.serialize_entry("bytes", &ended.bytes)
}

/// Converts milliseconds to seconds. Written as text, the result has at most three digits after the point.
fn seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}

/// Returns the body of a request that contains `events`.
pub(super) fn body(events: &[NumberedEvent]) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct EventsBody<'a> {
        events: &'a [NumberedEvent],
    }
    // This cannot fail, because the events contain only texts and numbers.
    serde_json::to_vec(&EventsBody { events }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json(what: EventKind) -> String {
        let event = WebhookEvent { time: UnixMillis::from_millis(1_764_000_000_123), kind: what };
        let numbered = NumberedEvent { boot: "b00".into(), number: 7, event };
        String::from_utf8(body(&[numbered])).unwrap()
    }

    #[test]
    fn events_are_told_as_json() {
        let channel = HeldName::from(Channel::from("conversation1"));
        let user = HeldName::from(Arc::from("4\"56"));
        let start = r#"{"events":[{"id":"b00-7","time":1764000000.123,"event":"#;
        assert_eq!(json(EventKind::Joined(channel)), format!(r#"{start}"joined","channel":"conversation1"}}]}}"#));
        assert_eq!(json(EventKind::Left(user)), format!(r#"{start}"left","user":"4\"56"}}]}}"#));
        assert_eq!(json(EventKind::Dropped(17)), format!(r#"{start}"dropped","count":17}}]}}"#));
        let mut ended = EndedConnection {
            connection: "0-17-3".into(),
            kind: "stream",
            route: "chat".into(),
            user: Some("456".into()),
            reason: "kicked",
            duration: Duration::from_micros(1_234_999),
            bytes: 1234,
        };
        let rest = r#""reason":"kicked","duration":1.234,"bytes":1234}]}"#;
        assert_eq!(
            json(EventKind::Ended(Arc::new(ended.clone()))),
            format!(r#"{start}"ended","connection":"0-17-3","kind":"stream","route":"chat","user":"456",{rest}"#)
        );
        ended.user = None;
        assert_eq!(
            json(EventKind::Ended(Arc::new(ended))),
            format!(r#"{start}"ended","connection":"0-17-3","kind":"stream","route":"chat",{rest}"#)
        );
    }

    proptest! {
        #[test]
        fn a_time_has_three_digits_at_most(millis in 0u64..10_000_000_000_000) {
            let text = serde_json::to_string(&seconds(millis)).unwrap();
            let (whole, part) = text.split_once('.').unwrap();
            prop_assert_eq!(format!("{whole}{part:0<3}").parse::<u64>().unwrap(), millis);
        }
    }
}
