//! Clients and publishers that are connected to gripd in memory.

use gripd::net::{MemoryAddress, MemoryClient};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Reads until the bytes that have arrived end with `end`, and returns all of them. Returns `None` if the
/// connection ends before that.
pub(super) async fn read_until(client: &mut MemoryClient, end: &[u8]) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    while !all.ends_with(end) {
        if client.read_buf(&mut all).await.ok()? == 0 {
            return None;
        }
    }
    Some(all)
}

/// Sends a request that gripd passes on, and reads the response.
pub(super) async fn plain(client: &mut MemoryClient) {
    client
        .write_all(b"GET /plain HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
        .await
        .unwrap();
    read_until(client, b"plain\n").await.expect("the connection ended before the response");
}

/// Connects a client, waits until its stream is held with these channels, and returns it.
pub(super) async fn held(address: &MemoryAddress, channels: &str) -> MemoryClient {
    let mut client = address.connect();
    let request = format!("GET /stream?{channels} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    read_until(&mut client, b"hello\n\r\n").await.expect("the connection ended before its stream was held");
    client
}

/// A publisher with one connection to the control API.
pub(super) struct Publisher(MemoryClient);

impl Publisher {
    pub(super) fn new(address: &MemoryAddress) -> Self {
        Self(address.connect())
    }

    /// Publishes a batch of `items` items to a channel. Only the content of the last one ends with "last".
    pub(super) async fn say(&mut self, channel: &str, items: usize) {
        let item = |number: usize| {
            let text = if number + 1 == items {
                "data: the last\n"
            } else {
                "data: a message of some length, as people write it\n"
            };
            serde_json::json!({ "channel": channel, "formats": { "http-stream": { "content": text } } })
        };
        let items: Vec<_> = (0..items).map(item).collect();
        self.post(&serde_json::json!({ "items": items }).to_string()).await;
    }

    /// Closes the connections of a channel. There must be exactly one.
    pub(super) async fn close(&mut self, channel: &str) {
        let reply = self.post(&format!(r#"{{"items":[{{"channel":"{channel}","action":"close"}}]}}"#)).await;
        assert!(reply.contains("\"closed\":1"), "{reply}");
    }

    async fn post(&mut self, body: &str) -> String {
        let length = body.len();
        let request = format!(
            "POST /publish/ HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        self.0.write_all(request.as_bytes()).await.unwrap();
        let reply = read_until(&mut self.0, b"}\n").await.expect("the connection ended before the reply");
        String::from_utf8(reply).unwrap()
    }
}
