//! The relaying of messages between the two sides of a session.

use super::line::OriginLine;
use super::live::{STUCK_AFTER, Session, SessionEnd};
use super::phase::{ClientClose, ClosedBy, Relaying};
use super::reason_or_normal;
use super::side_message::{OriginLeave, Piece, SideMessage};
use crate::grip::{CloseReason, MessageKind};
use crate::shard::EndReason;
use crate::wire::websocket::{self, FramePart, RenderedMessage};
use bytes::Bytes;
use std::time::Duration;
use tokio::time::Instant;

/// The largest frame, in bytes, that is collected with others before it is put into the outlet.
const MAX_COLLECTED_FRAME: usize = 4 << 10;
/// The number of collected bytes from which on they are put into the outlet.
const MAX_SMALL: usize = 16 << 10;
/// How long an origin may still answer the earlier messages of a client that gripd has closed.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

impl Session<'_> {
    /// Decodes bytes from the client and forwards their messages, until the session has to wait. Bytes that are not
    /// decoded are kept. Returns how the session ends, or `None` if it continues.
    pub(super) fn decode(&mut self, mut input: &[u8]) -> Option<SessionEnd> {
        // Bytes that follow the close of the client's side are ignored.
        while self.phase.closing().is_none() {
            let stuck = self.must_wait();
            if stuck || self.budget == 0 {
                self.unread = input.into();
                self.parked.pause_reading();
                if stuck {
                    self.extras().stuck_at = Some(Instant::now() + STUCK_AFTER);
                }
                return None;
            }
            let end = match self.decoder.next(&mut input) {
                Ok(None) => return None,
                Ok(Some(part)) => self.forward_to_origin(part),
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
    fn forward_to_origin(&mut self, part: FramePart) -> Option<SessionEnd> {
        self.spend(if let FramePart::Data { content, .. } = &part { content.len() } else { 0 });
        match part {
            FramePart::Data { kind, content, first, last } => {
                let piece = Piece { kind, content: content.into(), first, last };
                if matches!(self.line, OriginLine::Echo) {
                    self.send_piece_to_client(&piece);
                } else if self.line.data(piece, self.sessions).is_err() {
                    return self.fail(CloseReason::new(1009, "message is too large"));
                }
            }
            FramePart::Ping(content) if self.sessions.settings.get().auto_pong || !self.line.is_open() => {
                self.send(websocket::frame(MessageKind::Pong, &content));
            }
            FramePart::Ping(content) => self.line.control(MessageKind::Ping, content),
            FramePart::Pong(content) => self.line.control(MessageKind::Pong, content),
            FramePart::Close(reason) => return self.close(reason, ClosedBy::Client),
        }
        None
    }

    /// Closes a WebSocket because its messages take too large a part of the memory for waiting messages. The client
    /// may connect again (1013), once origins have accepted messages.
    fn give_way(&mut self) -> Option<SessionEnd> {
        self.sessions.metrics.crowded.inc();
        tracing::warn!(
            uri = %self.about.shown(),
            "a WebSocket was closed: the messages waiting for all origins exceed [websocket] unsent_total, and \
             this WebSocket has one of the largest shares"
        );
        self.close(Some(CloseReason::new(1013, "too many messages are waiting")), ClosedBy::Gripd)
    }

    /// Closes a WebSocket whose client has violated the protocol or sent a message that is too large. The origin may
    /// still answer the messages that the client sent before.
    fn fail(&mut self, reason: CloseReason) -> Option<SessionEnd> {
        self.sessions.metrics.violations.inc();
        tracing::debug!(
            uri = %self.about.shown(),
            code = reason.code,
            reason = reason.reason,
            "a WebSocket was closed: its client broke the protocol, or sent a message that is too large"
        );
        self.close(Some(reason), ClosedBy::Gripd)
    }

    /// Closes the client's side: it leaves its channels, and the origin receives the Close. Returns how the session
    /// ends if no origin can answer, and otherwise `None`.
    fn close(&mut self, reason: Option<CloseReason>, by: ClosedBy) -> Option<SessionEnd> {
        self.parked.set_end_reason(EndReason::Client);
        self.parked.unsubscribe();
        let answered = self.line.close(reason.as_ref());
        let reason = reason_or_normal(reason);
        if !answered {
            return Some(SessionEnd::Close(reason));
        }
        self.phase.close(ClientClose { reason, by });
        let wait = match by {
            ClosedBy::Gripd => Some(LAST_ANSWERS),
            ClosedBy::Client if matches!(self.line, OriginLine::Relayed(_)) => {
                Some(self.sessions.settings.get().close_timeout)
            }
            ClosedBy::Client => None,
        };
        if let Some(wait) = wait {
            self.extras().close_at = Some(Instant::now() + wait);
        }
        None
    }

    /// Closes the line to the origin. The client stays connected and receives published items. Returns how the
    /// session ends if the client has closed before, and otherwise `None`.
    pub(super) fn detach(&mut self) -> Option<SessionEnd> {
        if self.line.is_open() {
            let line = std::mem::replace(&mut self.line, OriginLine::Detached);
            line.wind_up(OriginLeave::Close(None), &self.sessions.origin);
        }
        // No origin is left that could answer the client's Close.
        if self.phase.closing().is_some() { Some(SessionEnd::Close(self.given())) } else { None }
    }

    /// Carries out a message or event from the origin. Returns how the session ends, or `None` if it continues.
    pub(super) fn handle_origin_message(&mut self, said: SideMessage) -> Option<SessionEnd> {
        self.spend(if let SideMessage::Data(piece) = &said { piece.content.len() } else { 0 });
        match said {
            SideMessage::Data(piece) => self.pass(piece),
            SideMessage::Control(kind, content) => {
                self.send(websocket::frame(kind, &content));
                None
            }
            SideMessage::Close(reason) => Some(SessionEnd::Close(match self.phase.closing() {
                Some(ClientClose { by: ClosedBy::Gripd, .. }) => self.given(),
                _ => reason_or_normal(reason),
            })),
            SideMessage::Over => Some(SessionEnd::Close(self.given())),
            SideMessage::Crowded => self.give_way(),
            // After the client's side was closed, it is not an error if the origin ends the connection without a Close.
            SideMessage::Lost(_) if self.phase.closing().is_some() => Some(SessionEnd::Lost(self.given())),
            SideMessage::Lost(failure) => {
                tracing::warn!(
                    uri = %self.about.shown(),
                    error = failure.explain(),
                    "the connection to the origin of a WebSocket was lost"
                );
                self.sessions.metrics.lost.inc();
                Some(SessionEnd::Lost(CloseReason::new(1011, "the connection to the origin was lost")))
            }
        }
    }

    /// Relays a message from the origin to the client, if it is for the client, and carries it out if it is a control
    /// message. Other messages are dropped.
    fn pass(&mut self, mut piece: Piece) -> Option<SessionEnd> {
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
        self.send_piece_to_client(&piece);
        None
    }

    /// Sends a piece of a message to the client. Items wait until the message is complete, so that none falls between
    /// its pieces.
    fn send_piece_to_client(&mut self, piece: &Piece) {
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
            self.parked.stop_queueing();
            self.take_queued();
            self.terms_due = true;
        }
    }

    /// Sends a whole message to the client, compressed if that was agreed on with the client and makes the message
    /// smaller.
    pub(super) fn send_message(&mut self, kind: MessageKind, content: &[u8]) {
        let frame = RenderedMessage::new(kind, content).select(self.parked.message_form()).clone();
        self.send(frame);
    }

    /// Queues a frame for the client. It is sent at the end of this poll of the session.
    fn send(&mut self, frame: Bytes) {
        if frame.len() > MAX_COLLECTED_FRAME {
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
