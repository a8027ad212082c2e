//! On what terms a connection takes items: the ids that it knows of, and filters. Pure.

use super::inbox::Delivery;
use crate::grip::filter::{Channels, Context, Passage};
use crate::grip::item::{ContentFilters, Id};
use crate::grip::{Channel, Filter, Meta};
use bytes::Bytes;
use std::borrow::Cow;

/// The terms of one connection.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// The meta that the origin gave the client.
    pub meta: Meta,
    /// Its channels, all of them, and those that it has left lately.
    pub channels: Vec<Term>,
}

/// The terms of one channel.
#[derive(Clone, Debug)]
pub struct Term {
    /// The channel.
    pub channel: Channel,
    /// Bytes of its name that the origin does not know of: its route's prefix.
    pub prefix: usize,
    /// The id of the last item that the client had. `None`: any item may come next.
    pub prev_id: Option<Id>,
    /// The filters that items pass through, in this order.
    pub filters: Vec<Filter>,
    /// Whether the connection has left the channel: these are the terms of what was accepted before and waits.
    pub left: bool,
}

/// The verdict about an item.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is delivered; with this content, if it is not its own.
    Take(Option<Bytes>),
    /// It is for others.
    Filtered,
    /// The client has had it: its origin sent it.
    Had,
    /// An item is missing before it.
    Gap,
}

impl Term {
    /// Returns the name by which the origin knows the channel.
    pub fn name(&self) -> &str {
        self.channel.get(self.prefix..).unwrap_or_default()
    }

    /// Returns whether somebody is asked about its items.
    pub fn asks(&self) -> bool {
        self.filters.iter().any(|filter| filter.asks())
    }

    /// Returns whether content is changed on its way to the connection.
    pub fn changes_content(&self) -> bool {
        self.filters.iter().any(|filter| filter.changes_content())
    }
}

impl Term {
    /// Returns the term of a channel whose items are taken as they come.
    pub fn plain(channel: &Channel) -> Self {
        Self { channel: channel.clone(), prefix: 0, prev_id: None, filters: Vec::new(), left: false }
    }
}

impl Terms {
    /// Returns the terms of channels whose items are taken as they come.
    pub fn plain(channels: &[Channel]) -> Self {
        Self { meta: Meta::default(), channels: channels.iter().map(Term::plain).collect() }
    }

    /// Returns whether they come to nothing.
    pub fn are_plain(&self) -> bool {
        self.channels.iter().all(|term| term.prev_id.is_none() && term.filters.is_empty())
    }

    /// Returns the terms of the channels that are held.
    pub fn held(&self) -> impl Iterator<Item = &Term> {
        self.channels.iter().filter(|term| !term.left)
    }

    /// Returns the channels whose last id is known, by the names that the origin uses.
    pub fn last_ids(&self) -> Vec<(String, Id)> {
        self.held().filter_map(|t| Some((t.name().to_owned(), t.prev_id.clone()?))).collect()
    }

    /// Returns the last ids that are known of the channels that are `asked` for.
    pub fn known(&self, asked: impl Fn(&Channel) -> bool) -> Vec<(Channel, Id)> {
        let asked = self.held().filter(|term| asked(&term.channel));
        asked.filter_map(|term| Some((term.channel.clone(), term.prev_id.clone()?))).collect()
    }

    /// Returns the things that filters look at besides an item's content.
    pub fn context<'a>(&'a self, item: Option<&'a Meta>) -> Context<'a> {
        Context { client: &self.meta, item, channels: self }
    }

    /// Returns the way of an item through the filters of its channel.
    pub fn passage<'a>(&'a self, item: &'a Delivery) -> Passage<'a> {
        Passage {
            channel: &item.channel,
            filters: self.of(&item.channel).map_or(&[], |term| &term.filters),
            context: self.context(item.meta.as_deref()),
            last_ids: self.last_ids(),
        }
    }

    /// Returns the terms of a channel.
    pub fn of(&self, channel: &str) -> Option<&Term> {
        self.channels.iter().find(|term| *term.channel == *channel)
    }

    /// Takes note of an item in its channel's order. `Some`: that decides what becomes of it.
    pub(super) fn follow(&mut self, item: &Delivery) -> Option<Verdict> {
        let term = self.channels.iter_mut().find(|term| term.channel == item.channel)?;
        let expected = term.prev_id.as_ref()?;
        let (id, prev) = (item.id.as_ref(), item.prev_id.as_ref());
        if prev == Some(expected) {
            // Without an id nothing can be said of the next one.
            term.prev_id = id.cloned();
            return None;
        }
        Some(if id == Some(expected) { Verdict::Had } else { Verdict::Gap })
    }

    /// Returns whether an item is the next of its channel, or the last that the client had.
    pub(super) fn knows(&self, item: &Delivery) -> bool {
        let expected = self.of(&item.channel).and_then(|term| term.prev_id.as_ref());
        item.prev_id.as_ref() == expected || item.id.as_ref() == expected
    }

    /// Passes the content of an item through the filters that ask nobody.
    pub(super) fn filter(&self, item: &Delivery, content: &[u8]) -> Verdict {
        let context = self.context(item.meta.as_deref());
        let mut changed = Cow::Borrowed(content);
        for filter in self.of(&item.channel).map_or(&[][..], |term| &term.filters) {
            if !filter.passes(&context) {
                return Verdict::Filtered;
            }
            match filter.apply(&context, changed) {
                Ok(content) => changed = content,
                Err(error) => {
                    tracing::debug!(channel = ?item.channel, %error, "an item could not be passed through a filter");
                    return Verdict::Filtered;
                }
            }
        }
        match changed {
            Cow::Borrowed(_) => Verdict::Take(None),
            Cow::Owned(content) => Verdict::Take(Some(content.into())),
        }
    }

    /// Returns whether a close with this meta is for the connection.
    pub(super) fn admit(&self, channel: &str, meta: Option<&Meta>) -> bool {
        let context = self.context(meta);
        self.of(channel).is_none_or(|term| term.filters.iter().all(|filter| filter.passes(&context)))
    }
}

/// Returns whether a subscription with these filters takes content made for those.
pub fn agrees(filters: &[Filter], agreed: &ContentFilters) -> bool {
    agreed.as_ref().is_none_or(|names| {
        let own = filters.iter().filter(|f| f.changes_content()).map(|f| f.name());
        own.eq(names.iter().map(|name| &**name))
    })
}

impl Channels for Terms {
    fn holds(&self, name: &str) -> bool {
        self.held().any(|term| term.name() == name)
    }

    fn last_id(&self, name: &str) -> Option<&str> {
        self.held().find(|term| term.name() == name)?.prev_id.as_deref()
    }
}
