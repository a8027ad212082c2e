//! An item: what is published, read from the JSON of `POST /publish`.

mod formats;

pub use formats::{Body, ContentFilters, Response, Stream};

use super::object::{Fields, Object};
use super::{Channel, Format, Formats, Invalid, Meta, invalid};
use serde_json::Value;
use std::sync::Arc;

/// What names an item within its channel, or the item before it.
pub type Id = Arc<str>;

/// One published item.
#[derive(Debug)]
pub struct Item {
    /// Whom it is for.
    pub channel: Channel,
    /// What it is called in its channel.
    pub id: Option<Id>,
    /// What the item before it is called.
    pub prev_id: Option<Id>,
    /// Whether it is delivered as it comes, whatever came before.
    pub no_seq: bool,
    /// What the publisher says of it, for filters.
    pub meta: Option<Arc<Meta>>,
    /// What it is as the answer to a long-poll.
    pub response: Option<Response>,
    /// What it appends to a stream.
    pub stream: Option<Stream>,
    /// Whose connections it ends, after what it delivers.
    pub closes: Formats,
    /// For whom the origin is to be asked again.
    pub hints: Formats,
}

/// Reads the body of `POST /publish`: `{"items": [...]}`. One bad item makes all of it an error.
///
/// # Errors
/// What is wrong, and where.
pub fn parse_batch(body: &[u8]) -> Result<Vec<Item>, Invalid> {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return invalid("Body is not valid JSON.");
    };
    let Value::Object(mut object) = value else { return invalid("Invalid format.") };
    match object.remove("items") {
        None => invalid("Invalid format: object does not contain 'items'"),
        Some(Value::Array(items)) => items
            .into_iter()
            .map(|item| parse_item(item).map_err(|why| Invalid::new(format!("Invalid format: {why}"))))
            .collect(),
        Some(_) => invalid("Invalid format: object contains 'items' with wrong type"),
    }
}

fn parse_item(value: Value) -> Result<Item, Invalid> {
    let Value::Object(object) = value else { return invalid("publish item object is not an object") };
    let fields = Fields { of: "publish item object", object: &object };
    let Some(channel) = fields.string("channel")? else {
        return invalid("publish item object does not contain 'channel'");
    };
    if fields.get("size").is_some_and(|v| v.as_f64().is_none_or(|n| n < 0.0)) {
        return fields.wrong_type("size");
    }
    for name in ["id", "prev-id"] {
        // It stands in a header when the origin is asked again.
        if fields.string(name)?.is_some_and(|id| id.contains(char::is_control)) {
            return invalid(format!("publish item object contains '{name}' with invalid value"));
        }
    }
    let mut item = Item {
        channel: Channel::from(channel),
        id: fields.string("id")?.map(Id::from),
        prev_id: fields.string("prev-id")?.map(Id::from),
        no_seq: fields.boolean("no-seq")?,
        meta: fields.meta("meta")?.map(Arc::new),
        response: None,
        stream: None,
        closes: Formats::NONE,
        hints: Formats::NONE,
    };
    let action = Action::of(&fields)?;
    parse_formats(&fields, &mut item, action != Action::Send)?;
    match action {
        Action::Send => {}
        Action::Close => item.closes = Formats::ALL,
        // On the item itself both mean: ask the origin again, whatever kind of connection it is.
        Action::Hint | Action::Refresh => item.hints = Formats::ALL,
    }
    Ok(item)
}

/// Reads `formats`, or the formats that stand in the item itself. `optional`: there need be none.
fn parse_formats(fields: &Fields<'_>, item: &mut Item, optional: bool) -> Result<(), Invalid> {
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
    if found || optional { Ok(()) } else { invalid("no formats specified") }
}

fn parse_format(format: Format, fields: &Fields<'_>, item: &mut Item) -> Result<(), Invalid> {
    match Action::of(fields)? {
        Action::Close => item.closes.insert(format),
        Action::Hint => item.hints.insert(format),
        // It means WebSockets; those of other kinds of connection are not refreshed by it.
        Action::Refresh => {}
        Action::Send => match format {
            Format::HttpResponse => item.response = Some(formats::response(fields)?),
            Format::HttpStream => item.stream = Some(formats::stream(fields)?),
            Format::WsMessage => formats::check_message(fields)?,
        },
    }
    Ok(())
}

/// What an item or one of its formats is to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Send,
    Close,
    Hint,
    Refresh,
}

impl Action {
    fn of(fields: &Fields<'_>) -> Result<Self, Invalid> {
        match fields.string("action")? {
            None | Some("send") => Ok(Self::Send),
            Some("close") => formats::check_close(fields).map(|()| Self::Close),
            Some("hint") => Ok(Self::Hint),
            Some("refresh") => Ok(Self::Refresh),
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
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::json;

    fn one(item: Value) -> Result<Item, String> {
        let batch = parse_batch(json!({ "items": [item] }).to_string().as_bytes());
        batch.map(|mut items| items.remove(0)).map_err(|e| e.to_string())
    }

    fn text(stream: &Stream) -> &str {
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
            (201, Some("Made"), Body::Whole(Bytes::from("b")))
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
        assert_eq!(batch("{"), "Body is not valid JSON.");
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
        assert!(error(split).contains("no valid HTTP header"));
        let reason = json!({"channel": "c", "formats": {"http-response": {"reason": "a\r\nX: y", "body": ""}}});
        assert!(error(reason).contains("'reason' with invalid value"));
    }

    #[test]
    fn hints_are_for_formats_or_for_all() {
        let all = one(json!({"channel": "c", "action": "hint"})).unwrap();
        assert_eq!((all.hints, all.closes), (Formats::ALL, Formats::NONE));
        assert_eq!(one(json!({"channel": "c", "action": "refresh"})).unwrap().hints, Formats::ALL);
        let one_format = one(json!({"channel": "c", "http-stream": {"action": "hint"}})).unwrap();
        assert!(one_format.hints.contains(Format::HttpStream) && !one_format.hints.contains(Format::HttpResponse));
        let refresh = one(json!({"channel": "c", "http-stream": {"action": "refresh"}})).unwrap();
        assert_eq!((refresh.hints, refresh.stream), (Formats::NONE, None));
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
        assert!(matches!(patch(json!([])).unwrap().response.unwrap().body, Body::Patch(_)));
        assert!(patch(json!([{"op": "fly"}])).unwrap_err().contains("no JSON patch"));
    }

    proptest! {
        #[test]
        fn any_body_is_a_batch_or_an_error(body in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse_batch(&body);
        }

        #[test]
        fn text_content_arrives_byte_for_byte(content in ".*") {
            let item = one(json!({"channel": "c", "formats": {"http-stream": {"content": content}}})).unwrap();
            prop_assert_eq!(&item.stream.unwrap().content[..], content.as_bytes());
        }
    }
}
