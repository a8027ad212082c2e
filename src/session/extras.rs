//! The parts of a session that few sessions need: filters, meta, and messages that are sent at a set time.

use crate::grip::control::TimedMessage;
use crate::grip::{Channel, Filter, Meta};
use crate::shard::PendingItem;
use bytes::Bytes;
use std::pin::Pin;
use tokio::time::Instant;

/// An item, and the content with which it is delivered after an HTTP filter was asked. `None` means that it is not
/// delivered.
pub(super) type FilteredItem = (PendingItem, Option<Bytes>);

/// The parts that few sessions have. They share one box, so that other sessions stay small.
#[derive(Default)]
pub(super) struct SessionExtras {
    /// The meta of the client, as the origin has set it.
    pub(super) meta: Meta,
    /// The filters of each channel that has any.
    pub(super) filters: Vec<(Channel, Vec<Filter>)>,
    /// The channels to which a subscription was denied during this poll of the session, with their filters.
    pub(super) denied: Vec<(Channel, Vec<Filter>)>,
    /// The message that is sent when the connection is idle or at an interval, and the time when it is due.
    pub(super) keep_alive: Option<(TimedMessage, Instant)>,
    /// The message that the origin has asked to send after a delay, and the time when it is due.
    pub(super) delayed: Option<(TimedMessage, Instant)>,
    /// The messages that became due while another message was being relayed to the client in pieces.
    pub(super) late: Vec<TimedMessage>,
    /// The time at which the session checks whether the client is still connected while its bytes are left unread.
    pub(super) stuck_at: Option<Instant>,
    /// The time at which the session ends although the origin has not answered the Close.
    pub(super) close_at: Option<Instant>,
    /// The request to an HTTP filter about an item, while it is in progress.
    pub(super) asking: Option<Pin<Box<dyn Future<Output = FilteredItem>>>>,
}

impl SessionExtras {
    /// Returns the earliest time at which one of the timers is due.
    pub(super) fn due_at(&self) -> Option<Instant> {
        let timed = [&self.keep_alive, &self.delayed].into_iter().flatten().map(|(_, at)| *at);
        timed.chain(self.close_at).chain(self.stuck_at).min()
    }
}
