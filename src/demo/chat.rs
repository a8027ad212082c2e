//! The rules of the chat, without any I/O: valid names, and the members that were removed.

use std::collections::VecDeque;

/// The maximum length of the name of a person or a conversation, in bytes.
const NAME_MAX: usize = 24;
/// The maximum length of a message, in characters.
const TEXT_MAX: usize = 2000;
/// The maximum number of removed users to remember. The oldest entry is evicted first, so that made-up names cannot
/// exhaust the memory.
const KICKS_MAX: usize = 1000;

/// The name of a person. It can be used in a channel name, a header or a URL without being encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PersonName(String);

impl PersonName {
    /// Parses a name of 1 to 24 ASCII letters, digits, `_` or `-`.
    ///
    /// # Errors
    /// The text is no such name. The error says so, and calls the text by `what`.
    pub(super) fn parse(what: &str, text: &str) -> Result<Self, String> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if fits(text, allowed) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!("{what} must consist of 1 to {NAME_MAX} of the characters A-Z a-z 0-9 _ -"))
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

/// The identifier of a conversation. It consists of letters and digits only, so that the
/// [`member_prefix`](Self::member_prefix) of one conversation never begins with that of another conversation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ConversationId(String);

impl ConversationId {
    /// Parses an identifier of 1 to 24 ASCII letters or digits.
    ///
    /// # Errors
    /// The text is no such identifier. The error says so.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if fits(text, |b| b.is_ascii_alphanumeric()) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!("conversation must be 1-{NAME_MAX} letters or digits"))
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

    /// Returns the prefix of the channels of the conversation's members. The name of the member follows it.
    pub(super) fn member_prefix(&self) -> String {
        format!("{}-user-", self.channel())
    }

    /// Returns the names of the channels that a person's connection to the conversation holds.
    pub(super) fn channels_of(&self, name: &PersonName) -> [String; 3] {
        let member = format!("{}{}", self.member_prefix(), name.as_str());
        [self.channel(), name.channel(), member]
    }
}

fn fits(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

/// Checks the text of a message, and returns it.
///
/// # Errors
/// The text is blank, or longer than 2,000 characters.
pub(super) fn check_text(text: &str) -> Result<&str, String> {
    if text.trim().is_empty() {
        return Err("text must not be empty".to_owned());
    }
    if text.chars().count() > TEXT_MAX {
        return Err(format!("text must be at most {TEXT_MAX} characters"));
    }
    Ok(text)
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
    fn names_are_limited_to_what_channels_can_carry() {
        assert_eq!(name("Bob_2-x").as_str(), "Bob_2-x");
        assert_eq!(name(&"x".repeat(24)).as_str().len(), 24);
        let too_long = "x".repeat(25);
        for bad in ["", "a b", "a,b", "a\r\nb", "é", "a/b", too_long.as_str()] {
            let error = PersonName::parse("by", bad).unwrap_err();
            assert!(error.starts_with("by must consist of 1 to 24 "), "{error}");
        }
        assert!(ConversationId::parse("1-user-2").is_err());
    }

    #[test]
    fn a_connection_is_on_three_channels() {
        let channels = conversation("123").channels_of(&name("bob"));
        assert_eq!(channels, ["conversation123", "user-bob", "conversation123-user-bob"]);
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
    fn texts_are_neither_blank_nor_too_long() {
        assert!(check_text(" \n").is_err());
        assert!(check_text(&"é".repeat(2000)).is_ok());
        assert!(check_text(&"é".repeat(2001)).is_err());
    }
}
