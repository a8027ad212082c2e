//! The bytes that the client of a parked WebSocket sends.

use super::{ConnectionKey, DeliveryForm, Parked, ParkedEvent, ShardState};
use crate::net::{ReadOutcome, Transport};
use crate::wire::MessageForm;
use std::task::{Context, Poll};

/// The state of reading from the client of a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadState {
    /// Bytes are read as they arrive.
    On,
    /// Bytes are left unread, so that flow control makes the client stop sending.
    Paused,
}

impl Parked {
    /// Reads bytes that the client has sent. Returns their number, or `None` if there are none for now. After an
    /// error or the end of the bytes, [`ParkedEvent::Gone`] follows.
    pub fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let state = &mut *self.shard.state.borrow_mut();
        let transport = state.conn(self.key).transport.as_mut()?;
        match transport.try_read(buffer) {
            Ok(ReadOutcome::Bytes(count)) => Some(count),
            Ok(ReadOutcome::Nothing) => None,
            Ok(ReadOutcome::End) | Err(_) => {
                state.disconnect(self.key);
                None
            }
        }
    }

    /// Stops reading from the client of a WebSocket, so that flow control makes the client stop sending.
    pub const fn pause_reading(&mut self) {
        self.reading = ReadState::Paused;
    }

    /// Resumes reading from the client of a WebSocket.
    pub const fn resume_reading(&mut self) {
        self.reading = ReadState::On;
    }

    /// Returns whether reading from the client of a WebSocket is paused.
    pub fn is_paused(&self) -> bool {
        self.reading == ReadState::Paused
    }

    /// Returns the form in which the client of a WebSocket takes messages. For other connections, it is the plain
    /// form.
    pub fn message_form(&self) -> MessageForm {
        match self.shard.state.borrow().conns[self.key].feed {
            DeliveryForm::Messages(form) => form,
            DeliveryForm::Stream(_) | DeliveryForm::Events(_) | DeliveryForm::Response | DeliveryForm::Away => {
                MessageForm::Plain
            }
        }
    }

    /// Returns whether the caller should put nothing more into the outlet. This is so while the transport takes no
    /// bytes, and either at least `most` bytes wait for it or more bytes wait in the whole shard than its ceiling
    /// allows. The task is woken when the transport takes bytes again.
    pub fn is_backed_up(&self, most: usize) -> bool {
        let state = self.shard.state.borrow();
        let conn = &state.conns[self.key];
        conn.blocked && (conn.outlet.bytes() >= most || state.outgoing.is_crowded())
    }

    /// Returns whether the client is gone, as far as that is known without reading the bytes that it has sent.
    pub fn has_left(&self) -> bool {
        let state = self.shard.state.borrow();
        state.conns[self.key].transport.as_ref().is_none_or(Transport::has_peer_ended)
    }

    /// Returns whether the connection is being ended and nothing follows what is in its outlet.
    pub fn is_complete(&self) -> bool {
        self.shard.state.borrow().conns[self.key].is_complete()
    }
}

/// Returns ready when the client has sent bytes, or is gone. While reading is paused, returns ready only if the
/// transport is gone.
pub(super) fn poll_readable(
    state: &mut ShardState,
    key: ConnectionKey,
    cx: &mut Context<'_>,
    reading: ReadState,
) -> Poll<ParkedEvent> {
    let Some(transport) = &mut state.conn(key).transport else { return Poll::Ready(ParkedEvent::Gone) };
    if reading == ReadState::Paused {
        return Poll::Pending;
    }
    transport.poll_readable(cx).map(|ready| if ready.is_ok() { ParkedEvent::Readable } else { ParkedEvent::Gone })
}
