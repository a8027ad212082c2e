//! Which connections a shard holds, page by page.

use super::{Key, Place, State};
use crate::grip::Channel;
use crate::net::{Peer, Transport};
use std::collections::BinaryHeap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::oneshot;

/// Places looked at for one page: those that are empty keep nobody waiting.
const LOOKS: usize = 10_000;

/// A question about the connections of one shard.
#[derive(Debug)]
pub struct Question {
    /// Only those that hold this channel.
    pub channel: Option<Channel>,
    /// Only this user's.
    pub user: Option<Channel>,
    /// Only those after this place.
    pub after: Option<u32>,
    /// How many at most.
    pub limit: usize,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Page>,
}

/// Connections of one shard, in the order of their places.
#[derive(Debug, Default)]
pub struct Page {
    /// The connections.
    pub rows: Vec<Row>,
    /// The place after which there may be more.
    pub next: Option<u32>,
}

/// A connection that is held.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its place in its shard.
    pub place: Place,
    /// `stream`, `response` or `websocket`.
    pub kind: &'static str,
    /// The two ends of its connection, unless it has just left. The other side is the client or a proxy.
    pub peer: Option<Peer>,
    /// The client's address, if it is another one.
    pub client: Option<IpAddr>,
    /// The name of its route.
    pub route: Arc<str>,
    /// Its user, if that is known.
    pub user: Option<Arc<str>>,
    /// Since when it is held.
    pub since: SystemTime,
    /// Bytes that it was sent since then.
    pub bytes: u64,
    /// Bytes that wait for its transport.
    pub queue: usize,
    /// The channels that it holds.
    pub channels: Vec<Channel>,
}

impl State {
    /// Answers a question. If the asker is no longer waiting, the answer is dropped.
    pub(super) fn answer(&self, question: Question) {
        let page = match (&question.channel, &question.user) {
            (None, None) => self.any(&question),
            (Some(channel), None) => self.some(&question, self.registry.subscribers(channel), |_| true),
            (None, Some(user)) => self.some(&question, self.users.connections(user), |_| true),
            (Some(channel), Some(user)) => {
                let holds = |key| self.registry.holds(&self.conns[key].subscriptions, channel);
                self.some(&question, self.users.connections(user), holds)
            }
        };
        let _ = question.answer.send(page);
    }

    /// Returns a page of all connections.
    fn any(&self, question: &Question) -> Page {
        let first = question.after.map_or(0, |after| after as usize + 1);
        // The places after the last connection are empty.
        let end = self.conns.end();
        let mut page = Page::default();
        for place in first..end.min(first.saturating_add(LOOKS)) {
            if page.rows.len() == question.limit {
                break;
            }
            let key = Key::from(place);
            page.next = if place + 1 < end { Some(key.number()) } else { None };
            page.rows.extend(page_row(self, key));
        }
        page
    }

    /// Returns a page of those that are `wanted` among some, which come in any order: the first after the last page.
    fn some(&self, question: &Question, keys: &[Key], wanted: impl Fn(Key) -> bool) -> Page {
        let after = question.after.map(Key::new);
        let mut least = BinaryHeap::with_capacity(question.limit + 1);
        for &key in keys.iter().filter(|key| after.is_none_or(|after| **key > after) && wanted(**key)) {
            // One more than are asked for, to know whether there are more.
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
        Page { rows: keys.into_iter().filter_map(|key| page_row(self, key)).collect(), next }
    }
}

/// Returns the row of a connection.
fn page_row(state: &State, key: Key) -> Option<Row> {
    let conn = state.conns.get(key).filter(|conn| conn.ending.is_none())?;
    let held = state.now_cs().saturating_sub(conn.parked_cs);
    Some(Row {
        place: conn.place(key),
        kind: conn.feed.kind(),
        peer: conn.transport.as_ref().and_then(Transport::peer),
        client: conn.whose.client,
        route: Arc::clone(&conn.whose.route),
        user: conn.whose.user.clone(),
        since: SystemTime::now() - std::time::Duration::from_millis(10 * u64::from(held)),
        bytes: conn.sent,
        queue: conn.outlet.bytes(),
        channels: state.channels(key),
    })
}
