//! Running a gripd on the thread of its caller.

use super::assembly::Assembly;
use crate::config::Config;
use std::io;
use tokio::task::spawn_local;

/// Runs a gripd whose shards and control API share the thread of the caller, until the returned future is dropped or
/// the control API ends. The benchmarks that count instructions use it, because their counts must not depend on which
/// thread is faster. The runtime must keep tasks on their thread, as `LocalRuntime` does.
///
/// # Errors
/// The parts cannot be built, for example because an address cannot be used, or the process may open no more files,
/// so that the control API cannot serve.
pub async fn run_in_single_thread(config: Config) -> io::Result<()> {
    // Dropping these two senders would end the shards and the control API.
    let Assembly { shards, control_thread, drain: _drain, stop_control: _stop_control, .. } = Assembly::new(config)?;
    for shard in shards {
        spawn_local(shard.run());
    }
    let mut started = Ok(());
    control_thread.run(|can_serve| started = can_serve).await;
    started
}
