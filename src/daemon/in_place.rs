//! A gripd on the thread of its caller.

use super::Left;
use super::assembly::Assembly;
use crate::config::Config;
use std::io;
use tokio::task::spawn_local;

/// Runs a gripd whose shards and control API share the thread of the caller, until `end` is ready and the drain is over.
/// It is for tests and for counting instructions: nothing then depends on which thread is faster. It needs a runtime whose
/// tasks stay on their thread.
///
/// # Errors
/// An address cannot be used. The error names it.
pub async fn run_in_place(config: Config, end: impl Future<Output = ()>) -> io::Result<Left> {
    let Assembly { shards, control_thread, drain, stop_control, .. } = Assembly::new(config)?;
    let shards: Vec<_> = shards.into_iter().map(|shard| spawn_local(shard.run())).collect();
    let control = spawn_local(control_thread.run(|_| {}));
    end.await;
    drain.send_replace(true);
    let mut left = Left::default();
    for shard in shards {
        // A shard that panicked has told so, and has nothing left.
        let one = shard.await.unwrap_or_default();
        left.connections += one.connections;
        left.channels += one.channels;
    }
    drop(stop_control);
    // The same is true of the control API.
    let _ = control.await;
    Ok(left)
}
