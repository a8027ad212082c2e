//! The order in which the held answers of long-polls are patched: one after the other.

use tokio::sync::{Semaphore, SemaphorePermit};

/// Turns to patch a held answer, which keeps the thread of a shard busy for milliseconds. Between two turns every other task
/// of the shard runs, however many connections wait for one.
#[derive(Debug)]
pub(super) struct PatchTurns(Semaphore);

impl PatchTurns {
    pub(super) const fn new() -> Self {
        Self(Semaphore::const_new(1))
    }

    /// Waits for a turn, which lasts until what is returned is dropped.
    pub(super) async fn next(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        let turn = self.0.acquire().await.ok();
        // The sockets are looked at now, and all who can go on do so.
        tokio::task::yield_now().await;
        turn
    }
}
