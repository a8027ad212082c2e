//! Both ends of a WebSocket, frame by frame: a client, and an origin that says what a test has it say.

use super::{Client, DEADLINE, Gripd, eventually};
use gripd::config::Config;
use std::net::{SocketAddr, TcpListener};

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// The key of RFC 6455 1.3, and what is answered to it.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) last: bool,
    pub(crate) compressed: bool,
    pub(crate) content: Vec<u8>,
}

impl Frame {
    /// A whole message.
    pub(crate) fn whole(opcode: u8, content: impl AsRef<[u8]>) -> Self {
        Self { opcode, last: true, compressed: false, content: content.as_ref().to_vec() }
    }
}

/// One end of a WebSocket.
pub(crate) struct Socket {
    bytes: Client,
    /// It is the client's end: its frames are masked, and those of the other end are not.
    masks: bool,
}

/// A handshake for `path` with further header lines, each ended by CRLF.
pub(crate) fn handshake(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{headers}\r\n"
    )
}

impl Socket {
    /// Sends a handshake, as a client.
    pub(crate) fn ask(to: SocketAddr, path: &str, headers: &str) -> Self {
        Self { bytes: Client::send(to, handshake(path, headers)), masks: true }
    }

    /// The same, with a receive buffer of the smallest size.
    pub(crate) fn ask_with_small_buffer(to: SocketAddr, path: &str) -> Self {
        Self { bytes: Client::with_small_buffer(to, handshake(path, "")), masks: true }
    }

    /// A client's end that may never be a WebSocket.
    pub(crate) const fn around(bytes: Client) -> Self {
        Self { bytes, masks: true }
    }

    /// The client, before it is a WebSocket.
    pub(crate) const fn http(&mut self) -> &mut Client {
        &mut self.bytes
    }

    /// Reads that the handshake is accepted; returns the head of the answer in lower case.
    pub(crate) fn accepted(&mut self) -> String {
        let head = self.bytes.read_until("\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains(ACCEPT), "{head}");
        head.to_ascii_lowercase()
    }

    /// Sends bytes as they are.
    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.bytes.write(bytes);
    }

    /// Sends a whole message.
    pub(crate) fn send(&mut self, opcode: u8, content: impl AsRef<[u8]>) {
        self.fragment(opcode, true, content);
    }

    /// Sends a frame.
    pub(crate) fn fragment(&mut self, opcode: u8, last: bool, content: impl AsRef<[u8]>) {
        let lead = if last { 0x80 | opcode } else { opcode };
        self.bytes.write(frame(lead, self.masks, content.as_ref()));
    }

    /// Sends a Close frame.
    pub(crate) fn close(&mut self, code: u16, reason: &str) {
        self.send(CLOSE, [&code.to_be_bytes(), reason.as_bytes()].concat());
    }

    /// Reads a frame.
    pub(crate) fn read(&mut self) -> Frame {
        let head = self.bytes.read_exact(2);
        assert_eq!(head[0] & 0x30, 0, "reserved bits are set");
        assert_eq!(head[1] & 0x80 == 0, self.masks, "only a client masks");
        let length = match head[1] & 0x7f {
            126 => self.number(2),
            127 => self.number(8),
            length => length.into(),
        };
        let key = if self.masks { vec![0; 4] } else { self.bytes.read_exact(4) };
        let content = self.bytes.read_exact(length).iter().zip(key.iter().cycle()).map(|(b, k)| b ^ k).collect();
        Frame { opcode: head[0] & 15, last: head[0] & 0x80 != 0, compressed: head[0] & 0x40 != 0, content }
    }

    fn number(&mut self, bytes: usize) -> usize {
        self.bytes.read_exact(bytes).into_iter().fold(0, |n, b| n << 8 | usize::from(b))
    }

    /// Reads a message in however many frames; returns its opcode and content.
    pub(crate) fn message(&mut self) -> (u8, Vec<u8>) {
        let Frame { opcode, mut last, mut content, .. } = self.read();
        while !last {
            let next = self.read();
            assert_eq!(next.opcode, CONTINUATION, "{next:?}");
            content.extend(next.content);
            last = next.last;
        }
        (opcode, content)
    }

    /// Reads a text message.
    pub(crate) fn text(&mut self) -> String {
        let (opcode, content) = self.message();
        assert_eq!(opcode, TEXT, "{}", content.escape_ascii());
        String::from_utf8(content).unwrap()
    }

    /// Reads a Close frame; returns its code, 0 if there is none, and its reason.
    pub(crate) fn closed(&mut self) -> (u16, String) {
        let Frame { opcode, content, .. } = self.read();
        assert_eq!(opcode, CLOSE, "{}", content.escape_ascii());
        let Some((code, reason)) = content.split_first_chunk() else { return (0, String::new()) };
        (u16::from_be_bytes(*code), String::from_utf8(reason.to_vec()).unwrap())
    }

    /// Reads a Close frame and then a clean end.
    pub(crate) fn ended(&mut self) -> (u16, String) {
        let closed = self.closed();
        assert_eq!(self.bytes.rest(), "", "nothing follows a Close frame");
        closed
    }

    /// Reads to the end, however that is.
    pub(crate) fn rest_and_end(&mut self) -> (Vec<u8>, std::io::Result<()>) {
        self.bytes.rest_and_end()
    }
}

/// A frame by its first byte.
pub(crate) fn frame(lead: u8, masked: bool, content: &[u8]) -> Vec<u8> {
    let (bit, key) = if masked { (0x80, [1, 2, 3, 4]) } else { (0, [0; 4]) };
    let mut out = vec![lead];
    match content.len() {
        length @ 0..126 => out.push(bit | length as u8),
        length @ 126..0x1_0000 => {
            out.push(bit | 126);
            out.extend((length as u16).to_be_bytes());
        }
        length => {
            out.push(bit | 127);
            out.extend((length as u64).to_be_bytes());
        }
    }
    if masked {
        out.extend(key);
    }
    out.extend(content.iter().zip(key.iter().cycle()).map(|(b, k)| b ^ k));
    out
}

/// An origin that speaks WebSocket itself.
pub(crate) struct SocketOrigin {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
}

/// A handshake that has reached it.
pub(crate) struct Knock {
    client: Client,
    /// Its head, in lower case.
    pub(crate) head: String,
}

impl SocketOrigin {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    /// A gripd in front of it, with options of the route, and of the target.
    pub(crate) fn gripd(&self, options: &str, target: &str, change: impl FnOnce(&mut Config)) -> Gripd {
        Gripd::to(&[format!("*{options} {}{target}", self.address)], change)
    }

    /// The next handshake.
    pub(crate) fn next(&self) -> Knock {
        let mut accepted = None;
        eventually("the origin is asked", || {
            accepted = self.listener.accept().ok();
            accepted.is_some()
        });
        let (stream, _) = accepted.unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut client = Client::over(stream);
        let head = client.head();
        Knock { client, head }
    }

    /// A client and the origin's end of its WebSocket. `headers` are further lines of the origin's answer.
    pub(crate) fn open(&self, gripd: &Gripd, headers: &str) -> (Socket, Socket) {
        let mut client = Socket::ask(gripd.clients, "/chat", "");
        let end = self.next().accept(headers);
        client.accepted();
        (client, end)
    }
}

impl Knock {
    /// Answers with these bytes, and then no more.
    pub(crate) fn answer(mut self, bytes: &str) {
        self.client.write(bytes);
        self.client.shut_down();
    }

    /// Accepts, with further header lines.
    pub(crate) fn accept(self, headers: &str) -> Socket {
        self.accept_by(ACCEPT, headers)
    }

    /// Accepts with some value of `Sec-WebSocket-Accept`.
    pub(crate) fn accept_by(mut self, accept: &str, headers: &str) -> Socket {
        self.client.write(format!(
            "HTTP/1.1 101 Welcome\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n{headers}\r\n"
        ));
        Socket { bytes: self.client, masks: false }
    }
}
