//! Items, closes and new subscriptions in any order, between any two steps of delivery: what each client reads is
//! what the contract of a close says, to the byte.

use super::deliver::Step;
use super::{Close, Delivery, Feed, Inbox, Ledger, Metrics, Parked, Settings, Shard, Tally};
use crate::grip::{Channel, CloseReason, Formats, MessageKind};
use crate::wire::{Chunk, Message, websocket};
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
    /// A client subscribes to these channels, as a WebSocket or as a stream.
    Join(Vec<u8>, bool),
    /// One of the WebSockets subscribes to one more,
    Enter(usize, u8),
    /// or leaves one, once it has what was accepted before.
    Leave(usize, u8),
    /// An item for a channel is accepted.
    Item(u8),
    /// A close of a channel is accepted.
    Close(u8),
    /// The shard takes so many steps.
    Steps(u8),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => (prop::collection::btree_set(0u8..4, 1..4), any::<bool>())
            .prop_map(|(channels, websocket)| Act::Join(channels.into_iter().collect(), websocket)),
        2 => (any::<usize>(), 0u8..4).prop_map(|(nth, channel)| Act::Enter(nth, channel)),
        1 => (any::<usize>(), 0u8..4).prop_map(|(nth, channel)| Act::Leave(nth, channel)),
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
    expected: Vec<u8>,
    open: bool,
    websocket: bool,
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
            Act::Join(channels, websocket) => self.join(channels, *websocket),
            Act::Enter(nth, channel) => self.enter(*nth, *channel),
            Act::Leave(nth, channel) => self.leave(*nth, *channel),
            Act::Item(channel) => self.item(*channel),
            Act::Close(channel) => self.close(*channel),
            Act::Steps(count) => (0..*count).for_each(|_| {
                self.shard.step();
            }),
        }
    }

    fn join(&mut self, channels: &[u8], websocket: bool) {
        let socket = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let (accepted, _) = self.listener.accept().unwrap();
        accepted.set_nonblocking(true).unwrap();
        let accepted = tokio::net::TcpStream::from_std(accepted).unwrap();
        let feed = if websocket { Feed::Messages { deflate: false } } else { Feed::Stream { chunked: true } };
        let mut parked = Parked::new(&self.shard, accepted, b"", feed);
        parked.subscribe(&channels.iter().map(|c| name(*c)).collect::<Vec<_>>());
        parked.since(self.number);
        let (channels, expected) = (channels.to_vec(), Vec::new());
        self.clients.push(Client { parked, socket, channels, expected, open: true, websocket });
    }

    /// One of the WebSockets that are open.
    fn websocket(&mut self, nth: usize) -> Option<&mut Client> {
        let open: Vec<_> = self.clients.iter_mut().filter(|c| c.open && c.websocket).collect();
        let nth = nth % open.len().max(1);
        open.into_iter().nth(nth)
    }

    fn enter(&mut self, nth: usize, channel: u8) {
        let number = self.number;
        let Some(client) = self.websocket(nth).filter(|client| !client.channels.contains(&channel)) else { return };
        client.parked.enter(&name(channel), || number);
        client.channels.push(channel);
    }

    fn leave(&mut self, nth: usize, channel: u8) {
        self.finish();
        let Some(client) = self.websocket(nth) else { return };
        assert_eq!(client.parked.leave(&name(channel)), client.channels.contains(&channel));
        client.channels.retain(|held| *held != channel);
    }

    /// Lets the shard do all there is to do.
    fn finish(&self) {
        for steps in 0.. {
            if self.shard.step() == Step::Idle {
                break;
            }
            assert!(steps < 100_000, "the shard never rests");
        }
    }

    fn item(&mut self, channel: u8) {
        self.number += 1;
        let content = format!("item {}\n", self.number);
        let chunk = Chunk::new(content.as_bytes());
        let message = Message::new(MessageKind::Text, content.as_bytes());
        for client in self.clients.iter_mut().filter(|c| c.open && c.channels.contains(&channel)) {
            client.expected.extend_from_slice(if client.websocket { message.plain() } else { chunk.framed() });
            self.delivered += 1;
        }
        let (number, tally) = (self.number, self.tally.clone());
        let (channel, stream, message, hints) = (name(channel), Some(chunk), Some(Arc::new(message)), Formats::NONE);
        let delivery =
            Delivery { number, channel, stream, response: None, message, hints, extras: None, tally, index: 0 };
        self.inbox.put(vec![delivery], Vec::new());
    }

    fn close(&mut self, channel: u8) {
        self.number += 1;
        let frame = websocket::close(Some(&CloseReason::new(4001, "out")));
        for client in self.clients.iter_mut().filter(|c| c.open && c.channels.contains(&channel)) {
            client.expected.extend_from_slice(if client.websocket { &frame } else { b"0\r\n\r\n" });
            client.open = false;
            self.closed += 1;
        }
        let (number, tally) = (self.number, self.tally.clone());
        let close = Close { number, channel: name(channel), formats: Formats::ALL, frame, meta: None, tally, index: 0 };
        self.inbox.put(Vec::new(), vec![close]);
    }

    /// Lets the shard finish, and compares what everyone read, and the counts.
    fn check(mut self) {
        self.finish();
        for client in &mut self.clients {
            let mut got = vec![0; client.expected.len()];
            client.socket.read_exact(&mut got).unwrap();
            assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(&client.expected));
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
