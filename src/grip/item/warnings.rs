//! Warnings about items that are valid, but probably do not mean what their publisher believes.

use super::super::Format;
use super::super::json_object::Object;
use super::super::similar::{did_you_mean, similar};
use super::EVENTS;
use serde_json::Value;

/// The members that an item may have besides its formats. Those of most items come first.
const MEMBERS: [&str; 14] = [
    "channel", "formats", "id", "prev-id", "action", "meta", "no-seq", "size", "with", "except", "code", "reason",
    "deny-for", "channels",
];

/// The number of warnings about one batch. Further ones are left out.
const MOST_WARNINGS: usize = 20;
/// The number of unknown names in one object that are looked at. Looking at all names of a large item would take too
/// long.
const MOST_NAMES: usize = 30;
/// The length of the shortest name that may be the misspelling of a member of an item.
const SHORTEST_MISSPELLED: usize = 5;
/// The members of the format `sse`.
const EVENT_MEMBERS: [&str; 6] = ["event", "id", "data", "retry", "content-filters", "action"];
/// The number of characters of an unknown name that a warning shows.
const NAME_SHOWN: usize = 64;

/// Adds warnings about the item at `place` of a batch: for each unknown format, and for each unknown member whose name
/// is similar to a known one. Other members may have any name, because Pushpin ignores them as well.
pub(super) fn note(place: usize, item: &Value, warnings: &mut Vec<String>) {
    let Value::Object(item) = item else { return };
    if warnings.len() > MOST_WARNINGS {
        return;
    }
    let mut source = item;
    if let Some(Value::Object(formats)) = item.get("formats") {
        source = formats;
        for name in unknown(formats, is_format) {
            add(place, &unknown_format(name), warnings);
        }
    }
    if let Some(Value::Object(event)) = source.get(EVENTS) {
        note_event(place, event, warnings);
    }
    for why in unknown(item, is_known).filter_map(misspelled) {
        add(place, &why, warnings);
    }
}

/// Adds warnings about the format `sse`: for each member that it does not have, and for an event that browsers drop
/// because it has a type but no data.
fn note_event(place: usize, event: &Object, warnings: &mut Vec<String>) {
    for name in unknown(event, |name| EVENT_MEMBERS.contains(&name)) {
        add(place, &format!("'sse' has no member '{}': its content is 'data'", shown(name)), warnings);
    }
    if event.contains_key("event") && !event.contains_key("data") {
        add(place, "'sse' has an 'event' but no 'data', so that browsers drop the event", warnings);
    }
}

/// Returns what an error about an item that lacks something adds to its text: the first member of the item that is
/// probably misspelled, in parentheses. Returns an empty text if there is none.
pub(super) fn reason(item: &Object) -> String {
    let first = unknown(item, is_known).find_map(misspelled);
    first.map_or_else(String::new, |why| format!(" ({why})"))
}

/// Returns the names of the members that are not known. A member whose value is `null` counts as absent.
fn unknown(object: &Object, is_known: impl Fn(&str) -> bool) -> impl Iterator<Item = &str> {
    let unknown = object.iter().filter(move |(name, value)| !is_known(name) && !value.is_null());
    unknown.map(|(name, _)| name.as_str()).take(MOST_NAMES)
}

fn is_known(name: &str) -> bool {
    MEMBERS.contains(&name) || is_format(name)
}

fn is_format(name: &str) -> bool {
    formats().any(|format| format == name)
}

fn formats() -> impl Iterator<Item = &'static str> {
    Format::ALL.into_iter().map(Format::name).chain([EVENTS])
}

/// Returns a warning about a member of `formats`.
fn unknown_format(name: &str) -> String {
    let all = || format!("the formats are {}", formats().collect::<Vec<_>>().join(", "));
    format!("unknown format '{}': {}", shown(name), did_you_mean(name, formats()).unwrap_or_else(all))
}

/// Returns a warning about an unknown member of an item if its name is similar to a known one.
fn misspelled(name: &str) -> Option<String> {
    // Publishers may have members of their own, and a short word is soon similar to another.
    if name.len() < SHORTEST_MISSPELLED {
        return None;
    }
    let kind = if similar(name, formats()).is_some() { "format" } else { "member" };
    let meant = similar(name, formats().chain(MEMBERS)).filter(|meant| name != "message" || *meant != "ws-message")?;
    Some(format!("unknown {kind} '{}': did you mean '{meant}'?", shown(name)))
}

/// Returns the beginning of a name, without control characters.
fn shown(name: &str) -> String {
    name.chars().take(NAME_SHOWN).flat_map(char::escape_debug).collect()
}

fn add(place: usize, why: &str, warnings: &mut Vec<String>) {
    if warnings.len() < MOST_WARNINGS {
        warnings.push(format!("items[{place}]: {why}"));
    } else if warnings.len() == MOST_WARNINGS {
        warnings.push("further warnings are left out".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse_batch;
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn warnings(items: &Value) -> Vec<String> {
        parse_batch(json!({ "items": items }).to_string().as_bytes()).unwrap().warnings
    }

    fn error(item: &Value) -> String {
        parse_batch(json!({ "items": [item] }).to_string().as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_format_is_named_with_the_one_that_is_meant() {
        let items = json!([
            { "channel": "a", "formats": { "http-stream": { "content": "x" } } },
            { "channel": "a", "formats": { "http_stream": { "content": "x" } } },
            { "channel": "a", "formats": { "http-stream": { "content": "x" }, "xmpp": {} } },
            { "channel": "a", "http-stream": { "content": "x" }, "ws_message": { "content": "x" } },
        ]);
        let expected = [
            "items[1]: unknown format 'http_stream': did you mean 'http-stream'?",
            "items[2]: unknown format 'xmpp': the formats are http-response, http-stream, ws-message, sse",
            "items[3]: unknown format 'ws_message': did you mean 'ws-message'?",
        ];
        assert_eq!(warnings(&items), expected);
    }

    #[test]
    fn a_member_is_unknown_only_if_it_is_similar_to_a_known_one() {
        let close = |more: Value| {
            let mut item = json!({ "channel": "a", "action": "close" });
            item.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            warnings(&json!([item]))
        };
        for (name, meant) in [
            ("prev_id", "prev-id"),
            ("denyFor", "deny-for"),
            ("no_seq", "no-seq"),
            ("chanels", "channels"),
            ("Reason", "reason"),
        ] {
            let expected = format!("items[0]: unknown member '{name}': did you mean '{meant}'?");
            assert_eq!(close(json!({ name: 1 })), [expected]);
        }
        let others = json!({ "sender": 1, "time": 2, "type": "x", "data": {}, "user": "u", "prev_id": null });
        assert_eq!(close(others), Vec::<String>::new());
    }

    #[test]
    fn an_item_that_lacks_something_is_refused_with_the_member_that_is_misspelled() {
        let item = json!({ "channel": "a", "http_stream": { "content": "x" } });
        let expected = "no formats specified (unknown format 'http_stream': did you mean 'http-stream'?)";
        assert_eq!(error(&item), format!("Invalid format: {expected}"));
        let item = json!({ "chanel": "a", "http-stream": { "content": "x" } });
        assert!(error(&item).ends_with("(unknown member 'chanel': did you mean 'channel'?)"), "{}", error(&item));
        assert_eq!(error(&json!({ "channel": "a", "user": 1 })), "Invalid format: no formats specified");
    }

    #[test]
    fn warnings_are_bounded() {
        let many: Vec<Value> = (0..100).map(|_| json!({ "channel": "a", "formats": { "x\n": {} } })).collect();
        let warned = warnings(&many.into());
        assert_eq!((warned.len(), warned[MOST_WARNINGS].as_str()), (21, "further warnings are left out"));
        assert!(warned[0].starts_with("items[0]: unknown format 'x\\n': "), "{}", warned[0]);
        let long = json!([{ "channel": "a", "formats": { "y".repeat(10_000): {} } }]);
        assert!(warnings(&long)[0].len() < 200);
    }

    #[test]
    fn an_event_without_data_and_unknown_members_of_it_are_noted() {
        let of = |event: Value| warnings(&json!([{ "channel": "a", "formats": { "sse": event } }]));
        assert!(of(json!({ "event": "chat", "id": "1", "data": "x", "retry": 5, "content-filters": [] })).is_empty());
        assert!(of(json!({ "id": "1" })).is_empty());
        let expected = [
            "items[0]: 'sse' has no member 'content': its content is 'data'",
            "items[0]: 'sse' has an 'event' but no 'data', so that browsers drop the event",
        ];
        assert_eq!(of(json!({ "event": "chat", "content": "x" })), expected);
        let direct = json!([{ "channel": "a", "sse": { "event": "chat", "content": "x" } }]);
        assert_eq!(warnings(&direct), expected);
    }

    #[test]
    fn members_of_a_publishers_own_are_no_misspellings() {
        for name in ["message", "uid", "pid", "tid", "ids", "use", "node", "mode", "beta", "side"] {
            let item = json!([{ "channel": "a", "http-stream": { "content": "x" }, name: 1 }]);
            assert_eq!(warnings(&item), Vec::<String>::new(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn members_that_an_item_may_have_are_never_warned_about(names in prop::sample::subsequence(&MEMBERS[..], 0..14)) {
            let mut item: Object = names.into_iter().map(|name| (name.to_owned(), Value::from(1))).collect();
            item.extend(formats().map(|format| (format.to_owned(), json!({}))));
            let mut warned = Vec::new();
            note(0, &item.into(), &mut warned);
            prop_assert_eq!(warned, Vec::<String>::new());
        }
    }
}
