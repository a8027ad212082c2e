//! Filters: the rules by which a subscription takes, skips or changes items.

use super::item::ItemId;
pub use super::template::MAX_ADDED;
use super::template::{render, unknown};
use super::{InvalidText, Meta, invalid};
use std::borrow::Cow;

/// The maximum number of filters of one subscription, as in Pushpin.
pub const MAX_FILTERS: usize = 5;

/// One filter of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Skips an item that the client itself sent: its meta `sender` equals the client's meta `user`.
    SkipSelf,
    /// Skips an item whose meta `skip_users`, a list separated by commas, contains the client's meta `user`.
    SkipUsers,
    /// Skips an item whose meta `require_sub` names a channel that the connection does not hold.
    RequireSub,
    /// Replaces `%I` in the content by the client's meta `id_format`, with the last ids of its channels filled in.
    BuildId,
    /// Replaces `%(name)s` in the content by the value of `name` in the client's meta.
    VarSubst,
    /// Asks the URL in the client's meta `url` whether the item is delivered.
    HttpCheck,
    /// Asks the URL in the client's meta `url` whether the item is delivered, and with which content.
    HttpModify,
}

impl Filter {
    const ALL: [Self; 7] = [
        Self::SkipSelf,
        Self::SkipUsers,
        Self::RequireSub,
        Self::BuildId,
        Self::VarSubst,
        Self::HttpCheck,
        Self::HttpModify,
    ];

    /// Returns the filter that is called `name`, or `None` if there is no such filter.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|filter| filter.name() == name)
    }

    /// Returns the name of the filter, as origins write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SkipSelf => "skip-self",
            Self::SkipUsers => "skip-users",
            Self::RequireSub => "require-sub",
            Self::BuildId => "build-id",
            Self::VarSubst => "var-subst",
            Self::HttpCheck => "http-check",
            Self::HttpModify => "http-modify",
        }
    }

    /// Returns whether the filter may change the content of an item.
    pub const fn changes_content(self) -> bool {
        matches!(self, Self::BuildId | Self::VarSubst | Self::HttpModify)
    }

    /// Returns whether the filter asks a URL about each item.
    pub const fn asks(self) -> bool {
        matches!(self, Self::HttpCheck | Self::HttpModify)
    }

    /// Returns whether an item passes the filter, as far as this can be decided without a request. Filters that
    /// change content or ask a URL return `true` here.
    pub fn passes(self, context: &FilterContext<'_>) -> bool {
        let item = |name| context.item.and_then(|meta| meta.get(name)).filter(|value| !value.is_empty());
        let user = context.client.get("user").filter(|user| !user.is_empty());
        match self {
            Self::SkipSelf => user.is_none() || user != item("sender"),
            Self::SkipUsers => {
                let listed = |user| item("skip_users").is_some_and(|list| list.split(',').any(|u| u.trim() == user));
                !user.is_some_and(listed)
            }
            Self::RequireSub => item("require_sub").is_none_or(|channel| context.channels.holds(channel)),
            Self::BuildId | Self::VarSubst | Self::HttpCheck | Self::HttpModify => true,
        }
    }

    /// Returns the content with the directives of `BuildId` or `VarSubst` filled in. Other filters return it
    /// unchanged.
    ///
    /// # Errors
    /// The content has a directive that is incomplete or that the filter does not know, the client's meta lacks a value
    /// for a directive or has a wrong one, the last id of a channel in `id_format` is unknown, or a limit of the
    /// substitution is exceeded.
    pub fn apply<'a>(self, context: &FilterContext<'_>, content: Cow<'a, [u8]>) -> Result<Cow<'a, [u8]>, InvalidText> {
        match self {
            Self::BuildId => build_id(context, &content).map(Cow::Owned),
            Self::VarSubst => substitute(context.client, &content).map(Cow::Owned),
            _ => Ok(content),
        }
    }
}

/// The data that filters look at besides the content.
#[derive(Clone, Copy, Debug)]
pub struct FilterContext<'a> {
    /// The meta that the origin gave the client.
    pub client: &'a Meta,
    /// The meta that the publisher gave the item, if there is any.
    pub item: Option<&'a Meta>,
    /// The channels that the client holds.
    pub channels: &'a dyn ClientChannels,
}

/// An item on its way to one connection, with the filters that it passes through.
#[derive(Clone, Debug)]
pub struct FilterInput<'a> {
    /// The whole name of the item's channel, including the prefix of the route.
    pub channel: &'a str,
    /// The filters, in the order in which the content passes through them.
    pub filters: &'a [Filter],
    /// The data that the filters look at.
    pub context: FilterContext<'a>,
    /// For each channel of the client, by the name that the origin uses, the id of the last item that the client got.
    /// Channels whose last id is unknown are left out.
    pub last_ids: Vec<(String, ItemId)>,
}

/// The channels that a client holds, by the names that its origin uses.
pub trait ClientChannels: std::fmt::Debug {
    /// Returns whether the client holds the channel `name`.
    fn holds(&self, name: &str) -> bool;

    /// Returns the id of the last item that the client got from the channel `name`, if that id is known.
    fn last_id(&self, name: &str) -> Option<&str>;
}

fn build_id(context: &FilterContext<'_>, content: &[u8]) -> Result<Vec<u8>, InvalidText> {
    let in_hex = match context.client.get("id_encoding") {
        None | Some("") => false,
        Some("hex") => true,
        Some(other) => return invalid(format!("unsupported encoding: {other}")),
    };
    let encode = |id: Vec<u8>| if in_hex { hex(&id) } else { id };
    // The client's id is the same at each `%I`, so it is made only once.
    let mut own = None;
    render(content, |letter, name| match (letter, name) {
        (b'I', Some(text)) => Ok(encode(text.as_bytes().to_vec()).into()),
        (b'I', None) => match &own {
            Some(id) => Ok(Vec::clone(id).into()),
            None => Ok(own.insert(encode(own_id(context)?)).clone().into()),
        },
        (other, _) => unknown(other),
    })
}

/// Returns the client's meta `id_format`, in which each `%(channel)s` is replaced by the last id of that channel.
fn own_id(context: &FilterContext<'_>) -> Result<Vec<u8>, InvalidText> {
    let Some(format) = context.client.get("id_format") else { return invalid("no sub meta 'id_format'") };
    render(format.as_bytes(), |letter, name| match (letter, name) {
        (b's', Some(channel)) => match context.channels.last_id(channel) {
            Some(id) => Ok(id.as_bytes().into()),
            None => invalid(format!("the last id of the channel '{channel}' is not known")),
        },
        (other, _) => unknown(other),
    })
}

fn substitute(meta: &Meta, content: &[u8]) -> Result<Vec<u8>, InvalidText> {
    render(content, |letter, name| match (letter, name) {
        (b's', Some(name)) => match meta.get(name) {
            Some(value) => Ok(value.as_bytes().into()),
            None => invalid(format!("no sub meta '{name}'")),
        },
        (other, _) => unknown(other),
    })
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|b| format!("{b:02x}").into_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct TestChannels<'a>(&'a [(&'a str, Option<&'a str>)]);

    impl ClientChannels for TestChannels<'_> {
        fn holds(&self, name: &str) -> bool {
            self.0.iter().any(|(n, _)| *n == name)
        }

        fn last_id(&self, name: &str) -> Option<&str> {
            self.0.iter().find(|(n, _)| *n == name)?.1
        }
    }

    fn meta(pairs: &[(&str, &str)]) -> Meta {
        pairs.iter().copied().collect()
    }

    fn passes(filter: Filter, client: &[(&str, &str)], item: &[(&str, &str)]) -> bool {
        let (client, item) = (meta(client), meta(item));
        filter.passes(&FilterContext { client: &client, item: Some(&item), channels: &TestChannels(&[("room", None)]) })
    }

    fn apply(filter: Filter, client: &[(&str, &str)], content: &str) -> Result<String, String> {
        let client = meta(client);
        let channels = TestChannels(&[("a", Some("7")), ("b", None)]);
        let context = FilterContext { client: &client, item: None, channels: &channels };
        let done = filter.apply(&context, Cow::Borrowed(content.as_bytes()));
        done.map(|b| String::from_utf8(b.into_owned()).unwrap()).map_err(|e| e.to_string())
    }

    #[test]
    fn names_and_kinds() {
        for filter in Filter::ALL {
            assert_eq!(Filter::named(filter.name()), Some(filter));
        }
        assert_eq!(Filter::named("skip"), None);
        let changing = Filter::ALL.iter().filter(|f| f.changes_content()).count();
        assert_eq!((changing, Filter::ALL.iter().filter(|f| f.asks()).count()), (3, 2));
    }

    #[test]
    fn nobody_gets_what_they_said_themselves() {
        assert!(!passes(Filter::SkipSelf, &[("user", "bob")], &[("sender", "bob")]));
        assert!(passes(Filter::SkipSelf, &[("user", "bob")], &[("sender", "ann")]));
        assert!(passes(Filter::SkipSelf, &[("user", "bob")], &[]));
        assert!(passes(Filter::SkipSelf, &[], &[("sender", "bob")]));
        assert!(passes(Filter::SkipSelf, &[("user", "")], &[("sender", "")]));
    }

    #[test]
    fn listed_users_are_skipped() {
        assert!(!passes(Filter::SkipUsers, &[("user", "bob")], &[("skip_users", "ann, bob ,cy")]));
        assert!(passes(Filter::SkipUsers, &[("user", "bo")], &[("skip_users", "ann, bob")]));
        assert!(passes(Filter::SkipUsers, &[], &[("skip_users", "ann")]));
    }

    #[test]
    fn some_items_require_another_subscription() {
        assert!(passes(Filter::RequireSub, &[], &[("require_sub", "room")]));
        assert!(!passes(Filter::RequireSub, &[], &[("require_sub", "hall")]));
        assert!(passes(Filter::RequireSub, &[], &[]));
    }

    #[test]
    fn ids_are_built_from_the_last_ids_of_channels() {
        let format = ("id_format", "x:%(a)s");
        assert_eq!(apply(Filter::BuildId, &[format], "id: %I\n%%\n").unwrap(), "id: x:7\n%\n");
        assert_eq!(apply(Filter::BuildId, &[format, ("id_encoding", "hex")], "%I %(ab)I").unwrap(), "783a37 6162");
        assert_eq!(apply(Filter::BuildId, &[], "%(z)I").unwrap(), "z");
        assert_eq!(apply(Filter::BuildId, &[], "%I").unwrap_err(), "no sub meta 'id_format'");
        let unknown = apply(Filter::BuildId, &[("id_format", "%(b)s")], "%I").unwrap_err();
        assert_eq!(unknown, "the last id of the channel 'b' is not known");
        assert!(apply(Filter::BuildId, &[("id_encoding", "rot13")], "").is_err());
    }

    #[test]
    fn variables_are_the_clients_meta() {
        assert_eq!(apply(Filter::VarSubst, &[("user", "bob")], "hi %(user)s, 5%%").unwrap(), "hi bob, 5%");
        assert_eq!(apply(Filter::VarSubst, &[], "%(user)s").unwrap_err(), "no sub meta 'user'");
        assert!(apply(Filter::VarSubst, &[], "5%").is_err());
        assert_eq!(apply(Filter::SkipSelf, &[], "5%").unwrap(), "5%");
    }
}
