//! Filters: what a subscription lets through, and how it changes what it lets through.

use super::item::Id;
pub use super::template::MAX_ADDED;
use super::template::{render, unknown};
use super::{Invalid, Meta, invalid};
use std::borrow::Cow;

/// Filters that one subscription may have, as in Pushpin.
pub const MAX_FILTERS: usize = 5;

/// One filter of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Drops what the client itself sent: its meta `user` is the item's `sender`.
    SkipSelf,
    /// Drops what is not for this client: its meta `user` is in the item's `skip_users`.
    SkipUsers,
    /// Drops what is only for connections that also hold the item's `require_sub`.
    RequireSub,
    /// Fills `%I` in: an id made of the last ids of the client's channels.
    BuildId,
    /// Fills `%(name)s` in: the client's meta.
    VarSubst,
    /// Asks a URL whether to deliver.
    HttpCheck,
    /// Asks a URL whether and what to deliver.
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

    /// Returns the filter of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|filter| filter.name() == name)
    }

    /// Returns its name.
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

    /// Returns whether it may change the content of an item.
    pub const fn changes_content(self) -> bool {
        matches!(self, Self::BuildId | Self::VarSubst | Self::HttpModify)
    }

    /// Returns whether it asks somebody.
    pub const fn asks(self) -> bool {
        matches!(self, Self::HttpCheck | Self::HttpModify)
    }

    /// Returns whether an item passes, as far as that is known without asking.
    pub fn passes(self, context: &Context<'_>) -> bool {
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

    /// Returns the content that the filter makes of this one, without asking anybody.
    ///
    /// # Errors
    /// The content or the client's meta is not fit for the filter.
    pub fn apply<'a>(self, context: &Context<'_>, content: Cow<'a, [u8]>) -> Result<Cow<'a, [u8]>, Invalid> {
        match self {
            Self::BuildId => build_id(context, &content).map(Cow::Owned),
            Self::VarSubst => substitute(context.client, &content).map(Cow::Owned),
            _ => Ok(content),
        }
    }
}

/// The things that filters look at besides the content.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The meta that the origin gave the client.
    pub client: &'a Meta,
    /// The meta that the publisher gave the item.
    pub item: Option<&'a Meta>,
    /// The channels that the client holds.
    pub channels: &'a dyn Channels,
}

/// An item on its way to one connection.
#[derive(Clone, Debug)]
pub struct Passage<'a> {
    /// Its channel.
    pub channel: &'a str,
    /// The filters, in the order in which the content passes through them.
    pub filters: &'a [Filter],
    /// The things that they look at.
    pub context: Context<'a>,
    /// The last ids that the client has had of its channels.
    pub last_ids: Vec<(String, Id)>,
}

/// The channels of a client, by the names that its origin uses.
pub trait Channels: std::fmt::Debug {
    /// Returns whether it holds this one.
    fn holds(&self, name: &str) -> bool;

    /// Returns the id of the last item it had of this one, if that is known.
    fn last_id(&self, name: &str) -> Option<&str>;
}

fn build_id(context: &Context<'_>, content: &[u8]) -> Result<Vec<u8>, Invalid> {
    let in_hex = match context.client.get("id_encoding") {
        None | Some("") => false,
        Some("hex") => true,
        Some(other) => return invalid(format!("unsupported encoding: {other}")),
    };
    let encode = |id: Vec<u8>| if in_hex { hex(&id) } else { id };
    // It is the same wherever it stands, and made only once.
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

/// Returns the client's `id_format`, its channels replaced by their last ids.
fn own_id(context: &Context<'_>) -> Result<Vec<u8>, Invalid> {
    let Some(format) = context.client.get("id_format") else { return invalid("no sub meta 'id_format'") };
    render(format.as_bytes(), |letter, name| match (letter, name) {
        (b's', Some(channel)) => match context.channels.last_id(channel) {
            Some(id) => Ok(id.as_bytes().into()),
            None => invalid(format!("the last id of the channel '{channel}' is not known")),
        },
        (other, _) => unknown(other),
    })
}

fn substitute(meta: &Meta, content: &[u8]) -> Result<Vec<u8>, Invalid> {
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
    struct Held<'a>(&'a [(&'a str, Option<&'a str>)]);

    impl Channels for Held<'_> {
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
        filter.passes(&Context { client: &client, item: Some(&item), channels: &Held(&[("room", None)]) })
    }

    fn apply(filter: Filter, client: &[(&str, &str)], content: &str) -> Result<String, String> {
        let client = meta(client);
        let channels = Held(&[("a", Some("7")), ("b", None)]);
        let context = Context { client: &client, item: None, channels: &channels };
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
