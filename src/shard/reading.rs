//! What the client of a parked WebSocket sends.

use super::{Event, Feed, Key, Parked, State};
use std::io;
use std::task::{Context, Poll};

impl Parked {
    /// Reads what the client has sent. `None`: nothing for now. What went wrong, and the end of what the client sends,
    /// is told by [`Event::Gone`] soon.
    pub fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let state = &mut *self.shard.state.borrow_mut();
        let socket = state.conn(self.key).socket.as_ref()?;
        match socket.try_read(buffer) {
            Ok(count) if count > 0 => Some(count),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock || e.kind() == io::ErrorKind::Interrupted => None,
            Ok(_) | Err(_) => {
                state.disconnect(self.key);
                None
            }
        }
    }

    /// Has what the client sends left unread, so that it stops sending; or no longer.
    pub const fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Whether what the client sends is left unread.
    pub const fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether compressed messages are for it.
    pub fn deflates(&self) -> bool {
        self.shard.state.borrow().conns[self.key as usize].feed == Feed::Messages { deflate: true }
    }

    /// Bytes that wait for the client.
    pub fn waiting(&self) -> usize {
        let state = self.shard.state.borrow();
        state.conns[self.key as usize].outlet.bytes()
    }
}

/// Ready when the client has sent something, or is gone.
pub(super) fn poll_readable(state: &mut State, key: Key, cx: &mut Context<'_>, paused: bool) -> Poll<Event> {
    let Some(socket) = &state.conn(key).socket else { return Poll::Ready(Event::Gone) };
    if paused {
        return Poll::Pending;
    }
    socket.poll_read_ready(cx).map(|ready| if ready.is_ok() { Event::Readable } else { Event::Gone })
}
