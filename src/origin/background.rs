//! Requests to origins whose result nobody waits for, such as those that tell an origin that a client has left.

use super::OriginClient;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use tokio::sync::Notify;

/// The number of background requests that one shard may have, whether they wait or are in progress. Further requests
/// are dropped, which is logged.
const MAX_WAITING: usize = 100_000;

/// A future that sends a background request.
pub(super) type BackgroundRequest = Pin<Box<dyn Future<Output = ()>>>;

/// The background requests of one shard.
#[derive(Default)]
pub(super) struct Background {
    waiting: RefCell<VecDeque<BackgroundRequest>>,
    /// The number of requests that wait or are in progress.
    open: Cell<usize>,
    news: Notify,
    done: Notify,
}

impl Background {
    /// Adds a request to those that wait. Returns `false`, and drops the request, if there are too many.
    #[must_use]
    pub(super) fn enqueue(&self, word: impl Future<Output = ()> + 'static) -> bool {
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

impl OriginClient {
    /// Carries out the background requests of this shard as they are added. Never returns.
    pub async fn tell_gone(self: Rc<Self>) {
        loop {
            let next = self.background.waiting.borrow_mut().pop_front();
            let Some(word) = next else {
                self.background.news.notified().await;
                continue;
            };
            // Each request has a task of its own, so that an origin that hangs does not delay the requests to others.
            let origin = Rc::clone(&self);
            tokio::task::spawn_local(async move {
                word.await;
                let background = &origin.background;
                background.open.set(background.open.get() - 1);
                background.done.notify_one();
            });
        }
    }

    /// Carries out a future in the background. A drain waits for its end, as long as the time of the drain allows. If
    /// there are too many background requests, the future is dropped, which is logged.
    pub fn run_in_background(&self, word: impl Future<Output = ()> + 'static) {
        if !self.background.enqueue(word) {
            tracing::warn!("too many notifications about disconnected clients are waiting: one was dropped");
        }
    }

    /// Waits until all background requests are done.
    pub async fn all_done(&self) {
        while self.background.open.get() > 0 {
            self.background.done.notified().await;
        }
    }
}
