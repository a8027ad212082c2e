//! `gripd publish` and `gripd close`: a publisher for the terminal.

use super::args::{self, CloseArgs, PublishArgs};
use super::server::ControlServer;
use super::{FAILURE, OK, USAGE};
use crate::control::Published;
use crate::grip::base64;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::error::Error;
use std::time::Duration;
use tokio::runtime::{Builder, LocalOptions};

/// The maximum duration of a publish. It includes the time for which the batch waits for room and for connections to
/// close.
const TIMEOUT: Duration = Duration::from_secs(30);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Runs `gripd publish`.
pub(super) fn publish(args: &PublishArgs) -> u8 {
    let item = match item(args) {
        Ok(item) => item,
        Err(error) => return fail(USAGE, error.as_ref()),
    };
    match post(&args.server, &item) {
        Ok(_) => {
            println!("Published");
            OK
        }
        Err(error) => fail(FAILURE, error.as_ref()),
    }
}

/// Returns the item that the arguments describe.
fn item(args: &PublishArgs) -> Result<Map<String, Value>> {
    let mut item = Map::from_iter([("channel".to_owned(), json!(args.channel))]);
    let mut set = |name: &str, value: Value| drop(item.insert(name.to_owned(), value));
    for (name, id) in [("id", &args.id), ("prev-id", &args.prev_id)] {
        if let Some(id) = id {
            set(name, json!(id));
        }
    }
    let sender = args.sender.iter().map(|sender| ("sender".to_owned(), json!(sender)));
    let meta: Map<String, Value> = args.meta.iter().map(|(n, v)| (n.clone(), json!(v))).chain(sender).collect();
    if !meta.is_empty() {
        set("meta", meta.into());
    }
    if args.no_seq {
        set("no-seq", json!(true));
    }
    if let Some(content) = &args.content {
        set("formats", formats(args, content)?);
    }
    if args.hint || args.close {
        set("action", json!(if args.hint { "hint" } else { "close" }));
    }
    Ok(item)
}

/// Runs `gripd close`.
pub(super) fn close(args: &CloseArgs) -> u8 {
    let item = json!({ "channel": args.channel, "action": "close" });
    match post(&args.server, &item).and_then(|reply| closed(&reply)) {
        Ok((closed, cut)) => {
            let plural = if closed == 1 { "connection" } else { "connections" };
            println!("Closed {closed} {plural}, {cut} of them cut");
            OK
        }
        Err(error) => fail(FAILURE, error.as_ref()),
    }
}

fn fail(code: u8, error: &dyn Error) -> u8 {
    eprintln!("Error: {error}");
    code
}

/// Returns the content in every format, or in `http-response` alone if it is a patch. Text from the command line gets
/// a final newline in the HTTP formats, as with `pushpin-publish`. The content of a file is not changed.
fn formats(args: &PublishArgs, content: &str) -> Result<Value> {
    let (message, content) = match content.strip_prefix('@') {
        Some(path) => {
            let bytes = std::fs::read(path).map_err(|e| format!("{path}: {e}"))?;
            (bytes.clone(), bytes)
        }
        None => (content.as_bytes().to_vec(), format!("{content}{}", if args.no_eol { "" } else { "\n" }).into_bytes()),
    };
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
    let message = Map::from_iter([part("content", &message)]);
    Ok(json!({ "http-response": response, "http-stream": stream, "ws-message": message }))
}

/// Returns the field `name` for UTF-8 text. For other content, returns the field `name-bin`, in base64.
fn part(name: &str, content: &[u8]) -> (String, Value) {
    match std::str::from_utf8(content) {
        Ok(text) => (name.to_owned(), json!(text)),
        Err(_) => (format!("{name}-bin"), json!(base64::encode(content))),
    }
}

/// Returns the number of connections that the first item of a reply has closed, and how many of these were cut.
fn closed(reply: &Bytes) -> Result<(u32, u32)> {
    let published = serde_json::from_slice::<Published>(reply).ok();
    let first = published.and_then(|published| published.items.into_iter().next());
    let counts = first.and_then(|outcome| outcome.closed.zip(outcome.cut));
    // Pushpin replies with text that contains no counts.
    counts.ok_or_else(|| {
        let text = String::from_utf8_lossy(reply);
        let shown: String = text.trim().chars().filter(|c| !c.is_control()).take(200).collect();
        format!("the reply does not say how many connections were closed: {shown}").into()
    })
}

/// Publishes one item and returns the reply.
fn post(server: &args::ServerArgs, item: &impl serde::Serialize) -> Result<Bytes> {
    let server = ControlServer::of(server)?;
    let body = json!({ "items": [item] }).to_string();
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let sent = tokio::time::timeout(TIMEOUT, server.post(body)).await;
        sent.map_err(|_| format!("{server} did not answer within {} seconds", TIMEOUT.as_secs()))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_of_a_close_are_read_from_whatever_else_is_told() {
        let read =
            |reply: &'static str| closed(&Bytes::from_static(reply.as_bytes())).map_err(|error| error.to_string());
        assert_eq!(read(r#"{"message":"Published","items":[{"channel":"a","closed":3,"cut":1}]}"#), Ok((3, 1)));
        assert_eq!(read(r#"{"items":[{"closed":3,"cut":0,"later":{"more":1}}],"nodes":{}}"#), Ok((3, 0)));
        let none = "the reply does not say how many connections were closed: ";
        assert_eq!(read("Published\n"), Err(format!("{none}Published")));
        assert_eq!(read("\u{1b}[2J{\"items\":[]}"), Err(format!("{none}[2J{{\"items\":[]}}")));
    }
}
