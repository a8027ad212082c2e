//! The rules for the channels that the clients of a route may hold: `conversation{id}`, `user{user}`.

use super::{InvalidText, invalid};
use std::fmt;

/// The maximum number of patterns in one rule.
pub const MAX_PATTERNS: usize = 1000;

/// The name of the placeholder that stands for the client's user.
const USER: &str = "user";

/// A pattern from which the name of a user's own channel is made, such as `user{user}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameTemplate(Box<str>);

impl NameTemplate {
    /// Parses a template: text that contains `{user}` at least once, and no other placeholder.
    ///
    /// # Errors
    /// `text` has braces that do not match or a placeholder other than `{user}`, lacks `{user}`, or has no other
    /// text.
    pub fn parse(text: &str) -> Result<Self, InvalidText> {
        let parts = parts(text)?;
        if parts.contains(&PatternPart::Any) {
            return invalid(format!(
                "'{text}' contains a placeholder other than {{user}}, which is the only one allowed here"
            ));
        }
        if !parts.contains(&PatternPart::User) {
            return invalid(format!("'{text}' must contain {{user}}"));
        }
        if !parts.iter().any(|part| matches!(part, PatternPart::Text(_))) {
            return invalid(format!(
                "'{text}' consists only of the user name, which could then equal the name of any channel: add \
                 other text"
            ));
        }
        Ok(Self(text.into()))
    }

    /// Returns the name for the user `user`.
    pub fn fill(&self, user: &str) -> String {
        self.0.split("{user}").collect::<Vec<_>>().join(user)
    }
}

impl fmt::Display for NameTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The channel names that clients may hold: those that match one of the patterns and do not belong to another user.
///
/// In a pattern, `{user}` stands for the user of the client, with the same text at each occurrence. Any other
/// `{name}` stands for one or more characters, whatever its name is. A channel name belongs to another user if it
/// matches a pattern with `{user}` for some user, but matches no such pattern for the user of this client. Such a
/// name is refused even if it also matches a pattern without `{user}`. A rule without patterns admits no name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelRule(Vec<ChannelPattern>);

impl ChannelRule {
    /// Parses a rule. A pattern that is listed more than once counts once.
    ///
    /// # Errors
    /// There are more than [`MAX_PATTERNS`] patterns, or a pattern is wrong. The error says which one, and why: the
    /// pattern is empty, contains `*`, or has braces that do not match; the name of a placeholder is empty, has other
    /// characters than ASCII letters, digits, `_` and `-`, or differs from `user` in case only; two placeholders have
    /// no text between them; or `{user}` is repeated while other placeholders stand both before its first and after
    /// its last occurrence.
    pub fn parse<S: AsRef<str>>(patterns: &[S]) -> Result<Self, InvalidText> {
        patterns.iter().try_fold(Self(Vec::new()), |rule, pattern| rule.and(pattern.as_ref()))
    }

    /// Returns whether a client may hold the channel `name`. `user` is the client's user, or `None` if the user is
    /// unknown. For each pattern, the time is bounded by the product of the lengths of the pattern and the name, or
    /// by the square of the name's length if the pattern repeats `{user}`.
    pub fn admits(&self, name: &str, user: Option<&str>) -> bool {
        let fits_this = |user: &str| self.of_users().any(|pattern| pattern.fits(name, user));
        if user.is_some_and(|user| !user.is_empty() && fits_this(user)) {
            return true;
        }
        let is_anothers = self.of_users().any(|pattern| pattern.fits_some_user(name));
        !is_anothers && self.0.iter().any(|pattern| pattern.users() == 0 && pattern.fits(name, ""))
    }

    /// Returns the patterns of the rule, as they were written.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|pattern| &*pattern.text)
    }

    /// Returns whether the rule has a pattern with `{user}`.
    pub fn names_users(&self) -> bool {
        self.of_users().next().is_some()
    }

    /// Returns the rule with `pattern` added, or an equal rule if it has that pattern already.
    ///
    /// # Errors
    /// The pattern is wrong, as described for [`Self::parse`], or the rule has [`MAX_PATTERNS`] patterns already.
    pub fn with(&self, pattern: &str) -> Result<Self, InvalidText> {
        self.clone().and(pattern)
    }

    /// Returns the rule without `pattern`, or `None` if the rule does not have that pattern.
    pub fn without(&self, pattern: &str) -> Option<Self> {
        let left: Vec<ChannelPattern> = self.0.iter().filter(|own| *own.text != *pattern).cloned().collect();
        (left.len() < self.0.len()).then_some(Self(left))
    }

    fn and(mut self, pattern: &str) -> Result<Self, InvalidText> {
        let parsed = ChannelPattern::parse(pattern)?;
        if self.0.contains(&parsed) {
            return Ok(self);
        }
        if self.0.len() == MAX_PATTERNS {
            return invalid(format!(
                "the pattern '{pattern}' exceeds the limit: a rule has at most {MAX_PATTERNS} patterns"
            ));
        }
        self.0.push(parsed);
        Ok(self)
    }

    fn of_users(&self) -> impl Iterator<Item = &ChannelPattern> {
        self.0.iter().filter(|pattern| pattern.users() > 0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ChannelPattern {
    text: Box<str>,
    parts: Box<[PatternPart]>,
}

/// A part of a pattern or a template. A text is never empty. In a pattern, there is a text between any two
/// placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
enum PatternPart {
    Text(Box<str>),
    Any,
    User,
}

impl ChannelPattern {
    fn parse(text: &str) -> Result<Self, InvalidText> {
        if text.is_empty() {
            return invalid("a pattern must not be empty");
        }
        if text.contains('*') {
            return invalid(format!(
                "the pattern '{text}' contains '*', which is not supported: use a placeholder for any text, such \
                 as {{id}}"
            ));
        }
        let parts = parts(text)?;
        let is_text = |part: &PatternPart| matches!(part, PatternPart::Text(_));
        if parts.windows(2).any(|pair| !pair.iter().any(is_text)) {
            return invalid(format!("the pattern '{text}' has two placeholders without text between them"));
        }
        let pattern = Self { text: text.into(), parts: parts.into() };
        if pattern.users() > 1 && pattern.before_users().is_none() && pattern.after_users().is_none() {
            return invalid(format!(
                "the pattern '{text}' contains {{user}} more than once, with other placeholders both before and \
                 after it, which is not supported"
            ));
        }
        Ok(pattern)
    }

    fn users(&self) -> usize {
        self.parts.iter().filter(|part| **part == PatternPart::User).count()
    }

    /// Returns whether the pattern matches the channel `name` for `user`.
    fn fits(&self, name: &str, user: &str) -> bool {
        matches(&self.texts(Some(user)), name)
    }

    /// Returns whether the pattern, which contains `{user}`, matches the channel `name` for some user.
    fn fits_some_user(&self, name: &str) -> bool {
        if self.users() == 1 {
            return matches(&self.texts(None), name);
        }
        // The text before the first `{user}` or after the last one fixes one end of the user within the name, so only
        // the other end has to be tried.
        let fits = |user: &str| user.len().saturating_mul(self.users()) <= name.len() && self.fits(name, user);
        if let Some(rest) = self.before_users().and_then(|before| name.strip_prefix(before)) {
            return rest.char_indices().any(|(at, c)| fits(&rest[..at + c.len_utf8()]));
        }
        let rest = self.after_users().and_then(|after| name.strip_suffix(after));
        rest.is_some_and(|rest| rest.char_indices().any(|(at, _)| fits(&rest[at..])))
    }

    /// Returns the text before the first `{user}`, or `None` if there is another placeholder before it.
    fn before_users(&self) -> Option<&str> {
        match &*self.parts {
            [PatternPart::User, ..] => Some(""),
            [PatternPart::Text(text), PatternPart::User, ..] => Some(text),
            _ => None,
        }
    }

    /// Returns the text after the last `{user}`, or `None` if there is another placeholder after it.
    fn after_users(&self) -> Option<&str> {
        match &*self.parts {
            [.., PatternPart::User] => Some(""),
            [.., PatternPart::User, PatternPart::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Returns the fixed texts of the pattern, in order. Between each two of them, a name has one or more arbitrary
    /// characters. With a user, `{user}` is a part of these texts; without one, it stands for arbitrary characters as
    /// well.
    fn texts(&self, user: Option<&str>) -> Vec<String> {
        let mut texts = Vec::new();
        let mut current = String::new();
        for part in &self.parts {
            match (part, user) {
                (PatternPart::Text(text), _) => current.push_str(text),
                (PatternPart::User, Some(user)) => current.push_str(user),
                (PatternPart::Any | PatternPart::User, _) => texts.push(std::mem::take(&mut current)),
            }
        }
        texts.push(current);
        texts
    }
}

/// Returns whether `name` consists of these texts in order, with one or more arbitrary characters between each two of
/// them. The texts between the first and the last must not be empty.
fn matches(texts: &[String], name: &str) -> bool {
    let [first, between @ .., last] = texts else { return texts.first().is_some_and(|only| only == name) };
    let Some(rest) = name.strip_prefix(first.as_str()) else { return false };
    // The first occurrence of a text can be taken, because it leaves the most characters for the texts after it.
    let rest = between.iter().try_fold(rest, |rest, text| {
        let rest = without_first_char(rest)?;
        rest.find(text.as_str()).map(|at| &rest[at + text.len()..])
    });
    rest.and_then(without_first_char).is_some_and(|rest| rest.ends_with(last.as_str()))
}

/// Returns `text` without its first character, or `None` if `text` is empty.
fn without_first_char(text: &str) -> Option<&str> {
    let mut chars = text.chars();
    chars.next().map(|_| chars.as_str())
}

/// Splits a pattern or a template into its texts and placeholders, in order.
fn parts(text: &str) -> Result<Vec<PatternPart>, InvalidText> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (before, behind) = rest.split_once('{').map_or((rest, None), |(before, behind)| (before, Some(behind)));
        if before.contains('}') {
            return invalid(format!("'{text}' has a '}}' without a '{{'"));
        }
        if !before.is_empty() {
            parts.push(PatternPart::Text(before.into()));
        }
        let Some(behind) = behind else { break };
        let Some((name, behind)) = behind.split_once('}') else {
            return invalid(format!("'{text}' has a '{{' without a '}}'"));
        };
        parts.push(placeholder(text, name)?);
        rest = behind;
    }
    Ok(parts)
}

fn placeholder(text: &str, name: &str) -> Result<PatternPart, InvalidText> {
    if name == USER {
        return Ok(PatternPart::User);
    }
    // A placeholder such as `{User}` was probably meant as `{user}`, but would stand for any text and so for any
    // user.
    let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if name.is_empty() || !is_name || name.eq_ignore_ascii_case(USER) {
        return invalid(format!("'{text}' contains the unknown placeholder '{{{name}}}'"));
    }
    Ok(PatternPart::Any)
}

#[cfg(test)]
mod tests;
