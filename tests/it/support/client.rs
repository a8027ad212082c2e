//! A client that sees every byte.

use super::wire::Wire;
use gripd::net::ListenAddress;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// One connection to gripd.
pub(crate) struct Client {
    stream: Wire,
    /// Read and not yet asked for.
    ahead: Vec<u8>,
}

/// A plain `GET` for `path`.
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

    /// Connects by whatever leads to this address, and sends `request`.
    pub(crate) fn send_to(to: &ListenAddress, request: impl AsRef<[u8]>) -> Self {
        let mut client = Self { stream: Wire::connect(to), ahead: Vec::new() };
        client.write(request);
        client
    }

    /// One end of a connection that is there.
    pub(crate) const fn over(stream: TcpStream) -> Self {
        Self { stream: Wire::Tcp(stream), ahead: Vec::new() }
    }

    /// Our end's address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.stream.tcp().local_addr().unwrap()
    }

    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Writes until the other side has taken nothing for a second; returns how much it took.
    pub(crate) fn write_until_blocked(&mut self, bytes: &[u8]) -> usize {
        self.stream.tcp().set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut written = 0;
        while let Some(count) = self.stream.write(&bytes[written..]).ok().filter(|count| *count > 0) {
            written += count;
        }
        written
    }

    /// Whether something has come that was not read, or the end.
    pub(crate) fn is_answered(&self) -> bool {
        self.stream.tcp().set_nonblocking(true).unwrap();
        let answered = self.stream.tcp().peek(&mut [0]).is_ok() || !self.ahead.is_empty();
        self.stream.tcp().set_nonblocking(false).unwrap();
        answered
    }

    /// Ends our side; gripd takes it for gone.
    pub(crate) fn shut_down(&self) {
        self.stream.tcp().shutdown(Shutdown::Write).unwrap();
    }

    /// Reads up to and with `end`.
    pub(crate) fn read_until(&mut self, end: &str) -> String {
        let end = end.as_bytes();
        loop {
            if let Some(at) = self.ahead.windows(end.len()).position(|w| w == end) {
                let rest = self.ahead.split_off(at + end.len());
                return String::from_utf8(std::mem::replace(&mut self.ahead, rest)).unwrap();
            }
            let got = self.fill().unwrap_or_else(|e| panic!("{e}; so far: {}", self.text()));
            assert!(got > 0, "ended before {:?}; so far: {}", String::from_utf8_lossy(end), self.text());
        }
    }

    /// Reads the head of an answer.
    pub(crate) fn head(&mut self) -> String {
        self.read_until("\r\n\r\n").to_ascii_lowercase()
    }

    /// Reads so many bytes.
    pub(crate) fn read_exact(&mut self, count: usize) -> Vec<u8> {
        while self.ahead.len() < count {
            assert!(self.fill().unwrap() > 0, "ended early; so far: {}", self.text());
        }
        let rest = self.ahead.split_off(count);
        std::mem::replace(&mut self.ahead, rest)
    }

    /// Reads an answer with a length, and returns its head and its body.
    pub(crate) fn answer(&mut self) -> (String, String) {
        let head = self.head();
        let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).expect("a length");
        let body = self.read_exact(length.trim().parse().unwrap());
        (head, String::from_utf8(body).unwrap())
    }

    /// Reads a chunked body to its end mark, chunks resolved.
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

    /// Reads one chunk; the last one is empty.
    pub(crate) fn chunk(&mut self) -> String {
        let size = usize::from_str_radix(self.read_until("\r\n").trim(), 16).unwrap();
        let content = self.read_exact(size);
        assert_eq!(self.read_exact(2), b"\r\n");
        String::from_utf8(content).unwrap()
    }

    /// Reads to the end of the connection, which must be a clean one.
    pub(crate) fn rest(&mut self) -> String {
        self.read_on().unwrap_or_else(|e| panic!("no clean end: {e}; so far: {}", self.text()));
        String::from_utf8(std::mem::take(&mut self.ahead)).unwrap()
    }

    /// Reads to the end of the connection, however it ends. Says how, and what came.
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
