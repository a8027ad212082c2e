//! The cluster: all nodes of gripd, as publishers and operators see them. The control API uses the [`Cluster`]
//! instead of the hub of its own node.
//!
//! Today there is one node, and every call goes to its hub. Methods for which other nodes will have to be asked are
//! already asynchronous.

mod connection_name;
mod publisher;

pub use connection_name::{ConnectionName, NoConnectionName};
pub use publisher::Publisher;

use crate::grip::Item;
use crate::hub::{
    BusyReason, ConnectionFilter, Denial, DenialCursor, HeldChannel, Hub, OnFinalOutcomes, Receipt, RouteRule,
    RuleChange, RuleChangeError,
};
use crate::shard::ListedConnection;
use std::sync::Arc;

/// The nodes that belong together, including this one.
#[derive(Debug)]
pub struct Cluster {
    hub: Arc<Hub>,
}

impl Cluster {
    /// Returns a cluster of this node alone, whose connections are in `hub`.
    pub const fn alone(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    /// Publishes a batch on all nodes: all of its items or none. `finally` is called with the outcomes when they are
    /// final.
    ///
    /// # Errors
    /// [`BusyReason`] if there was no room for the batch in time, or if there would be too many denials with its own.
    /// Nothing was published then.
    pub async fn publish(
        &self,
        items: Vec<Item>,
        publisher: &Publisher<'_>,
        finally: OnFinalOutcomes,
    ) -> Result<Receipt, BusyReason> {
        let (first, count) = (items.first().map(|item| item.channel.clone()), items.len());
        let receipt = self.hub.publish(items, finally).await?;
        let Publisher { token, subject, address } = publisher;
        tracing::debug!(remote = %address, token, subject, channel = first.as_deref(), items = count, "accepted");
        Ok(receipt)
    }

    /// Waits until all denials and changed rules up to now are on disk, so that they survive a restart. Returns at
    /// once if no folder is configured for them.
    ///
    /// # Errors
    /// They could not be written. The error says why.
    pub async fn wait_until_persisted(&self) -> Result<(), String> {
        self.hub.wait_until_written().await
    }

    /// Forgets the last ids of all channels, and makes held streams and long-polls ask their origins again.
    pub async fn recover(&self) {
        self.hub.recover();
    }

    /// Returns at most `limit` held channels whose names begin with `prefix`, in order, and whether there are more.
    /// The list begins after the channel `after`, if it is given.
    pub async fn channels(&self, prefix: &str, after: Option<&str>, limit: usize) -> (Vec<HeldChannel>, bool) {
        self.hub.channels(prefix, after, limit)
    }

    /// Returns how many connections hold a channel.
    pub async fn connections(&self, channel: &str) -> u64 {
        self.hub.connections(channel)
    }

    /// Returns whether the node in a name belongs to this cluster. If it does not, there is no connection of that
    /// name.
    pub const fn knows_node(&self, name: &ConnectionName) -> bool {
        name.node.is_none()
    }

    /// Returns at most `limit` connections that `filter` admits, in order, and whether there may be more. The list
    /// begins after the connection `after`, if it is given, whose node must be in this cluster.
    pub async fn connections_of(
        &self,
        filter: &ConnectionFilter,
        after: Option<&ConnectionName>,
        limit: usize,
    ) -> (Vec<(ConnectionName, ListedConnection)>, bool) {
        let (rows, more) = self.hub.connections_of(filter, after.map(|after| after.id), limit).await;
        (rows.into_iter().map(|(id, row)| (ConnectionName { id, node: None }, row)).collect(), more)
    }

    /// Returns the connection of this name, if it is held.
    pub async fn connection(&self, name: &ConnectionName) -> Option<ListedConnection> {
        if !self.knows_node(name) {
            return None;
        }
        self.hub.connection(name.id).await
    }

    /// Closes one connection, in the same way in which the close of a channel closes all of its connections.
    /// `finally` is called with the outcome. Returns `None` if there cannot be a connection of this name.
    pub async fn close_connection(&self, name: &ConnectionName, finally: OnFinalOutcomes) -> Option<Receipt> {
        if !self.knows_node(name) {
            return None;
        }
        self.hub.close_connection(name.id, finally)
    }

    /// Returns at most `limit` denials of channels whose names begin with `prefix`, in order. The list begins after
    /// `after`, if it is given. If there are more, the second value is the `after` with which the list goes on.
    pub fn denials(
        &self,
        prefix: &str,
        after: Option<&DenialCursor>,
        limit: usize,
    ) -> (Vec<Denial>, Option<DenialCursor>) {
        self.hub.denials(prefix, after, limit)
    }

    /// Ends the denials of a channel. Returns how many there were.
    pub async fn pardon(&self, channel: &str) -> usize {
        self.hub.pardon(channel)
    }

    /// Returns the lists of allowed channels of all routes.
    pub fn rules(&self) -> Vec<RouteRule> {
        self.hub.rules()
    }

    /// Changes the list of allowed channels of a route, and returns the new list. `route` may be `None` if there is
    /// only one route.
    ///
    /// # Errors
    /// The list was not changed. The error says why.
    pub async fn change_rule(&self, route: Option<&str>, change: &RuleChange) -> Result<RouteRule, RuleChangeError> {
        self.hub.change_rule(route, change)
    }
}
