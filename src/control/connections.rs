//! `GET /connections`, `GET /connections/ID` and `DELETE /connections/ID`.

use super::Control;
use super::publish::wait_for;
use super::query::Query;
use super::reply::{Media, Reply};
use crate::grip::Channel;
use crate::hub::{ConnectionFilter, Hub, Outcome};
use crate::shard::{ConnectionId, Row};
use serde::Serialize;
use std::time::SystemTime;

/// A page of connections, and the id to ask for the next page with.
#[derive(Serialize)]
struct Page {
    connections: Vec<Connection>,
    next: Option<String>,
}

#[derive(Serialize)]
struct Connection {
    id: String,
    kind: &'static str,
    /// The client's, with its port if it has connected itself.
    address: Option<String>,
    /// The address of the proxy through which it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy: Option<String>,
    route: String,
    user: Option<String>,
    /// Seconds since 1970.
    since: u64,
    bytes: u64,
    queue: usize,
    channels: Vec<String>,
}

impl Connection {
    fn new(id: ConnectionId, row: &Row) -> Self {
        let peer = row.peer.map(|peer| peer.to_string());
        Self {
            id: id.to_string(),
            kind: row.kind,
            address: row.client.map(|client| client.to_string()).or_else(|| peer.clone()),
            // Without a proxy the other side is the client itself.
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

/// The connections that are held, in order.
pub(super) async fn list(hub: &Hub, query: Option<&str>) -> Result<Reply, Reply> {
    let query = Query::read(query, &["channel", "user", "after", "limit"])?;
    let filter = ConnectionFilter {
        channel: query.get("channel").map(Channel::from),
        user: query.get("user").map(Channel::from),
    };
    let after = query.get("after").map(id).transpose()?;
    let (rows, more) = hub.connections_of(&filter, after, query.limit()?).await;
    let connections: Vec<Connection> = rows.iter().map(|(id, row)| Connection::new(*id, row)).collect();
    let next = if more { connections.last().map(|last| last.id.clone()) } else { None };
    Ok(Reply::json(&Page { connections, next }))
}

/// One connection.
pub(super) async fn one(hub: &Hub, name: &str) -> Result<Reply, Reply> {
    let id = id(name)?;
    let row = hub.connection(id).await.ok_or_else(|| unknown(name))?;
    Ok(Reply::json(&Connection::new(id, &row)))
}

/// Ends a connection.
pub(super) async fn delete(control: &Control, media: Media, name: &str) -> Result<Reply, Reply> {
    let id = id(name)?;
    let (finally, told) = wait_for();
    let receipt = control.hub.close_connection(id, finally).ok_or_else(|| unknown(name))?;
    let outcome = told.outcomes(control.settings.receipt_wait, &receipt).await.into_iter().next();
    let Some(Outcome { closed: Some(closed @ 1..), cut, .. }) = outcome else { return Err(unknown(name)) };
    tracing::info!(connection = name, "closed");
    Ok(Reply::done(media, "Closed", &serde_json::json!({ "closed": closed, "cut": cut })))
}

fn id(text: &str) -> Result<ConnectionId, Reply> {
    text.parse().map_err(|_| Reply::text(400, format!("'{text}' is no connection's id: it has the form 0-17-3.")))
}

fn unknown(name: &str) -> Reply {
    Reply::text(404, format!("There is no connection '{name}'."))
}
