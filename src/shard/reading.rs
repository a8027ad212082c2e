//! The bytes that the client of a parked WebSocket sends.

use super::{Event, Feed, Key, Parked, State};
use crate::net::{Received, Transport};
use crate::wire::MessageForm;
use std::task::{Context, Poll};

/// Whether what the client of a WebSocket sends is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadState {
    /// It is read as it comes.
    On,
    /// It is left unread, so that the client stops sending.
    Paused,
}

impl Parked {
    /// Reads bytes that the client has sent. `None`: there are none for now. A fault, and the end of the bytes, are told by
    /// [`Event::Gone`] soon.
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

    /// Leaves unread what the client of a WebSocket sends from now on, so that it stops sending.
    pub const fn pause_reading(&mut self) {
        self.reading = ReadState::Paused;
    }

    /// Reads again what the client of a WebSocket sends.
    pub const fn resume_reading(&mut self) {
        self.reading = ReadState::On;
    }

    /// Returns whether what the client of a WebSocket sends is left unread.
    pub fn is_paused(&self) -> bool {
        self.reading == ReadState::Paused
    }

    /// Returns the form in which it takes messages.
    pub fn message_form(&self) -> MessageForm {
        match self.shard.state.borrow().conns[self.key].feed {
            Feed::Messages(form) => form,
            Feed::Stream(_) | Feed::Response | Feed::Away => MessageForm::Plain,
        }
    }

    /// Returns whether so much waits for the client, `most` or as little as the shard has room for, that whoever asks
    /// should not add to it. The task is woken when there is room.
    pub fn is_backed_up(&self, most: usize) -> bool {
        let state = self.shard.state.borrow();
        let conn = &state.conns[self.key];
        conn.blocked && (conn.outlet.bytes() >= most || state.outgoing.is_crowded())
    }

    /// Returns whether the client is gone, as far as that can be told while what it has sent is left unread.
    pub fn has_left(&self) -> bool {
        let state = self.shard.state.borrow();
        state.conns[self.key].transport.as_ref().is_none_or(Transport::has_left)
    }

    /// Returns whether it is being ended, and all that it will be told is in its outlet.
    pub fn is_complete(&self) -> bool {
        self.shard.state.borrow().conns[self.key].is_complete()
    }
}

/// Returns ready when the client has sent something, or is gone.
pub(super) fn poll_readable(state: &mut State, key: Key, cx: &mut Context<'_>, reading: ReadState) -> Poll<Event> {
    let Some(transport) = &mut state.conn(key).transport else { return Poll::Ready(Event::Gone) };
    if reading == ReadState::Paused {
        return Poll::Pending;
    }
    transport.poll_readable(cx).map(|ready| if ready.is_ok() { Event::Readable } else { Event::Gone })
}
