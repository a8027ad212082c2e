//! The latest news of each conversation, with ascending numbers. It is kept in memory, without any I/O.

use std::collections::{HashMap, VecDeque};

use serde_json::Value;

use super::chat::ConversationId;

/// The number of lines that are kept for one conversation.
const LINES_MAX: usize = 50;
/// The number of conversations that are kept. The one whose last line is oldest is forgotten first, so that made-up
/// conversations cannot exhaust the memory.
const LOGS_MAX: usize = 50;

/// The position of a line in the order of its conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinePlace {
    /// The number of the line.
    pub(super) number: u64,
    /// The number of the line before it, or `None` if gripd may not have received that line.
    pub(super) before: Option<u64>,
}

/// The latest lines of all conversations.
#[derive(Debug, Default)]
pub(super) struct ChatLogs {
    logs: HashMap<ConversationId, ChatLog>,
}

#[derive(Debug, Default)]
struct ChatLog {
    last: u64,
    /// Whether gripd has received the last line, as far as is known.
    whole: bool,
    lines: VecDeque<(u64, Value)>,
}

impl ChatLogs {
    /// Appends a line to the log of a conversation, and returns its position. The number of a line is the time in
    /// milliseconds, or one more than the last number if that is greater. A number that a page has seen before a
    /// restart, or before the conversation was forgotten, is therefore less than all later ones.
    pub(super) fn write(&mut self, conversation: &ConversationId, line: Value, now_ms: u64) -> LinePlace {
        self.make_room(conversation);
        let log = self.logs.entry(conversation.clone()).or_default();
        let before = log.whole.then_some(log.last);
        log.last = now_ms.max(log.last + 1);
        log.whole = true;
        if log.lines.len() >= LINES_MAX {
            log.lines.pop_front();
        }
        log.lines.push_back((log.last, line));
        LinePlace { number: log.last, before }
    }

    /// Removes a line that could not be published. Its number is not used again.
    pub(super) fn take_back(&mut self, conversation: &ConversationId, number: u64) {
        let Some(log) = self.logs.get_mut(conversation) else { return };
        log.whole = false;
        log.lines.retain(|(known, _)| *known != number);
    }

    /// Returns the number of the last line of a conversation, or 0 if the conversation is not known.
    pub(super) fn last(&self, conversation: &ConversationId) -> u64 {
        self.logs.get(conversation).map_or(0, |log| log.last)
    }

    /// Returns the lines of a conversation with a number greater than `seen`.
    pub(super) fn behind(&self, conversation: &ConversationId, seen: u64) -> Vec<Value> {
        let Some(log) = self.logs.get(conversation) else { return Vec::new() };
        // A number greater than the last one comes from a clock that was ahead. All lines are then taken as unseen.
        let news = log.lines.iter().filter(|(number, _)| *number > seen || seen > log.last);
        news.map(|(_, line)| line.clone()).collect()
    }

    fn make_room(&mut self, conversation: &ConversationId) {
        if self.logs.len() < LOGS_MAX || self.logs.contains_key(conversation) {
            return;
        }
        let silent = self.logs.iter().min_by_key(|(_, log)| log.last);
        if let Some(silent) = silent.map(|(conversation, _)| conversation.clone()) {
            self.logs.remove(&silent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(text: &str) -> ConversationId {
        ConversationId::parse(text).unwrap()
    }

    fn place(number: u64, before: impl Into<Option<u64>>) -> LinePlace {
        LinePlace { number, before: before.into() }
    }

    #[test]
    fn each_line_names_the_one_before_it() {
        let (mut logs, c) = (ChatLogs::default(), conversation("1"));
        assert_eq!((logs.last(&c), logs.behind(&c, 0)), (0, vec![]));
        assert_eq!(logs.write(&c, "a".into(), 100), place(100, None));
        // The numbers ascend even if lines come within one millisecond or the clock goes back.
        assert_eq!(logs.write(&c, "b".into(), 100), place(101, 100));
        assert_eq!(logs.write(&c, "c".into(), 7), place(102, 101));
        assert_eq!(logs.write(&conversation("2"), "x".into(), 103), place(103, None));
        assert_eq!(logs.last(&c), 102);
        assert_eq!(logs.behind(&c, 100), ["b", "c"]);
        assert!(logs.behind(&c, 102).is_empty());
    }

    #[test]
    fn what_was_seen_in_an_earlier_life_is_behind() {
        let (mut logs, c) = (ChatLogs::default(), conversation("1"));
        logs.write(&c, "a".into(), 100);
        for seen in [0, 99, 101, u64::MAX] {
            assert_eq!(logs.behind(&c, seen), ["a"], "{seen}");
        }
    }

    #[test]
    fn what_was_taken_back_is_not_waited_for() {
        let (mut logs, c) = (ChatLogs::default(), conversation("1"));
        logs.write(&c, "a".into(), 1);
        logs.write(&c, "b".into(), 2);
        logs.take_back(&c, 2);
        assert_eq!((logs.last(&c), logs.behind(&c, 0)), (2, vec!["a".into()]));
        assert_eq!(logs.write(&c, "c".into(), 2), place(3, None));
        assert_eq!(logs.write(&c, "d".into(), 2), place(4, 3));
        assert_eq!(logs.behind(&c, 2), ["c", "d"]);
        logs.take_back(&conversation("2"), 4);
        assert_eq!(logs.last(&conversation("2")), 0);
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut logs = ChatLogs::default();
        for n in 0..=LOGS_MAX as u64 {
            for _ in 0..=LINES_MAX {
                logs.write(&conversation(&n.to_string()), n.into(), n * 1000);
            }
        }
        assert_eq!(logs.logs.len(), LOGS_MAX);
        assert_eq!(logs.last(&conversation("0")), 0);
        assert_eq!(logs.behind(&conversation("1"), 0).len(), LINES_MAX);
        assert!(logs.last(&conversation("1")) > 0);
    }
}
