//! A session as it lives: what either side says reaches the other.

use super::extras::Extras;
use super::line::{Leave, Line, Piece, Said};
use super::{Sessions, given};
use crate::grip::{CloseReason, MessageKind};
use crate::origin::Asking;
use crate::shard::{Event, Parked};
use crate::wire::websocket::{self, Decoder, Message, Part};
use bytes::Bytes;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::time::timeout_at;

/// Bytes that may wait for the client before the origin has to.
const MAX_WAITING: usize = 200_000;

/// How a session ends.
pub(super) enum End {
    /// The client is gone.
    Gone,
    /// The client is told why; the origin knows, or hears the same.
    Close(CloseReason),
    /// The origin is lost, which the client is told.
    Lost(CloseReason),
    /// The shard has ended the connection: a close, a drain, or it was too slow.
    Ended,
}

/// A session.
pub(super) struct Session<'a> {
    pub(super) sessions: &'a Sessions,
    pub(super) parked: Parked,
    pub(super) line: Line,
    decoder: Decoder,
    /// What was read of the client before it had to wait.
    unread: Box<[u8]>,
    /// What stands before messages for the client, if the origin speaks GRIP.
    prefix: Option<Box<str>>,
    pub(super) about: Rc<Asking>,
    /// Which target of the route has it.
    target: usize,
    pub(super) extras: Option<Box<Extras>>,
    /// When the timer goes off.
    armed: Option<Instant>,
    /// What is sent waits, as the beginning is not complete.
    corked: bool,
    /// Why the client's side is closed, once it is: what the origin still says is awaited.
    closing: Option<Box<CloseReason>>,
    /// Whether that is for the client's fault, whatever the origin says of it.
    at_fault: bool,
    /// Whether the client has begun to get a message, piece by piece.
    streaming: bool,
    /// Whether the message that the origin is saying is for nobody.
    dropping: bool,
    /// Whether the shard wants to end the connection.
    ending: bool,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        sessions: &'a Sessions,
        parked: Parked,
        decoder: Decoder,
        line: Line,
        prefix: Option<Box<str>>,
        about: Rc<Asking>,
        target: usize,
    ) -> Self {
        Self {
            sessions,
            parked,
            line,
            decoder,
            unread: Box::default(),
            prefix,
            about,
            target,
            extras: None,
            armed: None,
            corked: true,
            closing: None,
            at_fault: false,
            streaming: false,
            dropping: false,
            ending: false,
        }
    }

    /// Lives until it is over. `head`: the answer to the client's handshake, behind which it has said `early`.
    pub(super) async fn run(mut self: Box<Self>, head: Bytes, early: Vec<u8>) {
        self.send(head);
        let mut early = Some(early);
        let end = poll_fn(|cx| {
            if let Some(early) = early.take()
                && let Some(end) = self.begin(&early, cx)
            {
                return Poll::Ready(end);
            }
            self.poll(cx)
        })
        .await;
        // Boxed: what comes once is no part of what all of them keep.
        Box::pin(self.end(end)).await;
    }

    /// Hears what the origin has said already, so that the client is subscribed before it reads that it is welcome.
    fn begin(&mut self, early: &[u8], cx: &mut Context<'_>) -> Option<End> {
        let mut end = None;
        while end.is_none()
            && let Poll::Ready(said) = self.line.poll_next(cx)
        {
            end = self.hear(said);
        }
        self.corked = false;
        self.parked.flush();
        end.or_else(|| self.decode(early))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            self.line.poll_flush(cx);
            let end = if let Poll::Ready(event) = self.parked.poll_next(cx) {
                self.note(event)
            } else if let Some(asked) = self.poll_asked(cx) {
                self.decide(asked);
                None
            } else if !self.is_backed_up()
                && let Poll::Ready(said) = self.line.poll_next(cx)
            {
                self.hear(said)
            } else if self.parked.is_paused() && !self.must_wait() {
                // The line may have room since a moment ago.
                self.go_on()
            } else if self.arm() {
                // So that the timer is polled.
                None
            } else {
                return Poll::Pending;
            };
            if let Some(end) = end {
                return Poll::Ready(end);
            }
        }
    }

    /// Channels that the target has it hold, whatever the origin says.
    pub(super) fn implicit(&self) -> &[String] {
        self.about.route.targets.get(self.target).map_or(&[], |target| &target.channels)
    }

    /// Why the client's side is closed.
    fn given(&self) -> CloseReason {
        given(self.closing.as_deref().cloned())
    }

    pub(super) const fn is_streaming(&self) -> bool {
        self.streaming
    }

    /// Whether one side wants the end.
    pub(super) const fn is_closing(&self) -> bool {
        self.closing.is_some() || self.ending
    }

    /// Whether the client must wait before it says more: for the origin to hear it, or because it does not read what it is
    /// answered.
    fn must_wait(&self) -> bool {
        self.line.is_full() || self.is_backed_up()
    }

    /// Whether the origin must wait for the client to read. Its task is woken when it has.
    fn is_backed_up(&self) -> bool {
        self.parked.is_blocked() && self.parked.waiting() >= MAX_WAITING
    }

    /// What follows from what happened to the client's connection.
    fn note(&mut self, event: Event) -> Option<End> {
        match event {
            Event::Gone => return Some(End::Gone),
            Event::Close => {
                self.ending = true;
                // A message that is half told is told first, if there is time.
                return (!self.streaming).then_some(End::Ended);
            }
            Event::Timer => return self.tick(),
            Event::Refresh => self.line.refresh(),
            Event::Queued => self.take_queued(),
            Event::Readable => {
                let mut buffer = [0; 16 << 10];
                if let Some(count) = self.parked.read(&mut buffer) {
                    return self.decode(&buffer[..count]);
                }
            }
            // Only long-polls have these.
            Event::Item(_) | Event::Patch(_) => {}
        }
        None
    }

    /// Goes on with what was read before the client had to wait.
    fn go_on(&mut self) -> Option<End> {
        let unread = std::mem::take(&mut self.unread);
        self.parked.pause(false);
        self.decode(&unread)
    }

    /// Takes what the client has sent apart, until it has to wait.
    fn decode(&mut self, mut input: &[u8]) -> Option<End> {
        // Behind its end a client says nothing.
        while self.closing.is_none() {
            if self.must_wait() {
                self.unread = input.into();
                self.parked.pause(true);
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

    /// Tells the origin what the client says.
    fn tell(&mut self, part: Part) -> Option<End> {
        match part {
            Part::Data { kind, content, first, last } => {
                let piece = Piece { kind, content: content.into(), first, last };
                if matches!(self.line, Line::Echo) {
                    self.say(&piece);
                } else if self.line.data(piece).is_err() {
                    return self.fail(CloseReason::new(1009, "message is too large"));
                }
            }
            Part::Ping(content) if self.sessions.settings.auto_pong || !self.line.is_open() => {
                self.send(websocket::frame(MessageKind::Pong, &content));
            }
            Part::Ping(content) => self.line.control(MessageKind::Ping, content),
            Part::Pong(content) => self.line.control(MessageKind::Pong, content),
            Part::Close(reason) => return self.close(reason),
        }
        None
    }

    /// The client did what it must not. What it said before is the origin's to answer still.
    fn fail(&mut self, reason: CloseReason) -> Option<End> {
        self.sessions.metrics.violations.fetch_add(1, Relaxed);
        tracing::debug!(uri = %self.about.uri, code = reason.code, reason = reason.reason, "a client broke off its WebSocket");
        self.at_fault = true;
        self.close(Some(reason))
    }

    /// The client's side is closed: the origin is to answer.
    fn close(&mut self, reason: Option<CloseReason>) -> Option<End> {
        self.parked.unsubscribe();
        let answered = self.line.close(reason.as_ref());
        let reason = given(reason);
        if !answered {
            return Some(End::Close(reason));
        }
        self.closing = Some(Box::new(reason));
        if matches!(self.line, Line::Relayed(_)) {
            self.extras().close_at = Some(Instant::now() + self.sessions.settings.close_timeout);
        }
        None
    }

    /// Carries out what the origin says.
    fn hear(&mut self, said: Said) -> Option<End> {
        match said {
            Said::Data(piece) => self.pass(piece),
            Said::Control(kind, content) => {
                self.send(websocket::frame(kind, &content));
                None
            }
            Said::Close(_) if self.at_fault => Some(End::Close(self.given())),
            Said::Close(reason) => Some(End::Close(given(reason))),
            Said::Over => Some(End::Close(self.given())),
            Said::Lost(failure) => {
                tracing::warn!(uri = %self.about.uri, error = failure.explain(), "a WebSocket's origin is lost");
                self.sessions.metrics.lost.fetch_add(1, Relaxed);
                let reason = || CloseReason::new(1011, "the origin is lost");
                Some(End::Lost(self.closing.as_deref().cloned().unwrap_or_else(reason)))
            }
        }
    }

    /// Passes on what an origin says to the client, and carries out what it says to gripd.
    fn pass(&mut self, mut piece: Piece) -> Option<End> {
        if let Some(prefix) = &self.prefix {
            if piece.first {
                if piece.kind == MessageKind::Text && piece.last && piece.content.starts_with(b"c:") {
                    return self.carry_out(&piece.content[2..]);
                }
                self.dropping = !piece.content.starts_with(prefix.as_bytes());
                if !self.dropping {
                    piece.content = piece.content.slice(prefix.len()..);
                }
            }
            if self.dropping {
                return None;
            }
        }
        self.say(&piece);
        // What waited for the end of the message is through.
        (self.ending && !self.streaming).then_some(End::Ended)
    }

    /// Tells the client a piece of a message. While it is not complete, what is published waits.
    pub(super) fn say(&mut self, piece: &Piece) {
        let Piece { kind, content, first, last } = piece;
        if *first && *last {
            return self.send_message(*kind, content);
        }
        if *first {
            self.streaming = true;
            self.hold_back();
        }
        self.send(websocket::fragment(*kind, content, *first, *last));
        if *last {
            self.streaming = false;
            self.parked.resume();
            self.agree();
            self.send_late();
        }
    }

    /// Sends a whole message of the session's own.
    pub(super) fn send_message(&mut self, kind: MessageKind, content: &[u8]) {
        let frame = Message::new(kind, content).select(self.parked.deflates()).clone();
        self.send(frame);
    }

    fn send(&mut self, frame: Bytes) {
        self.parked.put([frame]);
        if !self.corked {
            self.parked.flush();
        }
    }

    /// Has the timer go off when something is due first. Says whether it has a new time.
    fn arm(&mut self) -> bool {
        let line = self.line.due_at();
        let own = self.extras.as_ref().and_then(|extras| extras.due_at());
        let deadline = self.parked.deadline().filter(|_| self.ending).map(Into::into);
        let due = [line, own, deadline].into_iter().flatten().min();
        if due == self.armed {
            return false;
        }
        self.armed = due;
        match due {
            Some(at) => self.parked.set_timer(at.saturating_duration_since(Instant::now())),
            None => self.parked.clear_timer(),
        }
        true
    }

    /// Does what is due.
    fn tick(&mut self) -> Option<End> {
        self.armed = None;
        let now = Instant::now();
        if self.ending {
            return Some(End::Ended);
        }
        if self.line.due_at().is_some_and(|at| at <= now) {
            self.line.refresh();
        }
        if let Some(extras) = &self.extras
            && extras.close_at.is_some_and(|at| at <= now)
        {
            return Some(End::Close(self.given()));
        }
        self.send_due(now);
        None
    }

    async fn end(mut self: Box<Self>, end: End) {
        let (frame, leave) = match end {
            End::Gone => (None, Leave::Disconnect),
            End::Close(reason) => (Some(websocket::close(Some(&reason))), Leave::Close(Some(reason))),
            End::Lost(reason) => (Some(websocket::close(Some(&reason))), Leave::Disconnect),
            End::Ended => {
                self.finish_queued().await;
                (Some(Bytes::new()), Leave::Close(None))
            }
        };
        let Self { parked, line, sessions, .. } = *self;
        sessions.origin.behind(line.wind_up(leave));
        match frame {
            Some(frame) => parked.close(frame).await,
            None => drop(parked),
        }
    }

    /// What was accepted before the end and waits for an answer about it has until the grace is over.
    async fn finish_queued(&mut self) {
        if self.streaming {
            return;
        }
        let deadline = self.parked.deadline().unwrap_or_else(tokio::time::Instant::now);
        let all = poll_fn(|cx| {
            loop {
                self.take_queued();
                match self.poll_asked(cx) {
                    Some(asked) => self.decide(asked),
                    None if self.is_asking() => return Poll::Pending,
                    None => return Poll::Ready(()),
                }
            }
        });
        // What is undecided then was not delivered.
        let _ = timeout_at(deadline, all).await;
    }
}
