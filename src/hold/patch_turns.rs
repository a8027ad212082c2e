//! Turns for patching the held responses of long-polls, so that one is patched at a time.

use tokio::sync::{Semaphore, SemaphorePermit};

/// The permission to patch a held response, which one task of a shard has at a time. Patching can occupy the thread
/// for milliseconds. Between two patches all other tasks of the shard run, however many long-polls wait for their
/// turn.
#[derive(Debug)]
pub(super) struct PatchTurns(Semaphore);

impl PatchTurns {
    pub(super) const fn new() -> Self {
        Self(Semaphore::const_new(1))
    }

    /// Waits for a turn. The turn lasts until the returned permit is dropped.
    pub(super) async fn next(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed, so `acquire` does not fail.
        let turn = self.0.acquire().await.ok();
        // Yielding lets the runtime poll the sockets and run all other tasks that are ready.
        tokio::task::yield_now().await;
        turn
    }
}
