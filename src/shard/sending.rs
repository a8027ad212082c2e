//! Sending bytes on a parked connection, by its task.

use super::{ConnectionKey, Parked, ShardState};
use crate::wire::{AnswerHead, ResponseHead};
use bytes::Bytes;
use std::rc::Rc;

/// The number of bytes of an initial body up to which it is copied into one piece with the head. A larger body is a
/// piece of its own.
const MAX_COPIED: usize = 4096;

impl Parked {
    /// Puts the beginning of a response into the outlet, where nothing may have been put before: the head, and the
    /// bytes of the body that are known already. `body` must be framed.
    pub fn begin(&mut self, head: &AnswerHead<'_>, body: Bytes) {
        if self.send_head(head.head) {
            return self.put([body]);
        }
        let mut head = head.render();
        if body.len() <= MAX_COPIED {
            head.extend_from_slice(&body);
            self.put([head.into()]);
        } else {
            self.put([head.into(), body]);
        }
    }

    /// Sends the head of a response apart from its body, if the transport takes heads. Returns whether it does.
    fn send_head(&self, head: &ResponseHead) -> bool {
        let state = &mut *self.shard.state.borrow_mut();
        match &mut state.conn(self.key).transport {
            Some(transport) if transport.takes_heads() => {
                transport.send_head(head);
                true
            }
            _ => false,
        }
    }

    /// Puts bytes into the outlet, and sends as many as the transport takes now.
    pub fn send<const N: usize>(&mut self, pieces: [Bytes; N]) {
        self.put(pieces);
        self.flush();
    }

    /// Sends as many bytes of the outlet as the transport takes now.
    pub fn flush(&mut self) {
        self.shard.state.borrow_mut().flush(self.key);
    }

    /// Puts bytes into the outlet.
    ///
    /// They are dropped if the last bytes of the connection are in the outlet already, because nothing may follow
    /// those.
    pub fn put<const N: usize>(&mut self, pieces: [Bytes; N]) {
        let state = &mut *self.shard.state.borrow_mut();
        let now_ms = state.now_ms();
        for piece in pieces {
            state.put(self.key, Rc::new(piece), now_ms);
        }
    }
}

impl ShardState {
    /// Puts bytes into the outlet of a connection, unless its last bytes are in the outlet already.
    pub(super) fn put(&mut self, key: ConnectionKey, piece: Rc<Bytes>, now_ms: u32) {
        let conn = &mut self.conns[key];
        if conn.is_complete() {
            return;
        }
        conn.active_ms = now_ms;
        conn.is_within_line |= conn.feed.ends_within_line(&piece);
        conn.push(Rc::clone(&piece), &mut self.outgoing);
        conn.note(None, &piece, now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::MemoryStream;
    use crate::shard::simulation::NumberLedger;
    use crate::shard::{DeliveryForm, Inbox, Profile, Settings, Shard};
    use crate::wire::{Framing, Persistence, StreamForm};
    use hyper::Version;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::Poll;
    use std::time::Duration;
    use tokio::sync::Notify;
    use tokio::time::timeout;

    /// Polls a future once. Returns whether it is ready.
    async fn is_done(future: &mut (impl Future + Unpin)) -> bool {
        poll_fn(|cx| Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_ready())).await
    }

    #[tokio::test]
    async fn the_end_of_an_answer_waits_for_room_as_its_bytes_do() {
        let inbox = Arc::new(Inbox::new(Arc::new(Notify::new())));
        let shard = Shard::new(Settings::default(), inbox, Box::new(NumberLedger::default()), Arc::default());
        let (stream, mut client) = MemoryStream::answer(3);
        let feed = DeliveryForm::Stream(StreamForm::Bare);
        let mut parked = Parked::new(&shard, stream.into(), b"", feed, &Profile::default());
        let (head, version) = (ResponseHead { status: 201, ..ResponseHead::default() }, Version::HTTP_2);
        let framing = Framing::endless(version);
        let head = AnswerHead { head: &head, version, framing, persistence: Persistence::Close };
        parked.begin(&head, "abc".into());
        parked.flush();
        assert_eq!(client.take_head().map(|head| head.status), Some(201));
        let mut finishing = pin!(parked.finish());
        assert!(!is_done(&mut finishing).await && !client.is_over());
        assert_eq!(client.take(), b"abc");
        timeout(Duration::from_secs(10), finishing).await.expect("it never ends");
        assert!(client.is_over() && !client.is_reset());
    }
}
