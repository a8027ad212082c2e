//! The queue of WebSocket events for an origin that may accept only a part of them at a time.

use super::event::{self, SocketEvent};
use super::{InvalidText, invalid};
use bytes::Bytes;
use std::collections::VecDeque;

/// The number of bytes that each event counts for besides its content: about the memory that it takes.
const EVENT_OVERHEAD: usize = 64;

/// A queue of the events that are on their way to one origin, oldest first.
///
/// Each request offers events from the front of the queue, and the response says how many bytes of their content the
/// origin accepts. Everything that is not accepted stays in the queue and is offered again.
#[derive(Debug, Default)]
pub struct Backlog {
    events: VecDeque<QueuedEvent>,
    /// The total length of the contents in the queue, in bytes.
    content: usize,
    /// The number of events, counted from the front, that were offered at least once.
    seen: usize,
    /// The number of events, counted from the front, that the current request offers.
    offered: usize,
    /// Whether the queue also had events that the current request does not offer.
    is_partial: bool,
}

/// An event, or the part of it that the origin has not accepted yet. The content is kept as bytes, because the
/// remaining part of a text need not be valid UTF-8.
#[derive(Debug)]
struct QueuedEvent {
    name: &'static str,
    content: Bytes,
    closes: bool,
}

impl Backlog {
    /// Appends an event to the queue.
    pub fn push(&mut self, event: SocketEvent) {
        let queued = QueuedEvent {
            name: event.name(),
            content: event.content(),
            closes: matches!(event, SocketEvent::Close(_)),
        };
        self.content += queued.content.len();
        self.events.push_back(queued);
    }

    /// Returns the size of the queue in bytes: the length of all contents, plus a fixed number of bytes for each
    /// event.
    pub fn bytes(&self) -> usize {
        self.content + self.events.len() * EVENT_OVERHEAD
    }

    /// Returns whether the queue has no events.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Returns whether a close is queued.
    pub fn has_close(&self) -> bool {
        self.events.iter().any(|event| event.closes)
    }

    /// Returns whether a request is due, because the queue has an event that was never offered. Events that were
    /// offered and not accepted do not make a request due.
    pub fn is_due(&self) -> bool {
        self.seen < self.events.len()
    }

    /// Returns the value of `Content-Bytes-Replayed` for the next request: the number of bytes of content that were
    /// offered before and not accepted.
    pub fn replayed(&self) -> usize {
        self.size_of(self.seen)
    }

    /// Returns the body of the next request, which offers at most `most` events. The next call of
    /// [`accepted`](Self::accepted) is about these events.
    pub fn offer(&mut self, most: usize) -> Vec<u8> {
        self.offered = most.min(self.events.len());
        self.is_partial = self.offered < self.events.len();
        self.seen = self.seen.max(self.offered);
        let mut body = Vec::with_capacity(self.size_of(self.offered) + self.offered * EVENT_OVERHEAD);
        self.events.iter().take(self.offered).for_each(|queued| event::write(queued.name, &queued.content, &mut body));
        body
    }

    /// Removes the events that no request has offered yet.
    pub fn drop_new(&mut self) {
        for event in self.events.drain(self.seen..) {
            self.content -= event.content.len();
        }
    }

    /// Removes the part of the offered events that the origin accepts. `count` is the number of accepted bytes of
    /// content, including the payload of a close. With `None`, the origin accepts everything that was offered.
    ///
    /// # Errors
    /// The origin accepts more than was offered; or all content before a close, but not the whole close; or nothing,
    /// although the request could not offer all events. The queue is unchanged in these cases.
    pub fn accepted(&mut self, count: Option<usize>) -> Result<(), InvalidText> {
        let all = self.size_of(self.offered);
        let count = count.unwrap_or(all);
        if count > all {
            return invalid(format!("the origin accepted {count} bytes of content, but only {all} were offered"));
        }
        self.check_close(count)?;
        let (whole, rest) = self.reach(count);
        if self.is_partial && self.offered > 0 && whole == 0 && rest == 0 {
            return invalid("the origin accepted nothing, although more data is waiting than one request can carry");
        }
        self.take(whole, rest);
        Ok(())
    }

    /// Checks that the origin accepts a close as a whole once it accepts everything before the close. No event
    /// follows a close, so the origin cannot be waiting for more.
    fn check_close(&self, count: usize) -> Result<(), InvalidText> {
        let Some(at) = self.events.iter().take(self.offered).position(|event| event.closes) else { return Ok(()) };
        let (start, end) = (self.size_of(at), self.size_of(at + 1));
        if (start..end).contains(&count) {
            return invalid("the origin accepted all content before the CLOSE event, but not the whole CLOSE event");
        }
        Ok(())
    }

    /// Returns how many of the offered events `count` bytes accept as a whole, and how many bytes of the event after
    /// them. An event without content is accepted together with the events before it, as in Pushpin.
    fn reach(&self, count: usize) -> (usize, usize) {
        let mut rest = count;
        let mut whole = 0;
        for event in self.events.iter().take(self.offered) {
            let Some(left) = rest.checked_sub(event.content.len()) else { break };
            rest = left;
            whole += 1;
        }
        (whole, rest)
    }

    fn take(&mut self, whole: usize, rest: usize) {
        self.content -= self.size_of(whole) + rest;
        self.events.drain(..whole);
        if self.events.is_empty() {
            // Most clients are idle most of the time, so an empty queue must not keep its memory.
            self.events = VecDeque::new();
        }
        if rest > 0
            && let Some(event) = self.events.front_mut()
        {
            event.content = event.content.slice(rest..);
        }
        self.seen -= whole;
        self.offered = 0;
        self.is_partial = false;
    }

    /// Returns the total length of the contents of the first `count` events, in bytes.
    fn size_of(&self, count: usize) -> usize {
        self.events.iter().take(count).map(|event| event.content.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{CloseReason, MessageKind};
    use super::*;
    use proptest::prelude::*;

    fn message(kind: MessageKind, content: &str) -> SocketEvent {
        SocketEvent::Message(kind, Bytes::from(content.to_owned()))
    }

    fn backlog(contents: &[&str]) -> Backlog {
        let mut backlog = Backlog::default();
        contents.iter().for_each(|content| backlog.push(message(MessageKind::Text, content)));
        backlog
    }

    fn offer(backlog: &mut Backlog, most: usize) -> String {
        String::from_utf8_lossy(&backlog.offer(most)).replace("\r\n", "|")
    }

    fn close() -> SocketEvent {
        SocketEvent::Close(Some(CloseReason::new(4001, "out")))
    }

    #[test]
    fn an_answer_that_says_nothing_accepts_everything() {
        let mut b = backlog(&["hello", "", "world"]);
        assert_eq!((b.bytes(), b.is_due(), b.replayed()), (10 + 3 * EVENT_OVERHEAD, true, 0));
        assert_eq!(offer(&mut b, usize::MAX), "TEXT 5|hello|TEXT|TEXT 5|world|");
        b.push(message(MessageKind::Binary, "later"));
        b.accepted(None).unwrap();
        assert_eq!((b.bytes(), b.is_due(), b.is_empty()), (5 + EVENT_OVERHEAD, true, false));
        assert_eq!(offer(&mut b, usize::MAX), "BINARY 5|later|");
        b.accepted(Some(5)).unwrap();
        assert_eq!((b.bytes(), b.is_due(), b.is_empty()), (0, false, true));
    }

    #[test]
    fn the_rest_of_a_message_is_offered_again_with_what_is_new() {
        let mut b = backlog(&["h\u{e9}llo", "world"]);
        b.offer(usize::MAX);
        b.accepted(Some(2)).unwrap();
        assert_eq!((b.replayed(), b.is_due(), b.bytes()), (9, false, 9 + 2 * EVENT_OVERHEAD));
        b.push(message(MessageKind::Ping, ""));
        assert!(b.is_due());
        assert_eq!(offer(&mut b, usize::MAX), "TEXT 4|\u{fffd}llo|TEXT 5|world|PING|");
        b.accepted(Some(4)).unwrap();
        assert_eq!((b.replayed(), offer(&mut b, usize::MAX)), (5, "TEXT 5|world|PING|".into()));
    }

    #[test]
    fn one_at_a_time_there_is_always_progress() {
        let mut b = backlog(&["ab", "c"]);
        assert_eq!(offer(&mut b, 1), "TEXT 2|ab|");
        let stuck = b.accepted(Some(0)).unwrap_err().to_string();
        assert_eq!(stuck, "the origin accepted nothing, although more data is waiting than one request can carry");
        b.accepted(Some(1)).unwrap();
        assert_eq!((b.replayed(), b.is_due()), (1, true));
        assert_eq!(offer(&mut b, 1), "TEXT 1|b|");
        b.accepted(None).unwrap();
        assert_eq!(offer(&mut b, 1), "TEXT 1|c|");
        b.accepted(Some(0)).unwrap();
        assert_eq!((b.replayed(), b.is_due()), (1, false));
    }

    #[test]
    fn empty_events_go_with_what_stands_before_them() {
        let mut b = backlog(&["", "a", "", "b"]);
        b.offer(usize::MAX);
        b.accepted(Some(1)).unwrap();
        assert_eq!(offer(&mut b, usize::MAX), "TEXT 1|b|");
        // An event that was not offered is not accepted, whether it has content or not.
        b.push(message(MessageKind::Pong, ""));
        b.accepted(None).unwrap();
        assert_eq!((offer(&mut b, 1), b.accepted(Some(0))), ("PONG|".into(), Ok(())));
        assert!(b.is_empty());
    }

    #[test]
    fn a_close_is_accepted_whole_or_waits_for_what_is_before_it() {
        let mut b = backlog(&["abc"]);
        b.push(close());
        b.offer(usize::MAX);
        for count in [3, 4, 7] {
            let left = b.accepted(Some(count)).unwrap_err().to_string();
            assert_eq!(left, "the origin accepted all content before the CLOSE event, but not the whole CLOSE event");
        }
        b.accepted(Some(2)).unwrap();
        assert!(b.has_close() && !b.is_due());
        assert_eq!((b.replayed(), b.offer(usize::MAX).len()), (6, 27));
        assert_eq!(
            b.accepted(Some(7)).unwrap_err().to_string(),
            "the origin accepted 7 bytes of content, but only 6 were offered"
        );
        b.accepted(Some(6)).unwrap();
        assert!(!b.has_close() && b.is_empty());
    }

    #[test]
    fn a_close_without_content_goes_with_the_last_of_it() {
        let mut b = backlog(&["abc"]);
        b.push(SocketEvent::Close(None));
        b.offer(usize::MAX);
        b.accepted(Some(3)).unwrap();
        assert!(b.is_empty());
        let mut b = backlog(&["abc"]);
        b.push(close());
        b.offer(1);
        b.accepted(Some(3)).unwrap();
        assert!(b.has_close() && b.is_due());
    }

    #[test]
    fn only_events_that_were_never_offered_are_dropped() {
        let mut b = backlog(&["one", "two", "three"]);
        b.offer(2);
        b.drop_new();
        assert_eq!(b.bytes(), 6 + 2 * EVENT_OVERHEAD);
        b.accepted(Some(3)).unwrap();
        b.push(close());
        assert_eq!(offer(&mut b, usize::MAX), "TEXT 3|two|CLOSE 5|\u{f}\u{fffd}out|");
        b.accepted(None).unwrap();
        b.push(message(MessageKind::Text, "four"));
        b.drop_new();
        assert!(b.is_empty() && b.bytes() == 0);
    }

    #[test]
    fn nothing_is_accepted_that_was_not_offered() {
        let mut b = Backlog::default();
        assert_eq!((b.offer(1).len(), b.accepted(Some(0)), b.accepted(None)), (0, Ok(()), Ok(())));
        assert!(b.accepted(Some(1)).is_err());
        b.push(message(MessageKind::Text, "a"));
        assert!(b.accepted(Some(1)).is_err());
        b.accepted(None).unwrap();
        assert!(b.is_due());
        b.push(message(MessageKind::Text, "b"));
        b.offer(1);
        b.accepted(Some(1)).unwrap();
        assert!(b.accepted(Some(1)).is_err());
        assert_eq!(b.bytes(), 1 + EVENT_OVERHEAD);
    }

    /// A model of an origin, which puts the accepted parts of events together.
    #[derive(Debug, Default)]
    struct Origin {
        whole: Vec<(String, Vec<u8>)>,
        part: Vec<u8>,
    }

    impl Origin {
        fn accept(&mut self, offered: &[(String, Vec<u8>)], mut count: usize) {
            for (name, content) in offered {
                let size = content.len().min(count);
                count -= size;
                self.part.extend_from_slice(&content[..size]);
                if size < content.len() {
                    return;
                }
                self.whole.push((name.clone(), std::mem::take(&mut self.part)));
            }
        }
    }

    /// Splits a body into the names and contents of its events, without interpreting the contents.
    fn parts(mut body: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut parts = Vec::new();
        while !body.is_empty() {
            let end = body.windows(2).position(|w| w == b"\r\n").unwrap();
            let line = std::str::from_utf8(&body[..end]).unwrap();
            let (name, size) = line.split_once(' ').unwrap_or((line, ""));
            let size = if size.is_empty() { 0 } else { usize::from_str_radix(size, 16).unwrap() };
            body = &body[end + 2..];
            parts.push((name.to_owned(), body[..size].to_vec()));
            body = &body[if size == 0 { 0 } else { size + 2 }..];
        }
        parts
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(SocketEvent),
        /// A request that offers events, the number of bytes that the origin accepts of them, and the events that are
        /// pushed while the request is under way.
        Ask {
            most: usize,
            accepted: Option<prop::sample::Index>,
            meanwhile: Vec<SocketEvent>,
        },
    }

    fn any_event() -> impl Strategy<Value = SocketEvent> {
        let kind = prop_oneof![Just(MessageKind::Text), Just(MessageKind::Binary), Just(MessageKind::Ping)];
        let content = prop_oneof![Just(String::new()), ".{1,6}"];
        (kind, content).prop_map(|(kind, content)| message(kind, &content))
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let ask = (
            prop_oneof![Just(1), Just(usize::MAX)],
            prop::option::of(any::<prop::sample::Index>()),
            prop::collection::vec(any_event(), 0..3),
        );
        prop_oneof![
            any_event().prop_map(Step::Push),
            ask.prop_map(|(most, accepted, meanwhile)| Step::Ask { most, accepted, meanwhile }),
        ]
    }

    /// A backlog together with the events that were pushed to it and a model of its origin.
    #[derive(Debug, Default)]
    struct Model {
        backlog: Backlog,
        pushed: Vec<(String, Vec<u8>)>,
        seen: usize,
        origin: Origin,
    }

    impl Model {
        fn push(&mut self, event: SocketEvent) {
            self.pushed.push((event.name().to_owned(), event.content().to_vec()));
            self.backlog.push(event);
        }

        /// Returns how many bytes of content the origin has not accepted yet of the first `count` events that were
        /// pushed.
        fn left(&self, count: usize) -> usize {
            let pushed: usize = self.pushed[..count].iter().map(|(_, content)| content.len()).sum();
            let had: usize = self.origin.whole.iter().map(|(_, content)| content.len()).sum();
            pushed.saturating_sub(had + self.origin.part.len())
        }

        fn check(&self) {
            let events = self.pushed.len() - self.origin.whole.len();
            assert_eq!(self.backlog.bytes(), self.left(self.pushed.len()) + events * EVENT_OVERHEAD);
            assert_eq!(self.backlog.replayed(), self.left(self.seen));
            assert_eq!(self.backlog.is_due(), self.seen < self.pushed.len());
            assert_eq!(self.backlog.is_empty(), events == 0);
        }

        fn ask(&mut self, most: usize, accepted: Option<prop::sample::Index>, meanwhile: Vec<SocketEvent>) {
            let offered = parts(&self.backlog.offer(most));
            let cut = self.origin.whole.len() + offered.len() < self.pushed.len();
            self.seen = self.seen.max(self.origin.whole.len() + offered.len());
            meanwhile.into_iter().for_each(|event| self.push(event));
            let all = offered.iter().map(|(_, content)| content.len()).sum::<usize>();
            let count = accepted.map(|index| index.index(all + 1));
            assert!(self.backlog.accepted(Some(all + 1)).is_err());
            let stuck = cut && count == Some(0) && offered.first().is_some_and(|(_, content)| !content.is_empty());
            let close = offered.last().filter(|(name, _)| name == "CLOSE").map_or(0, |(_, content)| content.len());
            let wrong = stuck || count.is_some_and(|count| (all - close..all).contains(&count));
            assert_eq!(self.backlog.accepted(count).is_err(), wrong);
            if wrong {
                self.backlog.accepted(None).unwrap();
            }
            self.origin.accept(&offered, if wrong { all } else { count.unwrap_or(all) });
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_doubled(
            steps in prop::collection::vec(any_step(), 0..30),
            closed in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let mut model = Model::default();
            for step in steps {
                match step {
                    Step::Push(event) => model.push(event),
                    Step::Ask { most, accepted, meanwhile } => model.ask(most, accepted, meanwhile),
                }
                model.check();
            }
            if closed.is_some() {
                model.push(close());
                model.ask(usize::MAX, closed, Vec::new());
                model.check();
            }
            model.ask(usize::MAX, None, Vec::new());
            model.check();
            prop_assert!(model.backlog.is_empty());
            prop_assert_eq!(model.origin.whole, model.pushed);
        }
    }
}
