//! `GET /connections`, `GET /connections/ID` and `DELETE /connections/ID`.

use super::ControlApi;
use super::error::ApiError;
use super::publish::wait_for;
use super::query::QueryParams;
use super::reply::{ApiReply, MediaType};
use crate::cluster::{Cluster, ConnectionName};
use crate::grip::Channel;
use crate::hub::{ConnectionFilter, Outcome};
use crate::shard::ListedConnection;
use serde::Serialize;
use std::time::SystemTime;

/// A page of connections, and the id after which the next page begins.
#[derive(Serialize)]
struct ConnectionPage {
    connections: Vec<ConnectionRow>,
    next: Option<String>,
}

#[derive(Serialize)]
struct ConnectionRow {
    id: String,
    kind: &'static str,
    /// The address of the client. It includes the port, unless a proxy has told the address.
    address: Option<String>,
    /// The address and port of the proxy from which the connection comes, if a proxy has told the client's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy: Option<String>,
    route: String,
    user: Option<String>,
    /// The time at which gripd began to hold the connection, in seconds since 1970.
    since: u64,
    bytes: u64,
    queue: usize,
    channels: Vec<String>,
}

impl ConnectionRow {
    fn new(name: &ConnectionName, row: &ListedConnection) -> Self {
        let peer = row.peer.map(|peer| peer.to_string());
        Self {
            id: name.to_string(),
            kind: row.kind,
            address: row.client.map(|client| client.to_string()).or_else(|| peer.clone()),
            // Without a proxy, the peer of the connection is the client itself.
            proxy: if row.client.is_some() { peer } else { None },
            route: row.route.to_string(),
            user: row.user.as_deref().map(str::to_owned),
            since: row.since.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            bytes: row.bytes,
            queue: row.queue,
            channels: row.channels.iter().map(|channel| channel.to_string()).collect(),
        }
    }
}

/// Returns a page of the held connections, in the order of their ids.
pub(super) async fn list(cluster: &Cluster, query: Option<&str>) -> Result<ApiReply, ApiError> {
    let query = QueryParams::read(query, &["channel", "user", "after", "limit"])?;
    let filter = ConnectionFilter {
        channel: query.get("channel").map(Channel::from),
        user: query.get("user").map(Channel::from),
    };
    let after = query.get("after").map(read_name).transpose()?;
    if let Some(after) = &after
        && !cluster.knows_node(after)
    {
        return Err(ApiError::Malformed(format!("after: the connection '{after}' belongs to an unknown node.")));
    }
    let (rows, more) = cluster.connections_of(&filter, after.as_ref(), query.limit()?).await;
    let connections: Vec<ConnectionRow> = rows.iter().map(|(name, row)| ConnectionRow::new(name, row)).collect();
    let next = if more { connections.last().map(|last| last.id.clone()) } else { None };
    Ok(ApiReply::json(&ConnectionPage { connections, next }))
}

/// Returns one connection.
///
/// # Errors
/// There is no connection with this id, or the id is malformed.
pub(super) async fn one(cluster: &Cluster, name: &str) -> Result<ApiReply, ApiError> {
    let name = read_name(name)?;
    let row = cluster.connection(&name).await.ok_or_else(|| unknown(&name))?;
    Ok(ApiReply::json(&ConnectionRow::new(&name, &row)))
}

/// Ends a connection, and waits until it has ended or the time for that is over.
///
/// # Errors
/// There is no connection with this id, or the id is malformed.
pub(super) async fn delete(control: &ControlApi, media: MediaType, name: &str) -> Result<ApiReply, ApiError> {
    let name = read_name(name)?;
    let (finally, told) = wait_for();
    let receipt = control.cluster.close_connection(&name, finally).await.ok_or_else(|| unknown(&name))?;
    let outcome = told.outcomes(control.settings().receipt_wait, &receipt).await.into_iter().next();
    let Some(Outcome { closed: Some(closed @ 1..), cut, .. }) = outcome else { return Err(unknown(&name)) };
    tracing::info!(connection = name.to_string(), "closed");
    Ok(ApiReply::done(media, "Closed", &serde_json::json!({ "closed": closed, "cut": cut })))
}

fn read_name(text: &str) -> Result<ConnectionName, ApiError> {
    text.parse().map_err(|_| {
        ApiError::Malformed(format!("'{text}' is not a valid connection id. It must have the form 0-17-3."))
    })
}

fn unknown(name: &ConnectionName) -> ApiError {
    ApiError::NotFound(format!("There is no connection '{name}'."))
}
