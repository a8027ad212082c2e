//! The parts of a daemon that can be replaced while it runs: the routes, the settings of the shards, and the webhooks.

use crate::config::Config;
use crate::notify::Notifier;
use crate::route::RouteTable;
use crate::{front, hold, origin, session, shard};
use std::sync::Arc;
use std::time::Duration;

/// The routes, settings and webhooks in use.
#[derive(Clone, Debug)]
pub(super) struct ReplaceableParts {
    pub(super) routes: Arc<RouteTable>,
    pub(super) settings: Arc<ShardSettings>,
    pub(super) notifier: Arc<Notifier>,
}

/// The settings of the parts of a shard.
#[derive(Clone, Debug)]
pub(super) struct ShardSettings {
    pub(super) front: front::Settings,
    pub(super) hold: hold::Settings,
    pub(super) session: session::Settings,
    pub(super) origin: origin::Settings,
    pub(super) shard: shard::Settings,
    /// The time over which a drain spreads the ends of streams and WebSockets.
    pub(super) drain: Duration,
}

impl ShardSettings {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            front: config.front.clone(),
            hold: config.hold,
            session: config.session,
            origin: config.origin.clone(),
            shard: config.shard.clone(),
            drain: config.drain,
        }
    }
}
