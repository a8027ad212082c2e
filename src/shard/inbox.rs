//! Where a shard's items arrive: the one thing that it shares with other threads.

use super::{Command, Question, Rendered, Tally};
use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Items that may wait in an inbox.
const MAX_ITEMS: usize = 4096;
/// Bytes of items that may wait in an inbox.
const MAX_BYTES: usize = 16 << 20;

/// An item on its way to the connections of one shard.
///
/// It is a handle: the item itself is shared, and its fields are reached through this.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The place in the order of acceptance.
    pub number: u64,
    /// The item.
    pub item: Arc<Rendered>,
    /// The tally in which it is counted.
    pub tally: Tally,
    /// The place of the item in its batch, under which it is counted.
    pub index: u32,
}

impl Deref for Delivery {
    type Target = Rendered;

    fn deref(&self) -> &Rendered {
        &self.item
    }
}

impl Delivery {
    /// Returns the same delivery for a connection that is not meant: nothing but its place in the order.
    pub(super) fn hollow(&self) -> Self {
        Self { item: Arc::new(self.item.hollow()), ..self.clone() }
    }
}

/// A bounded queue of items and a separate queue of commands. Commands overtake the items that wait.
#[derive(Debug)]
pub struct Inbox {
    queue: Mutex<Queue>,
    /// Whether there is something to take. Looking at it spares the lock.
    filled: AtomicBool,
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
    /// Returns an empty inbox that tells `room` when there is room again.
    pub fn new(room: Arc<Notify>) -> Self {
        Self {
            queue: Mutex::default(),
            filled: AtomicBool::new(false),
            asked: AtomicBool::new(false),
            arrived: Notify::new(),
            room,
        }
    }

    /// Returns whether this many more items and bytes fit. Anything fits an empty inbox.
    pub fn has_room(&self, items: usize, bytes: usize) -> bool {
        let queue = self.lock();
        queue.items == 0 || (queue.items + items <= MAX_ITEMS && queue.bytes + bytes <= MAX_BYTES)
    }

    /// Puts items and commands in, which must be in the order of their numbers.
    pub fn put(&self, deliveries: Vec<Delivery>, commands: Vec<Command>) {
        let mut queue = self.lock();
        queue.items += deliveries.len();
        queue.bytes += deliveries.iter().map(|delivery| delivery.weight()).sum::<usize>();
        queue.deliveries.extend(deliveries);
        queue.commands.extend(commands);
        self.filled.store(true, Ordering::Release);
        drop(queue);
        self.arrived.notify_one();
    }

    /// Makes every connection ask its origin again.
    pub fn refresh_all(&self) {
        let mut queue = self.lock();
        queue.refresh_all = true;
        self.filled.store(true, Ordering::Release);
        drop(queue);
        self.arrived.notify_one();
    }

    /// Asks about the shard's connections.
    pub fn ask(&self, question: Question) {
        self.lock().questions.push(question);
        self.asked.store(true, Ordering::Release);
        self.arrived.notify_one();
    }

    /// Returns the questions that were asked and not taken yet.
    pub(super) fn questions(&self) -> Vec<Question> {
        if !self.asked.swap(false, Ordering::Acquire) {
            return Vec::new();
        }
        std::mem::take(&mut self.lock().questions)
    }

    /// Moves all there is to the end of the shard's own queues. It keeps counting until it is released. Returns whether
    /// every connection is to ask its origin again.
    pub(super) fn take(&self, backlog: &mut VecDeque<Delivery>, commands: &mut VecDeque<Command>) -> bool {
        if !self.filled.load(Ordering::Acquire) {
            return false;
        }
        let mut queue = self.lock();
        self.filled.store(false, Ordering::Relaxed);
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
