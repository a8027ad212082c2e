//! The client of gripd's control port. It uses plain HTTP, as any backend would.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinError;

/// How long a call to the control port may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The largest reply that is read from the control port, in bytes.
const ANSWER_MAX: usize = 1024 * 1024;
/// The number of characters of a refusal that an error repeats.
const REFUSAL_SHOWN: usize = 200;

/// The error of a call to the control port, in words for people.
#[derive(Debug)]
pub(super) struct ControlError(String);

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for ControlError {}

impl From<JoinError> for ControlError {
    /// Returns the error of a publish whose task has panicked or was cancelled.
    fn from(error: JoinError) -> Self {
        Self(error.to_string())
    }
}

/// A client of gripd's control port. Each call opens a new connection. A chat publishes seldom enough for that, and
/// no connection can be closed by gripd while it is idle.
#[derive(Clone)]
pub(super) struct ControlClient {
    addr: SocketAddr,
    token: Option<String>,
}

impl fmt::Debug for ControlClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlClient").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl ControlClient {
    /// Returns a client of the control port at `addr`, which sends `token` if there is one.
    pub(super) fn new(addr: SocketAddr, token: Option<String>) -> Self {
        Self { addr, token }
    }

    /// Publishes all items in one request and returns the receipt.
    pub(super) async fn publish(&self, items: &[Value]) -> Result<Value, ControlError> {
        let body = json!({ "items": items }).to_string();
        let answer = self.call(Method::POST, "/publish", body).await?;
        // Other GRIP proxies reply with plain text, which is a success as well.
        Ok(serde_json::from_slice(&answer)
            .unwrap_or_else(|_| json!({"message": String::from_utf8_lossy(&answer).trim()})))
    }

    /// Returns for how many seconds gripd refuses a connection that would hold `channel`, one of `channels`, because of
    /// a close with `deny-for`. Returns `None` if it does not refuse such a connection.
    pub(super) async fn denied(&self, channel: &str, channels: &[String]) -> Result<Option<u64>, ControlError> {
        let path = format!("/denied?prefix={}&limit=100", encode(channel));
        let answer = self.call(Method::GET, &path, String::new()).await?;
        let list = serde_json::from_slice::<DenialList>(&answer)
            .map_err(|error| self.error(&format!("answered {path} with something other than denials: {error}")))?;
        let applying = list.denied.iter().filter(|denial| denial.channel == channel && denial.selects(channels));
        Ok(applying.map(|denial| denial.seconds).max())
    }

    async fn call(&self, method: Method, path: &str, body: String) -> Result<Bytes, ControlError> {
        let answer = tokio::time::timeout(TIMEOUT, self.exchange(method, path, body));
        let (status, bytes) = match answer.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(self.error(&format!("failed: {}", chain(&*error)))),
            Err(_) => {
                return Err(self.error(&format!("did not answer within {} s", TIMEOUT.as_secs())));
            }
        };
        if status.is_success() {
            return Ok(bytes);
        }
        let text: String = String::from_utf8_lossy(&bytes).trim().chars().take(REFUSAL_SHOWN).collect();
        Err(self.error(&format!("answered {status} to {path}: {text}")))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<(StatusCode, Bytes), Box<dyn Error + Send + Sync>> {
        let mut request = Request::builder();
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request
            .method(method)
            .uri(path)
            .header(HOST, self.addr.to_string())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json")
            .header(CONNECTION, "close")
            .body(Full::new(Bytes::from(body)))?;
        let stream = TcpStream::connect(self.addr).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let answer = async {
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, ANSWER_MAX).collect().await?;
            Ok((head.status, body.to_bytes()))
        };
        let mut answer = pin!(answer);
        // The connection is polled here and not in a task of its own, so that a timeout drops it as well. If it ends
        // first, the response that it has read can still be taken.
        tokio::select! {
            answer = &mut answer => answer,
            _ = connection => answer.await,
        }
    }

    fn error(&self, what: &str) -> ControlError {
        ControlError(format!("gripd's control port {} {what}", self.addr))
    }
}

/// Returns the text of an error and of its causes, because the text of a hyper error often omits the cause.
fn chain(error: &(dyn Error + Send + Sync + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The reply of `GET /denied`.
#[derive(Deserialize)]
struct DenialList {
    denied: Vec<Denial>,
}

/// A channel that nobody may hold for some seconds, or nobody whom `with` and `except` select.
#[derive(Deserialize)]
struct Denial {
    channel: String,
    seconds: u64,
    with: Vec<String>,
    except: Vec<String>,
}

impl Denial {
    /// Returns whether the denial applies to a connection that holds these channels.
    fn selects(&self, channels: &[String]) -> bool {
        self.with.iter().all(|with| channels.contains(with))
            && !self.except.iter().any(|except| channels.contains(except))
    }
}

/// Percent-encodes all bytes but the unreserved characters of RFC 3986 2.3.
fn encode(text: &str) -> String {
    let encoded = text.bytes().map(|byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    });
    encoded.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Returns a client of a control port that gives a fixed reply to one request, and the request that the port has
    /// received.
    async fn with_answer(answer: &'static str) -> (ControlClient, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let control = ControlClient::new(listener.local_addr().unwrap(), None);
        let seen = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = Vec::new();
            while !String::from_utf8_lossy(&seen).contains("]}") && !seen.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut seen).await.unwrap();
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(seen).unwrap()
        });
        (control, seen)
    }

    #[tokio::test]
    async fn a_publish_returns_the_receipt() {
        let (control, _) = with_answer("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"a\": 1}\n").await;
        let receipt = control.publish(&[json!({"channel": "c"})]).await;
        assert_eq!(receipt.unwrap(), json!({"a": 1}));
    }

    #[tokio::test]
    async fn a_plain_text_success_is_a_success() {
        let (control, _) = with_answer("HTTP/1.1 200 OK\r\n\r\nPublished\n").await;
        let receipt = control.publish(&[]).await.unwrap();
        assert_eq!(receipt, json!({"message": "Published"}));
    }

    #[tokio::test]
    async fn a_refusal_is_passed_on_with_its_text() {
        let (control, _) = with_answer("HTTP/1.1 400 Bad Request\r\ncontent-length: 3\r\n\r\nbad").await;
        let error = control.publish(&[]).await.unwrap_err().to_string();
        assert!(error.ends_with("answered 400 Bad Request to /publish: bad"), "{error}");
    }

    #[tokio::test]
    async fn the_longest_denial_of_a_channel_counts_if_it_selects_the_connection() {
        let channels = ["user-ann".to_owned(), "conversation1".to_owned()];
        let (control, seen) = with_answer(concat!(
            "HTTP/1.1 200 OK\r\n\r\n",
            r#"{"denied":[{"channel":"user-ann","seconds":5,"with":[],"except":[]},"#,
            r#"{"channel":"user-ann","seconds":7,"with":["conversation1"],"except":["conversation2"]},"#,
            r#"{"channel":"user-ann","seconds":8,"with":["conversation2"],"except":[]},"#,
            r#"{"channel":"user-ann","seconds":9,"with":[],"except":["conversation1"]},"#,
            r#"{"channel":"user-anna","seconds":99,"with":[],"except":[]}],"next":null}"#
        ))
        .await;
        assert_eq!(control.denied("user-ann", &channels).await.unwrap(), Some(7));
        assert!(seen.await.unwrap().starts_with("GET /denied?prefix=user-ann&limit=100 HTTP/1.1\r\n"));
        let (control, _) = with_answer("HTTP/1.1 200 OK\r\n\r\n{\"denied\":[],\"next\":null}").await;
        assert_eq!(control.denied("user-ann", &channels).await.unwrap(), None);
    }

    #[tokio::test]
    async fn nobody_listening_is_a_clear_error() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let control = ControlClient::new(listener.local_addr().unwrap(), None);
        drop(listener);
        let error = control.denied("p", &[]).await.unwrap_err().to_string();
        assert!(error.contains("refused") && error.contains("control port 127.0.0.1:"), "{error}");
    }

    #[test]
    fn prefixes_are_percent_encoded() {
        assert_eq!(encode("a-_.~Z9 &=é"), "a-_.~Z9%20%26%3D%C3%A9");
    }
}
