//! The format `sse` of an item: a server-sent event, rendered as the HTML standard describes event streams.

use super::super::json_object::Fields;
use super::super::{InvalidText, invalid};
use super::StreamFormat;
use super::formats::content_filters;
use bytes::Bytes;
use serde_json::Value;

/// Parses a server-sent event, and renders it as the bytes that are appended to an event stream.
///
/// # Errors
/// The event has no field, a field has the wrong type, or a field contains a character that would end it.
pub(super) fn event(fields: &Fields<'_>) -> Result<StreamFormat, InvalidText> {
    let mut text = String::new();
    for name in ["event", "id"] {
        if let Some(value) = fields.string(name)? {
            // A browser ignores an id with NUL, and a line end would begin another field.
            if value.contains(['\0', '\r', '\n']) {
                return fields.invalid_value(name);
            }
            push(&mut text, name, value);
        }
    }
    if let Some(retry) = fields.integer("retry")? {
        if retry < 0 {
            return fields.invalid_value("retry");
        }
        push(&mut text, "retry", &retry.to_string());
    }
    match fields.get("data") {
        None => {}
        Some(Value::String(data)) => push_lines(&mut text, data),
        // JSON has no line ends outside of its strings, where they are escaped.
        Some(json) => push(&mut text, "data", &json.to_string()),
    }
    if text.is_empty() {
        return invalid("'sse' does not contain 'data', 'event', 'id' or 'retry'");
    }
    text.push('\n');
    Ok(StreamFormat { content: Bytes::from(text), content_filters: content_filters(fields)? })
}

/// Appends the data, with a field for each of its lines. A browser puts the lines together again.
fn push_lines(text: &mut String, data: &str) {
    // In an event stream, CR LF and CR end a line as well as LF.
    for line in data.replace("\r\n", "\n").split(['\r', '\n']) {
        push(text, "data", line);
    }
}

fn push(text: &mut String, name: &str, value: &str) {
    text.push_str(name);
    text.push_str(": ");
    text.push_str(value);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::super::{Item, parse_batch};
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn item(format: Value) -> Result<Item, String> {
        let body = json!({ "items": [{ "channel": "c", "formats": { "sse": format } }] });
        let batch = parse_batch(body.to_string().as_bytes());
        batch.map(|mut batch| batch.items.remove(0)).map_err(|error| error.to_string().replace("Invalid format: ", ""))
    }

    fn rendered(format: Value) -> Result<String, String> {
        item(format).map(|item| String::from_utf8(item.events.unwrap().content.to_vec()).unwrap())
    }

    /// Returns the type, the last id and the data of each event in an event stream, as a browser reads it.
    fn read(stream: &str) -> Vec<(String, String, String)> {
        let (mut events, mut kind, mut id, mut data) = (Vec::new(), String::new(), String::new(), Vec::new());
        for line in stream.replace("\r\n", "\n").split(['\r', '\n']) {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
            match name {
                "" if line.is_empty() => {
                    let (kind, data) = (std::mem::take(&mut kind), std::mem::take(&mut data));
                    if !data.is_empty() {
                        events.push((kind, id.clone(), data.join("\n")));
                    }
                }
                "event" => kind = value,
                "id" => id = value,
                "data" => data.push(value),
                _ => {}
            }
        }
        events
    }

    #[test]
    fn an_event_is_rendered_with_its_fields() {
        let all = json!({ "event": "chat", "id": "7", "retry": 1000, "data": "hello" });
        assert_eq!(rendered(all).unwrap(), "event: chat\nid: 7\nretry: 1000\ndata: hello\n\n");
        assert_eq!(rendered(json!({ "data": "a\r\nb\n" })).unwrap(), "data: a\ndata: b\ndata: \n\n");
        assert_eq!(rendered(json!({ "data": { "n": [1, "x\ny"] } })).unwrap(), "data: {\"n\":[1,\"x\\ny\"]}\n\n");
        for (data, text) in [(json!(5), "5"), (json!(false), "false"), (json!([]), "[]"), (json!(""), "")] {
            assert_eq!(rendered(json!({ "data": data })).unwrap(), format!("data: {text}\n\n"));
        }
        assert_eq!(rendered(json!({ "id": "" })).unwrap(), "id: \n\n");
        let filtered = item(json!({ "data": "x", "content-filters": ["var-subst"] })).unwrap();
        assert_eq!(filtered.events.unwrap().content_filters.unwrap()[..], ["var-subst".into()]);
    }

    #[test]
    fn an_event_that_would_be_read_differently_is_refused() {
        for name in ["event", "id"] {
            for wrong in ["a\nb", "a\rb", "\0"] {
                let why = rendered(json!({ name: wrong, "data": "x" })).unwrap_err();
                assert_eq!(why, format!("'sse' contains '{name}' with invalid value"), "{wrong:?}");
            }
            let why = rendered(json!({ name: 5, "data": "x" })).unwrap_err();
            assert_eq!(why, format!("'sse' contains '{name}' with wrong type"));
        }
        assert_eq!(rendered(json!({ "retry": -1 })).unwrap_err(), "'sse' contains 'retry' with invalid value");
        assert_eq!(rendered(json!({ "retry": "soon" })).unwrap_err(), "'sse' contains 'retry' with wrong type");
        let none = "'sse' does not contain 'data', 'event', 'id' or 'retry'";
        for empty in [json!({}), json!({ "data": null }), json!({ "content": "x" })] {
            assert_eq!(rendered(empty).unwrap_err(), none);
        }
        assert_eq!(
            rendered(json!({ "action": "close" })).unwrap_err(),
            "'sse' contains 'action': put the action into 'http-stream', which includes event streams"
        );
    }

    proptest! {
        #[test]
        fn a_browser_reads_the_data_that_was_published(
            data in "([a-z: \r\n\u{0}é]|data|\r\n){0,20}",
            event in "[^\u{0}\r\n]{0,8}",
            id in "[^\u{0}\r\n]{0,8}",
        ) {
            let stream = rendered(json!({ "event": event, "id": id, "data": data })).unwrap();
            let data = data.replace("\r\n", "\n").replace('\r', "\n");
            prop_assert_eq!(read(&format!("{stream}{stream}")), [(event.clone(), id.clone(), data.clone()), (event, id, data)]);
        }
    }
}
