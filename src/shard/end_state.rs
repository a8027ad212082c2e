//! The end of a connection, from the decision to the last byte.
//!
//! Every connection that is not simply cut ends in the same way, of whatever kind it is, and whether a close, a drain,
//! the slowness of a WebSocket's client or the connection's own task decided it. Both the shard and the task move the
//! end forward, and neither can take it back.

use super::tally::CloseTicket;
use bytes::Bytes;
use std::rc::Rc;
use tokio::time::Instant;

/// The state of a connection whose end is decided.
#[derive(Debug)]
pub(super) struct Ending {
    /// The time at which the connection is cut if the client has not read everything.
    pub(super) deadline: Instant,
    /// The item that ends the connection. `None`: no item ends it, or the connection has been counted.
    pub(super) ticket: Option<CloseTicket>,
    pub(super) phase: EndingPhase,
}

/// The phase of a connection's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EndingPhase {
    /// The end is decided. Items that were accepted before may still be appended, and then this end mark, if the
    /// connection has one.
    Draining(Option<Rc<Bytes>>),
    /// The last bytes are in the outlet, and nothing may be appended.
    Finishing,
    /// The end of the bytes to the client (FIN over TCP) has been sent. Bytes that the client still sends are read
    /// and dropped until the client ends its side.
    Finished,
}

impl Ending {
    /// Returns an end in its first phase, with this end mark.
    pub(super) fn new(deadline: Instant, ticket: Option<CloseTicket>, mark: Option<Rc<Bytes>>) -> Box<Self> {
        Box::new(Self { deadline, ticket, phase: EndingPhase::Draining(mark) })
    }

    /// Returns whether the outlet contains the last bytes of the connection.
    pub(super) const fn is_complete(&self) -> bool {
        !matches!(self.phase, EndingPhase::Draining(_))
    }

    /// Notes that nothing may be appended after the end mark. Returns the end mark the first time, if there is one,
    /// and `None` after that.
    pub(super) fn complete(&mut self) -> Option<Rc<Bytes>> {
        match &mut self.phase {
            EndingPhase::Draining(mark) => {
                let mark = mark.take();
                self.phase = EndingPhase::Finishing;
                mark
            }
            EndingPhase::Finishing | EndingPhase::Finished => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::grip::{Channel, Formats};
    use crate::net::MemoryStream;
    use crate::shard::simulation::NumberLedger;
    use crate::shard::{
        Command, CommandEffect, CommandTarget, DeliveryForm, Inbox, Parked, ParkedEvent, Profile, Settings, Shard,
        Tally,
    };
    use bytes::Bytes;
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::Ordering::Relaxed;
    use std::task::Poll;
    use std::time::Duration;
    use tokio::io::AsyncWriteExt;
    use tokio::sync::Notify;
    use tokio::time::timeout;

    #[tokio::test]
    async fn a_closed_client_that_floods_meanwhile_is_told_once_and_counts_as_closed() {
        let inbox = Arc::new(Inbox::new(Arc::new(Notify::new())));
        let shard =
            Shard::new(Settings::default(), Arc::clone(&inbox), Box::new(NumberLedger::default()), Arc::default());
        let (stream, mut client) = MemoryStream::bytes(1 << 20);
        let mut parked = Parked::new(&shard, stream.into(), b"", DeliveryForm::Response, &Profile::default());
        let channel = Channel::from("user456");
        parked.subscribe(std::slice::from_ref(&channel), &[]).unwrap();
        let (tally, counts) = Tally::new(1, Box::new(|_| {}));
        let whom = CommandTarget::Members { channel, selection: None, meta: None };
        let effect = CommandEffect::Close { formats: Formats::ALL, frame: Bytes::new() };
        inbox.put(Vec::new(), vec![Command { number: 1, whom, effect, tally, index: 0 }]);
        shard.step();
        let next = async |parked: &mut Parked| timeout(Duration::from_secs(10), parked.next()).await.unwrap();
        assert!(matches!(next(&mut parked).await, ParkedEvent::Close));
        // The task of the long-poll goes on waiting, as it does while it asks the origin about an item. Meanwhile
        // the client sends more bytes than a parked client may.
        client.write_all(&vec![b'x'; 100_000]).await.unwrap();
        let again = poll_fn(|cx| Poll::Ready(parked.poll_next(cx))).await;
        assert!(again.is_pending(), "its hold would hear of nothing else");
        client.end();
        parked.finish().await;
        assert_eq!(counts[0].closed.load(Relaxed), 1);
    }
}
