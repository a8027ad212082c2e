//! The items that `gripd publish` and `gripd close` send.

use super::publisher_args::{CloseArgs, PublishArgs, SelectionArgs};
use crate::grip::base64;
use serde_json::{Map, Value, json};
use std::error::Error;

/// The beginnings of the lines of an event stream. A colon alone begins a comment.
const FIELDS: [&str; 5] = ["data:", "event:", "id:", "retry:", ":"];

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// An item as JSON, to which members are added one by one.
struct ItemJson(Map<String, Value>);

impl ItemJson {
    fn new(channel: &str, selection: &SelectionArgs) -> Self {
        let mut item = Self(Map::new());
        item.set("channel", channel);
        for (name, channels) in [("with", &selection.with), ("except", &selection.except)] {
            if !channels.is_empty() {
                item.set(name, channels.as_slice());
            }
        }
        item
    }

    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// Adds a member, unless its value is `None`.
    fn set_some(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }
}

/// Returns the item that the arguments of `gripd publish` describe.
///
/// # Errors
/// The file of the content cannot be read, or the patch is not JSON.
pub(super) fn of_publish(args: &PublishArgs) -> Result<Value> {
    let mut item = ItemJson::new(&args.channel, &args.selection);
    item.set_some("id", args.id.as_deref());
    item.set_some("prev-id", args.prev_id.as_deref());
    let sender = args.sender.iter().map(|sender| ("sender".to_owned(), json!(sender)));
    let meta: Map<String, Value> = args.meta.iter().map(|(n, v)| (n.clone(), json!(v))).chain(sender).collect();
    if !meta.is_empty() {
        item.set("meta", meta);
    }
    if args.no_seq {
        item.set("no-seq", true);
    }
    if let Some(content) = &args.content {
        item.set("formats", formats(args, content)?);
    }
    if args.hint || args.close {
        item.set("action", if args.hint { "hint" } else { "close" });
    }
    Ok(item.0.into())
}

/// Returns the item that the arguments of `gripd close` describe.
pub(super) fn of_close(args: &CloseArgs) -> Value {
    let mut item = ItemJson::new(&args.channel, &args.selection);
    item.set("action", "close");
    item.set_some("deny-for", args.deny_for.map(|time| time.as_secs()));
    item.set_some("code", args.code);
    item.set_some("reason", args.reason.as_deref());
    item.0.into()
}

/// Returns the content in every format, in `http-response` alone if it is a patch, or in `sse` alone if the arguments
/// say so. Text from the command line gets a final newline in the HTTP formats, as with `pushpin-publish`. The content
/// of a file is not changed.
fn formats(args: &PublishArgs, content: &str) -> Result<Value> {
    let (message, content) = match content.strip_prefix('@') {
        Some(path) => {
            let bytes = std::fs::read(path).map_err(|e| format!("{path}: {e}"))?;
            (bytes.clone(), bytes)
        }
        None => (content.as_bytes().to_vec(), format!("{content}{}", if args.no_eol { "" } else { "\n" }).into_bytes()),
    };
    if args.sse {
        let text = std::str::from_utf8(&message).map_err(|_| "the data of a server-sent event must be UTF-8 text")?;
        return Ok(json!({ "sse": event(args, text) }));
    }
    let headers: Vec<[&String; 2]> = args.header.iter().map(|(name, value)| [name, value]).collect();
    let mut response = Map::from_iter([("code".to_owned(), json!(args.code)), ("headers".to_owned(), json!(headers))]);
    if args.patch {
        let patch: Value = serde_json::from_slice(&message).map_err(|e| format!("the patch is not valid JSON: {e}"))?;
        response.insert("body-patch".to_owned(), patch);
        return Ok(json!({ "http-response": response }));
    }
    let (name, body) = part("body", &content);
    response.insert(name, body);
    let stream = Map::from_iter([part("content", &content)]);
    let mut formats = Map::from_iter([
        ("http-response".to_owned(), response.into()),
        ("http-stream".to_owned(), stream.into()),
        ("ws-message".to_owned(), Map::from_iter([part("content", &message)]).into()),
    ]);
    if let Ok(text) = std::str::from_utf8(&message)
        && (args.event.is_some() || args.retry.is_some() || !is_event_stream(&content))
    {
        formats.insert("sse".to_owned(), event(args, text));
    }
    Ok(formats.into())
}

/// Returns the server-sent event with this data.
fn event(args: &PublishArgs, data: &str) -> Value {
    let mut event = ItemJson(Map::new());
    event.set_some("event", args.event.as_deref());
    event.set_some("id", args.id.as_deref());
    event.set_some("retry", args.retry.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)));
    // A file usually ends with a newline, which is not meant as another line of the data.
    event.set("data", data.strip_suffix('\n').unwrap_or(data));
    event.0.into()
}

/// Returns whether the content for streams consists of complete events, as in `data: hello` and an empty line, so that
/// it must not become the data of another event.
fn is_event_stream(content: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(content) else { return false };
    let is_field = |line: &str| FIELDS.iter().any(|field| line.starts_with(field));
    text.ends_with("\n\n")
        && text.lines().all(|line| line.is_empty() || is_field(line))
        && text.lines().any(|line| line.starts_with("data:"))
}

/// Returns the field `name` for UTF-8 text. For other content, returns the field `name-bin`, in base64.
fn part(name: &str, content: &[u8]) -> (String, Value) {
    match std::str::from_utf8(content) {
        Ok(text) => (name.to_owned(), json!(text)),
        Err(_) => (format!("{name}-bin"), json!(base64::encode(content))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::args::{Args, Command};
    use super::*;
    use clap::Parser;

    /// Returns the item of a command such as `publish a text`.
    fn item(command: &[&str]) -> Value {
        match Args::try_parse_from(["gripd"].iter().chain(command)).unwrap().command {
            Some(Command::Publish(args)) => of_publish(&args).unwrap(),
            Some(Command::Close(args)) => of_close(&args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_close_has_its_options() {
        assert_eq!(item(&["close", "c"]), json!({ "channel": "c", "action": "close" }));
        let all = ["close", "c", "--deny-for", "5m", "--with", "a", "--with", "b", "--except", "d"];
        let reason = ["--code", "4001", "--reason", "out"];
        let expected = json!({
            "channel": "c", "action": "close", "deny-for": 300, "with": ["a", "b"], "except": ["d"], "code": 4001,
            "reason": "out",
        });
        assert_eq!(item(&[&all[..], &reason].concat()), expected);
        for wrong in ["0", "0.5", "1.5s", "soon", "-1"] {
            assert!(Args::try_parse_from(["gripd", "close", "c", &format!("--deny-for={wrong}")]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn content_goes_to_every_kind_of_connection() {
        let formats = item(&["publish", "c", "hello", "--id", "7"])["formats"].clone();
        let expected = json!({
            "http-response": { "code": 200, "headers": [], "body": "hello\n" },
            "http-stream": { "content": "hello\n" },
            "ws-message": { "content": "hello" },
            "sse": { "data": "hello", "id": "7" },
        });
        assert_eq!(formats, expected);
        // Content that is an event stream already is left as it is, unless an option asks for an event.
        for written in ["data: x\n", ": hi\nevent: a\ndata: x\n\ndata: y\n"] {
            assert_eq!(item(&["publish", "c", written])["formats"].get("sse"), None, "{written}");
            let event = item(&["publish", "c", written, "--event", "e"])["formats"]["sse"].clone();
            assert_eq!(event, json!({ "event": "e", "data": written.strip_suffix('\n').unwrap() }));
        }
    }

    #[test]
    fn a_text_that_only_looks_like_an_event_is_data() {
        for text in [":-) hi", "id: 5 was lost", "event: party at 8", "data: x", "retry: 5", "data: x\nand more\n"] {
            let event = item(&["publish", "c", text])["formats"]["sse"].clone();
            assert_eq!(event, json!({ "data": text.strip_suffix('\n').unwrap_or(text) }), "{text}");
        }
    }

    #[test]
    fn an_event_goes_to_event_streams_alone() {
        let command = ["publish", "c", "a b", "--sse", "--event", "chat", "--id", "7", "--retry", "5s"];
        let expected = json!({
            "channel": "c", "id": "7",
            "formats": { "sse": { "event": "chat", "id": "7", "retry": 5000, "data": "a b" } },
        });
        assert_eq!(item(&command), expected);
    }
}
