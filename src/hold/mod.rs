//! Holds: connections that wait for items, as a long-poll or as a stream.

mod response;
mod stream;

use crate::grip::{Channel, HoldMode, KeepAlive};
use crate::hub::Membership;
use crate::shard::{Feed, Parked, Shard};
use crate::wire::{Framing, Head};
use bytes::Bytes;
use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpStream;

/// A connection to hold, and the origin's answer to begin or to end it with.
#[derive(Debug)]
pub struct Hold {
    /// How.
    pub mode: HoldMode,
    /// The channels, each once.
    pub channels: Vec<Channel>,
    /// The answer's head.
    pub head: Head,
    /// The answer's body: a stream begins with it, a long-poll that times out gets it.
    pub body: Bytes,
    /// When a long-poll times out.
    pub timeout: Duration,
    /// What keeps a stream alive.
    pub keep_alive: Option<KeepAlive>,
    /// Whom it is for.
    pub client: Client,
}

/// What the client's request says of how it must be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// It speaks HTTP/1.0: no chunks, and the connection ends with the answer.
    pub old: bool,
    /// It sent a `HEAD` request: no body.
    pub head_only: bool,
    /// The connection may serve another request after this one.
    pub persistent: bool,
}

/// A held connection.
pub type Waiting<'a> = Pin<Box<dyn Future<Output = Option<(TcpStream, Bytes)>> + 'a>>;

/// What holds need of their shard.
pub struct Holds {
    shard: Rc<Shard>,
    membership: Membership,
    spread: Cell<u32>,
}

impl Holds {
    /// The holds of one shard.
    pub fn new(shard: Rc<Shard>, membership: Membership) -> Self {
        Self { shard, membership, spread: Cell::new(0) }
    }

    /// Begins to hold a connection. What is returned waits until it ends, or until it may serve another request:
    /// then it yields the connection, with what the client sent meanwhile. `early`: what the client sent behind
    /// its request.
    ///
    /// All that can be done now is done now, so that what waits is small: most connections do nothing else.
    pub fn park(&self, hold: Box<Hold>, socket: TcpStream, early: Bytes) -> Waiting<'_> {
        match hold.mode {
            HoldMode::Response => response::park(self, hold, socket, &early),
            HoldMode::Stream => stream::park(self, &hold, socket, &early),
        }
    }

    /// Parks a connection and subscribes it, before a byte of the answer leaves.
    fn subscribe(&self, channels: &[Channel], socket: TcpStream, early: &[u8], feed: Feed) -> Parked {
        let mut parked = Parked::new(&self.shard, socket, early, feed);
        parked.subscribe(channels);
        parked.since(self.membership.join(channels));
        parked
    }

    /// Up to a second, spread evenly over the connections, so that their timers do not go off together.
    fn jitter(&self) -> Duration {
        // Steps of the golden ratio's share of a second never come close to an earlier one.
        let next = (self.spread.get() + 618) % 1000;
        self.spread.set(next);
        Duration::from_millis(u64::from(next))
    }
}

impl fmt::Debug for Holds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holds").field("shard", &self.shard).finish_non_exhaustive()
    }
}

/// A whole answer: head and body as the client must get it. The body is not copied: it may be everybody's.
fn answer(head: &Head, body: &Bytes, client: Client, last: bool) -> [Bytes; 2] {
    let framing = if head.has_body() { Framing::Length(body.len()) } else { Framing::None };
    let sent = if head.has_body() && !client.head_only { body.clone() } else { Bytes::new() };
    [head.render(framing, client.old, last).into(), sent]
}
