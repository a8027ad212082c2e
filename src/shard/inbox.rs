//! The inbox, in which other threads leave items, commands and questions for a shard.

use super::{Command, ListingQuery, Rendered, Tally};
use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The number of items that may wait in an inbox.
const MAX_ITEMS: usize = 4096;
/// The number of bytes that the items in an inbox may have together.
const MAX_BYTES: usize = 16 << 20;

/// An item on its way to the connections of one shard.
///
/// It is a handle that dereferences to the item, which all shards share.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The number of the item in the order of acceptance, which items and commands share.
    pub number: u64,
    /// The item.
    pub item: Arc<Rendered>,
    /// The tally in which the outcomes of the item are counted.
    pub tally: Tally,
    /// The index of the item in its batch. The outcomes are counted for this index.
    pub index: u32,
}

impl Deref for Delivery {
    type Target = Rendered;

    fn deref(&self) -> &Rendered {
        &self.item
    }
}

impl Delivery {
    /// Returns the same delivery without content and hints, for a connection that follows the order of the channel
    /// although the item is not for it.
    pub(super) fn without_content(&self) -> Self {
        Self { item: Arc::new(self.item.without_content()), ..self.clone() }
    }
}

/// A bounded queue of items and a separate queue of commands. Commands overtake the items that wait.
#[derive(Debug)]
pub struct Inbox {
    queue: Mutex<InboxQueue>,
    /// Whether there are items or commands to take, or a refresh is requested. It is read before the lock is taken,
    /// so that looking into an empty inbox needs no lock.
    filled: AtomicBool,
    /// Whether there are questions to take. It is read before the lock is taken, so that no lock is needed if there
    /// are none.
    asked: AtomicBool,
    arrived: Notify,
    /// Notified whenever an item is released, which makes room for others.
    room: Arc<Notify>,
}

#[derive(Debug, Default)]
struct InboxQueue {
    deliveries: VecDeque<Delivery>,
    commands: VecDeque<Command>,
    questions: Vec<ListingQuery>,
    /// Whether every stream and every long-poll is to ask its origin again.
    refresh_all: bool,
    /// The number of items that were put in and not released yet, including those that the shard has taken.
    items: usize,
    bytes: usize,
}

impl Inbox {
    /// Returns an empty inbox that notifies `room` whenever an item is released.
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

    /// Puts in items and commands. Both must be in the order of their numbers, also from one call to the next. This
    /// does not check the limits, which [`Inbox::has_room`] does: a batch with a command is put in even if there is no
    /// room.
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

    /// Makes every stream and every long-poll of the shard ask its origin again, if it can.
    pub fn refresh_all(&self) {
        let mut queue = self.lock();
        queue.refresh_all = true;
        self.filled.store(true, Ordering::Release);
        drop(queue);
        self.arrived.notify_one();
    }

    /// Asks the shard a question about its connections.
    pub fn ask(&self, question: ListingQuery) {
        self.lock().questions.push(question);
        self.asked.store(true, Ordering::Release);
        self.arrived.notify_one();
    }

    /// Takes the questions that have been asked, and returns them.
    pub(super) fn questions(&self) -> Vec<ListingQuery> {
        if !self.asked.swap(false, Ordering::Acquire) {
            return Vec::new();
        }
        std::mem::take(&mut self.lock().questions)
    }

    /// Moves all items and commands to the end of the shard's own queues. The items count towards the limits until
    /// they are released. Returns whether every stream and every long-poll is to ask its origin again.
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

    /// Makes room for others: an item of this weight has been considered for every connection that may get it, and is
    /// in every outlet or queue that takes it.
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

    fn lock(&self) -> MutexGuard<'_, InboxQueue> {
        // No panic can leave the queue half changed, so its content is valid even if the lock is poisoned.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
