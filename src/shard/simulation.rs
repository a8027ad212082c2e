//! Simulations of a shard: items, closes and new subscriptions in any order, between any two steps of delivery. Each
//! client must read exactly the bytes that the contract of a close promises (ARCHITECTURE.md).

use super::deliver::NextStep;
use super::terms::ChannelTerms;
use super::{
    Command, CommandEffect, CommandTarget, Delivery, DeliveryForm, DeniedChannel, EndReport, IdComparison, Inbox,
    ItemHandling, JoinInfo, JoinRequest, Ledger, Metrics, Parked, Profile, Rendered, Settings, Shard, StepSizes, Tally,
    Terms,
};
use crate::grip::item::{ChannelMove, MemberSelection};
use crate::grip::{Channel, CloseReason, Formats, MessageKind};
use crate::net::{MemoryClient, MemoryStream};
use crate::wire::{Chunk, MessageForm, RenderedMessage, StreamForm, websocket};
use bytes::Bytes;
use proptest::prelude::*;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::sync::Notify;

/// One action of a simulated run.
#[derive(Clone, Debug)]
enum SimulationStep {
    /// A client connects and subscribes to these channels.
    Join(Vec<u8>, Kind),
    /// One of the WebSockets subscribes to one more channel.
    Enter(usize, u8),
    /// One of the WebSockets subscribes to one more channel. A close of that channel is accepted at the very moment
    /// at which the ledger has entered the WebSocket.
    EnterAmid(usize, u8),
    /// One of the streams gets terms for the channels that it holds and for one more, and follows them.
    Follow(usize, u8),
    /// One of the WebSockets leaves a channel, after everything that was accepted before was delivered.
    Leave(usize, u8),
    /// An item for a channel is accepted.
    Item(u8, Selected),
    /// A close of a channel is accepted.
    Close(u8, Selected),
    /// A command is accepted that makes connections of the first channel enter the second one (`true`) or leave it
    /// (`false`).
    Move(u8, Selected, u8, bool),
    /// The shard takes this many steps.
    Steps(u8),
}

/// The kind of a client and of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A stream with chunks, as in HTTP/1.1.
    Chunks,
    /// A stream on a transport that carries the head and the end apart from the bytes of the body, as in HTTP/2.
    Answer,
    WebSocket,
}

impl Kind {
    fn connect(self) -> (MemoryStream, MemoryClient) {
        match self {
            Self::Chunks | Self::WebSocket => MemoryStream::bytes(CAPACITY),
            Self::Answer => MemoryStream::answer(CAPACITY),
        }
    }

    const fn feed(self) -> DeliveryForm {
        match self {
            Self::Chunks => DeliveryForm::Stream(StreamForm::Chunked),
            Self::Answer => DeliveryForm::Stream(StreamForm::Bare),
            Self::WebSocket => DeliveryForm::Messages(MessageForm::Plain),
        }
    }

    /// Returns the bytes that such a client reads for an item.
    fn content<'a>(self, chunk: &'a Chunk, message: &'a RenderedMessage) -> &'a Bytes {
        match self {
            Self::Chunks => chunk.framed(),
            Self::Answer => chunk.content(),
            Self::WebSocket => message.plain(),
        }
    }

    /// Returns the last bytes that such a client reads when it is closed.
    fn end(self) -> Bytes {
        match self {
            Self::Chunks => Bytes::from_static(b"0\r\n\r\n"),
            Self::Answer => Bytes::new(),
            Self::WebSocket => out(),
        }
    }
}

/// The number of bytes that a transport holds, which is more than any run sends to one client.
const CAPACITY: usize = 1 << 20;

/// The connections of a channel that an item or a command selects: all of them, or those that hold another channel,
/// or those that do not.
#[derive(Clone, Copy, Debug)]
enum Selected {
    All,
    With(u8),
    Except(u8),
}

impl Selected {
    fn means(self, held: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::With(channel) => held.contains(&channel),
            Self::Except(channel) => !held.contains(&channel),
        }
    }

    fn selection(self) -> Option<Arc<MemberSelection>> {
        let (with, except) = match self {
            Self::All => return None,
            Self::With(channel) => (vec![name(channel)], Vec::new()),
            Self::Except(channel) => (Vec::new(), vec![name(channel)]),
        };
        Some(Arc::new(MemberSelection { with, except }))
    }
}

fn part() -> impl Strategy<Value = Selected> {
    prop_oneof![4 => Just(Selected::All), 1 => (0u8..4).prop_map(Selected::With), 1 => (0u8..4).prop_map(Selected::Except)]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![1 => Just(Kind::Chunks), 1 => Just(Kind::Answer), 2 => Just(Kind::WebSocket)]
}

fn act() -> impl Strategy<Value = SimulationStep> {
    prop_oneof![
        2 => (prop::collection::btree_set(0u8..4, 1..4), kind())
            .prop_map(|(channels, kind)| SimulationStep::Join(channels.into_iter().collect(), kind)),
        2 => (any::<usize>(), 0u8..4).prop_map(|(nth, channel)| SimulationStep::Enter(nth, channel)),
        1 => (any::<usize>(), 0u8..4).prop_map(|(nth, channel)| SimulationStep::EnterAmid(nth, channel)),
        2 => (any::<usize>(), 0u8..4).prop_map(|(nth, channel)| SimulationStep::Follow(nth, channel)),
        1 => (any::<usize>(), 0u8..4).prop_map(|(nth, channel)| SimulationStep::Leave(nth, channel)),
        6 => (0u8..4, part()).prop_map(|(channel, part)| SimulationStep::Item(channel, part)),
        1 => (0u8..4, part()).prop_map(|(channel, part)| SimulationStep::Close(channel, part)),
        2 => (0u8..4, part(), 0u8..4, any::<bool>()).prop_map(|(of, part, to, enter)| SimulationStep::Move(of, part, to, enter)),
        5 => (1u8..6).prop_map(SimulationStep::Steps),
    ]
}

/// A ledger that notes the number of the item or command that was accepted last, then performs an action that was set
/// before, and answers with the number that it noted.
#[derive(Clone, Default)]
pub(super) struct NumberLedger(Arc<AtomicU64>, Rc<RefCell<NextAction>>);

/// The action that the ledger performs the next time, if there is one.
type NextAction = Option<Box<dyn FnOnce()>>;

impl Ledger for NumberLedger {
    fn join(&self, _: &JoinRequest<'_>) -> Result<JoinInfo, DeniedChannel> {
        let number = self.0.load(Relaxed);
        if let Some(then) = self.1.take() {
            then();
        }
        Ok(JoinInfo { number, behind: false })
    }
    fn left(&self, _: &Profile, _: &[Channel]) {}
    fn release(&self, _: &[Channel]) {}
    fn user_joined(&self, _: &Profile) {}
    fn user_left(&self, _: &Profile) {}
    fn ended(&self, _: &Profile, _: &EndReport) {}
}

/// A client, with the bytes that it must have read in the end.
struct Client {
    parked: Parked,
    socket: MemoryClient,
    channels: Vec<u8>,
    /// The channels that commands have made the client leave. Terms do not bring these back.
    removed: Vec<u8>,
    expected: Vec<u8>,
    open: bool,
    kind: Kind,
}

struct Simulation {
    shard: Rc<Shard>,
    inbox: Arc<Inbox>,
    clients: Vec<Client>,
    numbers: NumberLedger,
    delivered: u32,
    closed: u32,
    moved: [u32; 2],
    tally: Tally,
}

impl Simulation {
    fn new(tally: Tally) -> Self {
        let inbox = Arc::new(Inbox::new(Arc::new(Notify::new())));
        let (numbers, metrics) = (NumberLedger::default(), Arc::new(Metrics::default()));
        let settings = Settings { steps: StepSizes::SMALL, ..Settings::default() };
        let shard = Shard::new(settings, Arc::clone(&inbox), Box::new(numbers.clone()), metrics);
        Self { shard, inbox, clients: Vec::new(), numbers, delivered: 0, closed: 0, moved: [0, 0], tally }
    }

    fn act(&mut self, act: &SimulationStep) {
        match act {
            SimulationStep::Join(channels, kind) => self.join(channels, *kind),
            SimulationStep::Enter(nth, channel) => self.enter(*nth, *channel, false),
            SimulationStep::EnterAmid(nth, channel) => self.enter(*nth, *channel, true),
            SimulationStep::Follow(nth, channel) => self.follow(*nth, *channel),
            SimulationStep::Leave(nth, channel) => self.leave(*nth, *channel),
            SimulationStep::Item(channel, part) => self.item(*channel, *part),
            SimulationStep::Close(channel, part) => self.close(*channel, *part),
            SimulationStep::Move(of, part, to, enter) => self.r#move(*of, *part, *to, *enter),
            SimulationStep::Steps(count) => (0..*count).for_each(|_| {
                self.shard.step();
            }),
        }
    }

    fn join(&mut self, channels: &[u8], kind: Kind) {
        let (stream, socket) = kind.connect();
        let mut parked = Parked::new(&self.shard, stream.into(), b"", kind.feed(), &Profile::default());
        parked.subscribe(&channels.iter().map(|c| name(*c)).collect::<Vec<_>>(), &[]).unwrap();
        let (channels, expected) = (channels.to_vec(), Vec::new());
        self.clients.push(Client { parked, socket, channels, removed: Vec::new(), expected, open: true, kind });
    }

    /// Returns one of the WebSockets that are open.
    fn websocket(&mut self, nth: usize) -> Option<&mut Client> {
        let open: Vec<_> = self.clients.iter_mut().filter(|c| c.open && c.kind == Kind::WebSocket).collect();
        let nth = nth % open.len().max(1);
        open.into_iter().nth(nth)
    }

    fn enter(&mut self, nth: usize, channel: u8, amid: bool) {
        if self.websocket(nth).is_none_or(|client| client.channels.contains(&channel)) {
            return;
        }
        if amid {
            let (inbox, numbers, tally) = (Arc::clone(&self.inbox), Arc::clone(&self.numbers.0), self.tally.clone());
            let whom = CommandTarget::Members { channel: name(channel), selection: None, meta: None };
            let effect = CommandEffect::Close { formats: Formats::ALL, frame: out() };
            *self.numbers.1.borrow_mut() = Some(Box::new(move || {
                let number = numbers.fetch_add(1, Relaxed) + 1;
                inbox.put(Vec::new(), vec![Command { number, whom, effect, tally, index: 0 }]);
            }));
        }
        let Some(client) = self.websocket(nth).filter(|client| !client.channels.contains(&channel)) else { return };
        client.parked.enter(&name(channel)).unwrap();
        client.channels.push(channel);
        if amid {
            self.are_closed(channel, Selected::All);
        }
    }

    fn follow(&mut self, nth: usize, channel: u8) {
        let mut streams: Vec<_> = self.clients.iter_mut().filter(|c| c.open && c.kind != Kind::WebSocket).collect();
        let count = streams.len().max(1);
        let Some(client) = streams.get_mut(nth % count) else { return };
        // Commands that wait in the inbox may still change the channels, so what the shard knows is compared as well.
        let mut held = client.parked.channels();
        if [&client.channels, &client.removed].iter().any(|all| all.contains(&channel)) || held.contains(&name(channel))
        {
            return;
        }
        held.push(name(channel));
        let channels = held.iter().map(ChannelTerms::plain).collect();
        client.parked.set_terms(Terms { channels, ..Terms::default() }, ItemHandling::default());
        client.parked.follow_terms(IdComparison::All).unwrap();
        client.channels.push(channel);
    }

    fn leave(&mut self, nth: usize, channel: u8) {
        self.finish();
        let Some(client) = self.websocket(nth) else { return };
        assert_eq!(client.parked.leave(&name(channel)), client.channels.contains(&channel));
        client.channels.retain(|held| *held != channel);
    }

    /// Lets the shard take steps until it is idle.
    fn finish(&self) {
        for steps in 0.. {
            if self.shard.step() == NextStep::Idle {
                break;
            }
            assert!(steps < 100_000, "the shard did not become idle");
        }
    }

    /// Returns the next number in the order of acceptance.
    fn accept(&self) -> u64 {
        self.numbers.0.fetch_add(1, Relaxed) + 1
    }

    fn item(&mut self, channel: u8, part: Selected) {
        let number = self.accept();
        let content = format!("item {number}\n");
        let chunk = Chunk::new(content.as_bytes());
        let message = RenderedMessage::new(MessageKind::Text, content.as_bytes());
        for client in meant(&mut self.clients, channel, part) {
            client.expected.extend_from_slice(client.kind.content(&chunk, &message));
            self.delivered += 1;
        }
        let item = Rendered {
            stream: Some(chunk),
            message: Some(Arc::new(message)),
            selection: part.selection(),
            ..Rendered::empty(name(channel))
        };
        let delivery = Delivery { number, item: Arc::new(item), tally: self.tally.clone(), index: 0 };
        self.inbox.put(vec![delivery], Vec::new());
    }

    fn close(&mut self, channel: u8, part: Selected) {
        self.are_closed(channel, part);
        self.command(channel, part, CommandEffect::Close { formats: Formats::ALL, frame: out() });
    }

    fn are_closed(&mut self, channel: u8, part: Selected) {
        for client in meant(&mut self.clients, channel, part) {
            client.expected.extend_from_slice(&client.kind.end());
            client.open = false;
            self.closed += 1;
        }
    }

    fn r#move(&mut self, of: u8, part: Selected, to: u8, enter: bool) {
        for client in meant(&mut self.clients, of, part) {
            if client.channels.contains(&to) != enter {
                client.channels.retain(|held| *held != to);
                client.channels.extend(enter.then_some(to));
                client.removed.retain(|removed| *removed != to);
                client.removed.extend((!enter).then_some(to));
                self.moved[usize::from(enter)] += 1;
            }
        }
        let channels = vec![name(to)];
        let moved = if enter { ChannelMove::Subscribe(channels) } else { ChannelMove::Unsubscribe(channels) };
        self.command(of, part, CommandEffect::Move(Arc::new(moved)));
    }

    fn command(&self, channel: u8, part: Selected, effect: CommandEffect) {
        let whom = CommandTarget::Members { channel: name(channel), selection: part.selection(), meta: None };
        let (number, tally) = (self.accept(), self.tally.clone());
        self.inbox.put(Vec::new(), vec![Command { number, whom, effect, tally, index: 0 }]);
    }

    /// Lets the shard finish, and compares the bytes that all clients have read, and the counts, with those expected.
    fn check(mut self) {
        self.finish();
        for client in &mut self.clients {
            let got = client.socket.take();
            assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(&client.expected));
            assert_eq!((client.socket.is_over(), client.socket.is_reset()), (!client.open, false));
        }
        let counts = self.tally.of(0);
        assert_eq!((counts.delivered.load(Relaxed), counts.closed.load(Relaxed)), (self.delivered, self.closed));
        assert_eq!([counts.unsubscribed.load(Relaxed), counts.subscribed.load(Relaxed)], self.moved);
        assert_eq!((counts.cut.load(Relaxed), counts.slow.load(Relaxed)), (0, 0));
        self.clients.drain(..).for_each(|client| drop(client.parked));
        assert_eq!(self.shard.population(), (0, 0));
    }
}

/// Returns the Close frame for WebSockets that are closed.
fn out() -> Bytes {
    websocket::close(Some(&CloseReason::new(4001, "out")))
}

/// Returns the clients that are open, hold `channel`, and are selected by `part`.
fn meant(clients: &mut [Client], channel: u8, part: Selected) -> impl Iterator<Item = &mut Client> {
    let holds = move |client: &Client| client.channels.contains(&channel) && part.means(&client.channels);
    clients.iter_mut().filter(move |client| client.open && holds(client))
}

fn name(channel: u8) -> Channel {
    Channel::from(format!("c{channel}").as_str())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn everyone_reads_what_was_accepted_for_them(acts in prop::collection::vec(act(), 1..60)) {
        // The shard tells the time by the clock of tokio, so it runs inside a runtime, as in gripd. Nothing here waits,
        // and there is no socket.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut run = Simulation::new(Tally::new(1, Box::new(|_| {})).0);
            for act in &acts {
                run.act(act);
            }
            run.check();
        });
    }
}
