//! Both ends of a WebSocket, frame by frame: a client, and an origin that a test controls.

use super::{Client, DEADLINE, Gripd, eventually};
use gripd::config::Config;
use std::net::{SocketAddr, TcpListener};

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// The `Sec-WebSocket-Key` in the example of RFC 6455 1.3.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The `Sec-WebSocket-Accept` that answers [`KEY`].
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A frame that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) last: bool,
    pub(crate) compressed: bool,
    pub(crate) content: Vec<u8>,
}

impl Frame {
    /// Returns the frame of a whole message, which is not compressed.
    pub(crate) fn whole(opcode: u8, content: impl AsRef<[u8]>) -> Self {
        Self { opcode, last: true, compressed: false, content: content.as_ref().to_vec() }
    }
}

/// One end of a WebSocket.
pub(crate) struct Socket {
    bytes: Client,
    /// Whether this is the client's end, whose frames are masked. Those of the other end are not.
    masks: bool,
}

/// Returns a handshake for `path` with further header lines, each ended by CRLF.
pub(crate) fn handshake(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{headers}\r\n"
    )
}

impl Socket {
    /// Connects a client that sends a handshake for `path`, with further header lines.
    pub(crate) fn ask(to: SocketAddr, path: &str, headers: &str) -> Self {
        Self { bytes: Client::send(to, handshake(path, headers)), masks: true }
    }

    /// Connects a client that has a receive buffer of the smallest size and sends a handshake for `path`.
    pub(crate) fn ask_with_small_buffer(to: SocketAddr, path: &str) -> Self {
        Self { bytes: Client::with_small_buffer(to, handshake(path, "")), masks: true }
    }

    /// Wraps the connection of a client, which need not become a WebSocket.
    pub(crate) const fn around(bytes: Client) -> Self {
        Self { bytes, masks: true }
    }

    /// Returns the connection as a stream of bytes.
    pub(crate) const fn http(&mut self) -> &mut Client {
        &mut self.bytes
    }

    /// Reads the response to the handshake, which must accept it. Returns the head of the response in lower case.
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

    /// Sends a whole message, or a control frame, in one frame.
    pub(crate) fn send(&mut self, opcode: u8, content: impl AsRef<[u8]>) {
        self.fragment(opcode, true, content);
    }

    /// Sends a frame, with which its message ends if `last` is `true`.
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
        assert_eq!(head[1] & 0x80 == 0, self.masks, "a client must mask its frames, and its peer must not");
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

    /// Reads a message that consists of one or more frames. Returns its opcode and content.
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

    /// Reads a Close frame. Returns its code, or 0 if it has none, and its reason.
    pub(crate) fn closed(&mut self) -> (u16, String) {
        let Frame { opcode, content, .. } = self.read();
        assert_eq!(opcode, CLOSE, "{}", content.escape_ascii());
        let Some((code, reason)) = content.split_first_chunk() else { return (0, String::new()) };
        (u16::from_be_bytes(*code), String::from_utf8(reason.to_vec()).unwrap())
    }

    /// Reads a Close frame, and then the clean end of the connection. Returns the code and the reason of the frame.
    pub(crate) fn ended(&mut self) -> (u16, String) {
        let closed = self.closed();
        assert_eq!(self.bytes.rest(), "", "bytes followed the Close frame");
        closed
    }

    /// Reads to the end of the connection, however it ends. Returns the bytes that came before the end, and the error
    /// if the connection did not end cleanly.
    pub(crate) fn rest_and_end(&mut self) -> (Vec<u8>, std::io::Result<()>) {
        self.bytes.rest_and_end()
    }
}

/// Returns the bytes of a frame with this first byte, which consists of flags and opcode (RFC 6455 5.2).
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

/// A handshake, or another request, that waits for the response of the origin.
pub(crate) struct Knock {
    client: Client,
    /// The head of the request, in lower case.
    pub(crate) head: String,
}

impl SocketOrigin {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    /// Starts a gripd in front of this origin, with options of the route and of the target.
    pub(crate) fn gripd(&self, options: &str, target: &str, change: impl FnOnce(&mut Config)) -> Gripd {
        Gripd::to(&[format!("*{options} {}{target}", self.address)], change)
    }

    /// Waits for the next handshake, or another request on a new connection.
    pub(crate) fn next(&self) -> Knock {
        let mut accepted = None;
        eventually("gripd connects to the origin", || {
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

    /// Connects a client whose WebSocket this origin accepts, with further header lines in the response. Returns the
    /// client's end and the origin's end.
    pub(crate) fn open(&self, gripd: &Gripd, headers: &str) -> (Socket, Socket) {
        let mut client = Socket::ask(gripd.clients, "/chat", "");
        let end = self.next().accept(headers);
        client.accepted();
        (client, end)
    }
}

impl Knock {
    /// Responds with these bytes, and then shuts down this end for writing.
    pub(crate) fn answer(mut self, bytes: &str) {
        self.client.write(bytes);
        self.client.shut_down();
    }

    /// Accepts the handshake, with further header lines.
    pub(crate) fn accept(self, headers: &str) -> Socket {
        self.accept_by(ACCEPT, headers)
    }

    /// Accepts the handshake with this value of `Sec-WebSocket-Accept`, which may be wrong, and further header lines.
    pub(crate) fn accept_by(mut self, accept: &str, headers: &str) -> Socket {
        self.client.write(format!(
            "HTTP/1.1 101 Welcome\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n{headers}\r\n"
        ));
        Socket { bytes: self.client, masks: false }
    }
}
