//! A gripd on a clock that stands still while any task has something to do, and jumps to the next timer when none has.
//! A test that waits for seconds of this clock takes no time, and its result does not depend on the speed of the
//! machine.
//!
//! gripd, its origin and its clients run in one thread, over connections in memory.

use super::{DEADLINE, Gripd};
use gripd::config::Config;
use gripd::daemon::run_in_single_thread;
use gripd::net::{ListenAddress, MemoryAddress, MemoryClient, MemoryServer};
use serde_json::Value;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Duration, timeout};

/// The time on the paused clock after which a scene fails.
const LONGEST: Duration = Duration::from_secs(3600);

/// A gripd on a paused clock.
pub(crate) struct Paused {
    clients: MemoryAddress,
    control: MemoryAddress,
    origin: MemoryServer,
    /// The number of requests that the origin has read completely.
    asked: Rc<Cell<usize>>,
}

/// A request as the origin has read it.
pub(crate) struct Heard {
    pub(crate) target: String,
    pub(crate) body: Vec<u8>,
}

/// Runs a scene with a gripd on a paused clock. gripd has one route, to `origin:80` or to a target with options. Panics
/// if the scene takes too long, or if connections or channels are left at its end.
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
        let gripd: JoinHandle<()> = spawn_local(async { run_in_single_thread(config).await.unwrap() });
        let begin = Instant::now();
        let paused = Paused { clients, control, origin, asked: Rc::default() };
        // If the scene waits for something that never happens, the paused clock jumps to the end of this time at once.
        let result = timeout(LONGEST, scene(&paused)).await.expect("the scene took an hour of the paused clock");
        assert!(!gripd.is_finished(), "gripd has ended");
        let is_empty = async |gripd: &Paused| gripd.metric("parked").await + gripd.metric("channels").await == 0;
        paused.eventually("all connections and channels are gone", is_empty).await;
        assert!(begin.elapsed() < DEADLINE, "the scene took more than {DEADLINE:?} of real time");
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
    /// Makes the origin answer each request with the bytes that `answer` returns.
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

    /// Connects a client that sends these bytes.
    pub(crate) async fn send(&self, bytes: impl AsRef<[u8]>) -> PausedClient {
        let mut client = self.connect();
        client.write(bytes).await;
        client
    }

    /// Returns the number of requests that the origin has read completely.
    pub(crate) fn asked(&self) -> usize {
        self.asked.get()
    }

    /// Publishes items. Returns their entries in the receipt.
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

    /// Calls `done` every 10 milliseconds of the paused clock until it returns `true`. After 20 seconds of this clock,
    /// panics with `what`, which says what should have happened.
    pub(crate) async fn eventually(&self, what: &str, mut done: impl AsyncFnMut(&Self) -> bool) {
        for _ in 0..2000 {
            if done(self).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not within 20 seconds of the paused clock: {what}");
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
    /// The bytes that were read from the connection and that no caller has taken yet.
    ahead: Vec<u8>,
}

impl PausedClient {
    fn over(end: MemoryClient) -> Self {
        Self { end, ahead: Vec::new() }
    }

    /// Sends bytes, and waits until the connection has taken all of them.
    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.end.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends bytes. Returns `false` if gripd has ended the connection.
    pub(crate) async fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.end.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Reads exactly `count` bytes.
    pub(crate) async fn read_exact(&mut self, count: usize) -> Vec<u8> {
        while self.ahead.len() < count {
            assert!(self.fill().await, "the connection has ended after {} of {count} bytes", self.ahead.len());
        }
        self.ahead.drain(..count).collect()
    }

    /// Reads up to and including `end`, and returns what was read.
    pub(crate) async fn read_until(&mut self, end: &str) -> String {
        self.try_read_until(end)
            .await
            .unwrap_or_else(|| panic!("no {end:?} in {:?}", String::from_utf8_lossy(&self.ahead)))
    }

    /// Reads to the end of the connection, which must be a clean end. Returns the number of bytes that came before it.
    pub(crate) async fn rest(&mut self) -> usize {
        while self.fill().await {}
        assert!(!self.end.is_reset(), "the connection was reset");
        std::mem::take(&mut self.ahead).len()
    }

    /// Reads a response. Returns its head, and its body, which must have a `Content-Length` unless it is empty.
    pub(crate) async fn answer(&mut self) -> (String, String) {
        let head = self.read_until("\r\n\r\n").await;
        let body = self.read_exact(length(&head)).await;
        (head, String::from_utf8(body).unwrap())
    }

    /// Reads a request. Returns `None` if the connection ends before the request does.
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

    /// Reads more bytes. Returns `false` if the connection has ended.
    async fn fill(&mut self) -> bool {
        self.end.read_buf(&mut self.ahead).await.is_ok_and(|count| count > 0)
    }
}

/// Returns a response of 200 with further header lines, each ended by CRLF, and a body.
pub(crate) fn ok(headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// Returns the `Content-Length` in a head, or 0 if it has none.
fn length(head: &str) -> usize {
    let value = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    value.unwrap_or_default()
}
