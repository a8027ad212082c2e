//! The parts that few sessions have: filters, meta, and messages that are sent by themselves.

use crate::grip::control::Timed;
use crate::grip::{Channel, Filter, Meta};
use crate::shard::PendingItem;
use bytes::Bytes;
use std::pin::Pin;
use tokio::time::Instant;

/// An item and what its filters make of it.
pub(super) type Decided = (PendingItem, Option<Bytes>);

/// The parts that few sessions have. They share one box, so that other sessions stay small.
#[derive(Default)]
pub(super) struct Extras {
    /// The meta that the origin gave the client.
    pub(super) meta: Meta,
    /// The filters of channels that have any.
    pub(super) filters: Vec<(Channel, Vec<Filter>)>,
    /// Channels that were denied in this turn.
    pub(super) denied: Vec<(Channel, Vec<Filter>)>,
    /// The message that is sent when nothing happens, and the time when it is due.
    pub(super) keep_alive: Option<(Timed, Instant)>,
    /// The message that is sent later, and the time when it is due.
    pub(super) delayed: Option<(Timed, Instant)>,
    /// The messages that became due while the client was told a message piece by piece.
    pub(super) late: Vec<Timed>,
    /// When it is looked whether a client is there still whose words wait.
    pub(super) stuck_at: Option<Instant>,
    /// When the origin has had time enough to answer the client's Close.
    pub(super) close_at: Option<Instant>,
    /// The request about an item, while it is in progress.
    pub(super) asking: Option<Pin<Box<dyn Future<Output = Decided>>>>,
}

impl Extras {
    /// Returns when something is due first.
    pub(super) fn due_at(&self) -> Option<Instant> {
        let timed = [&self.keep_alive, &self.delayed].into_iter().flatten().map(|(_, at)| *at);
        timed.chain(self.close_at).chain(self.stuck_at).min()
    }
}
