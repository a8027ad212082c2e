//! The requests to origins that nobody waits for: they tell that clients are gone.

use super::Origin;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use tokio::sync::Notify;

/// Words that may wait to be told. Beyond it they are not, which is logged.
const MAX_WAITING: usize = 100_000;

/// A request that nobody waits for.
pub(super) type Word = Pin<Box<dyn Future<Output = ()>>>;

/// The requests of one shard that are still to be sent.
#[derive(Default)]
pub(super) struct Background {
    waiting: RefCell<VecDeque<Word>>,
    /// Those that wait or are being told.
    open: Cell<usize>,
    news: Notify,
    done: Notify,
}

impl Background {
    /// Sends a request when it is its turn. Returns `false` if too many wait.
    #[must_use]
    pub(super) fn tell(&self, word: impl Future<Output = ()> + 'static) -> bool {
        if self.open.get() >= MAX_WAITING {
            return false;
        }
        self.open.set(self.open.get() + 1);
        self.waiting.borrow_mut().push_back(Box::pin(word));
        self.news.notify_one();
        true
    }
}

impl fmt::Debug for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Background").field("open", &self.open.get()).finish_non_exhaustive()
    }
}

impl Origin {
    /// Tells what there is to tell, forever.
    pub async fn tell_gone(self: Rc<Self>) {
        loop {
            let next = self.background.waiting.borrow_mut().pop_front();
            let Some(word) = next else {
                self.background.news.notified().await;
                continue;
            };
            // Each in a task, so that an origin that hangs does not keep the others from hearing.
            let origin = Rc::clone(&self);
            tokio::task::spawn_local(async move {
                word.await;
                let background = &origin.background;
                background.open.set(background.open.get() - 1);
                background.done.notify_one();
            });
        }
    }

    /// Carries something out in the background. A drain waits for it.
    pub fn behind(&self, word: impl Future<Output = ()> + 'static) {
        if !self.background.tell(word) {
            tracing::warn!("too many notifications about disconnected clients are waiting: one was dropped");
        }
    }

    /// Waits until all of it is told.
    pub async fn all_told(&self) {
        while self.background.open.get() > 0 {
            self.background.done.notified().await;
        }
    }
}
