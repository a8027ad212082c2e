//! The relaying of messages between the two sides of a session.

use super::given;
use super::line::Line;
use super::live::{End, STUCK, Session};
use super::phase::{ClosedBy, Closing, Relaying};
use super::side_message::{Leave, Piece, SideMessage};
use crate::grip::{CloseReason, MessageKind};
use crate::shard::Reason;
use crate::wire::websocket::{self, Message, Part};
use bytes::Bytes;
use std::time::Duration;
use tokio::time::Instant;

/// The largest frame, in bytes, that is collected with others before it is put into the outlet.
const SMALL: usize = 4 << 10;
/// The number of collected bytes from which on they are put into the outlet.
const MAX_SMALL: usize = 16 << 10;
/// How long an origin may still answer the earlier messages of a client that gripd has closed.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

impl Session<'_> {
    /// Decodes bytes from the client and forwards their messages, until the session has to wait. Bytes that are not
    /// decoded are kept. Returns how the session ends, or `None` if it continues.
    pub(super) fn decode(&mut self, mut input: &[u8]) -> Option<End> {
        // Bytes that follow the close of the client's side are ignored.
        while self.phase.closing().is_none() {
            let stuck = self.must_wait();
            if stuck || self.budget == 0 {
                self.unread = input.into();
                self.parked.pause_reading();
                if stuck {
                    self.extras().stuck_at = Some(Instant::now() + STUCK);
                }
                return None;
            }
            let end = match self.decoder.next(&mut input) {
                Ok(None) => return None,
                Ok(Some(part)) => self.tell(part),
                Err(violation) => self.fail(violation.reason()),
            };
            if end.is_some() {
                return end;
            }
        }
        None
    }

    /// Forwards a part of a message of the client to the origin. Returns how the session ends, or `None` if it
    /// continues.
    fn tell(&mut self, part: Part) -> Option<End> {
        self.spend(if let Part::Data { content, .. } = &part { content.len() } else { 0 });
        match part {
            Part::Data { kind, content, first, last } => {
                let piece = Piece { kind, content: content.into(), first, last };
                if matches!(self.line, Line::Echo) {
                    self.say(&piece);
                } else if self.line.data(piece, self.sessions).is_err() {
                    return self.fail(CloseReason::new(1009, "message is too large"));
                }
            }
            Part::Ping(content) if self.sessions.settings.auto_pong || !self.line.is_open() => {
                self.send(websocket::frame(MessageKind::Pong, &content));
            }
            Part::Ping(content) => self.line.control(MessageKind::Ping, content),
            Part::Pong(content) => self.line.control(MessageKind::Pong, content),
            Part::Close(reason) => return self.close(reason, ClosedBy::Client),
        }
        None
    }

    /// Closes a WebSocket because its messages take too large a part of the memory for waiting messages. The client
    /// may connect again (1013), once origins have accepted messages.
    fn give_way(&mut self) -> Option<End> {
        self.sessions.metrics.crowded.inc();
        tracing::warn!(uri = %self.about.shown(), "a WebSocket was closed: the messages that wait for origins have reached [websocket] unsent_total, and its own are among the most");
        self.close(Some(CloseReason::new(1013, "too many messages wait")), ClosedBy::Gripd)
    }

    /// Closes a WebSocket whose client has violated the protocol or sent a message that is too large. The origin may
    /// still answer the messages that the client sent before.
    fn fail(&mut self, reason: CloseReason) -> Option<End> {
        self.sessions.metrics.violations.inc();
        tracing::debug!(uri = %self.about.shown(), code = reason.code, reason = reason.reason, "a WebSocket was closed: its client broke the protocol, or sent a message that is too large");
        self.close(Some(reason), ClosedBy::Gripd)
    }

    /// Closes the client's side: it leaves its channels, and the origin receives the Close. Returns how the session
    /// ends if no origin can answer, and otherwise `None`.
    fn close(&mut self, reason: Option<CloseReason>, by: ClosedBy) -> Option<End> {
        self.parked.because(Reason::Client);
        self.parked.unsubscribe();
        let answered = self.line.close(reason.as_ref());
        let reason = given(reason);
        if !answered {
            return Some(End::Close(reason));
        }
        self.phase.close(Closing { reason, by });
        let wait = match by {
            ClosedBy::Gripd => Some(LAST_ANSWERS),
            ClosedBy::Client if matches!(self.line, Line::Relayed(_)) => Some(self.sessions.settings.close_timeout),
            ClosedBy::Client => None,
        };
        if let Some(wait) = wait {
            self.extras().close_at = Some(Instant::now() + wait);
        }
        None
    }

    /// Closes the line to the origin. The client stays connected and receives published items. Returns how the
    /// session ends if the client has closed before, and otherwise `None`.
    pub(super) fn detach(&mut self) -> Option<End> {
        if self.line.is_open() {
            let line = std::mem::replace(&mut self.line, Line::Detached);
            line.wind_up(Leave::Close(None), &self.sessions.origin);
        }
        // No origin is left that could answer the client's Close.
        if self.phase.closing().is_some() { Some(End::Close(self.given())) } else { None }
    }

    /// Carries out a message or event from the origin. Returns how the session ends, or `None` if it continues.
    pub(super) fn hear(&mut self, said: SideMessage) -> Option<End> {
        self.spend(if let SideMessage::Data(piece) = &said { piece.content.len() } else { 0 });
        match said {
            SideMessage::Data(piece) => self.pass(piece),
            SideMessage::Control(kind, content) => {
                self.send(websocket::frame(kind, &content));
                None
            }
            SideMessage::Close(reason) => Some(End::Close(match self.phase.closing() {
                Some(Closing { by: ClosedBy::Gripd, .. }) => self.given(),
                _ => given(reason),
            })),
            SideMessage::Over => Some(End::Close(self.given())),
            SideMessage::Crowded => self.give_way(),
            // After it has received the client's Close, the origin may end the connection without an error.
            SideMessage::Lost(_) if self.phase.closing().is_some() => Some(End::Lost(self.given())),
            SideMessage::Lost(failure) => {
                tracing::warn!(uri = %self.about.shown(), error = failure.explain(), "the connection to the origin of a WebSocket was lost");
                self.sessions.metrics.lost.inc();
                Some(End::Lost(CloseReason::new(1011, "the origin is lost")))
            }
        }
    }

    /// Relays a message from the origin to the client, if it is for the client, and carries it out if it is a control
    /// message. Other messages are dropped.
    fn pass(&mut self, mut piece: Piece) -> Option<End> {
        if let Some(prefix) = &self.prefix {
            if piece.first {
                if piece.kind == MessageKind::Text && piece.last && piece.content.starts_with(b"c:") {
                    return self.carry_out(&piece.content[2..]);
                }
                if piece.content.starts_with(prefix.as_bytes()) {
                    piece.content = piece.content.slice(prefix.len()..);
                } else {
                    self.relaying = Relaying::Dropping;
                }
            }
            if self.relaying == Relaying::Dropping {
                if piece.last {
                    self.relaying = Relaying::Nothing;
                }
                return None;
            }
        }
        self.say(&piece);
        None
    }

    /// Sends a piece of a message to the client. Items wait until the message is complete, so that none falls between
    /// its pieces.
    fn say(&mut self, piece: &Piece) {
        let Piece { kind, content, first, last } = piece;
        if *first && *last {
            return self.send_message(*kind, content);
        }
        if *first {
            self.relaying = Relaying::Passing;
            self.hold_back();
        }
        self.send(piece.as_fragment().frame());
        if *last {
            self.relaying = Relaying::Nothing;
            self.send_late();
            self.put_small();
            self.parked.let_go();
            self.take_queued();
            self.stale = true;
        }
    }

    /// Sends a whole message to the client, compressed if the client has agreed to that.
    pub(super) fn send_message(&mut self, kind: MessageKind, content: &[u8]) {
        let frame = Message::new(kind, content).select(self.parked.message_form()).clone();
        self.send(frame);
    }

    /// Queues a frame for the client. It is sent at the end of this poll of the session.
    fn send(&mut self, frame: Bytes) {
        if frame.len() > SMALL {
            self.put_small();
            return self.parked.put([frame]);
        }
        self.small.extend_from_slice(&frame);
        if self.small.len() >= MAX_SMALL {
            self.put_small();
        }
    }

    /// Moves the collected small frames into the outlet. This must happen before anything else is put there, to keep
    /// the order.
    pub(super) fn put_small(&mut self) {
        if !self.small.is_empty() {
            self.parked.put([std::mem::take(&mut self.small).into()]);
        }
    }
}
