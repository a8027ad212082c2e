//! Telling origins that clients are gone, behind everybody's back.

use super::{Ask, Asking, Origin, Told};
use bytes::Bytes;
use hyper::{Method, Uri};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use tokio::sync::Notify;

/// Links that may wait to be asked. Beyond it none is, which is logged.
const MAX_WAITING: usize = 100_000;

/// The gone links of one shard that are still to be asked.
#[derive(Debug, Default)]
pub(super) struct Farewells {
    waiting: RefCell<VecDeque<(Asking, Uri)>>,
    /// Those that wait or are being asked.
    open: Cell<usize>,
    news: Notify,
    done: Notify,
}

/// Has its link asked when it is dropped.
#[derive(Debug)]
pub struct Gone {
    origin: Rc<Origin>,
    about: Asking,
    uri: Uri,
}

impl Gone {
    /// Has `uri` asked, once, when this is dropped.
    pub const fn new(origin: Rc<Origin>, about: Asking, uri: Uri) -> Self {
        Self { origin, about, uri }
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        let farewells = &self.origin.farewells;
        if farewells.open.get() >= MAX_WAITING {
            return tracing::warn!(uri = %self.uri, "too many gone links wait: this one is not asked");
        }
        farewells.open.set(farewells.open.get() + 1);
        farewells.waiting.borrow_mut().push_back((self.about.clone(), self.uri.clone()));
        farewells.news.notify_one();
    }
}

impl Origin {
    /// Asks the gone links, for ever.
    pub async fn tell_gone(self: Rc<Self>) {
        loop {
            let next = self.farewells.waiting.borrow_mut().pop_front();
            let Some((about, uri)) = next else {
                self.farewells.news.notified().await;
                continue;
            };
            // Each in a task, so that an origin that hangs does not keep the others from hearing.
            let origin = Rc::clone(&self);
            tokio::task::spawn_local(async move {
                origin.tell_one(&about, &uri).await;
                let farewells = &origin.farewells;
                farewells.open.set(farewells.open.get() - 1);
                farewells.done.notify_one();
            });
        }
    }

    async fn tell_one(&self, about: &Asking, uri: &Uri) {
        let ask = Ask { method: Method::POST, uri, headers: &[], body: Bytes::new(), last_ids: &[] };
        let told = async {
            let _turn = self.turn_for(about, uri).await?;
            self.ask(about, ask).await
        };
        match told.await {
            Ok(Told { status, .. }) if status.is_success() => {}
            Ok(Told { status, .. }) => tracing::warn!(%uri, status = status.as_u16(), "the gone link was refused"),
            Err(failure) => tracing::warn!(%uri, error = failure.explain(), "the gone link failed"),
        }
    }

    /// Waits until every gone link has been asked.
    pub async fn all_told(&self) {
        while self.farewells.open.get() > 0 {
            self.farewells.done.notified().await;
        }
    }
}
