//! A gripd on a clock that stands still while anybody has something to do, and jumps to the next timer when nobody has. What
//! takes seconds otherwise takes none, and nothing depends on how fast the machine is.
//!
//! gripd, its origin and its clients run in one thread, over connections in memory.

use super::{DEADLINE, Gripd};
use gripd::config::Config;
use gripd::daemon::run_in_place;
use gripd::net::{ListenAddress, MemoryAddress, MemoryClient, MemoryServer};
use serde_json::Value;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Duration, timeout};

/// The time that a scene has on the paused clock.
const LONGEST: Duration = Duration::from_secs(3600);

/// A gripd on a paused clock.
pub(crate) struct Paused {
    clients: MemoryAddress,
    control: MemoryAddress,
    origin: MemoryServer,
    /// Requests that its origin has read whole.
    asked: Rc<Cell<usize>>,
}

/// A request as the origin has read it.
pub(crate) struct Heard {
    pub(crate) target: String,
    pub(crate) body: Vec<u8>,
}

/// Runs a scene with a gripd that has one route, to `origin:80` or to a target with options.
pub(crate) fn paused<T>(route: &str, configure: impl FnOnce(&mut Config), scene: impl AsyncFnOnce(&Paused) -> T) -> T {
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build_local(LocalOptions::default()).unwrap();
    runtime.block_on(async {
        let (clients, control, origin) = (MemoryAddress::default(), MemoryAddress::default(), MemoryServer::default());
        let mut config = Gripd::config(&[route.to_owned()]);
        config.listen = ListenAddress::Memory(clients.clone());
        config.control.unix = Some(ListenAddress::Memory(control.clone()));
        config.origin.memory = Some(origin.clone());
        config.shards = 1;
        configure(&mut config);
        let gripd: JoinHandle<()> = spawn_local(async { run_in_place(config).await.unwrap() });
        let begin = Instant::now();
        let paused = Paused { clients, control, origin, asked: Rc::default() };
        // On this clock a scene that waits for something that never comes is over at once.
        let result = timeout(LONGEST, scene(&paused)).await.expect("an hour has passed on the paused clock");
        assert!(!gripd.is_finished(), "gripd has ended");
        let is_empty = async |gripd: &Paused| gripd.metric("parked").await + gripd.metric("channels").await == 0;
        paused.eventually("nothing is left", is_empty).await;
        assert!(begin.elapsed() < DEADLINE, "it took longer than a test may take");
        result
    })
}

/// Answers each request of each connection.
async fn serve(origin: MemoryServer, answer: Rc<impl Fn(&Heard) -> Vec<u8> + 'static>, asked: Rc<Cell<usize>>) {
    loop {
        let mut connection = PausedClient::over(origin.accept().await);
        let (answer, asked) = (Rc::clone(&answer), Rc::clone(&asked));
        spawn_local(async move {
            while let Some(heard) = connection.request().await {
                asked.set(asked.get() + 1);
                if !connection.try_write(answer(&heard)).await {
                    return;
                }
            }
        });
    }
}

impl Paused {
    /// Has the origin answer each request with the bytes that `answer` returns.
    pub(crate) fn origin_answers(&self, answer: impl Fn(&Heard) -> Vec<u8> + 'static) {
        spawn_local(serve(self.origin.clone(), Rc::new(answer), Rc::clone(&self.asked)));
    }

    /// Waits until gripd connects to the origin. Returns the origin's end.
    pub(crate) async fn at_origin(&self) -> PausedClient {
        PausedClient::over(self.origin.accept().await)
    }

    /// Connects a client.
    pub(crate) fn connect(&self) -> PausedClient {
        PausedClient::over(self.clients.connect())
    }

    /// Connects a client that sends this.
    pub(crate) async fn send(&self, bytes: impl AsRef<[u8]>) -> PausedClient {
        let mut client = self.connect();
        client.write(bytes).await;
        client
    }

    /// Returns how many requests the origin has read whole.
    pub(crate) fn asked(&self) -> usize {
        self.asked.get()
    }

    /// Publishes items and returns what the receipt says of them.
    pub(crate) async fn publish(&self, items: &Value) -> Value {
        let body = serde_json::json!({ "items": items }).to_string();
        let head = format!("Host: localhost\r\nAccept: application/json\r\nContent-Length: {}", body.len());
        let (status, reply) = self.ask(&format!("POST /publish HTTP/1.1\r\n{head}\r\n\r\n{body}")).await;
        assert!(status.starts_with("HTTP/1.1 200"), "{status}: {reply}");
        serde_json::from_str::<Value>(&reply).unwrap()["items"].take()
    }

    /// Returns how many connections hold a channel.
    pub(crate) async fn connections(&self, channel: &str) -> u64 {
        let (_, reply) = self.ask(&format!("GET /channels/{channel} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        serde_json::from_str::<Value>(&reply).unwrap()["connections"].as_u64().unwrap()
    }

    /// Returns the value of a metric.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let (_, reply) = self.ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        let name = format!("gripd_{name} ");
        let line = reply.lines().find_map(|line| line.strip_prefix(&name));
        line.unwrap_or_else(|| panic!("no {name}in {reply}")).parse().unwrap()
    }

    /// Waits, in the time of the paused clock, until something is so.
    pub(crate) async fn eventually(&self, what: &str, mut done: impl AsyncFnMut(&Self) -> bool) {
        for _ in 0..2000 {
            if done(self).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not in time: {what}");
    }

    async fn ask(&self, request: &str) -> (String, String) {
        let mut client = PausedClient::over(self.control.connect());
        client.write(request).await;
        client.answer().await
    }
}

/// One end of a connection: a client of gripd, or its origin.
pub(crate) struct PausedClient {
    end: MemoryClient,
    /// Bytes that were read and not asked for yet.
    ahead: Vec<u8>,
}

impl PausedClient {
    fn over(end: MemoryClient) -> Self {
        Self { end, ahead: Vec::new() }
    }

    /// Sends bytes, and waits until all of them are under way.
    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.end.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends bytes. Returns whether gripd has taken them: it may have ended the connection.
    pub(crate) async fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.end.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Reads so many bytes.
    pub(crate) async fn read_exact(&mut self, count: usize) -> Vec<u8> {
        while self.ahead.len() < count {
            assert!(self.fill().await, "the connection has ended after {} of {count} bytes", self.ahead.len());
        }
        self.ahead.drain(..count).collect()
    }

    /// Reads up to and with `end`.
    pub(crate) async fn read_until(&mut self, end: &str) -> String {
        self.try_read_until(end)
            .await
            .unwrap_or_else(|| panic!("no {end:?} in {:?}", String::from_utf8_lossy(&self.ahead)))
    }

    /// Reads to the end of the connection, which must be a clean one. Returns how many bytes came.
    pub(crate) async fn rest(&mut self) -> usize {
        while self.fill().await {}
        assert!(!self.end.is_reset(), "the connection was reset");
        std::mem::take(&mut self.ahead).len()
    }

    /// Reads a head, and a body that has a length.
    pub(crate) async fn answer(&mut self) -> (String, String) {
        let head = self.read_until("\r\n\r\n").await;
        let body = self.read_exact(length(&head)).await;
        (head, String::from_utf8(body).unwrap())
    }

    /// Reads a request; `None`: the connection has ended.
    async fn request(&mut self) -> Option<Heard> {
        let head = self.try_read_until("\r\n\r\n").await?;
        let target = head.split(' ').nth(1).unwrap().to_owned();
        let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            self.try_read_until("0\r\n\r\n").await?.into_bytes()
        } else {
            let length = length(&head);
            while self.ahead.len() < length {
                if !self.fill().await {
                    return None;
                }
            }
            self.ahead.drain(..length).collect()
        };
        Some(Heard { target, body })
    }

    async fn try_read_until(&mut self, end: &str) -> Option<String> {
        loop {
            if let Some(at) = self.ahead.windows(end.len()).position(|bytes| bytes == end.as_bytes()) {
                let bytes: Vec<u8> = self.ahead.drain(..at + end.len()).collect();
                return Some(String::from_utf8(bytes).unwrap());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// Reads some more. Returns whether there was any.
    async fn fill(&mut self) -> bool {
        self.end.read_buf(&mut self.ahead).await.is_ok_and(|count| count > 0)
    }
}

/// Returns an answer of 200 with further header lines, each ended by CRLF, and a body.
pub(crate) fn ok(headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// Returns the length of the body behind a head.
fn length(head: &str) -> usize {
    let value = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    value.unwrap_or_default()
}
