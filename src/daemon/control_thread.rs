//! The thread of the control API. It also runs the hub's timers and its writes to disk, and the webhooks.

use super::local_runtime;
use super::replaceable_parts::ReplaceableParts;
use crate::control::{ControlApi, ListenerPurpose};
use crate::hub::Hub;
use crate::net::BoundListener;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::timeout;

/// The minimum time that webhooks have to send their remaining events after the last connection has ended.
pub(super) const LAST_EVENTS: Duration = Duration::from_secs(1);

/// How long writes to disk and lookups of host names may still take when the thread ends.
const LAST_WRITES: Duration = Duration::from_millis(500);

/// The parts that the thread of the control API runs.
pub(super) struct ControlThread {
    pub(super) control: Arc<ControlApi>,
    pub(super) hub: Arc<Hub>,
    /// The routes, settings and webhooks in use, of which the thread serves the webhooks.
    pub(super) current: watch::Receiver<ReplaceableParts>,
    pub(super) listeners: Vec<(BoundListener, ListenerPurpose)>,
    /// The signal that ends the thread. The duration is the time that webhooks have to send their remaining events.
    pub(super) stopped: oneshot::Receiver<Duration>,
}

impl ControlThread {
    /// Starts the thread, and waits until it serves.
    ///
    /// # Errors
    /// The thread cannot be created, or the process may open no more files, so that the listeners cannot be watched.
    pub(super) fn start(self) -> io::Result<JoinHandle<()>> {
        let (tell, told) = sync_channel(1);
        let thread = Builder::new().name("control".into()).spawn(move || match local_runtime() {
            Ok(runtime) => {
                runtime.block_on(self.run(|started| drop(tell.send(started))));
                // The lookup of a webhook's host name cannot be cancelled, so the wait for it is limited.
                runtime.shutdown_timeout(LAST_WRITES);
            }
            Err(error) => drop(tell.send(Err(error))),
        })?;
        told.recv().map_err(io::Error::other)??;
        Ok(thread)
    }

    /// Serves until the thread is told to stop. Before that, `started` is called once with the result of starting the
    /// listeners. If that is an error, nothing is served.
    pub(super) async fn run(self, started: impl FnOnce(io::Result<()>)) {
        let Self { control, hub, current, listeners, stopped } = self;
        let listeners = listeners.into_iter().map(|(listener, purpose)| Ok((listener.start()?, purpose)));
        let listeners = match listeners.collect::<io::Result<Vec<_>>>() {
            Ok(listeners) => listeners,
            Err(error) => return started(Err(error)),
        };
        for (listener, purpose) in listeners {
            spawn_local(Arc::clone(&control).serve(listener, purpose));
        }
        started(Ok(()));
        tokio::select! {
            () = hub.keep_time() => {}
            () = hub.keep_writing() => {}
            () = send_events(current, stopped) => {}
        }
    }
}

/// Sends the events of the webhooks in use until the thread is told to stop, and then the remaining events. A webhook
/// that is removed in the meantime may still send what waits.
async fn send_events(mut current: watch::Receiver<ReplaceableParts>, mut stopped: oneshot::Receiver<Duration>) {
    let mut notifier = Arc::clone(&current.borrow_and_update().notifier);
    let mut webhooks = JoinSet::new();
    let first = Arc::clone(&notifier);
    webhooks.spawn_local(async move { first.run().await });
    let rest = loop {
        tokio::select! {
            Ok(()) = current.changed() => {
                let new = Arc::clone(&current.borrow_and_update().notifier);
                let (added, removed) = (new.without(&notifier), notifier.without(&new));
                webhooks.spawn_local(async move { added.run().await });
                webhooks.spawn_local(async move { removed.retire().await });
                notifier = new;
            }
            rest = &mut stopped => break rest.unwrap_or(LAST_EVENTS),
        }
    };
    // An error means that the webhooks have taken too long.
    let _ = timeout(rest, async {
        notifier.drain(rest).await;
        while webhooks.join_next().await.is_some() {}
    })
    .await;
}
