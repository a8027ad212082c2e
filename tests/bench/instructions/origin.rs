//! An origin that needs few instructions: it reads only the target of a request, and sends a short response.

use super::clients::read_until;
use gripd::net::{MemoryClient, MemoryServer};
use tokio::io::AsyncWriteExt;
use tokio::task::spawn_local;

/// Accepts connections and answers their requests. The response to `/stream?a,b` holds the client with the channels
/// `a` and `b`. All other responses are without GRIP.
pub(super) async fn serve(server: MemoryServer) {
    loop {
        spawn_local(serve_connection(server.accept().await));
    }
}

async fn serve_connection(mut connection: MemoryClient) {
    loop {
        let Some(head) = read_until(&mut connection, b"\r\n\r\n").await else { return };
        let target = head.split(|byte| *byte == b' ').nth(1).unwrap();
        let answer = match target.strip_prefix(b"/stream?") {
            Some(channels) => hold(std::str::from_utf8(channels).unwrap()),
            None => b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nplain\n".to_vec(),
        };
        if connection.write_all(&answer).await.is_err() {
            return;
        }
    }
}

fn hold(channels: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nGrip-Hold: stream\r\nGrip-Channel: {channels}\r\n\
         Content-Length: 6\r\n\r\nhello\n"
    )
    .into_bytes()
}
