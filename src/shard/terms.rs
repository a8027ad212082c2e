//! The terms on which a connection takes items: the ids of the last items that its client has had, and filters. This
//! module does no input or output.

use super::inbox::Delivery;
use crate::grip::filter::{ClientChannels, FilterContext, FilterInput};
use crate::grip::item::{ContentFilters, ItemId};
use crate::grip::{Channel, Filter, Meta};
use bytes::Bytes;
use std::borrow::Cow;

/// The terms of one connection.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// The meta that the origin gave the client.
    pub meta: Meta,
    /// A term for each channel that the connection holds, and for each channel that it has left while items of the
    /// channel still wait.
    pub channels: Vec<ChannelTerms>,
}

/// The terms of one channel.
#[derive(Clone, Debug)]
pub struct ChannelTerms {
    /// The channel.
    pub channel: Channel,
    /// The length in bytes of the prefix that the route puts before the name. The origin does not know of this
    /// prefix.
    pub prefix: usize,
    /// The id of the last item that the client had. `None`: any item may come next.
    pub prev_id: Option<ItemId>,
    /// The filters that items pass through, in this order.
    pub filters: Vec<Filter>,
    /// Whether the connection has left the channel. The term then applies only to items that were accepted before and
    /// still wait.
    pub left: bool,
}

/// The verdict about an item.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The item is delivered. If filters have changed its content, this is the new content.
    Take(Option<Bytes>),
    /// A filter drops the item.
    Filtered,
    /// The item is the last one that the client has had already, usually because a response of the origin contained
    /// it.
    Had,
    /// The item is neither the next one of its channel nor the last one that the client has had. An item before it is
    /// taken to be missing.
    Gap,
}

impl ChannelTerms {
    /// Returns the name by which the origin knows the channel.
    pub fn name(&self) -> &str {
        self.channel.get(self.prefix..).unwrap_or_default()
    }

    /// Returns whether one of the filters asks a URL about each item, such as `http-check`.
    pub fn asks(&self) -> bool {
        self.filters.iter().any(|filter| filter.asks())
    }

    /// Returns whether one of the filters may change the content of items.
    pub fn changes_content(&self) -> bool {
        self.filters.iter().any(|filter| filter.changes_content())
    }
}

impl ChannelTerms {
    /// Returns a term without a last id and filters, by which items are taken in any order and unchanged.
    pub fn plain(channel: &Channel) -> Self {
        Self { channel: channel.clone(), prefix: 0, prev_id: None, filters: Vec::new(), left: false }
    }
}

impl Terms {
    /// Returns terms without last ids and filters, by which items are taken in any order and unchanged.
    pub fn plain(channels: &[Channel]) -> Self {
        Self { meta: Meta::default(), channels: channels.iter().map(ChannelTerms::plain).collect() }
    }

    /// Returns whether the terms have no effect, because no channel has a last id or filters.
    pub fn are_plain(&self) -> bool {
        self.channels.iter().all(|term| term.prev_id.is_none() && term.filters.is_empty())
    }

    /// Returns the terms of the channels that are held.
    pub fn held(&self) -> impl Iterator<Item = &ChannelTerms> {
        self.channels.iter().filter(|term| !term.left)
    }

    /// Returns the last ids that are known of the held channels, each with the name that the origin uses.
    pub fn last_ids(&self) -> Vec<(String, ItemId)> {
        self.held().filter_map(|t| Some((t.name().to_owned(), t.prev_id.clone()?))).collect()
    }

    /// Returns the last ids that are known of the held channels for which `asked` returns `true`.
    pub fn known(&self, asked: impl Fn(&Channel) -> bool) -> Vec<(Channel, ItemId)> {
        let asked = self.held().filter(|term| asked(&term.channel));
        asked.filter_map(|term| Some((term.channel.clone(), term.prev_id.clone()?))).collect()
    }

    /// Returns the things that filters look at besides an item's content.
    pub fn context<'a>(&'a self, item: Option<&'a Meta>) -> FilterContext<'a> {
        FilterContext { client: &self.meta, item, channels: self }
    }

    /// Returns an item together with the filters of its channel and the things that they look at.
    pub fn passage<'a>(&'a self, item: &'a Delivery) -> FilterInput<'a> {
        FilterInput {
            channel: &item.channel,
            filters: self.of(&item.channel).map_or(&[], |term| &term.filters),
            context: self.context(item.meta.as_deref()),
            last_ids: self.last_ids(),
        }
    }

    /// Returns the term of a channel, if there is one.
    pub fn of(&self, channel: &str) -> Option<&ChannelTerms> {
        self.channels.iter().find(|term| *term.channel == *channel)
    }

    /// Compares an item with the last id of its channel, and notes its id as the last one if the item is the next.
    /// Returns `None` if the item may be delivered as far as the order is concerned, and otherwise the verdict.
    pub(super) fn follow(&mut self, item: &Delivery) -> Option<Verdict> {
        let term = self.channels.iter_mut().find(|term| term.channel == item.channel)?;
        let expected = term.prev_id.as_ref()?;
        let (id, prev) = (item.id.as_ref(), item.prev_id.as_ref());
        if prev == Some(expected) {
            // If the item has no id, it is not known which item follows, so any item may come next.
            term.prev_id = id.cloned();
            return None;
        }
        Some(if id == Some(expected) { Verdict::Had } else { Verdict::Gap })
    }

    /// Returns whether an item directly follows the last item that the client had of the channel, or is that item.
    pub(super) fn knows(&self, item: &Delivery) -> bool {
        let expected = self.of(&item.channel).and_then(|term| term.prev_id.as_ref());
        item.prev_id.as_ref() == expected || item.id.as_ref() == expected
    }

    /// Passes the content of an item through those filters that ask no URL.
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
                    tracing::debug!(
                        channel = ?item.channel,
                        %error,
                        "an item was not delivered to a client because a filter failed"
                    );
                    return Verdict::Filtered;
                }
            }
        }
        match changed {
            Cow::Borrowed(_) => Verdict::Take(None),
            Cow::Owned(content) => Verdict::Take(Some(content.into())),
        }
    }

    /// Returns whether the filters let a command with this meta apply to the connection.
    pub(super) fn admit(&self, channel: &str, meta: Option<&Meta>) -> bool {
        let context = self.context(meta);
        self.of(channel).is_none_or(|term| term.filters.iter().all(|filter| filter.passes(&context)))
    }
}

/// Returns whether a subscription with these filters takes an item whose content is made for the content filters
/// `agreed`: the names must be the same, in the same order. `None` is for all subscriptions.
pub fn agrees(filters: &[Filter], agreed: &ContentFilters) -> bool {
    agreed.as_ref().is_none_or(|names| {
        let own = filters.iter().filter(|f| f.changes_content()).map(|f| f.name());
        own.eq(names.iter().map(|name| &**name))
    })
}

impl ClientChannels for Terms {
    fn holds(&self, name: &str) -> bool {
        self.held().any(|term| term.name() == name)
    }

    fn last_id(&self, name: &str) -> Option<&str> {
        self.held().find(|term| term.name() == name)?.prev_id.as_deref()
    }
}
