//! The rights of a client: the channels that it may hold.

use super::Glob;
use super::naming::ChannelRule;
use std::fmt;
use std::sync::Arc;

/// The rights of a client. By default, the user is unknown, and the client may hold every channel that its route
/// allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// The user, or `None` if the user is unknown.
    pub user: Option<Arc<str>>,
    /// The user's own channel, by the name that the origin uses. The client may hold it whatever the rule of the route
    /// and its token say, unless the channel is denied.
    pub own: Option<Arc<str>>,
    /// Patterns for the channels that the client's token allows. With `None`, no token restricts the channels.
    pub channels: Option<Arc<[Glob]>>,
    /// The time at which the client's token expires, in seconds since 1970. It is `None` if the client's connections
    /// need not end at that time.
    pub expires: Option<u64>,
    /// Whether the client may hold no channel at all. This is so for a CORS preflight request without a token, which
    /// asks whether a token may be sent.
    pub holds_nothing: bool,
}

/// The reason why a client may not hold a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelRefusal {
    /// The rule of the route does not admit the channel, so the origin should not have named it.
    Rule,
    /// The client's token does not list the channel.
    Token,
}

impl Rights {
    /// Returns the whole name of the user's own channel. `prefix` is the prefix of the route, which is put before the
    /// names that the origin uses.
    pub fn own_channel(&self, prefix: &str) -> Option<String> {
        self.own.as_ref().map(|own| [prefix, &**own].concat())
    }

    /// Returns the reason why the client may not hold a channel, or `None` if it may. `name` is the name that the
    /// origin uses, and `rule` is the rule of the route, if the route has one.
    pub fn refusal(&self, rule: Option<&ChannelRule>, name: &str) -> Option<ChannelRefusal> {
        if self.own.as_deref() == Some(name) {
            return None;
        }
        if rule.is_some_and(|rule| !rule.admits(name, self.user.as_deref())) {
            return Some(ChannelRefusal::Rule);
        }
        let named = |globs: &Arc<[Glob]>| globs.iter().any(|glob| glob.matches(name));
        if self.channels.as_ref().is_none_or(named) { None } else { Some(ChannelRefusal::Token) }
    }
}

impl fmt::Display for ChannelRefusal {
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
        let rule = ChannelRule::parse(&["conversation{id}", "user{user}"]).unwrap();
        let user = Rights { user: Some("7".into()), own: Some("user7".into()), ..Rights::default() };
        let bound = Rights { channels: Some([Glob::from("conversation1*")].into()), ..user.clone() };
        assert_eq!(user.refusal(Some(&rule), "conversation2"), None);
        assert_eq!(user.refusal(Some(&rule), "user8"), Some(ChannelRefusal::Rule));
        assert_eq!(user.refusal(None, "user8"), None);
        assert_eq!(bound.refusal(Some(&rule), "conversation12"), None);
        assert_eq!(bound.refusal(Some(&rule), "conversation2"), Some(ChannelRefusal::Token));
        assert_eq!(bound.refusal(Some(&rule), "x"), Some(ChannelRefusal::Rule));
        assert_eq!(bound.refusal(Some(&rule), "user7"), None);
        assert_eq!(Rights::default().refusal(Some(&rule), "user7"), Some(ChannelRefusal::Rule));
    }
}
