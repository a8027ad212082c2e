//! The end of a connection, from the decision to the last byte.
//!
//! It is the same for every kind of connection, and whoever decides it: a close, a drain, a client that is too slow, or the
//! connection's own task. The shard and the task both drive it on, and neither can take it back.

use super::tally::Ticket;
use bytes::Bytes;
use std::rc::Rc;
use tokio::time::Instant;

/// The end of a connection that is decided.
#[derive(Debug)]
pub(super) struct Ending {
    /// The time at which a client that has not read everything is cut.
    pub(super) deadline: Instant,
    /// The item that ends the connection, until it is counted.
    pub(super) ticket: Option<Ticket>,
    pub(super) phase: Phase,
}

/// How far an end has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is decided. Items that were accepted before may still be given; then comes this mark, if the connection has one.
    Draining(Option<Rc<Bytes>>),
    /// Everything is in the outlet, and nothing follows.
    Finishing,
    /// The end of our bytes has left. Bytes that the client still sends are read and dropped until it ends as well.
    Finished,
}

impl Ending {
    /// Returns an end that is decided now.
    pub(super) fn new(deadline: Instant, ticket: Option<Ticket>, mark: Option<Rc<Bytes>>) -> Box<Self> {
        Box::new(Self { deadline, ticket, phase: Phase::Draining(mark) })
    }

    /// Returns whether nothing follows what is in the outlet.
    pub(super) const fn is_complete(&self) -> bool {
        !matches!(self.phase, Phase::Draining(_))
    }

    /// Says that nothing follows but the mark, which is returned the first time.
    pub(super) fn complete(&mut self) -> Option<Rc<Bytes>> {
        match &mut self.phase {
            Phase::Draining(mark) => {
                let mark = mark.take();
                self.phase = Phase::Finishing;
                mark
            }
            Phase::Finishing | Phase::Finished => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::grip::{Channel, Formats};
    use crate::net::MemoryStream;
    use crate::shard::simulation::Numbers;
    use crate::shard::{Command, CommandEffect, Event, Feed, Inbox, Parked, Profile, Settings, Shard, Tally, Whom};
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
        let shard = Shard::new(Settings::default(), Arc::clone(&inbox), Box::new(Numbers::default()), Arc::default());
        let (stream, mut client) = MemoryStream::bytes(1 << 20);
        let mut parked = Parked::new(&shard, stream.into(), b"", Feed::Response, &Profile::default());
        let channel = Channel::from("user456");
        parked.subscribe(std::slice::from_ref(&channel), &[]).unwrap();
        let (tally, counts) = Tally::new(1, Box::new(|_| {}));
        let whom = Whom::Members { channel, selection: None, meta: None };
        let effect = CommandEffect::Close { formats: Formats::ALL, frame: Bytes::new() };
        inbox.put(Vec::new(), vec![Command { number: 1, whom, effect, tally, index: 0 }]);
        shard.step();
        let next = async |parked: &mut Parked| timeout(Duration::from_secs(10), parked.next()).await.unwrap();
        assert!(matches!(next(&mut parked).await, Event::Close));
        // Its hold still asks the origin about an item, and the client sends more than it may.
        client.write_all(&vec![b'x'; 100_000]).await.unwrap();
        let again = poll_fn(|cx| Poll::Ready(parked.poll_next(cx))).await;
        assert!(again.is_pending(), "its hold would hear of nothing else");
        client.end();
        parked.finish().await;
        assert_eq!(counts[0].closed.load(Relaxed), 1);
    }
}
