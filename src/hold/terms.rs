//! The channels that a connection holds by an instruct, and the terms on which it does.

use super::Hold;
use crate::admission::terms;
use crate::grip::Instruct;
use crate::shard::{Terms, Ways};

impl Hold {
    /// Returns its terms.
    pub(super) fn terms(&self) -> Terms {
        terms(&self.instruct, &self.about.route.prefix, &self.implicit)
    }
}

/// Returns what a stream's hold does about items on these terms.
pub(super) fn ways_of_stream(instruct: &Instruct) -> Ways {
    let asks = instruct.channels.iter().any(|channel| channel.filters.iter().any(|filter| filter.asks()));
    Ways { refreshes: instruct.links.next.is_some(), asks }
}

/// Returns what a long-poll's hold does. It looks at the content of items itself, as only it knows the body that they may
/// patch.
pub(super) fn ways_of_response(instruct: &Instruct) -> Ways {
    let looks = |f: &crate::grip::Filter| f.asks() || f.changes_content();
    Ways { refreshes: true, asks: instruct.channels.iter().any(|channel| channel.filters.iter().any(looks)) }
}

/// Returns the channel whose last id is of no use, because a stream without a next link cannot ask for what is missing.
pub(super) fn unlinked(instruct: &Instruct) -> Option<&str> {
    if instruct.links.next.is_some() {
        return None;
    }
    let reliable = instruct.channels.iter().find(|channel| channel.prev_id.is_some());
    reliable.map(|channel| channel.name.as_str())
}
