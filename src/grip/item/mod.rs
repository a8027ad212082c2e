//! Items, the units of publishing, and their parser for the JSON of `POST /publish`.

mod batch;
mod formats;
mod member_selection;
mod patch;
mod sse;
mod warnings;

pub use batch::{Batch, parse_batch, parse_batch_with_json};
pub use formats::{ContentFilters, ItemBody, MessageFormat, ResponseFormat, StreamFormat};
pub use member_selection::{ChannelMove, MemberSelection};
pub use patch::BodyPatch;

use super::channel::{MAX_NAME, MAX_PUBLISHED, check_length};
use super::json_object::{Fields, Object};
use super::{Channel, CloseReason, Format, Formats, InvalidText, Meta, invalid, json};
use serde_json::Value;
use std::sync::Arc;

/// The key of the format for event streams in an item's `formats`.
const EVENTS: &str = "sse";

/// The id of an item within its channel.
pub type ItemId = Arc<str>;

/// One published item.
#[derive(Debug)]
pub struct Item {
    /// The channel whose connections get the item.
    pub channel: Channel,
    /// The id of the item within its channel.
    pub id: Option<ItemId>,
    /// The id of the item before this one in the channel.
    pub prev_id: Option<ItemId>,
    /// Whether the item is delivered as soon as it is published, even if the item before it is missing.
    pub no_seq: bool,
    /// The meta that the publisher gives the item, for filters.
    pub meta: Option<Arc<Meta>>,
    /// The response for long-polls.
    pub response: Option<ResponseFormat>,
    /// The content for streams.
    pub stream: Option<StreamFormat>,
    /// The content for event streams, which get it instead of `stream`.
    pub events: Option<StreamFormat>,
    /// The message for WebSockets.
    pub message: Option<MessageFormat>,
    /// The formats whose connections the item closes, after it has delivered its content.
    pub closes: Formats,
    /// The reason in the Close frame of the WebSockets that the item closes.
    pub close_reason: Option<CloseReason>,
    /// The number of seconds after the close for which nobody may hold the channel, or nobody whom `selection`
    /// selects.
    pub deny_for: Option<u32>,
    /// The change that the item makes to the subscriptions of connections, after it has delivered its content.
    pub moves: Option<ChannelMove>,
    /// The selection of the channel's connections that the item is for. With `None`, the item is for all of them.
    pub selection: Option<Arc<MemberSelection>>,
    /// The formats whose connections have their origin asked again.
    pub refreshes: Formats,
}

impl Item {
    /// Returns whether the item has content in any format.
    pub const fn has_content(&self) -> bool {
        self.stream.is_some() || self.events.is_some() || self.response.is_some() || self.message.is_some()
    }

    /// Returns whether the item is a command: besides delivering content, it closes connections or changes their
    /// subscriptions. A command never waits for room in an inbox.
    pub fn is_command(&self) -> bool {
        // Everything that an item does to connections besides delivering content must be listed here, because a
        // publisher's token needs the scope `close` for it. Only `refreshes` is an exception: to have an origin asked
        // again, the scope `publish` is enough.
        !self.closes.is_empty() || self.moves.is_some()
    }
}

/// Parses one item from the text that [`parse_batch_with_json`] returned for it.
///
/// # Errors
/// The text is not JSON, or it is not an item. The error says what is wrong.
pub fn parse_item(text: &[u8]) -> Result<Item, InvalidText> {
    item_of(json::read(text).map_err(|fault| InvalidText::new(format!("The item is not valid JSON: {fault}.")))?)
}

fn item_of(value: Value) -> Result<Item, InvalidText> {
    let Value::Object(object) = value else { return invalid("publish item object is not an object") };
    let fields = Fields { of: "publish item object", object: &object };
    let Some(channel) = fields.string("channel")? else {
        return invalid(format!("publish item object does not contain 'channel'{}", warnings::reason(&object)));
    };
    check_length("the channel", channel, MAX_PUBLISHED)?;
    if fields.get("size").is_some_and(|v| v.as_f64().is_none_or(|n| n < 0.0)) {
        return fields.wrong_type("size");
    }
    for name in ["id", "prev-id"] {
        let id = fields.string(name)?.unwrap_or_default();
        // The id is sent in a header when the origin is asked again, so it must be valid there.
        if id.contains(char::is_control) {
            return invalid(format!("publish item object contains '{name}' with invalid value"));
        }
        check_length(name, id, MAX_NAME)?;
    }
    let mut item = Item {
        channel: Channel::from(channel),
        id: fields.string("id")?.map(ItemId::from),
        prev_id: fields.string("prev-id")?.map(ItemId::from),
        no_seq: fields.boolean("no-seq")?,
        meta: fields.meta("meta")?.map(Arc::new),
        response: None,
        stream: None,
        events: None,
        message: None,
        closes: Formats::NONE,
        close_reason: None,
        deny_for: None,
        moves: None,
        selection: MemberSelection::read(&fields)?.map(Arc::new),
        refreshes: Formats::NONE,
    };
    let action = Action::of(&fields)?;
    parse_formats(&fields, &mut item, action)?;
    match action {
        Action::Send => {}
        Action::Close => {
            item.closes = Formats::ALL;
            let reason = formats::close_reason(&fields)?;
            item.close_reason = item.close_reason.take().or(reason);
        }
        // On the item itself, both actions have the origin asked again for connections of every kind.
        Action::Hint | Action::Refresh => item.refreshes = Formats::ALL,
        Action::Subscribe => item.moves = Some(ChannelMove::Subscribe(member_selection::channels(&fields)?)),
        Action::Unsubscribe => item.moves = Some(ChannelMove::Unsubscribe(member_selection::channels(&fields)?)),
    }
    if item.moves.is_some() && !item.closes.is_empty() {
        return invalid("publish item object closes connections and changes their channels: use two items");
    }
    item.deny_for = member_selection::deny_for(&fields, item.closes)?;
    Ok(item)
}

/// Parses `formats`, or else the formats that are members of the item itself. At least one is required, unless the
/// item has an action other than `send`.
fn parse_formats(fields: &Fields<'_>, item: &mut Item, action: Action) -> Result<(), InvalidText> {
    let formats = fields.object("formats")?;
    let source: &Object = formats.unwrap_or(fields.object);
    let mut found = formats.is_some_and(|f| !f.is_empty());
    for format in Format::ALL {
        let Some(value) = source.get(format.name()).filter(|v| !v.is_null()) else { continue };
        let Value::Object(object) = value else {
            let of = if formats.is_some() { "formats" } else { fields.of };
            return invalid(format!("{of} contains '{}' with wrong type", format.name()));
        };
        found = true;
        parse_format(format, &Fields { of: quoted(format), object }, item)?;
    }
    if let Some(value) = source.get(EVENTS).filter(|value| !value.is_null()) {
        found = true;
        item.events = Some(parse_events(value, if formats.is_some() { "formats" } else { fields.of })?);
    }
    if found || action != Action::Send {
        return Ok(());
    }
    invalid(format!("no formats specified{}", warnings::reason(fields.object)))
}

/// Parses the format `sse`, a member of the object that errors call `of`.
fn parse_events(value: &Value, of: &str) -> Result<StreamFormat, InvalidText> {
    let Value::Object(object) = value else { return invalid(format!("{of} contains '{EVENTS}' with wrong type")) };
    let fields = Fields { of: "'sse'", object };
    // Event streams are streams, and an action is for all of them.
    if Action::of(&fields)? != Action::Send {
        return invalid("'sse' contains 'action': put the action into 'http-stream', which includes event streams");
    }
    sse::event(&fields)
}

fn parse_format(format: Format, fields: &Fields<'_>, item: &mut Item) -> Result<(), InvalidText> {
    match Action::of(fields)? {
        Action::Close => {
            item.closes.insert(format);
            if format == Format::WsMessage {
                item.close_reason = formats::close_reason(fields)?;
            }
        }
        Action::Hint => item.refreshes.insert(format),
        Action::Refresh if format == Format::WsMessage => item.refreshes.insert(format),
        // Within a format, `refresh` is only for WebSockets. In the other formats it has no effect.
        Action::Refresh => {}
        // These actions concern connections of every kind, so they are allowed only on the item itself.
        Action::Subscribe | Action::Unsubscribe => return fields.unknown_value("action"),
        Action::Send => match format {
            Format::HttpResponse => item.response = Some(formats::response(fields)?),
            Format::HttpStream => item.stream = Some(formats::stream(fields)?),
            Format::WsMessage => item.message = Some(formats::message(fields)?),
        },
    }
    Ok(())
}

/// The action of an item or of one of its formats.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Send,
    Close,
    Hint,
    Refresh,
    Subscribe,
    Unsubscribe,
}

impl Action {
    fn of(fields: &Fields<'_>) -> Result<Self, InvalidText> {
        match fields.string("action")? {
            None | Some("send") => Ok(Self::Send),
            Some("close") => Ok(Self::Close),
            Some("hint") => Ok(Self::Hint),
            Some("refresh") => Ok(Self::Refresh),
            Some("subscribe") => Ok(Self::Subscribe),
            Some("unsubscribe") => Ok(Self::Unsubscribe),
            Some(other) => invalid(format!("{} contains unknown 'action' '{other}'", fields.of)),
        }
    }
}

const fn quoted(format: Format) -> &'static str {
    match format {
        Format::HttpResponse => "'http-response'",
        Format::HttpStream => "'http-stream'",
        Format::WsMessage => "'ws-message'",
    }
}

#[cfg(test)]
mod tests {
    use super::super::MessageKind;
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::json;

    fn one(item: Value) -> Result<Item, String> {
        let batch = parse_batch(json!({ "items": [item] }).to_string().as_bytes());
        batch.map(|mut batch| batch.items.remove(0)).map_err(|e| e.to_string())
    }

    fn text(stream: &StreamFormat) -> &str {
        std::str::from_utf8(&stream.content).unwrap()
    }

    fn error(item: Value) -> String {
        one(item).unwrap_err()
    }

    #[test]
    fn both_forms_of_the_kick_close() {
        assert_eq!(one(json!({"channel": "user456", "action": "close"})).unwrap().closes, Formats::ALL);
        let item = one(json!({"channel": "u", "formats": {"http-stream": {"action": "close"}}})).unwrap();
        assert!(item.closes.contains(Format::HttpStream));
        assert!(!item.closes.contains(Format::HttpResponse) && !item.closes.contains(Format::WsMessage));
        let both =
            one(json!({"channel": "u", "action": "close", "formats": {"http-stream": {"content": "bye"}}})).unwrap();
        assert_eq!((both.closes, both.stream.as_ref().map(text)), (Formats::ALL, Some("bye")));
    }

    #[test]
    fn formats_are_read_whole() {
        let item = one(json!({"channel": "c", "formats": {
            "http-stream": {"content-bin": "aGk=", "content": "no"},
            "http-response": {"code": "201", "reason": "Made", "headers": [["X-A", "1"], ["X-A", "2"], ["Grip-Hold", "x"],
                ["Content-Length", "9"]], "body": "b"},
            "ws-message": {"type": "ping"}, "other": 1}}))
        .unwrap();
        assert_eq!(text(&item.stream.unwrap()), "hi");
        let response = item.response.unwrap();
        assert_eq!(
            (response.code, response.reason.as_deref(), response.body),
            (201, Some("Made"), ItemBody::Whole(Bytes::from("b")))
        );
        let headers: Vec<_> = response.headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(headers, [("x-a", "1"), ("x-a", "2")]);
    }

    #[test]
    fn formats_may_stand_in_the_item_itself() {
        let item = one(json!({"channel": "c", "formats": null, "http-stream": {"content": "x"}})).unwrap();
        assert_eq!(text(&item.stream.unwrap()), "x");
        assert!(one(json!({"channel": "c", "formats": {"smoke": {}}})).unwrap().stream.is_none());
    }

    #[test]
    fn errors_are_pushpins_words() {
        let batch = |text: &str| parse_batch(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(batch("{"), "Body is not valid JSON: EOF while parsing an object at line 1 column 1.");
        assert_eq!(batch("[]"), "Invalid format.");
        assert_eq!(batch("{}"), "Invalid format: object does not contain 'items'");
        assert_eq!(batch(r#"{"items":{}}"#), "Invalid format: object contains 'items' with wrong type");
        assert_eq!(error(json!(1)), "Invalid format: publish item object is not an object");
        assert_eq!(error(json!({})), "Invalid format: publish item object does not contain 'channel'");
        assert_eq!(error(json!({"channel": "c"})), "Invalid format: no formats specified");
        assert_eq!(error(json!({"channel": "c", "formats": {}})), "Invalid format: no formats specified");
        assert_eq!(
            error(json!({"channel": "c", "id": 1})),
            "Invalid format: publish item object contains 'id' with wrong type"
        );
        assert_eq!(
            error(json!({"channel": "c", "meta": {"a": 1}})),
            "Invalid format: 'meta' contains 'a' with wrong type"
        );
        assert_eq!(
            error(json!({"channel": "c", "formats": {"http-stream": {}}})),
            "Invalid format: 'http-stream' does not contain 'content' or 'content-bin'"
        );
        assert_eq!(
            error(json!({"channel": "c", "formats": {"http-response": {}}})),
            "Invalid format: 'http-response' does not contain 'body', 'body-bin', or 'body-patch'"
        );
    }

    #[test]
    fn what_would_break_the_answer_is_refused() {
        for code in [json!(99), json!(101), json!(1000), json!(-1)] {
            let item = json!({"channel": "c", "formats": {"http-response": {"code": code, "body": ""}}});
            assert!(error(item).ends_with("'code' with invalid value"));
        }
        let split = json!({"channel": "c", "formats": {"http-response": {"headers": {"X": "a\r\nY: b"}, "body": ""}}});
        assert!(error(split).contains("not a valid HTTP header"));
        let reason = json!({"channel": "c", "formats": {"http-response": {"reason": "a\r\nX: y", "body": ""}}});
        assert!(error(reason).contains("'reason' with invalid value"));
    }

    #[test]
    fn hints_are_for_formats_or_for_all() {
        let all = one(json!({"channel": "c", "action": "hint"})).unwrap();
        assert_eq!((all.refreshes, all.closes), (Formats::ALL, Formats::NONE));
        assert_eq!(one(json!({"channel": "c", "action": "refresh"})).unwrap().refreshes, Formats::ALL);
        let one_format = one(json!({"channel": "c", "http-stream": {"action": "hint"}})).unwrap();
        assert!(
            one_format.refreshes.contains(Format::HttpStream) && !one_format.refreshes.contains(Format::HttpResponse)
        );
        let refresh = one(json!({"channel": "c", "http-stream": {"action": "refresh"}})).unwrap();
        assert_eq!((refresh.refreshes, refresh.stream), (Formats::NONE, None));
        let websockets = one(json!({"channel": "c", "ws-message": {"action": "refresh"}})).unwrap();
        assert!(
            websockets.refreshes.contains(Format::WsMessage) && !websockets.refreshes.contains(Format::HttpResponse)
        );
        assert_eq!(websockets.message, None);
        assert_eq!(
            one(json!({"channel": "c", "ws-message": {"action": "hint"}})).unwrap().refreshes,
            websockets.refreshes
        );
        assert!(error(json!({"channel": "c", "action": "smile"})).contains("unknown 'action' 'smile'"));
    }

    #[test]
    fn what_is_said_of_an_item_is_kept() {
        let item = one(json!({"channel": "c", "id": "2", "prev-id": "1", "no-seq": true, "meta": {"sender": "bob"},
            "formats": {"http-stream": {"content": "", "content-filters": ["build-id"]}}}))
        .unwrap();
        assert_eq!((item.id.as_deref(), item.prev_id.as_deref(), item.no_seq), (Some("2"), Some("1"), true));
        assert_eq!(item.meta.unwrap().get("sender"), Some("bob"));
        assert_eq!(item.stream.unwrap().content_filters.unwrap()[..], ["build-id".into()]);
        assert!(one(json!({"channel": "c", "http-stream": {"content": ""}})).unwrap().meta.is_none());
        let wrong = json!({"channel": "c", "http-stream": {"content": "", "content-filters": [1]}});
        assert!(error(wrong).contains("'content-filters' with wrong type"));
    }

    fn message(format: Value) -> Result<MessageFormat, String> {
        one(json!({"channel": "c", "ws-message": format})).map(|item| item.message.unwrap())
    }

    #[test]
    fn messages_have_a_kind_and_content() {
        let parts = |format| message(format).map(|m| (m.kind, m.content)).unwrap();
        assert_eq!(parts(json!({"content": "hi"})), (MessageKind::Text, Bytes::from("hi")));
        assert_eq!(
            parts(json!({"content-bin": "/w==", "content": "no"})),
            (MessageKind::Binary, Bytes::from_static(b"\xff"))
        );
        assert_eq!(parts(json!({"content-bin": "aGk=", "type": "text"})), (MessageKind::Text, Bytes::from("hi")));
        assert_eq!(parts(json!({"content": "hi", "type": "binary"})), (MessageKind::Binary, Bytes::from("hi")));
        assert_eq!(parts(json!({"type": "ping"})), (MessageKind::Ping, Bytes::new()));
        assert_eq!(parts(json!({"type": "pong", "content": "x"})), (MessageKind::Pong, Bytes::from("x")));
        let filtered = message(json!({"content": "", "content-filters": ["build-id"]})).unwrap();
        assert_eq!(filtered.content_filters.unwrap()[..], ["build-id".into()]);
    }

    #[test]
    fn messages_that_cannot_be_sent_are_refused() {
        let why = |format| message(format).unwrap_err();
        let prefix = "Invalid format: 'ws-message'";
        assert_eq!(why(json!({"type": "text"})), format!("{prefix} does not contain 'content' or 'content-bin'"));
        assert_eq!(why(json!({"type": "close"})), format!("{prefix} contains 'type' with unknown value"));
        let wrong = format!("{prefix} contains 'content' with invalid value");
        assert_eq!(why(json!({"type": "text", "content-bin": "/w=="})), wrong);
        assert_eq!(why(json!({"type": "ping", "content": "x".repeat(126)})), wrong);
        assert!(message(json!({"type": "pong", "content": "x".repeat(125)})).is_ok());
    }

    #[test]
    fn closes_may_say_why() {
        let out = Some(CloseReason::new(4001, "out"));
        let format = json!({"channel": "u", "ws-message": {"action": "close", "code": "4001", "reason": "out"}});
        let item = one(format).unwrap();
        assert_eq!((item.closes.contains(Format::WsMessage), item.close_reason), (true, out.clone()));
        let close = |more: Value| {
            let mut item = json!({"channel": "u", "action": "close"});
            item.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            one(item).map(|item| (item.closes, item.close_reason))
        };
        assert_eq!(close(json!({"code": 4001, "reason": "out"})), Ok((Formats::ALL, out.clone())));
        assert_eq!(close(json!({"code": null})), Ok((Formats::ALL, None)));
        assert_eq!(close(json!({"reason": "x"})).unwrap().1, Some(CloseReason::new(1000, "x")));
        let both = json!({"code": 3000, "ws-message": {"action": "close", "code": 4001, "reason": "out"}});
        assert_eq!(close(both), Ok((Formats::ALL, out)));
        // A stream has no close code, so even an invalid one is ignored.
        assert_eq!(close(json!({"http-stream": {"action": "close", "code": 1}})), Ok((Formats::ALL, None)));
    }

    #[test]
    fn closes_say_nothing_that_no_close_may_say() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 70_000, -1] {
            let why = error(json!({"channel": "u", "action": "close", "code": code}));
            assert_eq!(why, "Invalid format: publish item object contains 'code' with invalid value", "{code}");
            let why = error(json!({"channel": "u", "ws-message": {"action": "close", "code": code}}));
            assert_eq!(why, "Invalid format: 'ws-message' contains 'code' with invalid value", "{code}");
        }
        let long = json!({"channel": "u", "action": "close", "reason": "x".repeat(124)});
        assert_eq!(error(long), "Invalid format: publish item object contains 'reason' with invalid value");
        assert!(one(json!({"channel": "u", "action": "close", "reason": "x".repeat(123)})).is_ok());
    }

    #[test]
    fn a_published_expose_header_hides() {
        let item =
            json!({"channel": "c", "http-response": {"headers": {"Grip-Expose-Headers": "X-A, x-b"}, "body": ""}});
        let response = one(item).unwrap().response.unwrap();
        assert_eq!(response.hide, ["x-a", "x-b"]);
        assert!(response.headers.is_empty());
    }

    #[test]
    fn a_patch_must_be_one() {
        let patch = |p: Value| one(json!({"channel": "c", "http-response": {"body-patch": p}}));
        assert!(matches!(patch(json!([])).unwrap().response.unwrap().body, ItemBody::Patch(_)));
        assert!(patch(json!([{"op": "fly"}])).unwrap_err().contains("not a valid JSON patch"));
    }

    proptest! {
        #[test]
        fn text_content_arrives_byte_for_byte(content in ".*") {
            let item = one(json!({"channel": "c", "formats": {"http-stream": {"content": content}}})).unwrap();
            prop_assert_eq!(&item.stream.unwrap().content[..], content.as_bytes());
        }
    }
}
