//! A session as it lives: its turns, its timers and its end.

use super::extras::Extras;
use super::line::Line;
use super::phase::{Phase, Relaying};
use super::side_message::Leave;
use super::{Sessions, given};
use crate::grip::{CloseReason, Rights};
use crate::origin::Asking;
use crate::shard::{Event, Parked, Reason};
use crate::wire::websocket::{self, Decoder};
use bytes::Bytes;
use std::future::poll_fn;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Bytes that may wait for the client before the origin has to.
const MAX_WAITING: usize = 200_000;
/// The work on a session before others have their turn: parts of messages, and KiB in them.
const BUDGET: u32 = 256;

/// How often it is looked whether a client is still there whose words wait.
pub(super) const STUCK: Duration = Duration::from_secs(15);
/// How long before its time is over a session that is being ended says so.
const LAST_WORD: Duration = Duration::from_millis(100);

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

/// Whether there may be more to do; if not, whether that is the end.
type Flow = ControlFlow<Option<End>>;

/// The parts of a session that begins.
pub(super) struct Beginning {
    pub(super) parked: Parked,
    pub(super) decoder: Decoder,
    pub(super) line: Line,
    /// The beginning of messages for the client, if the origin speaks GRIP.
    pub(super) prefix: Option<Box<str>>,
    pub(super) about: Rc<Asking>,
    /// The index of the target that has it, among those of its route.
    pub(super) target: usize,
}

/// A session.
pub(super) struct Session<'a> {
    pub(super) sessions: &'a Sessions,
    pub(super) parked: Parked,
    pub(super) line: Line,
    pub(super) decoder: Decoder,
    /// The bytes that were read of the client before it had to wait.
    pub(super) unread: Box<[u8]>,
    /// Small frames for the client, not in its outlet yet.
    pub(super) small: Vec<u8>,
    /// The prefix of messages for the client, if the origin speaks GRIP.
    pub(super) prefix: Option<Box<str>>,
    pub(super) about: Rc<Asking>,
    /// Which target of the route has it.
    target: usize,
    pub(super) extras: Option<Box<Extras>>,
    /// The rights of the client, if they are limited or its user is known.
    pub(super) rights: Option<Box<Rights>>,
    /// When the timer goes off.
    armed: Option<Instant>,
    pub(super) phase: Phase,
    /// How much may be done in this turn: parts of messages, and KiB in them.
    pub(super) budget: u32,
    pub(super) relaying: Relaying,
    /// Whether the terms of its subscriptions have changed.
    pub(super) stale: bool,
}

impl<'a> Session<'a> {
    pub(super) fn new(sessions: &'a Sessions, beginning: Beginning) -> Self {
        let Beginning { parked, decoder, line, prefix, about, target } = beginning;
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
            phase: Phase::default(),
            budget: 0,
            relaying: Relaying::default(),
            stale: false,
        }
    }

    /// Lives until it is over. `early`: what the client has sent after its handshake.
    pub(super) async fn run(mut self: Box<Self>, early: Vec<u8>) {
        if !early.is_empty() {
            self.unread = early.into();
            self.parked.pause_reading();
        }
        let end = poll_fn(|cx| self.poll(cx)).await;
        // Boxed: what comes once is no part of what all of them keep.
        Box::pin(self.end(end)).await;
    }

    /// Does what there is to do, and sends what comes of it.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.budget = BUDGET;
        // Looked at itself: a session that is never idle never waits for its timer.
        let overdue = self.due().is_some_and(|at| at <= Instant::now());
        let mut end = if overdue { self.tick() } else { None };
        while end.is_none() {
            if self.phase.is_ending() && (!self.is_streaming() || self.parked.is_complete()) {
                end = Some(End::Ended);
            } else if self.budget == 0 {
                cx.waker().wake_by_ref();
                break;
            } else if let ControlFlow::Break(over) = self.step(cx) {
                end = over;
                break;
            }
        }
        self.enter_denied();
        if self.stale && end.is_none() && !self.phase.is_ending() {
            self.agree();
        }
        self.put_small();
        self.parked.flush();
        end.map_or(Poll::Pending, Poll::Ready)
    }

    /// Looks once at each side, so that neither keeps the other waiting.
    fn step(&mut self, cx: &mut Context<'_>) -> Flow {
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
        if self.is_backed_up() {
            self.line.poll_quietly(cx);
        } else if let Poll::Ready(said) = self.line.poll_next(cx) {
            idle = false;
            going(self.hear(said))?;
        }
        // The line may have room since a moment ago.
        if self.parked.is_paused() && !self.must_wait() && self.phase.is_open() {
            idle = false;
            going(self.go_on())?;
        }
        // A new time is to be polled.
        if idle && !self.arm() { ControlFlow::Break(None) } else { ControlFlow::Continue(()) }
    }

    /// Returns the channels that the target holds for every client, whatever the origin says.
    pub(super) fn implicit(&self) -> &[String] {
        self.about.route.targets.get(self.target).map_or(&[], |target| &target.channels)
    }

    /// Returns the reason why the client's side is closed.
    pub(super) fn given(&self) -> CloseReason {
        given(self.phase.closing().map(|closing| closing.reason.clone()))
    }

    /// Returns whether the client has got the beginning of a message, and not its end.
    pub(super) fn is_streaming(&self) -> bool {
        self.relaying == Relaying::Passing
    }

    /// Returns whether the client must wait before it says more: for the origin to hear it, or because it does not read
    /// what it is answered.
    pub(super) fn must_wait(&self) -> bool {
        self.line.is_full() || self.is_backed_up()
    }

    /// Returns whether the origin must wait for the client to read.
    fn is_backed_up(&self) -> bool {
        self.parked.is_backed_up(MAX_WAITING)
    }

    pub(super) fn spend(&mut self, bytes: usize) {
        let cost = u32::try_from(1 + bytes / 1024).unwrap_or(u32::MAX);
        self.budget = self.budget.saturating_sub(cost);
    }

    /// Reacts to an event of the client's connection.
    fn note(&mut self, event: Event) -> Option<End> {
        match event {
            Event::Gone => return Some(End::Gone),
            Event::Close => {
                // A message that is half told is told first, if there is time.
                self.phase.end();
                self.parked.pause_reading();
            }
            Event::Timer => return self.tick(),
            // One may have come instead of the other.
            Event::Refresh => {
                self.line.refresh();
                self.take_queued();
            }
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
        self.parked.resume_reading();
        if let Some(extras) = &mut self.extras {
            extras.stuck_at = None;
        }
        self.decode(&unread)
    }

    /// Returns when something is due first.
    fn due(&self) -> Option<Instant> {
        if self.phase.is_ending() {
            // In time for a last word.
            return self.parked.deadline().and_then(|deadline| deadline.checked_sub(LAST_WORD));
        }
        let own = self.extras.as_ref().and_then(|extras| extras.due_at());
        self.line.due_at().into_iter().chain(own).min()
    }

    /// Sets the timer to the time when something is due. Returns whether that is a new time.
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

    /// Does what is due.
    fn tick(&mut self) -> Option<End> {
        self.armed = None;
        let now = Instant::now();
        if self.phase.is_ending() {
            return self.due().is_none_or(|at| at <= now).then_some(End::Ended);
        }
        if self.line.due_at().is_some_and(|at| at <= now) {
            self.line.refresh();
        }
        if let Some(extras) = &mut self.extras {
            if extras.close_at.is_some_and(|at| at <= now) {
                return Some(End::Close(self.given()));
            }
            if extras.stuck_at.take_if(|at| *at <= now).is_some() {
                if self.parked.has_left() {
                    return Some(End::Gone);
                }
                extras.stuck_at = Some(now + STUCK);
            }
        }
        self.send_due(now);
        None
    }

    async fn end(mut self: Box<Self>, end: End) {
        self.parked.because(if matches!(end, End::Gone) { Reason::Client } else { Reason::Origin });
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
        line.wind_up(leave, &sessions.origin);
        match frame {
            Some(frame) => parked.close(frame).await,
            None => drop(parked),
        }
    }

    /// Decides the items that were accepted before the end and wait for an answer about them. They have until the grace is
    /// over.
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
        // Items that are undecided then were not delivered.
        let _ = timeout_at(deadline, all).await;
    }
}

/// Goes on, unless that is the end.
fn going(end: Option<End>) -> Flow {
    match end {
        Some(_) => ControlFlow::Break(end),
        None => ControlFlow::Continue(()),
    }
}
