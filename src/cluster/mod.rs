//! All nodes of gripd, as publishers and operators see them: the control API speaks to this, and not to the hub of its node.
//!
//! Today there is one node, and every call goes to its hub. Methods that other nodes will have to answer are asynchronous
//! already.

mod connection_name;
mod publisher;

pub use connection_name::{ConnectionName, NoConnectionName};
pub use publisher::Publisher;

use crate::grip::Item;
use crate::hub::{After, Busy, Change, ConnectionFilter, Denial, Finally, Held, Hub, Receipt, Rules, Unchanged};
use crate::shard::Row;
use std::sync::Arc;

/// The nodes that belong together, of which this one is one.
#[derive(Debug)]
pub struct Cluster {
    hub: Arc<Hub>,
}

impl Cluster {
    /// Returns a cluster of this node alone, whose connections are in `hub`.
    pub const fn alone(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    /// Publishes a batch on all nodes, all of it or nothing. `finally` gets the outcomes when they are final.
    ///
    /// # Errors
    /// [`Busy`] when there was no room for it, or none in time. Nothing was published then.
    pub async fn publish(
        &self,
        items: Vec<Item>,
        publisher: &Publisher<'_>,
        finally: Finally,
    ) -> Result<Receipt, Busy> {
        let (first, count) = (items.first().map(|item| item.channel.clone()), items.len());
        let receipt = self.hub.publish(items, finally).await?;
        let Publisher { token, subject, address } = publisher;
        tracing::debug!(remote = %address, token, subject, channel = first.as_deref(), items = count, "accepted");
        Ok(receipt)
    }

    /// Waits until everything that was decided so far survives a restart, if it is kept on disk.
    ///
    /// # Errors
    /// It could not be written. The error says why.
    pub async fn kept(&self) -> Result<(), String> {
        self.hub.kept().await
    }

    /// Forgets all last ids, and has every held connection ask its origin again.
    pub async fn recover(&self) {
        self.hub.recover();
    }

    /// Returns the channels that are held and whose names begin with `prefix`, in order, from the one after `after` on: at
    /// most `limit`, and whether there are more.
    pub async fn channels(&self, prefix: &str, after: Option<&str>, limit: usize) -> (Vec<Held>, bool) {
        self.hub.channels(prefix, after, limit)
    }

    /// Returns how many connections hold a channel.
    pub async fn connections(&self, channel: &str) -> u64 {
        self.hub.connections(channel)
    }

    /// Returns whether there can be a connection of this name: whether its node is one of these nodes.
    pub const fn knows_node(&self, name: &ConnectionName) -> bool {
        name.node.is_none()
    }

    /// Returns the connections that a filter admits, in order, from the one after `after` on, whose node must
    /// be one of these nodes: at most `limit`, and whether there may be more.
    pub async fn connections_of(
        &self,
        filter: &ConnectionFilter,
        after: Option<&ConnectionName>,
        limit: usize,
    ) -> (Vec<(ConnectionName, Row)>, bool) {
        let (rows, more) = self.hub.connections_of(filter, after.map(|after| after.id), limit).await;
        (rows.into_iter().map(|(id, row)| (ConnectionName { id, node: None }, row)).collect(), more)
    }

    /// Returns the connection of this name, if it is held.
    pub async fn connection(&self, name: &ConnectionName) -> Option<Row> {
        if !self.knows_node(name) {
            return None;
        }
        self.hub.connection(name.id).await
    }

    /// Closes one connection, as the close of a channel closes all of its connections. `finally` gets the outcome. Returns
    /// `None` if there cannot be such a connection.
    pub async fn close_connection(&self, name: &ConnectionName, finally: Finally) -> Option<Receipt> {
        if !self.knows_node(name) {
            return None;
        }
        self.hub.close_connection(name.id, finally)
    }

    /// Returns the denials of channels whose names begin with `prefix`, in order, from the one after `after` on: at most
    /// `limit`, and where the rest begins if there are more.
    pub fn denials(&self, prefix: &str, after: Option<&After>, limit: usize) -> (Vec<Denial>, Option<After>) {
        self.hub.denials(prefix, after, limit)
    }

    /// Ends the denials of a channel. Returns how many there were.
    pub async fn pardon(&self, channel: &str) -> usize {
        self.hub.pardon(channel)
    }

    /// Returns the lists of allowed channels of all routes.
    pub fn rules(&self) -> Vec<Rules> {
        self.hub.rules()
    }

    /// Changes the list of allowed channels of a route; of the only route, if none is named.
    ///
    /// # Errors
    /// The list is as it was. The error says why.
    pub async fn change_rule(&self, route: Option<&str>, change: &Change) -> Result<Rules, Unchanged> {
        self.hub.change_rule(route, change)
    }
}
