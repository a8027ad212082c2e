//! The life of a session: its event loop, its timers and its end.

use super::extras::SessionExtras;
use super::line::OriginLine;
use super::phase::{Relaying, SessionPhase};
use super::side_message::OriginLeave;
use super::{Sessions, reason_or_normal};
use crate::grip::{CloseReason, Rights};
use crate::origin::Requester;
use crate::shard::{EndReason, Parked, ParkedEvent};
use crate::wire::websocket::{self, FrameDecoder};
use bytes::Bytes;
use std::future::poll_fn;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// The number of bytes waiting for the client beyond which nothing more is read from the origin or from the client.
const MAX_WAITING: usize = 200_000;
/// The amount of work that one poll of a session may do before other tasks run. Each message, piece of a message or
/// event costs 1, and 1 more for each KiB of its content.
const MAX_STEPS: u32 = 256;

/// The interval at which a session checks whether the client is still connected while its bytes are left unread.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(15);
/// How long before the end of the grace a session that is being ended stops waiting for the rest of a relayed
/// message. The time that is left is for the Close frame.
const LAST_WORD: Duration = Duration::from_millis(100);

/// The reason why a session ends, and with it the treatment of both sides.
pub(super) enum SessionEnd {
    /// The client's connection is gone. The origin's side is ended as well, without a Close.
    Gone,
    /// The client receives a Close frame with this reason, and so does the origin, unless it knows of the close
    /// already.
    Close(CloseReason),
    /// The connection to the origin is lost. The client receives a Close frame with this reason.
    Lost(CloseReason),
    /// The shard has ended the connection: because of a close or a drain, because the client was too slow, or because
    /// its token expired. The shard has chosen the Close frame.
    Ended,
}

/// The result of one step of a session. `Continue` means that another step may follow at once. `Break` holds how the
/// session ends, or `None` if there is nothing to do until the task is woken.
type SessionFlow = ControlFlow<Option<SessionEnd>>;

/// The parts of which a session consists when it begins.
pub(super) struct SessionParts {
    pub(super) parked: Parked,
    pub(super) decoder: FrameDecoder,
    pub(super) line: OriginLine,
    /// The prefix of the messages that are for the client, if the origin speaks GRIP.
    pub(super) prefix: Option<Box<str>>,
    pub(super) about: Rc<Requester>,
    /// The index of the session's target among the targets of its route.
    pub(super) target: usize,
}

/// A WebSocket that an origin has accepted: the client's connection, the line to the origin, and the state between
/// them.
pub(super) struct Session<'a> {
    pub(super) sessions: &'a Sessions,
    pub(super) parked: Parked,
    pub(super) line: OriginLine,
    pub(super) decoder: FrameDecoder,
    /// The bytes that were read from the client and not decoded yet, because the session had to wait.
    pub(super) unread: Box<[u8]>,
    /// Small frames for the client that are not in its outlet yet. They are collected so that the outlet gets few
    /// pieces.
    pub(super) small: Vec<u8>,
    /// The prefix of the messages that are for the client, if the origin speaks GRIP. Without a prefix every message
    /// is for the client.
    pub(super) prefix: Option<Box<str>>,
    pub(super) about: Rc<Requester>,
    /// The index of the session's target among the targets of its route.
    target: usize,
    pub(super) extras: Option<Box<SessionExtras>>,
    /// The rights of the client. `None` stands for the default: an unknown user without limits.
    pub(super) rights: Option<Box<Rights>>,
    /// The time for which the timer is set.
    armed: Option<Instant>,
    pub(super) phase: SessionPhase,
    /// The work that this poll may still do: 1 for each message, piece of a message or event, and 1 for each KiB of
    /// its content.
    pub(super) budget: u32,
    pub(super) relaying: Relaying,
    /// Whether the terms must be applied at the end of this poll: because the filters or the meta have changed, or
    /// because items need no longer wait.
    pub(super) terms_due: bool,
}

impl<'a> Session<'a> {
    pub(super) fn new(sessions: &'a Sessions, beginning: SessionParts) -> Self {
        let SessionParts { parked, decoder, line, prefix, about, target } = beginning;
        Self {
            sessions,
            parked,
            line,
            decoder,
            unread: Box::default(),
            small: Vec::new(),
            prefix,
            about,
            target,
            extras: None,
            rights: None,
            armed: None,
            phase: SessionPhase::default(),
            budget: 0,
            relaying: Relaying::default(),
            terms_due: false,
        }
    }

    /// Runs the session until the client's connection has ended. What the origin still has to receive then is sent in
    /// the background. `early` is what the client has sent after its handshake.
    pub(super) async fn run(mut self: Box<Self>, early: Vec<u8>) {
        if !early.is_empty() {
            self.unread = early.into();
            self.parked.pause_reading();
        }
        let end = poll_fn(|cx| self.poll(cx)).await;
        // The end is boxed by itself, so that the future of a running session does not contain its state.
        Box::pin(self.end(end)).await;
    }

    /// Does all work that is possible now, and sends the frames that result from it.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<SessionEnd> {
        self.budget = MAX_STEPS;
        // The time is compared here because the timer is set only when the session is idle, and a busy session may
        // never be.
        let overdue = self.due().is_some_and(|at| at <= Instant::now());
        let mut end = if overdue { self.tick() } else { None };
        while end.is_none() {
            if self.phase.is_ending() && (!self.is_streaming() || self.parked.is_complete()) {
                end = Some(SessionEnd::Ended);
            } else if self.budget == 0 {
                cx.waker().wake_by_ref();
                break;
            } else if let ControlFlow::Break(over) = self.step(cx) {
                end = over;
                break;
            }
        }
        self.enter_denied();
        if self.terms_due && end.is_none() && !self.phase.is_ending() {
            self.agree();
        }
        self.put_small();
        self.parked.flush();
        end.map_or(Poll::Pending, Poll::Ready)
    }

    /// Takes at most one event from each side, so that neither side can delay the other.
    fn step(&mut self, cx: &mut Context<'_>) -> SessionFlow {
        self.line.poll_flush(cx);
        let mut idle = true;
        if let Poll::Ready(event) = self.parked.poll_next(cx) {
            idle = false;
            going(self.note(event))?;
        }
        if let Some(asked) = self.poll_asked(cx) {
            idle = false;
            self.decide(asked);
        }
        let said = if self.is_backed_up() { self.line.poll_quietly(cx) } else { self.line.poll_next(cx) };
        if let Poll::Ready(said) = said {
            idle = false;
            going(self.handle_origin_message(said))?;
        }
        // Since reading from the client was paused, the line may have got room again, or the client may have read
        // what waited for it.
        if self.parked.is_paused() && !self.must_wait() && self.phase.is_open() {
            idle = false;
            going(self.go_on())?;
        }
        // After the timer was set to another time, one more step polls it, so that the timer wakes the task.
        if idle && !self.arm() { ControlFlow::Break(None) } else { ControlFlow::Continue(()) }
    }

    /// Returns the channels that the session's target subscribes every client to, independently of the origin.
    pub(super) fn implicit(&self) -> &[String] {
        self.about.route.targets.get(self.target).map_or(&[], |target| &target.channels)
    }

    /// Returns the reason with which the client's side was closed.
    pub(super) fn given(&self) -> CloseReason {
        reason_or_normal(self.phase.closing().map(|closing| closing.reason.clone()))
    }

    /// Returns whether the client has got the beginning of a message, and not its end.
    pub(super) fn is_streaming(&self) -> bool {
        self.relaying == Relaying::Passing
    }

    /// Returns whether nothing more is to be read from the client: because too much waits for the origin, or because
    /// the client does not read what is sent to it.
    pub(super) fn must_wait(&self) -> bool {
        self.line.is_full() || self.is_backed_up()
    }

    /// Returns whether so much waits for the client that nothing more is to be read from the origin.
    fn is_backed_up(&self) -> bool {
        self.parked.is_backed_up(MAX_WAITING)
    }

    pub(super) fn spend(&mut self, bytes: usize) {
        let cost = u32::try_from(1 + bytes / 1024).unwrap_or(u32::MAX);
        self.budget = self.budget.saturating_sub(cost);
    }

    /// Reacts to an event of the client's connection. Returns how the session ends, or `None` if it continues.
    fn note(&mut self, event: ParkedEvent) -> Option<SessionEnd> {
        match event {
            ParkedEvent::Gone => return Some(SessionEnd::Gone),
            ParkedEvent::Close => {
                // If a message is being relayed to the client in pieces, its remaining pieces may still arrive before
                // the grace is over. Nothing more is read from the client.
                self.phase.end();
                self.parked.pause_reading();
            }
            ParkedEvent::Timer => return self.tick(),
            // A connection has one notice at a time: a refresh may have taken the place of the notice that items
            // wait.
            ParkedEvent::Refresh => {
                self.line.refresh();
                self.take_queued();
            }
            ParkedEvent::Queued => self.take_queued(),
            ParkedEvent::Readable => {
                let mut buffer = [0; 16 << 10];
                if let Some(count) = self.parked.read(&mut buffer) {
                    return self.decode(&buffer[..count]);
                }
            }
            // These events occur on long-polls only.
            ParkedEvent::Item(_) | ParkedEvent::Patch(_) => {}
        }
        None
    }

    /// Decodes the bytes that were read before the session had to wait, and reads from the client again.
    fn go_on(&mut self) -> Option<SessionEnd> {
        let unread = std::mem::take(&mut self.unread);
        self.parked.resume_reading();
        if let Some(extras) = &mut self.extras {
            extras.stuck_at = None;
        }
        self.decode(&unread)
    }

    /// Returns the earliest time at which the session has something to do by itself.
    fn due(&self) -> Option<Instant> {
        if self.phase.is_ending() {
            // The session stops waiting early enough for the Close frame to be sent.
            return self.parked.deadline().and_then(|deadline| deadline.checked_sub(LAST_WORD));
        }
        let own = self.extras.as_ref().and_then(|extras| extras.due_at());
        self.line.due_at().into_iter().chain(own).min()
    }

    /// Sets the timer to the time returned by `due`. Returns whether this is another time than before.
    fn arm(&mut self) -> bool {
        let due = self.due();
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

    /// Does everything that is due. Returns how the session ends, or `None` if it continues.
    fn tick(&mut self) -> Option<SessionEnd> {
        self.armed = None;
        let now = Instant::now();
        if self.phase.is_ending() {
            return self.due().is_none_or(|at| at <= now).then_some(SessionEnd::Ended);
        }
        if self.line.due_at().is_some_and(|at| at <= now) {
            self.line.refresh();
        }
        if let Some(extras) = &mut self.extras {
            if extras.close_at.is_some_and(|at| at <= now) {
                return Some(SessionEnd::Close(self.given()));
            }
            if extras.stuck_at.take_if(|at| *at <= now).is_some() {
                if self.parked.has_left() {
                    return Some(SessionEnd::Gone);
                }
                extras.stuck_at = Some(now + STUCK_AFTER);
            }
        }
        self.send_due(now);
        None
    }

    async fn end(mut self: Box<Self>, end: SessionEnd) {
        self.parked.set_end_reason(if matches!(end, SessionEnd::Gone) { EndReason::Client } else { EndReason::Origin });
        let (frame, leave) = match end {
            SessionEnd::Gone => (None, OriginLeave::Disconnect),
            SessionEnd::Close(reason) => (Some(websocket::close(Some(&reason))), OriginLeave::Close(Some(reason))),
            SessionEnd::Lost(reason) => (Some(websocket::close(Some(&reason))), OriginLeave::Disconnect),
            SessionEnd::Ended => {
                self.finish_queued().await;
                (Some(Bytes::new()), OriginLeave::Close(None))
            }
        };
        let Self { parked, line, sessions, .. } = *self;
        line.wind_up(leave, &sessions.origin);
        match frame {
            Some(frame) => parked.close(frame).await,
            None => drop(parked),
        }
    }

    /// Asks the filters about the items that were accepted before the end and still wait for a decision. The filters
    /// have time until the grace is over.
    async fn finish_queued(&mut self) {
        if self.is_streaming() || self.parked.is_complete() {
            return;
        }
        let deadline = self.parked.deadline().unwrap_or_else(Instant::now);
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
        // Items that are still undecided at the deadline count as not delivered.
        let _ = timeout_at(deadline, all).await;
    }
}

/// Returns the flow for a step after which the session ends as `end` says, or continues if that is `None`.
fn going(end: Option<SessionEnd>) -> SessionFlow {
    match end {
        Some(_) => ControlFlow::Break(end),
        None => ControlFlow::Continue(()),
    }
}
