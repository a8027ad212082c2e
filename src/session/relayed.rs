//! The line to an origin that speaks WebSocket itself.

use super::side_message::{OriginLeave, Piece, SideMessage, TooLarge};
use crate::grip::{CloseReason, MessageKind};
use crate::net::{NextWrite, ReadOutcome};
use crate::origin::{Failure, FailureKind, RelayedSocket};
use crate::wire::websocket::{Fragment, FrameDecoder, FramePart, masked_close};
use aws_lc_rs::rand;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

/// The number of bytes waiting for the origin beyond which nothing more is read from the client.
const MAX_WAITING: usize = 64 << 10;
/// The size up to which the fragments of a message are collected, so that it is relayed as one frame. Larger messages
/// are relayed in several frames.
const MAX_GATHERED: usize = 64 << 10;
/// How long an origin may take to read the last bytes and to close its side of the connection.
const CLOSE_WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// The line to an origin that speaks WebSocket itself.
pub(super) struct RelayedLine {
    socket: RelayedSocket,
    decoder: FrameDecoder,
    /// The frames for the origin. The first `written` bytes are already with the kernel.
    out: Vec<u8>,
    written: usize,
    /// The message that the client is sending, as far as it is collected.
    told: GatheredMessage,
    /// The message that the origin is sending, as far as it is collected.
    heard: GatheredMessage,
    said: VecDeque<SideMessage>,
    /// The number of bytes that the client has sent of its current message, after decompression.
    length: u32,
    /// Whether a Close frame was queued. At most one is sent.
    closed: bool,
}

impl RelayedLine {
    pub(super) fn new(socket: RelayedSocket, early: &[u8]) -> Self {
        let mut line = Self {
            socket,
            decoder: FrameDecoder::of_origin(),
            out: Vec::new(),
            written: 0,
            told: GatheredMessage::default(),
            heard: GatheredMessage::default(),
            said: VecDeque::new(),
            length: 0,
            closed: false,
        };
        line.decode(early);
        line
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<SideMessage> {
        let mut buffer = [0; 16 << 10];
        loop {
            if let Some(said) = self.said.pop_front() {
                return Poll::Ready(said);
            }
            self.said = VecDeque::new();
            if let Err(error) = ready!(self.socket.transport.poll_readable(cx)) {
                return Poll::Ready(lost(error.to_string()));
            }
            match self.socket.transport.try_read(&mut buffer) {
                Ok(ReadOutcome::End) => {
                    return Poll::Ready(lost("the origin ended the connection without a Close frame"));
                }
                Ok(ReadOutcome::Bytes(count)) => self.decode(&buffer[..count]),
                Ok(ReadOutcome::Nothing) => {}
                Err(error) => return Poll::Ready(lost(error.to_string())),
            }
        }
    }

    fn decode(&mut self, mut input: &[u8]) {
        loop {
            let said = match self.decoder.next(&mut input) {
                Ok(None) => return,
                Ok(Some(FramePart::Data { kind, content, first, last })) => {
                    self.heard.add(Piece { kind, content: content.into(), first, last }).map(SideMessage::Data)
                }
                Ok(Some(FramePart::Ping(content))) => Some(SideMessage::Control(MessageKind::Ping, content.into())),
                Ok(Some(FramePart::Pong(content))) => Some(SideMessage::Control(MessageKind::Pong, content.into())),
                Ok(Some(FramePart::Close(reason))) => Some(SideMessage::Close(reason)),
                Err(violation) => {
                    self.close(Some(&violation.reason()));
                    Some(lost(format!("the origin broke the protocol: {violation}")))
                }
            };
            self.said.extend(said);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.out.len() - self.written >= MAX_WAITING
    }

    /// Queues a piece of a message for the origin. The whole message may have at most `most` bytes.
    ///
    /// # Errors
    /// The message is larger than `most` bytes.
    pub(super) fn data(&mut self, piece: Piece, most: usize) -> Result<(), TooLarge> {
        let length = if piece.first { 0 } else { self.length as usize } + piece.content.len();
        self.length = u32::try_from(length).map_err(|_| TooLarge)?;
        if length > most {
            return Err(TooLarge);
        }
        if let Some(piece) = self.told.add(piece) {
            self.out.extend_from_slice(&piece.as_fragment().masked(key()));
        }
        Ok(())
    }

    pub(super) fn control(&mut self, kind: MessageKind, content: &[u8]) {
        self.out.extend_from_slice(&Fragment::whole(kind, content).masked(key()));
    }

    pub(super) fn close(&mut self, reason: Option<&CloseReason>) {
        if !std::mem::replace(&mut self.closed, true) {
            self.out.extend_from_slice(&masked_close(reason, key()));
        }
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.out.len() {
            ready!(self.socket.transport.poll_writable(cx))?;
            let written =
                self.socket.transport.try_write(&[IoSlice::new(&self.out[self.written..])], NextWrite::Bytes)?;
            self.advance(written);
        }
        // The buffer is freed, so that idle lines keep no memory for it.
        (self.out, self.written) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }

    /// Records that the kernel has taken `count` more bytes. They are removed from the buffer once there are many.
    fn advance(&mut self, count: usize) {
        self.written += count;
        if self.written >= MAX_WAITING {
            self.out.drain(..self.written);
            self.written = 0;
        }
    }

    /// Returns whether anything is still to be sent to the origin. If the client is gone without a Close, the
    /// connection to the origin is closed without one as well.
    pub(super) const fn has_last_words(&self, leave: &OriginLeave) -> bool {
        self.written < self.out.len() || matches!(leave, OriginLeave::Close(_))
    }

    /// Sends the remaining bytes and the Close frame, and waits until the origin has closed its side, for at most
    /// [`CLOSE_WRITE_TIMEOUT`].
    pub(super) async fn wind_up(mut self: Box<Self>, leave: OriginLeave) {
        if let OriginLeave::Close(reason) = leave {
            self.close(reason.as_ref());
        }
        let Self { mut socket, out, written, .. } = *self;
        let said = async {
            socket.transport.write_all(&out[written..]).await?;
            socket.transport.shutdown().await?;
            tokio::io::copy(&mut socket.transport, &mut tokio::io::sink()).await
        };
        // The result does not matter: an origin that does not read in time misses the end of the conversation.
        let _ = timeout(CLOSE_WRITE_TIMEOUT, said).await;
    }
}

/// The fragments of a message, which are joined while they are small. Many receivers refuse a message that consists
/// of thousands of fragments.
#[derive(Default)]
struct GatheredMessage {
    content: Vec<u8>,
    /// Whether the beginning of the message was already relayed.
    begun: bool,
}

impl GatheredMessage {
    /// Adds the next fragment. Returns the piece that is to be relayed now, if enough is collected or the message is
    /// complete.
    fn add(&mut self, piece: Piece) -> Option<Piece> {
        let Piece { kind, content, last, .. } = piece;
        let whole = last && self.content.is_empty();
        if !whole {
            self.content.extend_from_slice(&content);
            if !last && self.content.len() < MAX_GATHERED {
                return None;
            }
        }
        let content = if whole { content } else { std::mem::take(&mut self.content).into() };
        let first = !std::mem::replace(&mut self.begun, !last);
        Some(Piece { kind, content, first, last })
    }
}

/// Returns a key that masks a frame (RFC 6455 5.3).
fn key() -> [u8; 4] {
    let mut key = [0; 4];
    // If no random bytes can be had, the key stays zero. Masking protects intermediaries that misread WebSocket
    // traffic (RFC 6455 10.3), and none is expected between gripd and its origin.
    let _ = rand::fill(&mut key);
    key
}

fn lost(why: impl Into<String>) -> SideMessage {
    SideMessage::Lost(Failure::because(FailureKind::Lost, why.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::future::poll_fn;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn what_is_through_is_not_kept_while_more_waits() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        socket2::SockRef::from(&socket).set_send_buffer_size(8 << 10).unwrap();
        let (mut origin, _) = listener.accept().await.unwrap();
        let mut line = RelayedLine::new(RelayedSocket::uncounted(socket.into()), &[]);
        let mut buffer = vec![0; 32 << 10];
        for _ in 0..100 {
            while !line.is_full() {
                let content = Bytes::from(vec![0; 10_000]);
                line.data(Piece { kind: MessageKind::Binary, content, first: true, last: true }, 10_000).unwrap();
            }
            // The origin reads a little, so that writing continues without ever emptying the buffer.
            tokio::select! {
                biased;
                written = poll_fn(|cx| line.poll_write(cx)) => written.unwrap(),
                read = origin.read(&mut buffer) => assert!(read.unwrap() > 0),
            }
            assert!(line.out.len() < 4 * MAX_WAITING, "{} bytes are kept", line.out.len());
        }
    }
}
