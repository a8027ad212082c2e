//! Lists of the connections of a shard, page by page.

use super::{ConnectionKey, ConnectionPlace, ShardState};
use crate::grip::Channel;
use crate::net::{Peer, Transport};
use std::collections::BinaryHeap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::oneshot;

/// The number of keys that are looked at for one page of all connections. It limits the time of a page when most
/// keys are not in use.
const MAX_KEYS_PER_PAGE: usize = 10_000;

/// A question about the connections of one shard.
#[derive(Debug)]
pub struct ListingQuery {
    /// The channel that the listed connections must hold. `None`: they may hold any channels.
    pub channel: Option<Channel>,
    /// The user to whom the listed connections must belong. `None`: they may belong to any user.
    pub user: Option<Channel>,
    /// The number of the key after which the page begins. `None`: the page is the first one.
    pub after: Option<u32>,
    /// The maximum number of connections in the page.
    pub limit: usize,
    /// The sender that returns the page to the asker.
    pub answer: oneshot::Sender<ListingPage>,
}

/// A page of the connections of one shard, in the order of their keys.
#[derive(Debug, Default)]
pub struct ListingPage {
    /// The connections of the page.
    pub rows: Vec<ListedConnection>,
    /// The number of the key after which the next page begins. `None`: there are no more connections. The next page
    /// may turn out to be empty.
    pub next: Option<u32>,
}

/// The description of a held connection.
#[derive(Clone, Debug)]
pub struct ListedConnection {
    /// The place of the connection in its shard.
    pub place: ConnectionPlace,
    /// The kind of the connection: `stream`, `response` or `websocket`.
    pub kind: &'static str,
    /// The two ends of the connection: gripd, and the client or a proxy. `None`: the client has just left, or the
    /// request of the connection is being served again.
    pub peer: Option<Peer>,
    /// The address of the client, if the client is connected through a proxy.
    pub client: Option<IpAddr>,
    /// The name of the connection's route.
    pub route: Arc<str>,
    /// The user of the connection, if the user is known.
    pub user: Option<Arc<str>>,
    /// The time at which the connection was parked.
    pub since: SystemTime,
    /// The number of bytes that were sent to the client since the connection was parked.
    pub bytes: u64,
    /// The number of bytes that wait for the transport.
    pub queue: usize,
    /// The channels that the connection holds.
    pub channels: Vec<Channel>,
}

impl ShardState {
    /// Answers a question. If the asker is no longer waiting, the answer is dropped.
    pub(super) fn answer(&self, question: ListingQuery) {
        let page = match (&question.channel, &question.user) {
            (None, None) => self.page_of_all(&question),
            (Some(channel), None) => self.page_of_keys(&question, self.registry.subscribers(channel), |_| true),
            (None, Some(user)) => self.page_of_keys(&question, self.users.connections(user), |_| true),
            (Some(channel), Some(user)) => {
                let holds = |key| self.registry.holds(&self.conns[key].subscriptions, channel);
                self.page_of_keys(&question, self.users.connections(user), holds)
            }
        };
        let _ = question.answer.send(page);
    }

    /// Returns a page of all connections.
    fn page_of_all(&self, question: &ListingQuery) -> ListingPage {
        let first = question.after.map_or(0, |after| after as usize + 1);
        // No connection has a key with this number or a greater one.
        let end = self.conns.end();
        let mut page = ListingPage::default();
        for place in first..end.min(first.saturating_add(MAX_KEYS_PER_PAGE)) {
            if page.rows.len() == question.limit {
                break;
            }
            let key = ConnectionKey::from(place);
            page.next = if place + 1 < end { Some(key.number()) } else { None };
            page.rows.extend(page_row(self, key));
        }
        page
    }

    /// Returns a page of the connections among `keys` that are `wanted`. The keys may be in any order; the page has
    /// the smallest of them after the last page.
    fn page_of_keys(
        &self,
        question: &ListingQuery,
        keys: &[ConnectionKey],
        wanted: impl Fn(ConnectionKey) -> bool,
    ) -> ListingPage {
        let after = question.after.map(ConnectionKey::new);
        let mut least = BinaryHeap::with_capacity(question.limit + 1);
        for &key in keys.iter().filter(|key| after.is_none_or(|after| **key > after) && wanted(**key)) {
            // One more than the limit is kept, to know whether there is another page.
            if least.len() <= question.limit {
                least.push(key);
            } else if least.peek().is_some_and(|greatest| key < *greatest) {
                least.pop();
                least.push(key);
            }
        }
        let more = least.len() > question.limit;
        let mut keys = least.into_sorted_vec();
        keys.truncate(question.limit);
        let next = if more { keys.last().map(|key| key.number()) } else { None };
        ListingPage { rows: keys.into_iter().filter_map(|key| page_row(self, key)).collect(), next }
    }
}

/// Returns the row of a connection, or `None` if there is no connection with this key or its end has begun.
fn page_row(state: &ShardState, key: ConnectionKey) -> Option<ListedConnection> {
    let conn = state.conns.get(key).filter(|conn| conn.ending.is_none())?;
    let held = state.now_cs().saturating_sub(conn.parked_cs);
    Some(ListedConnection {
        place: conn.place(key),
        kind: conn.feed.kind(),
        peer: conn.transport.as_ref().and_then(Transport::peer),
        client: conn.profile.client,
        route: Arc::clone(&conn.profile.route),
        user: conn.profile.user.clone(),
        since: SystemTime::now() - std::time::Duration::from_millis(10 * u64::from(held)),
        bytes: conn.sent,
        queue: conn.outlet.bytes(),
        channels: state.channels(key),
    })
}
