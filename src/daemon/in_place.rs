//! A gripd on the thread of its caller.

use super::assembly::Assembly;
use crate::config::Config;
use std::io;
use tokio::task::spawn_local;

/// Runs a gripd whose shards and control API share the thread of the caller, until the future is dropped or the control API
/// ends. It is for counting instructions: nothing then depends on which thread is faster. It needs a runtime whose tasks stay
/// on their thread.
///
/// # Errors
/// An address cannot be used; the error names it. Or the control API cannot serve, because the process may open no more
/// files.
pub async fn run_in_place(config: Config) -> io::Result<()> {
    // Whoever drops these two ends the shards and the control API.
    let Assembly { shards, control_thread, drain: _drain, stop_control: _stop_control, .. } = Assembly::new(config)?;
    for shard in shards {
        spawn_local(shard.run());
    }
    let mut started = Ok(());
    control_thread.run(|can_serve| started = can_serve).await;
    started
}
