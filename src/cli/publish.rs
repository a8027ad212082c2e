//! `gripd publish` and `gripd close`: a publisher for the terminal.

use super::args::{Close, Publish};
use super::{FAILURE, OK, USAGE};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use std::error::Error;
use std::time::Duration;
use tokio::net::TcpStream;

/// How long a publish may take, its wait for room and for closing connections included.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The largest reply that is read.
const MAX_REPLY: usize = 1 << 20;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// `gripd publish`.
pub(super) fn publish(args: &Publish) -> u8 {
    let content = match args.content.as_deref().map(read).transpose() {
        Ok(content) => content,
        Err(error) => return fail(USAGE, error.as_ref()),
    };
    let mut item = Map::from_iter([("channel".to_owned(), json!(args.channel))]);
    if let Some(content) = content {
        item.insert("formats".to_owned(), formats(&content));
    }
    if args.close {
        item.insert("action".to_owned(), json!("close"));
    }
    match post(&args.server.spec, &item) {
        Ok(_) => {
            println!("Published");
            OK
        }
        Err(error) => fail(FAILURE, error.as_ref()),
    }
}

/// `gripd close`.
pub(super) fn close(args: &Close) -> u8 {
    let item = json!({ "channel": args.channel, "action": "close" });
    match post(&args.server.spec, &item).and_then(|reply| closed(&reply)) {
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

/// Text gets a newline, as with `pushpin-publish`; what a file holds stays as it is.
fn read(content: &str) -> Result<Vec<u8>> {
    match content.strip_prefix('@') {
        Some(path) => std::fs::read(path).map_err(|e| format!("{path}: {e}").into()),
        None => Ok(format!("{content}\n").into_bytes()),
    }
}

fn formats(content: &[u8]) -> Value {
    let of = |name: &str, message: &[u8]| match std::str::from_utf8(message) {
        Ok(text) => json!({ name: text }),
        Err(_) => json!({ format!("{name}-bin"): base64(message) }),
    };
    let line = content.strip_suffix(b"\n").unwrap_or(content);
    json!({
        "http-response": of("body", content),
        "http-stream": of("content", content),
        "ws-message": of("content", line),
    })
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// How many connections the first item closed, and how many of them were cut.
fn closed(reply: &Value) -> Result<(u64, u64)> {
    let count = |name| reply.pointer(&format!("/items/0/{name}")).and_then(Value::as_u64);
    count("closed").zip(count("cut")).ok_or_else(|| format!("the reply tells of no connections: {reply}").into())
}

/// Publishes one item and returns the receipt.
fn post(spec: &str, item: &impl serde::Serialize) -> Result<Value> {
    let body = json!({ "items": [item] }).to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let sent = tokio::time::timeout(TIMEOUT, send(spec, body)).await;
        sent.map_err(|_| format!("{spec} did not answer within {} seconds", TIMEOUT.as_secs()))?
    })
}

async fn send(spec: &str, body: String) -> Result<Value> {
    let uri: Uri = spec.parse().map_err(|e| format!("'{spec}' is no URL: {e}"))?;
    if uri.scheme_str() != Some("http") {
        return Err(format!("'{spec}' is no http:// URL").into());
    }
    let host = uri.host().ok_or_else(|| format!("'{spec}' names no host"))?;
    let port = uri.port_u16().unwrap_or(80);
    let address = (host.trim_matches(['[', ']']), port);
    let stream = TcpStream::connect(address).await.map_err(|e| format!("cannot connect to {host}:{port}: {e}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::post(format!("{}/publish/", uri.path().trim_end_matches('/')))
        .header(HOST, format!("{host}:{port}"))
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT, "application/json")
        .body(Full::new(Bytes::from(body)))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let reply = Limited::new(response.into_body(), MAX_REPLY).collect().await.map_err(|e| e.to_string())?.to_bytes();
    if status.is_success() {
        return Ok(serde_json::from_slice(&reply)?);
    }
    Err(format!("{status}: {}", String::from_utf8_lossy(&reply).trim()).into())
}
