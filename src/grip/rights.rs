//! The rights of a client: the channels that it may hold.

use super::Glob;
use super::naming::Rule;
use std::fmt;
use std::sync::Arc;

/// The rights of a client. By default its user is not known, and it may hold everything that its route allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// The user, or `None` if the user is unknown.
    pub user: Option<Arc<str>>,
    /// The user's own channel, by the name that the origin uses. It may be held in any case.
    pub own: Option<Arc<str>>,
    /// The channels that its token lets it hold. `None`: all.
    pub channels: Option<Arc<[Glob]>>,
    /// When its token expires, in seconds since 1970, if its connections end then.
    pub until: Option<u64>,
    /// It may hold nothing: it had no token, and only asks whether it may send one.
    pub none: bool,
}

/// Why a channel may not be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The route's rule does not admit the name: its origin should not have said it.
    Rule,
    /// The client's token does not name it.
    Token,
}

impl Rights {
    /// Returns the user's own channel, by its whole name. `prefix`: what stands before the names that the origin uses.
    pub fn own_channel(&self, prefix: &str) -> Option<String> {
        self.own.as_ref().map(|own| [prefix, &**own].concat())
    }

    /// Returns the reason why a channel may not be held, by the name that the origin uses, on a route with this rule.
    pub fn refuse(&self, rule: Option<&Rule>, name: &str) -> Option<Refusal> {
        if self.own.as_deref() == Some(name) {
            return None;
        }
        if rule.is_some_and(|rule| !rule.admits(name, self.user.as_deref())) {
            return Some(Refusal::Rule);
        }
        let named = |globs: &Arc<[Glob]>| globs.iter().any(|glob| glob.matches(name));
        if self.channels.as_ref().is_none_or(named) { None } else { Some(Refusal::Token) }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rule => "the route does not allow this channel",
            Self::Token => "the client's token does not list this channel",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_must_be_admitted_by_the_rule_and_the_token() {
        let rule = Rule::parse(&["conversation{id}", "user{user}"]).unwrap();
        let user = Rights { user: Some("7".into()), own: Some("user7".into()), ..Rights::default() };
        let bound = Rights { channels: Some([Glob::from("conversation1*")].into()), ..user.clone() };
        assert_eq!(user.refuse(Some(&rule), "conversation2"), None);
        assert_eq!(user.refuse(Some(&rule), "user8"), Some(Refusal::Rule));
        assert_eq!(user.refuse(None, "user8"), None);
        assert_eq!(bound.refuse(Some(&rule), "conversation12"), None);
        assert_eq!(bound.refuse(Some(&rule), "conversation2"), Some(Refusal::Token));
        assert_eq!(bound.refuse(Some(&rule), "x"), Some(Refusal::Rule));
        assert_eq!(bound.refuse(Some(&rule), "user7"), None);
        assert_eq!(Rights::default().refuse(Some(&rule), "user7"), Some(Refusal::Rule));
    }
}
