//! The line to an origin that takes part by WebSocket over HTTP. At most one request is in progress at a time.

use super::side_message::{OriginLeave, Piece, SideMessage, TooLarge};
use super::unsent::UnsentShare;
use crate::grip::backlog::Backlog;
use crate::grip::event::SocketEvent;
use crate::grip::{CloseReason, MessageKind};
use crate::origin::{Failure, FailureKind, Lane, OverHttpConversation, OverHttpReply, OwnRequestPermit};
use bytes::Bytes;
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Instant;

/// A request in progress. It owns the conversation until the origin has responded.
type PendingRequest = Pin<Box<dyn Future<Output = (Box<OverHttpConversation>, Result<OverHttpReply, Failure>)>>>;

enum OverHttpState {
    Idle(Box<OverHttpConversation>),
    /// A request without new events of the client waits for permission to be sent. The number of such requests to one
    /// origin is limited.
    Queued(Box<OverHttpConversation>, Pin<Box<dyn Future<Output = OwnRequestPermit>>>),
    Asked(PendingRequest),
    Over,
}

/// The line to an origin that takes part by WebSocket over HTTP.
pub(super) struct OverHttpLine {
    state: OverHttpState,
    /// The events of the client that the origin has not accepted yet.
    backlog: Backlog,
    /// The beginning of a message of which the client has not sent the end.
    begun: Vec<u8>,
    /// The events from the origin that the session has not carried out yet.
    said: VecDeque<SocketEvent>,
    /// The failure of the last request, which is reported after the events in `said`.
    failed: Option<Box<Failure>>,
    interval: Option<Duration>,
    due_at: Option<Instant>,
    max_message: usize,
    /// The memory of waiting messages that this line accounts for, as a share of the total of all sessions.
    share: UnsentShare,
    one_event: bool,
    /// Whether the origin is to be asked even if there are no events to send.
    refresh: bool,
    /// The event that tells the origin that the client has closed.
    closing: Option<Box<SocketEvent>>,
    /// Whether the origin has received the event in `closing`. This is set when a request is sent, and corrected by
    /// the response.
    told_close: bool,
}

impl OverHttpLine {
    pub(super) fn new(
        conversation: Box<OverHttpConversation>,
        reply: OverHttpReply,
        max_message: usize,
        share: UnsentShare,
    ) -> Self {
        let one_event = conversation.one_event();
        let mut line = Self {
            state: OverHttpState::Idle(conversation),
            backlog: Backlog::default(),
            begun: Vec::new(),
            said: VecDeque::new(),
            failed: None,
            interval: None,
            due_at: None,
            max_message,
            share,
            one_event,
            refresh: false,
            closing: None,
            told_close: false,
        };
        line.note(reply.interval);
        // The first event is `OPEN`, by which the origin accepted the WebSocket.
        line.said = reply.events.into_iter().skip(1).collect();
        line
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<SideMessage> {
        if self.must_give_way(cx) {
            return Poll::Ready(self.give_way());
        }
        loop {
            if let Some(event) = self.said.pop_front() {
                return Poll::Ready(self.hear(event));
            }
            self.said = VecDeque::new();
            if let Some(failure) = self.failed.take() {
                return Poll::Ready(SideMessage::Lost(*failure));
            }
            if self.told_close && matches!(self.state, OverHttpState::Idle(_)) && self.interval.is_none() {
                // The origin knows of the close, but neither answers it nor wants to be asked again.
                return Poll::Ready(self.over(SideMessage::Over));
            }
            if self.is_stuck() {
                self.state = OverHttpState::Over;
                return Poll::Ready(lost("the origin does not accept the events that gripd sends to it"));
            }
            match &mut self.state {
                // Events of the client are sent at once. A request without events waits for permission.
                OverHttpState::Idle(_) | OverHttpState::Queued(..) if self.backlog.is_due() => self.ask(None),
                OverHttpState::Idle(_) if self.refresh => self.queue(),
                OverHttpState::Queued(_, turn) => {
                    let Poll::Ready(turn) = turn.as_mut().poll(cx) else { return Poll::Pending };
                    self.ask(Some(turn));
                }
                OverHttpState::Idle(_) | OverHttpState::Over => return Poll::Pending,
                OverHttpState::Asked(_) => {
                    if self.poll_asked(cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    /// Polls the request in progress while the client does not read, and keeps its result. A request that waits for
    /// permission gives up its place in the queue, because other requests would have to wait for one that is not
    /// sent. Ready only when the session has to be closed.
    pub(super) fn poll_quietly(&mut self, cx: &mut Context<'_>) -> Poll<SideMessage> {
        if self.must_give_way(cx) {
            return Poll::Ready(self.give_way());
        }
        let _ = self.poll_asked(cx);
        if let OverHttpState::Queued(..) = self.state
            && let OverHttpState::Queued(conversation, _) = std::mem::replace(&mut self.state, OverHttpState::Over)
        {
            self.state = OverHttpState::Idle(conversation);
            self.refresh = true;
        }
        Poll::Pending
    }

    /// Drops the events that no request has carried yet, because the session is closed to free their memory.
    fn give_way(&mut self) -> SideMessage {
        self.backlog.drop_new();
        self.count();
        SideMessage::Crowded
    }

    /// Returns whether the session has to be closed because too many bytes wait for all origins together. If not, the
    /// current task is woken when it has to be.
    fn must_give_way(&self, cx: &Context<'_>) -> bool {
        self.closing.is_none() && self.share.gives_way(cx)
    }

    /// Polls the request in progress. Ready when the origin has responded.
    fn poll_asked(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let OverHttpState::Asked(asked) = &mut self.state else { return Poll::Pending };
        let (conversation, reply) = ready!(asked.as_mut().poll(cx));
        self.state = OverHttpState::Idle(conversation);
        if let Err(failure) = reply.and_then(|reply| self.take(reply)) {
            // The conversation is dropped, by which the origin is informed that the client is gone. No event is sent
            // again.
            self.state = OverHttpState::Over;
            self.failed = Some(Box::new(failure));
        }
        Poll::Ready(())
    }

    /// Returns whether the client waits for the origin to accept more events or to answer its close, although no
    /// further request would be sent.
    fn is_stuck(&self) -> bool {
        let waits = self.is_full() || self.closing.is_some();
        let idle = matches!(self.state, OverHttpState::Idle(_));
        idle && waits && !self.refresh && !self.backlog.is_due() && self.interval.is_none()
    }

    /// Waits for permission to send a request without events.
    fn queue(&mut self) {
        if let OverHttpState::Idle(conversation) = std::mem::replace(&mut self.state, OverHttpState::Over) {
            let turn = Box::pin(conversation.turn(Lane::Asking));
            self.state = OverHttpState::Queued(conversation, turn);
        }
    }

    /// Sends a request with the events that wait. `turn` is the permission to send it, which a request with new
    /// events does not need.
    fn ask(&mut self, turn: Option<OwnRequestPermit>) {
        let (OverHttpState::Idle(mut conversation) | OverHttpState::Queued(mut conversation, _)) =
            std::mem::replace(&mut self.state, OverHttpState::Over)
        else {
            return;
        };
        self.refresh = false;
        self.due_at = None;
        if let Some(close) = self.closing.as_deref()
            && turn.is_some()
            && !self.backlog.has_close()
        {
            // The origin has received the close without closing as well. As Pushpin does, the close is sent again
            // with each further request.
            self.backlog.push(close.clone());
        }
        self.told_close = self.closing.is_some();
        let (body, replayed) = self.offer();
        self.state = OverHttpState::Asked(Box::pin(async move {
            let _turn = turn;
            let reply = conversation.ask(body, replayed).await;
            (conversation, reply)
        }));
    }

    /// Returns the body of the next request, and the number of bytes of content in it that were offered to the origin
    /// before.
    fn offer(&mut self) -> (Vec<u8>, usize) {
        let replayed = self.backlog.replayed();
        (self.backlog.offer(if self.one_event { 1 } else { usize::MAX }), replayed)
    }

    fn take(&mut self, reply: OverHttpReply) -> Result<(), Failure> {
        let accepted = self.backlog.accepted(reply.accepted);
        accepted.map_err(|error| Failure::because(FailureKind::Unusable, error.to_string()))?;
        self.count();
        self.told_close = self.closing.is_some() && !self.backlog.has_close();
        self.said = reply.events.into();
        self.note(reply.interval);
        Ok(())
    }

    /// Sets the time of the next request without events. `interval` is the interval that the origin has sent, if any;
    /// zero ends such requests.
    fn note(&mut self, interval: Option<Duration>) {
        if let Some(interval) = interval {
            self.interval = Some(interval).filter(|interval| !interval.is_zero());
        }
        self.due_at = self.interval.map(|interval| Instant::now() + interval);
    }

    fn hear(&mut self, event: SocketEvent) -> SideMessage {
        match event {
            SocketEvent::Message(kind, content) if kind.is_control() => SideMessage::Control(kind, content),
            SocketEvent::Message(kind, content) => SideMessage::Data(Piece { kind, content, first: true, last: true }),
            SocketEvent::Close(reason) => self.over(SideMessage::Close(reason)),
            SocketEvent::Open => {
                self.state = OverHttpState::Over;
                lost("the origin sent OPEN again")
            }
            SocketEvent::Disconnect => self.over(lost("the origin sent DISCONNECT")),
        }
    }

    /// Ends the conversation, because the origin knows that the WebSocket is over. Returns `said`.
    fn over(&mut self, said: SideMessage) -> SideMessage {
        if let OverHttpState::Idle(conversation) = std::mem::replace(&mut self.state, OverHttpState::Over) {
            conversation.close();
        }
        said
    }

    pub(super) fn is_full(&self) -> bool {
        self.backlog.bytes() >= self.max_message
    }

    /// Reports the number of bytes that wait for the origin.
    fn count(&mut self) {
        self.share.set(self.backlog.bytes() + self.begun.len());
    }

    pub(super) fn data(&mut self, piece: Piece) -> Result<(), TooLarge> {
        let Piece { kind, content, first, last } = piece;
        if self.begun.len() + content.len() >= self.max_message {
            return Err(TooLarge);
        }
        if first && last {
            self.backlog.push(SocketEvent::Message(kind, content));
            self.count();
            return Ok(());
        }
        self.begun.extend_from_slice(&content);
        if last {
            let whole = Bytes::from(std::mem::take(&mut self.begun));
            self.backlog.push(SocketEvent::Message(kind, whole));
        }
        self.count();
        Ok(())
    }

    pub(super) fn control(&mut self, kind: MessageKind, content: Vec<u8>) {
        self.backlog.push(SocketEvent::Message(kind, content.into()));
        self.count();
    }

    pub(super) fn close(&mut self, reason: Option<&CloseReason>) {
        self.begun = Vec::new();
        self.count();
        let close = SocketEvent::Close(reason.cloned());
        self.backlog.push(close.clone());
        self.closing = Some(Box::new(close));
    }

    pub(super) const fn refresh(&mut self) {
        self.refresh = true;
        self.due_at = None;
    }

    pub(super) const fn due_at(&self) -> Option<Instant> {
        self.due_at
    }

    /// Returns whether the origin is to receive more than a `DISCONNECT`, which it receives when the conversation is
    /// dropped.
    pub(super) fn has_last_words(&self, leave: &OriginLeave) -> bool {
        match self.state {
            OverHttpState::Over => false,
            OverHttpState::Asked(_) => true,
            OverHttpState::Idle(_) | OverHttpState::Queued(..) => {
                matches!(leave, OriginLeave::Close(_)) || self.backlog.is_due() || self.knows()
            }
        }
    }

    /// Sends the events that still wait, and the end of the WebSocket, as long as there is an event that the origin was
    /// never offered. If the origin does not know of the end after that, or if a request fails, the conversation is
    /// dropped, so that the origin receives a `DISCONNECT`.
    pub(super) async fn wind_up(mut self: Box<Self>, leave: OriginLeave) {
        let mut conversation = match std::mem::replace(&mut self.state, OverHttpState::Over) {
            OverHttpState::Over => return,
            OverHttpState::Idle(conversation) | OverHttpState::Queued(conversation, _) => conversation,
            OverHttpState::Asked(asked) => {
                let (conversation, reply) = asked.await;
                if !self.heard(reply) {
                    return;
                }
                conversation
            }
        };
        if let (OriginLeave::Close(reason), None) = (&leave, &self.closing) {
            self.close(reason.as_ref());
        }
        if self.knows() {
            return conversation.close();
        }
        // When many clients are closed at once, the number of requests that inform one origin at the same time is
        // limited.
        let _turn = conversation.turn(Lane::Leaving).await;
        while !self.knows() && self.backlog.is_due() {
            let (body, replayed) = self.offer();
            let reply = conversation.ask(body, replayed).await;
            if !self.heard(reply) {
                return;
            }
        }
        if self.knows() {
            conversation.close();
        }
    }

    /// Takes a response whose events no longer concern the client. Returns `false` if the request failed, because
    /// further requests would fail as well.
    fn heard(&mut self, reply: Result<OverHttpReply, Failure>) -> bool {
        self.told_close = self.closing.is_some();
        let heard = reply.and_then(|reply| self.take(reply));
        if let Err(failure) = &heard {
            tracing::warn!(error = failure.explain(), "an origin did not receive the last events of a client");
        }
        heard.is_ok()
    }

    /// Returns whether the origin knows that the WebSocket is over.
    fn knows(&self) -> bool {
        let closes = self.said.iter().any(|event| matches!(event, SocketEvent::Close(_) | SocketEvent::Disconnect));
        closes || (self.closing.is_some() && self.told_close && !self.backlog.has_close())
    }
}

fn lost(why: &'static str) -> SideMessage {
    SideMessage::Lost(Failure::because(FailureKind::Unusable, why))
}
