//! `GET /channels` and `GET /channels/NAME`.

use super::query::{Query, name};
use super::reply::Reply;
use crate::hub::{Held, Hub};
use serde::Serialize;

/// A page of channels, and the name to ask for the next page with.
#[derive(Serialize)]
struct Page {
    channels: Vec<Held>,
    next: Option<String>,
}

/// The channels that are held, in order.
pub(super) fn list(hub: &Hub, query: Option<&str>) -> Result<Reply, Reply> {
    let query = Query::read(query, &["prefix", "after", "limit"])?;
    let (channels, more) = hub.channels(query.get("prefix").unwrap_or_default(), query.get("after"), query.limit()?);
    let next = if more { channels.last().map(|held| held.channel.clone()) } else { None };
    Ok(Reply::json(&Page { channels, next }))
}

/// One channel. A channel that nobody holds has no connections.
pub(super) fn one(hub: &Hub, channel: &str) -> Result<Reply, Reply> {
    let channel = name(channel)?;
    Ok(Reply::json(&Held { connections: hub.connections(&channel), channel }))
}
