//! The bytes that a client sends while its stream or long-poll is parked.

use super::conn::DeliveryForm;
use super::{ConnectionKey, ShardState};
use crate::net::ReadOutcome;
use std::task::{Context, Poll, ready};

/// The number of bytes that a client may send while its stream or long-poll is parked. The connection of a client
/// that sends more is ended.
pub(super) const MAX_EARLY: usize = 64 << 10;
/// The number of these bytes that are kept for the next request on the connection of a long-poll. If the client sends
/// more, none are kept, and the connection serves no further request.
pub(super) const MAX_KEPT: usize = 16 << 10;

/// The bytes that a client has sent while its connection was parked.
#[derive(Default)]
pub(super) struct EarlyBytes {
    pub(super) kept: Vec<u8>,
    pub(super) count: usize,
}

impl EarlyBytes {
    /// Counts bytes that a client has sent. Those of a long-poll are kept as long as they are at most [`MAX_KEPT`].
    pub(super) fn add(this: &mut Option<Box<Self>>, bytes: &[u8], feed: DeliveryForm) {
        if bytes.is_empty() {
            return;
        }
        let early = this.get_or_insert_default();
        early.count = early.count.saturating_add(bytes.len());
        if feed == DeliveryForm::Response && early.count <= MAX_KEPT {
            early.kept.extend_from_slice(bytes);
        } else {
            early.kept = Vec::new();
        }
    }
}

/// Reads the bytes that the client has sent, and adds them to `early`. Returns ready when no more will come, because
/// the client has ended its side or is gone.
pub(super) fn poll_read(
    state: &mut ShardState,
    key: ConnectionKey,
    cx: &mut Context<'_>,
    early: &mut Option<Box<EarlyBytes>>,
) -> Poll<()> {
    let mut buffer = [0; 4096];
    loop {
        let conn = state.conn(key);
        let Some(transport) = &mut conn.transport else { return Poll::Ready(()) };
        if ready!(transport.poll_readable(cx)).is_err() {
            return Poll::Ready(());
        }
        match transport.try_read(&mut buffer) {
            Ok(ReadOutcome::End) => return Poll::Ready(()),
            Ok(ReadOutcome::Bytes(count)) => EarlyBytes::add(early, &buffer[..count], conn.feed),
            Ok(ReadOutcome::Nothing) => {}
            Err(_) => {
                state.disconnect(key);
                return Poll::Ready(());
            }
        }
    }
}
