//! `GET /channels` and `GET /channels/NAME`.

use super::error::ApiError;
use super::query::{Query, name};
use super::reply::Reply;
use crate::cluster::Cluster;
use crate::hub::Held;
use serde::Serialize;

/// A page of channels, and the name to ask for the next page with.
#[derive(Serialize)]
struct Page {
    channels: Vec<Held>,
    next: Option<String>,
}

/// Returns the channels that are held, in order.
pub(super) async fn list(cluster: &Cluster, query: Option<&str>) -> Result<Reply, ApiError> {
    let query = Query::read(query, &["prefix", "after", "limit"])?;
    let prefix = query.get("prefix").unwrap_or_default();
    let (channels, more) = cluster.channels(prefix, query.get("after"), query.limit()?).await;
    let next = if more { channels.last().map(|held| held.channel.clone()) } else { None };
    Ok(Reply::json(&Page { channels, next }))
}

/// Returns one channel. A channel that nobody holds has no connections.
pub(super) async fn one(cluster: &Cluster, channel: &str) -> Result<Reply, ApiError> {
    let channel = name(channel)?;
    Ok(Reply::json(&Held { connections: cluster.connections(&channel).await, channel }))
}
