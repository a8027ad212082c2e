//! Which channels a route's clients may hold: `conversation{id}`, `user{user}`.

use super::{Invalid, invalid};
use std::fmt;

/// Patterns of one rule at most.
pub const MAX_PATTERNS: usize = 1000;

/// The placeholder that stands for the client's user.
const USER: &str = "user";

/// A name that is made of a user's: `user{user}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Box<str>);

impl Template {
    /// Reads a template: text in which `{user}` stands once or more often, and nothing else in braces.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let parts = parts(text)?;
        if parts.contains(&Part::Any) {
            return invalid(format!(
                "'{text}' contains a placeholder other than {{user}}, which is the only one allowed here"
            ));
        }
        if !parts.contains(&Part::User) {
            return invalid(format!("'{text}' must contain {{user}}"));
        }
        if !parts.iter().any(|part| matches!(part, Part::Text(_))) {
            return invalid(format!(
                "'{text}' consists only of the user name, which could then equal the name of any channel: add other text"
            ));
        }
        Ok(Self(text.into()))
    }

    /// Returns the name for this user.
    pub fn fill(&self, user: &str) -> String {
        self.0.split("{user}").collect::<Vec<_>>().join(user)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The names that clients may hold: those that fit one of the patterns, and are not another user's.
///
/// In a pattern, `{user}` is the client's user, the same text each time; any other `{name}` is one or more characters,
/// whatever it is called. A name reads as another user's if it fits a pattern with `{user}` for some user, but none for
/// this one: that is refused even where a pattern without `{user}` fits it. Without patterns nothing is admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule(Vec<Pattern>);

impl Rule {
    /// Reads a rule: each pattern counts once.
    ///
    /// # Errors
    /// Which pattern is wrong, and why: it is empty, its braces do not match, a placeholder is called nothing, or has
    /// other characters in its name than letters, digits, `_` and `-`, or differs from `{user}` in case only, two
    /// placeholders have no text between them, or `{user}` is repeated while other placeholders stand both before and
    /// after all of its places. Or: there are more than [`MAX_PATTERNS`].
    pub fn parse<S: AsRef<str>>(patterns: &[S]) -> Result<Self, Invalid> {
        patterns.iter().try_fold(Self(Vec::new()), |rule, pattern| rule.and(pattern.as_ref()))
    }

    /// Returns whether a client of this user, `None` if that is not known, may hold `name`. The time that each pattern
    /// takes is bounded by the product of both lengths; by the square of the name's for one that repeats `{user}`.
    pub fn admits(&self, name: &str, user: Option<&str>) -> bool {
        let fits_this = |user: &str| self.of_users().any(|pattern| pattern.fits(name, user));
        if user.is_some_and(|user| !user.is_empty() && fits_this(user)) {
            return true;
        }
        let is_anothers = self.of_users().any(|pattern| pattern.fits_some_user(name));
        !is_anothers && self.0.iter().any(|pattern| pattern.users() == 0 && pattern.fits(name, ""))
    }

    /// Returns its patterns, as they were written.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|pattern| &*pattern.text)
    }

    /// Returns whether a pattern has `{user}`.
    pub fn names_users(&self) -> bool {
        self.of_users().next().is_some()
    }

    /// Returns the rule with one pattern more; the same one if it has it.
    ///
    /// # Errors
    /// As for [`Self::parse`].
    pub fn with(&self, pattern: &str) -> Result<Self, Invalid> {
        self.clone().and(pattern)
    }

    /// Returns the rule without one of its patterns. `None`: it does not have it.
    pub fn without(&self, pattern: &str) -> Option<Self> {
        let left: Vec<Pattern> = self.0.iter().filter(|own| *own.text != *pattern).cloned().collect();
        (left.len() < self.0.len()).then_some(Self(left))
    }

    fn and(mut self, pattern: &str) -> Result<Self, Invalid> {
        let parsed = Pattern::parse(pattern)?;
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

    fn of_users(&self) -> impl Iterator<Item = &Pattern> {
        self.0.iter().filter(|pattern| pattern.users() > 0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    text: Box<str>,
    parts: Box<[Part]>,
}

/// A part of a pattern. Texts are not empty, and there is one between any two placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Any,
    User,
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return invalid("a pattern must not be empty");
        }
        if text.contains('*') {
            return invalid(format!(
                "the pattern '{text}' contains '*', which is not supported: use a placeholder for any text, such as {{id}}"
            ));
        }
        let parts = parts(text)?;
        let is_text = |part: &Part| matches!(part, Part::Text(_));
        if parts.windows(2).any(|pair| !pair.iter().any(is_text)) {
            return invalid(format!("the pattern '{text}' has two placeholders without text between them"));
        }
        let pattern = Self { text: text.into(), parts: parts.into() };
        if pattern.users() > 1 && pattern.before_users().is_none() && pattern.after_users().is_none() {
            return invalid(format!(
                "the pattern '{text}' contains {{user}} more than once, with other placeholders both before and after it, which is not supported"
            ));
        }
        Ok(pattern)
    }

    fn users(&self) -> usize {
        self.parts.iter().filter(|part| **part == Part::User).count()
    }

    /// Returns whether the pattern matches the channel `name` for `user`.
    fn fits(&self, name: &str, user: &str) -> bool {
        matches(&self.texts(Some(user)), name)
    }

    /// Returns whether there is a user for whom it fits a name.
    fn fits_some_user(&self, name: &str) -> bool {
        if self.users() == 1 {
            return matches(&self.texts(None), name);
        }
        // Where one end of a place of the user is known, what is left to try is the other one.
        let fits = |user: &str| user.len().saturating_mul(self.users()) <= name.len() && self.fits(name, user);
        if let Some(rest) = self.before_users().and_then(|before| name.strip_prefix(before)) {
            return rest.char_indices().any(|(at, c)| fits(&rest[..at + c.len_utf8()]));
        }
        let rest = self.after_users().and_then(|after| name.strip_suffix(after));
        rest.is_some_and(|rest| rest.char_indices().any(|(at, _)| fits(&rest[at..])))
    }

    /// Returns the text before the first `{user}`, if it is text only.
    fn before_users(&self) -> Option<&str> {
        match &*self.parts {
            [Part::User, ..] => Some(""),
            [Part::Text(text), Part::User, ..] => Some(text),
            _ => None,
        }
    }

    /// Returns the text after the last `{user}`, if it is text only.
    fn after_users(&self) -> Option<&str> {
        match &*self.parts {
            [.., Part::User] => Some(""),
            [.., Part::User, Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Returns the texts between which anything may stand. Without a user that is anything, too.
    fn texts(&self, user: Option<&str>) -> Vec<String> {
        let mut texts = Vec::new();
        let mut current = String::new();
        for part in &self.parts {
            match (part, user) {
                (Part::Text(text), _) => current.push_str(text),
                (Part::User, Some(user)) => current.push_str(user),
                (Part::Any | Part::User, _) => texts.push(std::mem::take(&mut current)),
            }
        }
        texts.push(current);
        texts
    }
}

/// Returns whether `name` is these texts with one or more characters between each two. Those between the first and the last
/// are not empty.
fn matches(texts: &[String], name: &str) -> bool {
    let [first, between @ .., last] = texts else { return texts.first().is_some_and(|only| only == name) };
    let Some(rest) = name.strip_prefix(first.as_str()) else { return false };
    // The first place where a text fits may be taken: that leaves the most for the texts after it.
    let rest = between.iter().try_fold(rest, |rest, text| {
        let rest = behind_one(rest)?;
        rest.find(text.as_str()).map(|at| &rest[at + text.len()..])
    });
    rest.and_then(behind_one).is_some_and(|rest| rest.ends_with(last.as_str()))
}

/// Returns the text after the first character.
fn behind_one(text: &str) -> Option<&str> {
    let mut chars = text.chars();
    chars.next().map(|_| chars.as_str())
}

/// Texts and placeholders, in their order.
fn parts(text: &str) -> Result<Vec<Part>, Invalid> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (before, behind) = rest.split_once('{').map_or((rest, None), |(before, behind)| (before, Some(behind)));
        if before.contains('}') {
            return invalid(format!("'{text}' has a '}}' without a '{{'"));
        }
        if !before.is_empty() {
            parts.push(Part::Text(before.into()));
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

fn placeholder(text: &str, name: &str) -> Result<Part, Invalid> {
    if name == USER {
        return Ok(Part::User);
    }
    // A name that is almost {user} would otherwise be any user.
    let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if name.is_empty() || !is_name || name.eq_ignore_ascii_case(USER) {
        return invalid(format!("'{text}' contains the unknown placeholder '{{{name}}}'"));
    }
    Ok(Part::Any)
}

#[cfg(test)]
mod tests;
