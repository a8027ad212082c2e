//! The names of connections in the cluster.

use crate::shard::ConnectionId;
use std::fmt;
use std::str::FromStr;

/// The name of a connection in the cluster: `SHARD-KEY-SERIAL@NODE`, such as `0-17-3@a`. If there is only one node,
/// `@NODE` is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionName {
    /// The connection's id on its node.
    pub id: ConnectionId,
    /// The name of the node that holds the connection, or `None` if there is only one node.
    pub node: Option<String>,
}

impl fmt::Display for ConnectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)?;
        match &self.node {
            Some(node) => write!(f, "@{node}"),
            None => Ok(()),
        }
    }
}

/// The error for a text that cannot be the name of a connection.
#[derive(Debug, PartialEq, Eq)]
pub struct NoConnectionName;

impl FromStr for ConnectionName {
    type Err = NoConnectionName;

    fn from_str(text: &str) -> Result<Self, NoConnectionName> {
        let (id, node) = match text.split_once('@') {
            Some((_, "")) => return Err(NoConnectionName),
            Some((id, node)) => (id, Some(node.to_owned())),
            None => (text, None),
        };
        Ok(Self { id: id.parse().map_err(|_| NoConnectionName)?, node })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_called_by_its_place_and_its_node() {
        for text in ["1-20-300", "1-20-300@a", "0-0-0@node-1.example"] {
            let name: ConnectionName = text.parse().unwrap();
            assert_eq!((name.to_string().as_str(), name.node.as_deref()), (text, text.split_once('@').map(|(_, n)| n)));
        }
        for wrong in ["", "1-2", "1-2-3@", "@a", "1-2@a", "a-2-3@a"] {
            assert_eq!(wrong.parse::<ConnectionName>(), Err(NoConnectionName), "{wrong}");
        }
    }
}
