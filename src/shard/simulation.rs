//! Items, closes and new subscriptions in any order, between any two steps of delivery: what each client reads is
//! what the contract of a close says, to the byte.

use super::deliver::Step;
use super::{Close, Delivery, Feed, Inbox, Ledger, Metrics, Parked, Settings, Shard, Tally};
use crate::grip::{Channel, Formats};
use crate::wire::Chunk;
use proptest::prelude::*;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::Notify;

/// What happens in a run.
#[derive(Clone, Debug)]
enum Act {
    /// A client subscribes to these channels.
    Join(Vec<u8>),
    /// An item for a channel is accepted.
    Item(u8),
    /// A close of a channel is accepted.
    Close(u8),
    /// The shard takes so many steps.
    Steps(u8),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => prop::collection::btree_set(0u8..4, 1..4).prop_map(|channels| Act::Join(channels.into_iter().collect())),
        6 => (0u8..4).prop_map(Act::Item),
        1 => (0u8..4).prop_map(Act::Close),
        5 => (1u8..6).prop_map(Act::Steps),
    ]
}

struct NoLedger;

impl Ledger for NoLedger {
    fn left(&self, _: &[Channel]) {}
}

/// A client, and what it must have read in the end.
struct Client {
    parked: Parked,
    socket: TcpStream,
    channels: Vec<u8>,
    expected: String,
    open: bool,
}

struct Run {
    shard: Rc<Shard>,
    inbox: Arc<Inbox>,
    listener: TcpListener,
    clients: Vec<Client>,
    number: u64,
    delivered: u32,
    closed: u32,
    tally: Tally,
}

impl Run {
    fn new(tally: Tally) -> Self {
        let inbox = Arc::new(Inbox::new(Arc::new(Notify::new())));
        let shard =
            Shard::new(Settings::default(), Arc::clone(&inbox), Box::new(NoLedger), Arc::new(Metrics::default()));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { shard, inbox, listener, clients: Vec::new(), number: 0, delivered: 0, closed: 0, tally }
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Join(channels) => self.join(channels),
            Act::Item(channel) => self.item(*channel),
            Act::Close(channel) => self.close(*channel),
            Act::Steps(count) => (0..*count).for_each(|_| {
                self.shard.step();
            }),
        }
    }

    fn join(&mut self, channels: &[u8]) {
        let socket = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let (accepted, _) = self.listener.accept().unwrap();
        accepted.set_nonblocking(true).unwrap();
        let accepted = tokio::net::TcpStream::from_std(accepted).unwrap();
        let mut parked = Parked::new(&self.shard, accepted, b"", Feed::Stream { chunked: true });
        parked.subscribe(&channels.iter().map(|c| name(*c)).collect::<Vec<_>>());
        parked.since(self.number);
        self.clients.push(Client { parked, socket, channels: channels.to_vec(), expected: String::new(), open: true });
    }

    fn item(&mut self, channel: u8) {
        self.number += 1;
        let content = format!("item {}\n", self.number);
        let chunk = Chunk::new(content.as_bytes());
        for client in self.clients.iter_mut().filter(|c| c.open && c.channels.contains(&channel)) {
            client.expected.push_str(std::str::from_utf8(chunk.framed()).unwrap());
            self.delivered += 1;
        }
        let (number, tally) = (self.number, self.tally.clone());
        let (channel, stream, hints) = (name(channel), Some(chunk), Formats::NONE);
        let delivery =
            Delivery { number, channel, stream, response: None, message: None, hints, extras: None, tally, index: 0 };
        self.inbox.put(vec![delivery], Vec::new());
    }

    fn close(&mut self, channel: u8) {
        self.number += 1;
        for client in self.clients.iter_mut().filter(|c| c.open && c.channels.contains(&channel)) {
            client.expected.push_str("0\r\n\r\n");
            client.open = false;
            self.closed += 1;
        }
        let (number, tally) = (self.number, self.tally.clone());
        let close = Close {
            number,
            channel: name(channel),
            formats: Formats::ALL,
            frame: bytes::Bytes::new(),
            meta: None,
            tally,
            index: 0,
        };
        self.inbox.put(Vec::new(), vec![close]);
    }

    /// Lets the shard finish, and compares what everyone read, and the counts.
    fn check(mut self) {
        for steps in 0.. {
            if self.shard.step() == Step::Idle {
                break;
            }
            assert!(steps < 100_000, "the shard never rests");
        }
        for client in &mut self.clients {
            let mut got = vec![0; client.expected.len()];
            client.socket.read_exact(&mut got).unwrap();
            assert_eq!(String::from_utf8(got).unwrap(), client.expected);
            client.socket.set_nonblocking(client.open).unwrap();
            let more = client.socket.read(&mut [0; 100]);
            // Who is open has nothing more to read, who is closed has read the end.
            assert_eq!(more.ok(), (!client.open).then_some(0));
        }
        let counts = self.tally.of(0);
        assert_eq!((counts.delivered.load(Relaxed), counts.closed.load(Relaxed)), (self.delivered, self.closed));
        assert_eq!((counts.cut.load(Relaxed), counts.slow.load(Relaxed)), (0, 0));
        self.clients.drain(..).for_each(|client| drop(client.parked));
        assert_eq!(self.shard.population(), (0, 0));
    }
}

fn name(channel: u8) -> Channel {
    Channel::from(format!("c{channel}").as_str())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn everyone_reads_what_was_accepted_for_them(acts in prop::collection::vec(act(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut run = Run::new(Tally::new(1, Box::new(|_| {})).0);
            // A socket counts as writable once the runtime has looked at it.
            for act in &acts {
                run.act(act);
                tokio::task::yield_now().await;
            }
            run.check();
        });
    }
}
