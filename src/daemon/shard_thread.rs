//! The thread of one shard: its parts, their tasks, and its end.

use super::metrics::Counters;
use super::replaceable_parts::{ReplaceableParts, ShardSettings};
use super::shard_ledger::{ShardLedger, SharedNotifier};
use super::{RemainingConnections, local_runtime};
use crate::admission::Admission;
use crate::front::{self, Drain, Front, Gate};
use crate::hold::Holds;
use crate::hub::Hub;
use crate::net::{BoundListener, Descriptors, Listener};
use crate::notify::Notifier;
use crate::origin::{OriginClient, ReadAheadBudget, Shield};
use crate::session::Sessions;
use crate::shard::Shard;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::timeout;

/// The parts that the thread of a shard needs.
pub(super) struct ShardThread {
    pub(super) index: usize,
    pub(super) listener: BoundListener,
    pub(super) drained: watch::Receiver<bool>,
    pub(super) current: watch::Receiver<ReplaceableParts>,
    pub(super) shield: Arc<Shield>,
    pub(super) hub: Arc<Hub>,
    pub(super) descriptors: Arc<Descriptors>,
    pub(super) counters: Counters,
}

impl ShardThread {
    pub(super) fn start(self) -> io::Result<JoinHandle<RemainingConnections>> {
        Builder::new().name(format!("shard {}", self.index)).spawn(move || match local_runtime() {
            Ok(runtime) => runtime.block_on(self.run()),
            Err(error) => {
                tracing::error!(%error, "a shard (a thread that holds client connections) could not start");
                RemainingConnections::default()
            }
        })
    }

    pub(super) async fn run(self) -> RemainingConnections {
        let membership = self.hub.membership(self.index);
        let inbox = self.hub.inbox(self.index);
        let mut current = self.current;
        let ReplaceableParts { routes, settings, notifier } = current.borrow_and_update().clone();
        let notifier: SharedNotifier = Rc::new(RefCell::new(notifier));
        let ShardSettings { front, hold, session, origin, shard, drain: _ } = (*settings).clone();
        let admission =
            Rc::new(Admission::new(Arc::clone(&self.hub), Arc::clone(&self.counters.shard), shard.max_channels));
        let books = ShardLedger { shard: self.index, membership: membership.clone(), notifier: Rc::clone(&notifier) };
        let shard = Shard::new(shard, inbox, Box::new(books), self.counters.shard);
        let descriptors = self.descriptors;
        let origin =
            Rc::new(OriginClient::new(origin, routes, self.shield, Arc::clone(&descriptors), self.counters.origin));
        let ahead = ReadAheadBudget::new(front.body_buffers);
        let front = Rc::new(Front {
            settings: RefCell::new(front),
            origin: Rc::clone(&origin),
            holds: Holds::new(hold, Rc::clone(&shard), membership, Rc::clone(&admission), Rc::clone(&origin)),
            sessions: Sessions::new(session, Rc::clone(&shard), Rc::clone(&admission), origin, self.counters.session),
            admission,
            drain: Rc::new(Drain::default()),
            gate: Gate::default(),
            idle: Rc::default(),
            parting: Cell::new(0),
            descriptors,
            ahead,
            metrics: self.counters.front,
        });
        let deliveries = Rc::clone(&shard);
        let deliver = spawn_local(async move { deliveries.deliver().await });
        spawn_local(async move {
            if deliver.await.is_err_and(|e| e.is_panic()) {
                // A shard that holds clients without delivering items is worse than no shard. The panic itself was
                // printed to standard error already.
                std::process::abort();
            }
        });
        let time = Rc::clone(&shard);
        spawn_local(async move { time.keep_time().await });
        let comments = Rc::clone(&shard);
        spawn_local(async move { comments.keep_event_streams_alive().await });
        let ceiling = Rc::clone(&shard);
        spawn_local(async move { ceiling.keep_ceiling().await });
        spawn_local(Rc::clone(&front.origin).tell_gone());
        let (reloaded, reloaded_shard, mut changes) = (Rc::clone(&front), Rc::clone(&shard), current.clone());
        spawn_local(async move {
            while changes.changed().await.is_ok() {
                let current = changes.borrow_and_update().clone();
                reloaded.origin.reroute(current.routes);
                change_settings(&reloaded, &reloaded_shard, &current.settings);
                change_webhooks(&notifier, &reloaded_shard, current.notifier);
            }
        });
        let gate = Rc::clone(&front);
        spawn_local(async move { gate.gate.watch().await });
        match self.listener.start() {
            Ok(listener) => serve(&front, listener, self.drained).await,
            Err(error) => {
                tracing::error!(%error, "a shard (a thread that holds client connections) cannot listen for clients")
            }
        }
        let settings = Arc::clone(&current.borrow().settings);
        drain(&shard, &front, settings.drain, settings.shard.close_grace).await
    }
}

/// Gives the parts of a shard their new settings.
fn change_settings(front: &Front, shard: &Shard, settings: &ShardSettings) {
    // The drain reads its own setting when it begins.
    let ShardSettings { front: for_front, hold, session, origin, shard: for_shard, drain: _ } = settings.clone();
    front.admission.set_max_channels(for_shard.max_channels);
    front.holds.change_settings(hold);
    front.sessions.change_settings(session);
    front.origin.change_settings(origin);
    front.change_settings(for_front);
    shard.change_settings(for_shard);
}

/// Replaces the webhooks to which a shard reports. A new webhook is told of all connections that the shard holds.
fn change_webhooks(current: &SharedNotifier, shard: &Shard, new: Arc<Notifier>) {
    let added = new.without(&current.borrow());
    if !added.is_idle() {
        shard.each_connection(|profile, channels| {
            added.joined(&profile.route, channels);
            if let Some(user) = &profile.user {
                added.user_joined(&profile.route, user);
            }
        });
    }
    current.replace(new);
}

/// Serves clients until the drain begins. Then connections that are already established are accepted, and the
/// listener is closed.
async fn serve(front: &Rc<Front>, listener: Listener, mut drained: watch::Receiver<bool>) {
    let sign = Rc::clone(&front.drain);
    spawn_local(async move {
        // An error means that the daemon was dropped, which ends the shard as well.
        let _ = drained.wait_for(|drained| *drained).await;
        sign.begin();
    });
    front::serve(front, listener).await;
}

/// Ends the remaining connections, and waits for that at most `spread` plus `grace`. Returns the connections and
/// channels that are left then.
async fn drain(shard: &Rc<Shard>, front: &Front, spread: Duration, grace: Duration) -> RemainingConnections {
    let ending = Rc::clone(shard);
    let ending = spawn_local(async move { ending.drain(spread).await });
    let over = async {
        front.drain.ended().await;
        front.origin.all_done().await;
    };
    if timeout(spread + grace, over).await.is_err() {
        tracing::warn!("draining took too long: the remaining connections are dropped");
    }
    ending.abort();
    let (connections, channels) = shard.population();
    RemainingConnections { connections, channels }
}
