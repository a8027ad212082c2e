//! An item: what is published, read from the JSON of `POST /publish`.

use super::{Channel, Format, Formats, Invalid, base64, invalid};
use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

type Object = Map<String, Value>;

/// One published item.
#[derive(Debug)]
pub struct Item {
    /// Whom it is for.
    pub channel: Channel,
    /// What it is as the answer to a long-poll.
    pub response: Option<Response>,
    /// What it appends to a stream.
    pub stream: Option<Bytes>,
    /// Whose connections it ends, after what it delivers.
    pub closes: Formats,
    /// Fields that mean something in GRIP but nothing to this version.
    pub ignored: Vec<&'static str>,
}

/// The answer that an item is for long-polls (`http-response`).
#[derive(Debug, PartialEq, Eq)]
pub struct Response {
    /// 200 to 999.
    pub code: u16,
    /// The reason phrase, if it is not the code's usual one.
    pub reason: Option<String>,
    /// Headers, without `Grip-*` and framing ones; they replace the instruct's of the same name.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Bytes,
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
    let item = Fields { of: "publish item object", object: &object };
    let Some(channel) = item.string("channel")? else {
        return invalid("publish item object does not contain 'channel'");
    };
    let mut parsed = Item {
        channel: Channel::from(channel),
        response: None,
        stream: None,
        closes: Formats::NONE,
        ignored: Vec::new(),
    };
    check_metadata(&item, &mut parsed.ignored)?;
    let closes_all = match item.action()? {
        Action::Send => false,
        Action::Close => {
            check_close(&item)?;
            true
        }
        other => return unsupported(&item, other),
    };
    parse_formats(&item, &mut parsed, closes_all)?;
    if closes_all {
        parsed.closes = Formats::ALL;
    }
    Ok(parsed)
}

/// Checks what an item says besides its formats, and notes what this version does not act on.
fn check_metadata(item: &Fields<'_>, ignored: &mut Vec<&'static str>) -> Result<(), Invalid> {
    for name in ["id", "prev-id"] {
        if item.string(name)?.is_some() {
            ignored.push(name);
        }
    }
    if let Some(meta) = item.object("meta")?
        && let Some((name, _)) = meta.iter().find(|(_, v)| !v.is_string())
    {
        return invalid(format!("'meta' contains '{name}' with wrong type"));
    }
    if item.get("size").is_some_and(|v| v.as_f64().is_none_or(|n| n < 0.0)) {
        return item.wrong_type("size");
    }
    if item.get("no-seq").is_some_and(|v| !v.is_boolean()) {
        return item.wrong_type("no-seq");
    }
    Ok(())
}

/// Reads `formats`, or the formats that stand in the item itself. `optional`: there need be none.
fn parse_formats(item: &Fields<'_>, parsed: &mut Item, optional: bool) -> Result<(), Invalid> {
    let formats = item.object("formats")?;
    let source = formats.unwrap_or(item.object);
    let mut found = formats.is_some_and(|f| !f.is_empty());
    for format in Format::ALL {
        let Some(value) = source.get(format.name()).filter(|v| !v.is_null()) else { continue };
        let Value::Object(object) = value else {
            let of = if formats.is_some() { "formats" } else { item.of };
            return invalid(format!("{of} contains '{}' with wrong type", format.name()));
        };
        found = true;
        parse_format(format, &Fields { of: quoted(format), object }, parsed)?;
    }
    if found || optional { Ok(()) } else { invalid("no formats specified") }
}

fn parse_format(format: Format, fields: &Fields<'_>, parsed: &mut Item) -> Result<(), Invalid> {
    match fields.action()? {
        Action::Close => {
            check_close(fields)?;
            parsed.closes.insert(format);
            return Ok(());
        }
        Action::Send => {}
        other => return unsupported(fields, other),
    }
    check_content_filters(fields)?;
    match format {
        Format::HttpResponse => parsed.response = Some(parse_response(fields)?),
        Format::HttpStream => parsed.stream = Some(parse_stream(fields)?),
        Format::WsMessage => check_message(fields)?,
    }
    Ok(())
}

fn parse_response(fields: &Fields<'_>) -> Result<Response, Invalid> {
    let code = fields.integer("code")?.unwrap_or(200);
    // A final status: an informational one would leave the client waiting for another answer.
    let Some(code) = u16::try_from(code).ok().filter(|c| (200..=999).contains(c)) else {
        return invalid("'http-response' contains 'code' with invalid value");
    };
    let reason = fields.string("reason")?.map(str::to_owned);
    if reason.as_deref().is_some_and(|r| r.bytes().any(|b| b.is_ascii_control())) {
        return invalid("'http-response' contains 'reason' with invalid value");
    }
    let headers = parse_headers(fields)?;
    if let Some(body) = fields.content("body-bin", "body")? {
        return Ok(Response { code, reason, headers, body });
    }
    if fields.get("body-patch").is_some() {
        return invalid("'http-response' contains 'body-patch', which is not supported yet");
    }
    invalid("'http-response' does not contain 'body', 'body-bin', or 'body-patch'")
}

fn parse_stream(fields: &Fields<'_>) -> Result<Bytes, Invalid> {
    match fields.content("content-bin", "content")? {
        Some(content) => Ok(content),
        None => invalid("'http-stream' does not contain 'content' or 'content-bin'"),
    }
}

/// A WebSocket message is checked like the other formats; this version has nobody to give it to.
fn check_message(fields: &Fields<'_>) -> Result<(), Invalid> {
    let kind = fields.string("type")?;
    if !matches!(kind, None | Some("text" | "binary" | "ping" | "pong")) {
        return invalid("'ws-message' contains 'type' with unknown value");
    }
    let content = fields.content("content-bin", "content")?;
    if content.is_none() && !matches!(kind, Some("ping" | "pong")) {
        return invalid("'ws-message' does not contain 'content' or 'content-bin'");
    }
    Ok(())
}

fn check_close(fields: &Fields<'_>) -> Result<(), Invalid> {
    if fields.integer("code")?.is_some_and(|code| !(0..=65535).contains(&code)) {
        return invalid(format!("{} contains 'code' with invalid value", fields.of));
    }
    fields.string("reason").map(|_| ())
}

/// An item for subscriptions with content filters reaches nobody while there are none: say so.
fn check_content_filters(fields: &Fields<'_>) -> Result<(), Invalid> {
    match fields.get("content-filters") {
        None => Ok(()),
        Some(Value::Array(filters)) if filters.is_empty() => Ok(()),
        Some(Value::Array(filters)) if filters.iter().all(Value::is_string) => {
            invalid(format!("{} contains 'content-filters', which are not supported yet", fields.of))
        }
        Some(_) => fields.wrong_type("content-filters"),
    }
}

/// Headers as an object, or as a list of pairs where names may repeat.
fn parse_headers(fields: &Fields<'_>) -> Result<Vec<(HeaderName, HeaderValue)>, Invalid> {
    let pairs: Vec<(&str, &Value)> = match fields.get("headers") {
        None => Vec::new(),
        Some(Value::Object(headers)) => headers.iter().map(|(n, v)| (n.as_str(), v)).collect(),
        Some(Value::Array(list)) => list.iter().map(|v| pair(fields, v)).collect::<Result<_, _>>()?,
        Some(_) => return fields.wrong_type("headers"),
    };
    let mut headers = Vec::with_capacity(pairs.len());
    for (name, value) in pairs {
        let Some(text) = value.as_str() else {
            return invalid(format!("headers contains '{name}' with wrong type"));
        };
        let (Ok(header), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(text)) else {
            return invalid(format!("headers contains '{name}', which is no valid HTTP header"));
        };
        if !is_gripds_own(&header) {
            headers.push((header, value));
        }
    }
    Ok(headers)
}

fn pair<'a>(fields: &Fields<'_>, value: &'a Value) -> Result<(&'a str, &'a Value), Invalid> {
    match value.as_array().map(Vec::as_slice) {
        Some([Value::String(name), value]) => Ok((name, value)),
        Some([_, _]) => fields.wrong_type("headers"),
        Some(_) => invalid("headers contains list with wrong number of elements"),
        None => fields.wrong_type("headers"),
    }
}

/// Headers that no publisher decides: GRIP's, and those by which gripd frames the answer.
fn is_gripds_own(name: &HeaderName) -> bool {
    super::instruct::is_grip(name)
        || matches!(name.as_str(), "content-length" | "transfer-encoding" | "connection" | "keep-alive")
}

#[derive(Clone, Copy)]
enum Action {
    Send,
    Close,
    Hint,
    Refresh,
}

fn unsupported<T>(fields: &Fields<'_>, action: Action) -> Result<T, Invalid> {
    let name = if matches!(action, Action::Hint) { "hint" } else { "refresh" };
    invalid(format!("{} contains 'action' '{name}', which is not supported yet", fields.of))
}

const fn quoted(format: Format) -> &'static str {
    match format {
        Format::HttpResponse => "'http-response'",
        Format::HttpStream => "'http-stream'",
        Format::WsMessage => "'ws-message'",
    }
}

/// An object of the item and what errors call it. A null is an absent field.
struct Fields<'a> {
    of: &'static str,
    object: &'a Object,
}

impl<'a> Fields<'a> {
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|v| !v.is_null())
    }

    fn wrong_type<T>(&self, name: &str) -> Result<T, Invalid> {
        invalid(format!("{} contains '{name}' with wrong type", self.of))
    }

    fn string(&self, name: &str) -> Result<Option<&'a str>, Invalid> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => self.wrong_type(name),
        }
    }

    fn object(&self, name: &str) -> Result<Option<&'a Object>, Invalid> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(_) => self.wrong_type(name),
        }
    }

    /// A whole number. Numeric texts and booleans count as numbers, as in Pushpin.
    fn integer(&self, name: &str) -> Result<Option<i64>, Invalid> {
        let number = match self.get(name) {
            None => return Ok(None),
            Some(Value::Bool(yes)) => Some(i64::from(*yes)),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(value) => value.as_i64().or_else(|| value.as_f64().map(|f| f.round() as i64)),
        };
        number.map_or_else(|| self.wrong_type(name), |n| Ok(Some(n)))
    }

    /// Base64 in `binary`, else the text in `text`.
    fn content(&self, binary: &str, text: &str) -> Result<Option<Bytes>, Invalid> {
        let Some(encoded) = self.string(binary)? else {
            return Ok(self.string(text)?.map(|t| Bytes::from(t.to_owned())));
        };
        match base64::decode(encoded) {
            Some(bytes) => Ok(Some(Bytes::from(bytes))),
            None => invalid(format!("{} contains '{binary}', which is not base64", self.of)),
        }
    }

    fn action(&self) -> Result<Action, Invalid> {
        match self.string("action")? {
            None | Some("send") => Ok(Action::Send),
            Some("close") => Ok(Action::Close),
            Some("hint") => Ok(Action::Hint),
            Some("refresh") => Ok(Action::Refresh),
            Some(other) => invalid(format!("{} contains unknown 'action' '{other}'", self.of)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn one(item: Value) -> Result<Item, String> {
        let batch = parse_batch(json!({ "items": [item] }).to_string().as_bytes());
        batch.map(|mut items| items.remove(0)).map_err(|e| e.to_string())
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
        assert_eq!((both.closes, both.stream), (Formats::ALL, Some(Bytes::from("bye"))));
    }

    #[test]
    fn formats_are_read_whole() {
        let item = one(json!({"channel": "c", "formats": {
            "http-stream": {"content-bin": "aGk=", "content": "no"},
            "http-response": {"code": "201", "reason": "Made", "headers": [["X-A", "1"], ["X-A", "2"], ["Grip-Hold", "x"],
                ["Content-Length", "9"]], "body": "b"},
            "ws-message": {"type": "ping"}, "other": 1}}))
        .unwrap();
        assert_eq!(item.stream.unwrap(), "hi");
        let response = item.response.unwrap();
        assert_eq!((response.code, response.reason.as_deref(), &response.body[..]), (201, Some("Made"), &b"b"[..]));
        let headers: Vec<_> = response.headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(headers, [("x-a", "1"), ("x-a", "2")]);
    }

    #[test]
    fn formats_may_stand_in_the_item_itself() {
        let item = one(json!({"channel": "c", "formats": null, "http-stream": {"content": "x"}})).unwrap();
        assert_eq!(item.stream.unwrap(), "x");
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
    fn what_is_not_supported_is_refused_or_named() {
        assert!(error(json!({"channel": "c", "action": "refresh"})).contains("not supported yet"));
        assert!(error(json!({"channel": "c", "action": "smile"})).contains("unknown 'action' 'smile'"));
        let patch = json!({"channel": "c", "formats": {"http-response": {"body-patch": []}}});
        assert!(error(patch).contains("not supported yet"));
        let filters =
            json!({"channel": "c", "formats": {"http-stream": {"content": "", "content-filters": ["build-id"]}}});
        assert!(error(filters).contains("not supported yet"));
        let item = json!({"channel": "c", "id": "2", "prev-id": "1", "http-stream": {"content": ""}});
        assert_eq!(one(item).unwrap().ignored, ["id", "prev-id"]);
    }

    proptest! {
        #[test]
        fn any_body_is_a_batch_or_an_error(body in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse_batch(&body);
        }

        #[test]
        fn text_content_arrives_byte_for_byte(content in ".*") {
            let item = one(json!({"channel": "c", "formats": {"http-stream": {"content": content}}})).unwrap();
            prop_assert_eq!(item.stream.unwrap(), content.as_bytes());
        }
    }
}
