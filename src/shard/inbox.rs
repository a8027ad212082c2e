//! Where a shard's items arrive: the one thing that it shares with other threads.

use super::{Command, Question, Tally};
use crate::grip::item::{Body, ContentFilters, Id, Response, Selection};
use crate::grip::{Channel, Format, Formats, Meta};
use crate::wire::{Chunk, Message};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Items that may wait in an inbox.
const MAX_ITEMS: usize = 4096;
/// Bytes of items that may wait in an inbox.
const MAX_BYTES: usize = 16 << 20;

/// An item on its way to the connections of one shard.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its place in the order of acceptance.
    pub number: u64,
    /// Whom it is for.
    pub channel: Channel,
    /// What it is for streams.
    pub stream: Option<Chunk>,
    /// What it is for long-polls.
    pub response: Option<Arc<Response>>,
    /// What it is for WebSockets.
    pub message: Option<Arc<Message>>,
    /// For whom the origin is to be asked again.
    pub hints: Formats,
    /// What few items have.
    pub extras: Option<Arc<Extras>>,
    /// Where it is counted,
    pub tally: Tally,
    /// and as which item of its batch.
    pub index: u32,
}

/// What is said of an item besides its formats.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// What it is called in its channel.
    pub id: Option<Id>,
    /// What the item before it is called.
    pub prev_id: Option<Id>,
    /// What the publisher says of it.
    pub meta: Option<Arc<Meta>>,
    /// Which streams it is for.
    pub stream_filters: ContentFilters,
    /// Which WebSockets it is for.
    pub message_filters: ContentFilters,
    /// Which connections of its channel it is for, if not for all.
    pub selection: Option<Arc<Selection>>,
}

impl Delivery {
    /// What the publisher says of it.
    pub fn meta(&self) -> Option<&Meta> {
        self.extras.as_ref()?.meta.as_deref()
    }

    /// Which connections it is for, if not for all of its channel.
    pub(super) fn selection(&self) -> Option<&Selection> {
        self.extras.as_ref()?.selection.as_deref()
    }

    /// Whether it has a place in the order of its channel.
    pub(super) fn is_ordered(&self) -> bool {
        self.extras.as_ref().is_some_and(|extras| extras.id.is_some() || extras.prev_id.is_some())
    }

    /// The same for a connection that it is not for: nothing but its place in the order.
    pub(super) fn hollow(&self) -> Self {
        Self { stream: None, response: None, message: None, hints: Formats::NONE, ..self.clone() }
    }

    /// The content filters that it is made for as this format; `None`: it has nothing for the format.
    pub(super) fn content_filters(&self, format: Format) -> Option<&ContentFilters> {
        match format {
            Format::HttpResponse => self.response.as_ref().map(|response| &response.content_filters),
            Format::HttpStream => {
                self.stream.as_ref()?;
                Some(self.extras.as_ref().map_or(&None, |extras| &extras.stream_filters))
            }
            Format::WsMessage => {
                self.message.as_ref()?;
                Some(self.extras.as_ref().map_or(&None, |extras| &extras.message_filters))
            }
        }
    }

    /// Whether not everybody who holds its channel takes it in the same way.
    pub(super) fn is_special(&self) -> bool {
        let filtered = |f: &ContentFilters| f.as_ref().is_some_and(|names| !names.is_empty());
        !self.hints.is_empty()
            || self
                .extras
                .as_ref()
                .is_some_and(|extras| filtered(&extras.stream_filters) || filtered(&extras.message_filters))
            || self
                .response
                .as_ref()
                .is_some_and(|response| filtered(&response.content_filters) || matches!(response.body, Body::Patch(_)))
    }

    /// What it counts for in the bound of an inbox, in bytes.
    pub fn weight(&self) -> usize {
        Self::weigh(self.stream.as_ref(), self.response.as_deref(), self.message.as_deref())
    }

    /// The weight of an item with these formats.
    pub fn weigh(stream: Option<&Chunk>, response: Option<&Response>, message: Option<&Message>) -> usize {
        let response = response.map_or(0, |r| r.body.weight());
        stream.map_or(0, Chunk::len) + response + message.map_or(0, Message::len) + size_of::<Self>()
    }
}

/// A bounded queue of items and a queue of commands, which overtake them.
#[derive(Debug)]
pub struct Inbox {
    queue: Mutex<Queue>,
    /// Whether there is something to take: spares the lock.
    news: AtomicBool,
    /// Whether there is a question.
    asked: AtomicBool,
    arrived: Notify,
    /// Told whenever there is room again.
    room: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Queue {
    deliveries: VecDeque<Delivery>,
    commands: VecDeque<Command>,
    questions: Vec<Question>,
    /// Whether every connection is to ask its origin again.
    refresh_all: bool,
    /// Items put in and not yet released, those that the shard has taken included.
    items: usize,
    bytes: usize,
}

impl Inbox {
    /// An empty inbox that tells `room` when there is room again.
    pub fn new(room: Arc<Notify>) -> Self {
        Self {
            queue: Mutex::default(),
            news: AtomicBool::new(false),
            asked: AtomicBool::new(false),
            arrived: Notify::new(),
            room,
        }
    }

    /// Whether so many more items and bytes fit. Anything fits an empty inbox.
    pub fn has_room(&self, items: usize, bytes: usize) -> bool {
        let queue = self.lock();
        queue.items == 0 || (queue.items + items <= MAX_ITEMS && queue.bytes + bytes <= MAX_BYTES)
    }

    /// Puts items and commands in, which must be in the order of their numbers.
    pub fn put(&self, deliveries: Vec<Delivery>, commands: Vec<Command>) {
        let mut queue = self.lock();
        queue.items += deliveries.len();
        queue.bytes += deliveries.iter().map(Delivery::weight).sum::<usize>();
        queue.deliveries.extend(deliveries);
        queue.commands.extend(commands);
        self.news.store(true, Ordering::Release);
        drop(queue);
        self.arrived.notify_one();
    }

    /// Has every connection ask its origin again.
    pub fn refresh_all(&self) {
        let mut queue = self.lock();
        queue.refresh_all = true;
        self.news.store(true, Ordering::Release);
        drop(queue);
        self.arrived.notify_one();
    }

    /// Asks about the shard's connections.
    pub fn ask(&self, question: Question) {
        self.lock().questions.push(question);
        self.asked.store(true, Ordering::Release);
        self.arrived.notify_one();
    }

    /// The questions that were asked and not taken yet.
    pub(super) fn questions(&self) -> Vec<Question> {
        if !self.asked.swap(false, Ordering::Acquire) {
            return Vec::new();
        }
        std::mem::take(&mut self.lock().questions)
    }

    /// Moves all there is to the end of the shard's own queues. It keeps counting until it is released. Says whether
    /// every connection is to ask its origin again.
    pub(super) fn take(&self, backlog: &mut VecDeque<Delivery>, commands: &mut VecDeque<Command>) -> bool {
        if !self.news.load(Ordering::Acquire) {
            return false;
        }
        let mut queue = self.lock();
        self.news.store(false, Ordering::Relaxed);
        backlog.append(&mut queue.deliveries);
        commands.append(&mut queue.commands);
        std::mem::take(&mut queue.refresh_all)
    }

    /// Makes room: an item of this weight is in every outlet.
    pub(crate) fn release(&self, weight: usize) {
        let mut queue = self.lock();
        queue.items -= 1;
        queue.bytes -= weight;
        drop(queue);
        self.room.notify_one();
    }

    /// Waits until something was put in.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing in here panics halfway, so a poisoned queue is still a whole one.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
