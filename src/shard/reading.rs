//! The bytes that the client of a parked WebSocket sends.

use super::{Event, Feed, Key, Parked, State};
use crate::net::{Received, Transport};
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
    /// error or the end of the bytes, [`Event::Gone`] follows.
    pub fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let state = &mut *self.shard.state.borrow_mut();
        let transport = state.conn(self.key).transport.as_mut()?;
        match transport.try_read(buffer) {
            Ok(Received::Bytes(count)) => Some(count),
            Ok(Received::Nothing) => None,
            Ok(Received::End) | Err(_) => {
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
            Feed::Messages(form) => form,
            Feed::Stream(_) | Feed::Response | Feed::Away => MessageForm::Plain,
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
        state.conns[self.key].transport.as_ref().is_none_or(Transport::has_left)
    }

    /// Returns whether the connection is being ended and nothing follows what is in its outlet.
    pub fn is_complete(&self) -> bool {
        self.shard.state.borrow().conns[self.key].is_complete()
    }
}

/// Returns ready when the client has sent bytes, or is gone. While reading is paused, returns ready only if the
/// transport is gone.
pub(super) fn poll_readable(state: &mut State, key: Key, cx: &mut Context<'_>, reading: ReadState) -> Poll<Event> {
    let Some(transport) = &mut state.conn(key).transport else { return Poll::Ready(Event::Gone) };
    if reading == ReadState::Paused {
        return Poll::Pending;
    }
    transport.poll_readable(cx).map(|ready| if ready.is_ok() { Event::Readable } else { Event::Gone })
}
