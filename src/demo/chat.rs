//! The rules of the chat, without any I/O: valid names, and the members that were removed.

use std::collections::VecDeque;

use serde_json::Value;
use unicode_ident::is_xid_continue;

/// The maximum length of the name of a person or a conversation, in characters.
const NAME_MAX: usize = 24;
/// The maximum length of a message, in characters.
const TEXT_MAX: usize = 2000;
/// The maximum length of the id that a page gives to a message, in bytes.
const ID_MAX: usize = 40;
/// The maximum number of removed users to remember. The oldest entry is evicted first, so that made-up names cannot
/// exhaust the memory.
const KICKS_MAX: usize = 1000;

/// The name of a person, in any script. It contains no space, comma, semicolon or quote, so that it can be part of a
/// channel name in a header and of a word in a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PersonName(String);

impl PersonName {
    /// Parses a name of 1 to 24 letters, marks, digits, `_` or `-`. The first three may be of any script. The property
    /// XID_Continue of Unicode includes them and `_`, and regular expressions of JavaScript know it too.
    ///
    /// # Errors
    /// The text is no such name. The error says so, and calls the text by `what`.
    pub(super) fn parse(what: &str, text: &str) -> Result<Self, String> {
        if fits(text, |c| c == '-' || is_xid_continue(c)) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!("{what} must consist of 1 to {NAME_MAX} letters or digits of any script, _ or -"))
    }

    /// Returns the name as text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name of the channel that all connections of the person hold.
    pub(super) fn channel(&self) -> String {
        format!("user-{}", self.0)
    }
}

/// The identifier of a conversation. It consists of letters and digits only, so that the name of a member's channel
/// belongs to one conversation only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ConversationId(String);

impl ConversationId {
    /// Parses an identifier of 1 to 24 ASCII letters or digits.
    ///
    /// # Errors
    /// The text is no such identifier. The error says so.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if fits(text, |c| c.is_ascii_alphanumeric()) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!("conversation must consist of 1 to {NAME_MAX} ASCII letters or digits"))
    }

    /// Returns the conversation and the person whose member channel has this name, or `None` if it is another channel.
    pub(super) fn of_member(channel: &str) -> Option<(Self, PersonName)> {
        let (conversation, name) = channel.strip_prefix("conversation")?.split_once("-user-")?;
        Some((Self::parse(conversation).ok()?, PersonName::parse("name", name).ok()?))
    }

    /// Returns the identifier as text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name of the channel that everybody in the conversation holds.
    pub(super) fn channel(&self) -> String {
        format!("conversation{}", self.0)
    }

    /// Returns the name of the channel for the conversation's long-polls, whose items are numbered.
    pub(super) fn polls(&self) -> String {
        format!("{}-polls", self.channel())
    }

    /// Returns the names of the channels that a person's connection to the conversation holds.
    pub(super) fn channels_of(&self, name: &PersonName) -> [String; 3] {
        let member = format!("{}-user-{}", self.channel(), name.as_str());
        [self.channel(), name.channel(), member]
    }
}

fn fits(text: &str, allowed: impl Fn(char) -> bool) -> bool {
    (1..=NAME_MAX).contains(&text.chars().count()) && text.chars().all(allowed)
}

/// A message that somebody wants to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SpokenLine {
    /// The text of the message.
    pub(super) text: String,
    /// The id by which the page of the sender recognizes its own message, if it has given one.
    pub(super) id: Option<String>,
}

impl SpokenLine {
    /// Reads a message from a WebSocket: a JSON object with `text` and perhaps `id`, as the page sends it. Everything
    /// else is a text without an id, so that somebody can chat with any WebSocket client.
    pub(super) fn of_socket(message: &str) -> Self {
        let line = serde_json::from_str(message).ok().and_then(|object: Value| Self::of_json(&object));
        line.unwrap_or_else(|| Self { text: message.to_owned(), id: None })
    }

    /// Reads a message from a JSON object. Returns `None` if it has no text.
    pub(super) fn of_json(object: &Value) -> Option<Self> {
        let member = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
        Some(Self { text: member("text")?, id: member("id") })
    }

    /// Checks that the message can be published.
    ///
    /// # Errors
    /// The text is blank or longer than 2,000 characters, or the id is longer than 40 bytes.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.text.trim().is_empty() {
            return Err("text must not be empty".to_owned());
        }
        if self.text.chars().count() > TEXT_MAX {
            return Err(format!("text must be at most {TEXT_MAX} characters"));
        }
        if self.id.as_ref().is_some_and(|id| id.len() > ID_MAX) {
            return Err(format!("id must be at most {ID_MAX} bytes"));
        }
        Ok(())
    }
}

/// The removal of a person from a conversation, or from all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kick {
    /// The member that was removed.
    pub(super) who: PersonName,
    /// The member that removed them.
    pub(super) by: PersonName,
    /// The conversation in which the removal was requested.
    pub(super) conversation: ConversationId,
    /// Whether the removal applies to all conversations.
    pub(super) everywhere: bool,
}

impl Kick {
    /// Returns the sentence that tells the removed person of the removal.
    pub(super) fn reason(&self) -> String {
        let by = self.by.as_str();
        let place = if self.everywhere { "every" } else { "the" };
        format!("{by} removed you from {place} conversation")
    }

    fn replaces(&self, known: &Self) -> bool {
        let same_place = self.conversation == known.conversation;
        self.who == known.who && same_place && self.everywhere >= known.everywhere
    }

    fn covers(&self, who: &PersonName, conversation: &ConversationId) -> bool {
        self.who == *who && (self.everywhere || self.conversation == *conversation)
    }
}

/// The state of the chat: the removals that are remembered.
#[derive(Debug, Default)]
pub(super) struct Chat {
    kicks: VecDeque<Kick>,
}

impl Chat {
    /// Remembers a removal.
    pub(super) fn kick(&mut self, kick: Kick) {
        // A repeated removal replaces the earlier one, so that it does not push another one out.
        self.kicks.retain(|known| !kick.replaces(known));
        if self.kicks.len() >= KICKS_MAX {
            self.kicks.pop_front();
        }
        self.kicks.push_back(kick);
    }

    /// Returns the reason why this person may not take part in this conversation, if there is one.
    pub(super) fn refusal(&self, who: &PersonName, conversation: &ConversationId) -> Option<String> {
        let mut newest_first = self.kicks.iter().rev();
        let kick = newest_first.find(|kick| kick.covers(who, conversation));
        kick.map(Kick::reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> PersonName {
        PersonName::parse("name", text).unwrap()
    }

    fn conversation(text: &str) -> ConversationId {
        ConversationId::parse(text).unwrap()
    }

    fn kick(who: &str, by: &str, at: &str, everywhere: bool) -> Kick {
        Kick { who: name(who), by: name(by), conversation: conversation(at), everywhere }
    }

    #[test]
    fn names_are_of_any_script_and_limited_to_what_channels_can_carry() {
        // The marks in the Hindi name are no letters.
        for good in ["Bob_2-x", "Žofie", "Ольга", "李雷", "प्रिया", "e\u{301}", "٣", &"語".repeat(24)]
        {
            assert_eq!(name(good).as_str(), good);
        }
        let too_long = "語".repeat(25);
        let bad = ["", "a b", "a,b", "a;b", "a\"b", "a\r\nb", "a\u{a0}b", "a\u{202e}b", "a/b", "a'b", "🙂", &too_long];
        for bad in bad {
            let error = PersonName::parse("by", bad).unwrap_err();
            assert!(error.starts_with("by must consist of 1 to 24 "), "{error}");
        }
        assert!(ConversationId::parse("1-user-2").is_err());
    }

    #[test]
    fn a_connection_is_on_three_channels() {
        let channels = conversation("123").channels_of(&name("bob"));
        assert_eq!(channels, ["conversation123", "user-bob", "conversation123-user-bob"]);
        assert_eq!(ConversationId::of_member(&channels[2]), Some((conversation("123"), name("bob"))));
        assert!(channels[..2].iter().all(|channel| ConversationId::of_member(channel).is_none()));
    }

    #[test]
    fn a_kick_holds_in_its_conversation_only_unless_everywhere() {
        let mut chat = Chat::default();
        chat.kick(kick("bob", "amy", "1", false));
        let reason = chat.refusal(&name("bob"), &conversation("1")).unwrap();
        assert_eq!(reason, "amy removed you from the conversation");
        assert_eq!(chat.refusal(&name("bob"), &conversation("2")), None);
        assert_eq!(chat.refusal(&name("amy"), &conversation("1")), None);

        chat.kick(kick("bob", "amy", "1", true));
        assert!(chat.refusal(&name("bob"), &conversation("2")).is_some());
        chat.kick(kick("bob", "zoe", "1", false));
        assert!(chat.refusal(&name("bob"), &conversation("2")).is_some());
    }

    #[test]
    fn removals_are_bounded_and_repeats_take_no_room() {
        let mut chat = Chat::default();
        chat.kick(kick("first", "amy", "1", false));
        for _ in 0..KICKS_MAX {
            chat.kick(kick("again", "amy", "1", false));
        }
        assert!(chat.refusal(&name("first"), &conversation("1")).is_some());
        for n in 0..KICKS_MAX {
            chat.kick(kick(&format!("u{n}"), "amy", "1", false));
        }
        assert_eq!(chat.kicks.len(), KICKS_MAX);
        assert!(chat.refusal(&name("first"), &conversation("1")).is_none());
    }

    #[test]
    fn lines_are_neither_blank_nor_too_long() {
        let check = |text: &str, id: Option<&str>| {
            SpokenLine { text: text.to_owned(), id: id.map(str::to_owned) }.check().map_err(|error| error.len() > 20)
        };
        assert_eq!(check(&"é".repeat(2000), Some(&"i".repeat(40))), Ok(()));
        for (text, id) in [(" \n", None), (&*"é".repeat(2001), None), ("hi", Some(&*"i".repeat(41)))] {
            assert_eq!(check(text, id), Err(true), "{text}");
        }
    }

    #[test]
    fn a_websocket_says_an_object_or_any_text() {
        let line = |text: &str, id: Option<&str>| SpokenLine { text: text.to_owned(), id: id.map(str::to_owned) };
        assert_eq!(SpokenLine::of_socket(r#"{"text":"hi","id":"7"}"#), line("hi", Some("7")));
        assert_eq!(SpokenLine::of_socket(r#"{"text":"hi","id":7}"#), line("hi", None));
        for text in ["hi", "7", r#"{"id":"7"}"#, r#"{"text":5}"#, "{"] {
            assert_eq!(SpokenLine::of_socket(text), line(text, None));
        }
    }
}
