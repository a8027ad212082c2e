//! The scopes of a token, and the needs of a request that they cover.

use crate::grip::item::ChannelMove;
use crate::grip::{Glob, InvalidText, Item, invalid};
use std::fmt;
use std::str::FromStr;

/// A scope of a token: one kind of request that the token authorizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Publishing content and hints to the channels whose names match, and subscribing connections to these channels.
    Publish(Glob),
    /// Closing the connections of the channels whose names match, subscribing or unsubscribing these connections, and
    /// unsubscribing connections from these channels.
    Close(Glob),
    /// Reading the lists and the metrics, and choosing connections by any channel.
    Inspect,
    /// All requests.
    Admin,
}

/// A permission that a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NeededScope<'a> {
    /// Publishing to a channel.
    Publish(&'a str),
    /// Closing, subscribing or unsubscribing the connections of a channel, or unsubscribing connections from it.
    Close(&'a str),
    /// Choosing connections by whether they hold a channel. The counts in the reply reveal how many do.
    Choose(&'a str),
    /// Reading the lists or the metrics.
    Inspect,
    /// All other requests.
    Admin,
}

impl Scope {
    /// Returns whether the scope covers a need.
    pub(super) fn covers(&self, need: NeededScope<'_>) -> bool {
        match (self, need) {
            (Self::Admin, _) | (Self::Inspect, NeededScope::Inspect | NeededScope::Choose(_)) => true,
            // A token that may publish to a channel or close it learns from the counts who holds the channel anyway.
            (Self::Publish(names), NeededScope::Publish(channel) | NeededScope::Choose(channel))
            | (Self::Close(names), NeededScope::Close(channel) | NeededScope::Choose(channel)) => {
                names.matches(channel)
            }
            _ => false,
        }
    }
}

/// Returns all permissions that an item needs. An item with an id or a previous id takes part in the order of its
/// channel, and a hint makes connections ask their origin. So such an item needs the permission to publish even if it
/// only closes connections otherwise.
pub(super) fn needs(item: &Item) -> impl Iterator<Item = NeededScope<'_>> {
    let sends = item.has_content();
    let orders = item.id.is_some() || item.prev_id.is_some() || !item.refreshes.is_empty();
    let closes = item.is_command();
    let (entered, left) = match &item.moves {
        Some(ChannelMove::Subscribe(channels)) => (&channels[..], &[][..]),
        Some(ChannelMove::Unsubscribe(channels)) => (&[][..], &channels[..]),
        None => (&[][..], &[][..]),
    };
    // An item without any effect counts as content, so that every item needs some permission.
    let publishes = sends || orders || !closes;
    let publish = publishes.then_some(NeededScope::Publish(&item.channel));
    // A connection that is subscribed to a channel receives everything that is published to it, so this needs the
    // permission to publish to that channel.
    let entered = entered.iter().map(|channel| NeededScope::Publish(channel));
    let left = left.iter().map(|channel| NeededScope::Close(channel));
    let selection = item.selection.as_deref();
    let chosen = selection.into_iter().flat_map(|selection| selection.with.iter().chain(&selection.except));
    let chosen = chosen.map(|channel| &**channel);
    // The filter `require-sub` chooses connections by a channel as well.
    let required = item.meta.as_deref().and_then(|meta| meta.get("require_sub"));
    let chosen = chosen.chain(required.filter(|channel| !channel.is_empty())).map(NeededScope::Choose);
    publish
        .into_iter()
        .chain(closes.then_some(NeededScope::Close(&item.channel)))
        .chain(entered)
        .chain(left)
        .chain(chosen)
}

impl FromStr for Scope {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let text = text.trim();
        let (word, names) = text.split_once(' ').unwrap_or((text, ""));
        match (word, names.trim()) {
            ("publish" | "close", "") => invalid(format!("'{text}' must name channels, as in '{word} conversation*'")),
            ("publish", names) => Ok(Self::Publish(Glob::from(names))),
            ("close", names) => Ok(Self::Close(Glob::from(names))),
            ("inspect", "") => Ok(Self::Inspect),
            ("admin", "") => Ok(Self::Admin),
            ("inspect" | "admin", _) => invalid(format!("'{word}' takes no channels: write it alone")),
            _ => invalid(format!(
                "'{text}' is not a valid scope: use 'publish CHANNELS', 'close CHANNELS', 'inspect' or 'admin'"
            )),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Publish(names) => write!(f, "publish {names}"),
            Self::Close(names) => write!(f, "close {names}"),
            Self::Inspect => f.write_str("inspect"),
            Self::Admin => f.write_str("admin"),
        }
    }
}

impl fmt::Display for NeededScope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Publish(channel) => write!(f, "publish {channel:?}"),
            Self::Close(channel) => write!(f, "close {channel:?}"),
            Self::Choose(channel) => {
                write!(
                    f,
                    "select connections by the channel {channel:?}, which requires 'inspect' or a scope for that \
                     channel"
                )
            }
            Self::Inspect => f.write_str("inspect"),
            Self::Admin => f.write_str("do this, which requires 'admin'"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grip::item::parse_batch;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    /// Returns the needs of an item, in one line.
    fn needed(item: Value) -> String {
        let items = parse_batch(json!({ "items": [item] }).to_string().as_bytes()).unwrap().items;
        items.iter().flat_map(needs).map(|need| need.to_string()).collect::<Vec<_>>().join(" and ")
    }

    #[test]
    fn an_item_needs_what_it_does() {
        let (publish, close, both) = (r#"publish "c""#, r#"close "c""#, r#"publish "c" and close "c""#);
        let content = json!({"http-stream": {"content": "x"}});
        assert_eq!(needed(json!({"channel": "c", "formats": content})), publish);
        assert_eq!(needed(json!({"channel": "c", "action": "hint"})), publish);
        assert_eq!(needed(json!({"channel": "c", "formats": {"ws-message": {"action": "hint"}}})), publish);
        assert_eq!(needed(json!({"channel": "c", "action": "close"})), close);
        assert_eq!(needed(json!({"channel": "c", "formats": {"http-response": {"action": "close"}}})), close);
        assert_eq!(needed(json!({"channel": "c", "action": "close", "formats": content})), both);
        assert_eq!(needed(json!({"channel": "c", "action": "close", "id": "1"})), both);
        assert_eq!(needed(json!({"channel": "c", "action": "close", "prev-id": "1"})), both);
        let hint = json!({"ws-message": {"action": "hint"}});
        assert_eq!(needed(json!({"channel": "c", "action": "close", "formats": hint})), both);
        assert_eq!(needed(json!({"channel": "c", "action": "close", "deny-for": 9})), close);
        let entering = needed(json!({"channel": "c", "action": "subscribe", "channels": ["d", "e"]}));
        assert_eq!(entering, r#"close "c" and publish "d" and publish "e""#);
        let leaving = needed(json!({"channel": "c", "action": "unsubscribe", "channels": ["d"]}));
        assert_eq!(leaving, r#"close "c" and close "d""#);
        let chosen = json!({"channel": "c", "action": "close", "with": ["d"], "except": ["e"]});
        let requires = ", which requires 'inspect' or a scope for that channel";
        assert_eq!(
            needed(chosen),
            format!(
                r#"close "c" and select connections by the channel "d"{requires} and select connections by the channel "e"{requires}"#
            )
        );
        assert_eq!(
            needed(json!({"channel": "c", "action": "close", "formats": {"http-response": {"body": "x"}}})),
            both
        );
        assert_eq!(
            needed(json!({"channel": "c", "action": "close", "formats": {"ws-message": {"content": "x"}}})),
            both
        );
        let required = json!({"channel": "c", "action": "close", "meta": {"require_sub": "d", "sender": "e"}});
        assert_eq!(needed(required), format!(r#"close "c" and select connections by the channel "d"{requires}"#));
        // An item without a format that any connection takes.
        assert_eq!(needed(json!({"channel": "c", "formats": {"smoke": {}}})), publish);
    }

    #[test]
    fn a_scope_is_written_in_words() {
        for text in ["publish conversation*", "close user*", "inspect", "admin", "publish a b"] {
            assert_eq!(text.parse::<Scope>().unwrap().to_string(), text);
        }
        assert_eq!(" publish   a* ".parse::<Scope>().unwrap().to_string(), "publish a*");
        for text in ["", "publish", "close ", "inspect *", "admin x", "Publish a", "delete a", "publish\ta"] {
            assert!(text.parse::<Scope>().is_err(), "{text}");
        }
        for alone in ["inspect *", "admin x"] {
            assert!(alone.parse::<Scope>().unwrap_err().to_string().contains("takes no channels"), "{alone}");
        }
    }

    fn scope() -> impl Strategy<Value = Scope> {
        prop_oneof![
            "[ab*]{1,3}".prop_map(|names| Scope::Publish(Glob::from(names.as_str()))),
            "[ab*]{1,3}".prop_map(|names| Scope::Close(Glob::from(names.as_str()))),
            Just(Scope::Inspect),
            Just(Scope::Admin),
        ]
    }

    proptest! {
        #[test]
        fn a_scope_covers_its_own_kind_only(scope in scope(), channel in "[ab]{0,3}") {
            let (publish, close, choose) = (NeededScope::Publish(&channel), NeededScope::Close(&channel), NeededScope::Choose(&channel));
            let covered = [publish, close, choose, NeededScope::Inspect, NeededScope::Admin].map(|need| scope.covers(need));
            let expected = match &scope {
                Scope::Publish(names) => [names.matches(&channel), false, names.matches(&channel), false, false],
                Scope::Close(names) => [false, names.matches(&channel), names.matches(&channel), false, false],
                Scope::Inspect => [false, false, true, true, false],
                Scope::Admin => [true; 5],
            };
            prop_assert_eq!(covered, expected);
        }

        #[test]
        fn any_text_is_a_scope_or_an_error(text in ".*") {
            if let Ok(scope) = text.parse::<Scope>() {
                prop_assert_eq!(scope.to_string().parse(), Ok(scope));
            }
        }
    }
}
