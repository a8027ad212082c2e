//! The channels of an instruct, with their ids and filters.

use crate::grip::item::ItemId;
use crate::grip::{Channel, Instruct};
use crate::shard::{ChannelTerms, Terms};

/// Returns the terms of a connection that an instruct holds. `prefix` is put before the channels that the instruct
/// names. The `implicit` channels are complete names; they are added unless the instruct names them already.
pub fn terms(instruct: &Instruct, prefix: &str, implicit: &[String]) -> Terms {
    let named = instruct.channels.iter().map(|named| ChannelTerms {
        channel: Channel::prefixed(prefix, &named.name),
        prefix: prefix.len(),
        prev_id: named.prev_id.as_deref().map(ItemId::from),
        filters: named.filters.clone(),
        left: false,
    });
    let mut terms = Terms { meta: instruct.meta.clone(), channels: named.collect() };
    for name in implicit {
        if terms.of(name).is_none() {
            let channel = Channel::from(name.as_str());
            terms.channels.push(ChannelTerms::plain(&channel));
        }
    }
    terms
}
