//! What an instruct makes of a connection: the channels that it holds, and on what terms.

use super::Hold;
use crate::grip::item::Id;
use crate::grip::{Channel, Instruct, Invalid, invalid};
use crate::shard::{Term, Terms, Ways};

/// The terms of an instruct, and behind them the channels that the target adds.
pub(super) fn terms(instruct: &Instruct, prefix: &str, implicit: &[String]) -> Terms {
    let named = instruct.channels.iter().map(|named| Term {
        channel: Channel::prefixed(prefix, &named.name),
        prefix: prefix.len(),
        prev_id: named.prev_id.as_deref().map(Id::from),
        filters: named.filters.clone(),
        left: false,
    });
    let mut terms = Terms { meta: instruct.meta.clone(), channels: named.collect() };
    for name in implicit {
        if terms.of(name).is_none() {
            let channel = Channel::from(name.as_str());
            terms.channels.push(Term::plain(&channel));
        }
    }
    terms
}

impl Hold {
    /// Its terms.
    pub(super) fn terms(&self) -> Terms {
        terms(&self.instruct, &self.about.route.prefix, &self.implicit)
    }
}

/// What a stream's hold does about items on these terms.
pub(super) fn ways_of_stream(instruct: &Instruct) -> Ways {
    let asks = instruct.channels.iter().any(|channel| channel.filters.iter().any(|filter| filter.asks()));
    Ways { refreshes: instruct.links.next.is_some(), asks }
}

/// What a long-poll's hold does: it looks at the content of items itself, as only it knows what they may patch.
pub(super) fn ways_of_response(instruct: &Instruct) -> Ways {
    let looks = |f: &crate::grip::Filter| f.asks() || f.changes_content();
    Ways { refreshes: true, asks: instruct.channels.iter().any(|channel| channel.filters.iter().any(looks)) }
}

/// Refuses an instruct that names too many channels.
///
/// # Errors
/// How many it names.
pub fn check(instruct: &Instruct, most: usize) -> Result<(), Invalid> {
    let asked = instruct.channels.len();
    if asked > most {
        return invalid(format!("it names {asked} channels, and max_channels is {most}"));
    }
    Ok(())
}

/// The channel whose last id is of no use, because a stream without a next link cannot ask for what is missing.
pub(super) fn unlinked(instruct: &Instruct) -> Option<&str> {
    let reliable = instruct.channels.iter().find(|channel| channel.prev_id.is_some());
    reliable.filter(|_| instruct.links.next.is_none()).map(|channel| channel.name.as_str())
}

/// The body of an answer, its content filters applied as if it were an item.
///
/// # Errors
/// What is wrong with the body or the client's meta.
pub fn filtered(instruct: &Instruct, body: &[u8]) -> Result<Option<Vec<u8>>, Invalid> {
    use crate::grip::Filter;
    if !instruct.filters_content() {
        return Ok(None);
    }
    let terms = terms(instruct, "", &[]);
    // However many channels list it, it is applied once, as in Pushpin.
    let done = Filter::BuildId.apply(&terms.context(None), body.into())?;
    Ok(Some(done.into_owned()))
}
