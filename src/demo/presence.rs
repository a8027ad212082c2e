//! The people who are here, as gripd's webhook reports them. It is kept in memory, without any I/O.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value, json};

use super::chat::{ConversationId, PersonName};

/// The largest number of names that one event lists, so that a crowd does not make every event large.
const LISTED_MAX: usize = 100;

/// A change of the people who are here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PresenceChange {
    /// The person who has come or gone.
    pub(super) who: PersonName,
    /// The conversation in which the person was or is.
    pub(super) conversation: ConversationId,
    /// Whether the person has come.
    pub(super) joined: bool,
}

impl PresenceChange {
    /// Reads an event of the webhook: the first connection of a member's channel, or the end of its last one. Returns
    /// `None` for events of other kinds and other channels.
    pub(super) fn of_webhook(event: &Value) -> Option<Self> {
        let joined = match event.get("event")?.as_str()? {
            "joined" => true,
            "left" => false,
            _ => return None,
        };
        let (conversation, who) = ConversationId::of_member(event.get("channel")?.as_str()?)?;
        Some(Self { who, conversation, joined })
    }
}

/// The people of all conversations. gripd reports only channels that connections hold, so the number of connections
/// limits the memory.
#[derive(Debug, Default)]
pub(super) struct Presence {
    people: HashMap<ConversationId, BTreeSet<String>>,
}

impl Presence {
    /// Applies a change. Returns whether it is news, because a webhook may report the same event twice.
    pub(super) fn apply(&mut self, change: &PresenceChange) -> bool {
        let name = change.who.as_str();
        if change.joined {
            return self.people.entry(change.conversation.clone()).or_default().insert(name.to_owned());
        }
        let Some(people) = self.people.get_mut(&change.conversation) else { return false };
        let was_here = people.remove(name);
        if people.is_empty() {
            self.people.remove(&change.conversation);
        }
        was_here
    }

    /// Returns the people of a conversation for an event: their number (`count`), and the first of their names
    /// (`people`). `also` is a person who counts as here although gripd has not reported them yet.
    pub(super) fn listed(&self, conversation: &ConversationId, also: Option<&PersonName>) -> Value {
        let known = self.people.get(conversation).into_iter().flatten().map(String::as_str);
        let all: BTreeSet<&str> = known.chain(also.map(PersonName::as_str)).collect();
        let names: Vec<&str> = all.iter().copied().take(LISTED_MAX).collect();
        json!({"count": all.len(), "people": names})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(event: &str, channel: &str) -> Option<PresenceChange> {
        PresenceChange::of_webhook(&json!({"id": "1-1", "event": event, "channel": channel}))
    }

    fn conversation(text: &str) -> ConversationId {
        ConversationId::parse(text).unwrap()
    }

    #[test]
    fn events_of_member_channels_are_changes_and_others_are_not() {
        let change = event("joined", "conversation123-user-b\u{f6}b-user-2").unwrap();
        assert_eq!((change.who.as_str(), change.joined), ("b\u{f6}b-user-2", true));
        assert_eq!(change.conversation, conversation("123"));
        assert!(!event("left", "conversation1-user-bob").unwrap().joined);
        for (kind, channel) in [
            ("ended", "conversation1-user-bob"),
            ("joined", "conversation1"),
            ("joined", "user-bob"),
            ("joined", "conversation-user-bob"),
            ("joined", "conversation1-user-"),
            ("joined", "conversation1-user-a b"),
        ] {
            assert_eq!(event(kind, channel), None, "{kind} {channel}");
        }
        assert_eq!(PresenceChange::of_webhook(&json!({"event": "joined", "user": "bob"})), None);
    }

    #[test]
    fn a_repeated_event_is_not_news() {
        let mut presence = Presence::default();
        let joined = event("joined", "conversation1-user-bob").unwrap();
        let left = event("left", "conversation1-user-bob").unwrap();
        assert!(!presence.apply(&left));
        assert_eq!([&joined, &joined, &left, &left].map(|change| presence.apply(change)), [true, false, true, false]);
        assert!(presence.people.is_empty());
    }

    #[test]
    fn a_newcomer_is_listed_at_once_and_once() {
        let mut presence = Presence::default();
        presence.apply(&event("joined", "conversation1-user-zoe").unwrap());
        presence.apply(&event("joined", "conversation2-user-eve").unwrap());
        let amy = PersonName::parse("name", "amy").unwrap();
        assert_eq!(presence.listed(&conversation("1"), Some(&amy)), json!({"count": 2, "people": ["amy", "zoe"]}));
        presence.apply(&event("joined", "conversation1-user-amy").unwrap());
        assert_eq!(presence.listed(&conversation("1"), Some(&amy)), json!({"count": 2, "people": ["amy", "zoe"]}));
        assert_eq!(presence.listed(&conversation("3"), None), json!({"count": 0, "people": []}));
    }

    #[test]
    fn a_crowd_is_counted_but_not_listed_completely() {
        let mut presence = Presence::default();
        for n in 0..LISTED_MAX + 20 {
            presence.apply(&event("joined", &format!("conversation1-user-u{n}")).unwrap());
        }
        let listed = presence.listed(&conversation("1"), None);
        assert_eq!(listed["count"], LISTED_MAX + 20);
        assert_eq!(listed["people"].as_array().unwrap().len(), LISTED_MAX);
    }
}
