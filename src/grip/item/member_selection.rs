//! The parts of an item that concern the connections of its channel: which of them are selected, which channels they
//! are subscribed to or unsubscribed from, and for how long they are denied the channel.

use super::super::channel::{MAX_PUBLISHED, check_length};
use super::super::json_object::Fields;
use super::super::{Channel, Formats, InvalidText, invalid};

/// The maximum number of channels in one list. The number is limited because each of them is looked up for each
/// connection that may be selected.
const MAX_NAMES: usize = 100;

/// The longest time for which a channel is denied, in seconds: a year.
const MAX_DENIAL: u64 = 365 * 24 * 3600;

/// A selection of the connections of a channel, by the other channels that they hold or do not hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberSelection {
    /// The channels that a selected connection holds as well, all of them.
    pub with: Vec<Channel>,
    /// The channels of which a selected connection holds none.
    pub except: Vec<Channel>,
}

/// A change of the subscriptions of connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelMove {
    /// The connections are subscribed to these channels, and stay subscribed to the channels that they hold.
    Subscribe(Vec<Channel>),
    /// The connections are unsubscribed from these channels.
    Unsubscribe(Vec<Channel>),
}

impl MemberSelection {
    /// Parses `with` and `except`. Returns `None` if both are absent or empty, so that all connections are selected.
    pub(super) fn read(fields: &Fields<'_>) -> Result<Option<Self>, InvalidText> {
        let selection = Self { with: names(fields, "with")?, except: names(fields, "except")? };
        Ok(Some(selection).filter(|selection| *selection != Self::default()))
    }
}

/// Returns the member `name` as a list of channels without duplicates. The list is empty if the member is absent.
fn names(fields: &Fields<'_>, name: &str) -> Result<Vec<Channel>, InvalidText> {
    let names = fields.strings(name)?.unwrap_or_default();
    if names.len() > MAX_NAMES {
        return invalid(format!("{} contains '{name}' with more than {MAX_NAMES} names", fields.of));
    }
    let mut channels: Vec<Channel> = Vec::with_capacity(names.len());
    for name in names {
        check_length("the channel", name, MAX_PUBLISHED)?;
        if channels.iter().all(|channel| **channel != *name) {
            channels.push(Channel::from(name));
        }
    }
    Ok(channels)
}

/// Returns the member `channels` of an item that changes subscriptions, without duplicates. The member must be
/// present, and neither the list nor a name in it may be empty.
pub(super) fn channels(fields: &Fields<'_>) -> Result<Vec<Channel>, InvalidText> {
    if fields.get("channels").is_none() {
        return invalid(format!("{} does not contain 'channels'", fields.of));
    }
    let channels = names(fields, "channels")?;
    if channels.is_empty() || channels.iter().any(|channel| channel.is_empty()) {
        fields.invalid_value("channels")
    } else {
        Ok(channels)
    }
}

/// Parses `deny-for`: the number of seconds for which the channel is denied after the item has closed connections. It
/// is an error if the item closes nothing.
pub(super) fn deny_for(fields: &Fields<'_>, closes: Formats) -> Result<Option<u32>, InvalidText> {
    let Some(value) = fields.get("deny-for") else { return Ok(None) };
    if closes.is_empty() {
        return invalid(format!("{} contains 'deny-for' without the action 'close'", fields.of));
    }
    match value.as_u64() {
        Some(seconds @ 1..=MAX_DENIAL) => Ok(u32::try_from(seconds).ok()),
        _ if value.is_number() => fields.invalid_value("deny-for"),
        _ => fields.wrong_type("deny-for"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Item, parse_batch};
    use super::*;
    use serde_json::{Value, json};

    fn one(item: Value) -> Result<Item, String> {
        let batch = parse_batch(json!({ "items": [item] }).to_string().as_bytes());
        batch.map(|mut batch| batch.items.remove(0)).map_err(|e| e.to_string().replace("Invalid format: ", ""))
    }

    fn names(names: &[&str]) -> Vec<Channel> {
        names.iter().map(|name| Channel::from(*name)).collect()
    }

    #[test]
    fn an_item_may_mean_some_of_its_channel() {
        let item = one(json!({"channel": "c", "action": "close", "with": ["a", "b"], "except": ["d"]})).unwrap();
        let selection = item.selection.unwrap();
        assert_eq!((&selection.with, &selection.except), (&names(&["a", "b"]), &names(&["d"])));
        assert_eq!(
            one(json!({"channel": "c", "action": "close", "with": [], "except": null})).unwrap().selection,
            None
        );
        let why = one(json!({"channel": "c", "action": "close", "with": "a"})).unwrap_err();
        assert_eq!(why, "publish item object contains 'with' with wrong type");
        let why = one(json!({"channel": "c", "action": "close", "except": [1]})).unwrap_err();
        assert_eq!(why, "publish item object contains 'except' with wrong type");
    }

    #[test]
    fn members_are_moved() {
        let moves = |action: &str, channels: Value| {
            one(json!({"channel": "u", "action": action, "channels": channels})).map(|item| item.moves.unwrap())
        };
        assert_eq!(moves("subscribe", json!(["a", "b", "a"])), Ok(ChannelMove::Subscribe(names(&["a", "b"]))));
        assert_eq!(moves("unsubscribe", json!(["a"])), Ok(ChannelMove::Unsubscribe(names(&["a"]))));
        for wrong in [json!([]), json!(["a", ""])] {
            assert!(moves("subscribe", wrong).unwrap_err().contains("'channels' with invalid value"));
        }
        assert!(moves("subscribe", json!(vec!["a"; 101])).unwrap_err().contains("'channels' with more than 100 names"));
        assert!(moves("subscribe", json!(null)).unwrap_err().contains("does not contain 'channels'"));
        let inside = one(json!({"channel": "u", "http-stream": {"action": "subscribe", "channels": ["a"]}}));
        assert_eq!(inside.unwrap_err(), "'http-stream' contains 'action' with unknown value");
    }

    #[test]
    fn a_close_may_last() {
        let deny = |seconds: Value| {
            one(json!({"channel": "u", "action": "close", "deny-for": seconds})).map(|item| item.deny_for)
        };
        assert_eq!((deny(json!(300)), deny(json!(null))), (Ok(Some(300)), Ok(None)));
        for wrong in [json!(0), json!(-1), json!(1.5), json!(MAX_DENIAL + 1)] {
            assert_eq!(deny(wrong).unwrap_err(), "publish item object contains 'deny-for' with invalid value");
        }
        for wrong in [json!("soon"), json!(true)] {
            assert_eq!(deny(wrong).unwrap_err(), "publish item object contains 'deny-for' with wrong type");
        }
        let open = one(json!({"channel": "u", "http-stream": {"content": "x"}, "deny-for": 9}));
        assert_eq!(open.unwrap_err(), "publish item object contains 'deny-for' without the action 'close'");
        let inside = one(json!({"channel": "u", "http-stream": {"action": "close"}, "deny-for": 9})).unwrap();
        assert_eq!(inside.deny_for, Some(9));
    }
}
