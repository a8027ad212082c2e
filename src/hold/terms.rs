//! The terms on which a hold takes items, as its instruct states them.

use super::Hold;
use crate::admission::terms;
use crate::grip::Instruct;
use crate::shard::{ItemHandling, Terms};

impl Hold {
    /// Returns the terms of the channels that this hold names and of its implicit channels.
    pub(super) fn terms(&self) -> Terms {
        terms(&self.instruct, &self.about.route.prefix, &self.implicit)
    }
}

/// Returns the part that the hold of a stream takes in delivering items: refreshes by a next link, and HTTP filters.
pub(super) fn ways_of_stream(instruct: &Instruct) -> ItemHandling {
    let asks = instruct.channels.iter().any(|channel| channel.filters.iter().any(|filter| filter.asks()));
    ItemHandling { can_refresh: instruct.links.next.is_some(), decides_items: asks }
}

/// Returns the part that the hold of a long-poll takes in delivering items. The hold itself applies filters that
/// change content, because an item may be a patch of the held body, which only the hold knows.
pub(super) fn ways_of_response(instruct: &Instruct) -> ItemHandling {
    let looks = |f: &crate::grip::Filter| f.asks() || f.changes_content();
    ItemHandling {
        can_refresh: true,
        decides_items: instruct.channels.iter().any(|channel| channel.filters.iter().any(looks)),
    }
}

/// Returns a channel that has a last id although there is no next link, if there is one. A stream without a next link
/// could not request missing items.
pub(super) fn unlinked(instruct: &Instruct) -> Option<&str> {
    if instruct.links.next.is_some() {
        return None;
    }
    let reliable = instruct.channels.iter().find(|channel| channel.prev_id.is_some());
    reliable.map(|channel| channel.name.as_str())
}
