//! `GET /channels` and `GET /channels/NAME`.

use super::error::ApiError;
use super::query::{QueryParams, name};
use super::reply::ApiReply;
use crate::cluster::Cluster;
use crate::hub::HeldChannel;
use serde::Serialize;

/// A page of channels, and the name after which the next page begins.
#[derive(Serialize)]
struct ChannelPage {
    channels: Vec<HeldChannel>,
    next: Option<String>,
}

/// Returns a page of the held channels, in the order of their names.
pub(super) async fn list(cluster: &Cluster, query: Option<&str>) -> Result<ApiReply, ApiError> {
    let query = QueryParams::read(query, &["prefix", "after", "limit"])?;
    let prefix = query.get("prefix").unwrap_or_default();
    let (channels, more) = cluster.channels(prefix, query.get("after"), query.limit()?).await;
    let next = if more { channels.last().map(|held| held.channel.clone()) } else { None };
    Ok(ApiReply::json(&ChannelPage { channels, next }))
}

/// Returns one channel with its number of connections, which is 0 if nobody holds the channel.
pub(super) async fn one(cluster: &Cluster, channel: &str) -> Result<ApiReply, ApiError> {
    let channel = name(channel)?;
    Ok(ApiReply::json(&HeldChannel { connections: cluster.connections(&channel).await, channel }))
}
