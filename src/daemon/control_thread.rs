//! The thread of the control API. It also keeps the hub's time and runs the webhooks.

use super::local_runtime;
use crate::control::{Control, Purpose};
use crate::hub::Hub;
use crate::net::BoundListener;
use crate::notify::Notifier;
use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::spawn_local;

/// How long webhooks may take at least to tell what is left when the last connection has ended.
pub(super) const LAST_EVENTS: Duration = Duration::from_secs(1);

/// How long what is being written, or looked up, may take at the end.
const LAST_WRITES: Duration = Duration::from_millis(500);

/// The parts that the thread of the control API runs.
pub(super) struct ControlThread {
    pub(super) control: Arc<Control>,
    pub(super) hub: Arc<Hub>,
    pub(super) notifier: Arc<Notifier>,
    pub(super) listeners: Vec<(BoundListener, Purpose)>,
    /// Ends the thread, and says how long webhooks have to tell what is left.
    pub(super) stopped: oneshot::Receiver<Duration>,
}

impl ControlThread {
    pub(super) fn start(self) -> io::Result<JoinHandle<()>> {
        Builder::new().name("control".into()).spawn(move || match local_runtime() {
            Ok(runtime) => {
                runtime.block_on(self.run());
                // Without waiting for long for what cannot be stopped: the lookup of a webhook's host.
                runtime.shutdown_timeout(LAST_WRITES);
            }
            Err(error) => tracing::error!(%error, "the control API could not start"),
        })
    }

    pub(super) async fn run(self) {
        let Self { control, hub, notifier, listeners, stopped } = self;
        for (listener, purpose) in listeners {
            match listener.start() {
                Ok(listener) => drop(spawn_local(Arc::clone(&control).serve(listener, purpose))),
                Err(error) => tracing::error!(%error, "the control API cannot listen"),
            }
        }
        tokio::select! {
            () = hub.keep_time() => {}
            () = hub.keep() => {}
            () = notifier.run() => {}
            rest = stopped => notifier.drain(rest.unwrap_or(LAST_EVENTS)).await,
        }
    }
}
