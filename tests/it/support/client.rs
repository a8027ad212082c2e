//! An HTTP client that sends and reads raw bytes, so that a test sees exactly what gripd sends.

use super::DEADLINE;
use super::wire::Wire;
use gripd::net::ListenAddress;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// One end of a connection, usually of a client to gripd.
pub(crate) struct Client {
    stream: Wire,
    /// The bytes that were read from the connection and that no caller has taken yet.
    ahead: Vec<u8>,
}

/// Returns a plain `GET` request for `path`.
pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

impl Client {
    /// Connects with a receive buffer of the smallest size, and sends `request`.
    pub(crate) fn with_small_buffer(to: SocketAddr, request: impl AsRef<[u8]>) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(1).unwrap();
        socket.connect(&to.into()).unwrap();
        let mut client = Self::over(socket.into());
        client.write(request);
        client
    }

    /// Connects and sends `request`.
    pub(crate) fn send(to: SocketAddr, request: impl AsRef<[u8]>) -> Self {
        Self::send_to(&to.into(), request)
    }

    /// Connects to an address of any transport, and sends `request`.
    pub(crate) fn send_to(to: &ListenAddress, request: impl AsRef<[u8]>) -> Self {
        let mut client = Self { stream: Wire::connect(to), ahead: Vec::new() };
        client.write(request);
        client
    }

    /// Wraps a connection that is already open.
    pub(crate) const fn over(stream: TcpStream) -> Self {
        Self { stream: Wire::Tcp(stream), ahead: Vec::new() }
    }

    /// Returns the address of this end of the connection.
    pub(crate) fn address(&self) -> SocketAddr {
        self.stream.tcp().local_addr().unwrap()
    }

    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Writes `bytes` until all of them are written, or until the other side takes nothing for a second. Returns the
    /// number of bytes that were taken.
    pub(crate) fn write_until_blocked(&mut self, bytes: &[u8]) -> usize {
        self.stream.tcp().set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut written = 0;
        while let Some(count) = self.stream.write(&bytes[written..]).ok().filter(|count| *count > 0) {
            written += count;
        }
        written
    }

    /// Returns whether unread bytes, or the end of the connection, have arrived. Does not wait for them.
    pub(crate) fn is_answered(&self) -> bool {
        self.stream.tcp().set_nonblocking(true).unwrap();
        let answered = self.stream.tcp().peek(&mut [0]).is_ok() || !self.ahead.is_empty();
        self.stream.tcp().set_nonblocking(false).unwrap();
        answered
    }

    /// Shuts down this end for writing. gripd treats a held client that does so as gone.
    pub(crate) fn shut_down(&self) {
        self.stream.tcp().shutdown(Shutdown::Write).unwrap();
    }

    /// Reads up to and including `end`, and returns what was read.
    pub(crate) fn read_until(&mut self, end: &str) -> String {
        let (begin, end) = (Instant::now(), end.as_bytes());
        loop {
            // Keep-alives could go on forever, so the time limit of a single read is not enough.
            assert!(begin.elapsed() < DEADLINE, "no {:?} in {}", String::from_utf8_lossy(end), self.text());
            if let Some(at) = self.ahead.windows(end.len()).position(|w| w == end) {
                let rest = self.ahead.split_off(at + end.len());
                return String::from_utf8(std::mem::replace(&mut self.ahead, rest)).unwrap();
            }
            let got = self.fill().unwrap_or_else(|e| panic!("reading failed: {e}; so far: {}", self.text()));
            assert!(got > 0, "the connection ended before {:?}; so far: {}", String::from_utf8_lossy(end), self.text());
        }
    }

    /// Reads the head of a response or a request, and returns it in lower case.
    pub(crate) fn head(&mut self) -> String {
        self.read_until("\r\n\r\n").to_ascii_lowercase()
    }

    /// Reads exactly `count` bytes.
    pub(crate) fn read_exact(&mut self, count: usize) -> Vec<u8> {
        while self.ahead.len() < count {
            assert!(self.fill().unwrap() > 0, "the connection ended too early; so far: {}", self.text());
        }
        let rest = self.ahead.split_off(count);
        std::mem::replace(&mut self.ahead, rest)
    }

    /// Reads a response that has a `Content-Length`. Returns its head in lower case, and its body.
    pub(crate) fn answer(&mut self) -> (String, String) {
        let head = self.head();
        let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).expect("no Content-Length");
        let body = self.read_exact(length.trim().parse().unwrap());
        (head, String::from_utf8(body).unwrap())
    }

    /// Reads a chunked body up to and including its last chunk, and returns the content of its chunks.
    pub(crate) fn chunks(&mut self) -> String {
        let mut body = String::new();
        loop {
            let chunk = self.chunk();
            if chunk.is_empty() {
                return body;
            }
            body.push_str(&chunk);
        }
    }

    /// Reads one chunk, and returns its content. The last chunk of a body is empty.
    pub(crate) fn chunk(&mut self) -> String {
        let size = usize::from_str_radix(self.read_until("\r\n").trim(), 16).unwrap();
        let content = self.read_exact(size);
        assert_eq!(self.read_exact(2), b"\r\n");
        String::from_utf8(content).unwrap()
    }

    /// Reads to the end of the connection, which must be a clean end, and returns what came before it.
    pub(crate) fn rest(&mut self) -> String {
        self.read_on().unwrap_or_else(|e| panic!("no clean end: {e}; so far: {}", self.text()));
        String::from_utf8(std::mem::take(&mut self.ahead)).unwrap()
    }

    /// Reads to the end of the connection, however it ends. Returns the bytes that came before the end, and the error
    /// if the connection did not end cleanly.
    pub(crate) fn rest_and_end(&mut self) -> (Vec<u8>, io::Result<()>) {
        let end = self.read_on();
        (std::mem::take(&mut self.ahead), end)
    }

    fn read_on(&mut self) -> io::Result<()> {
        while self.fill()? > 0 {}
        Ok(())
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 65536];
        let count = self.stream.read(&mut buffer)?;
        self.ahead.extend_from_slice(&buffer[..count]);
        Ok(count)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.ahead[..self.ahead.len().min(2000)]).into_owned()
    }
}
