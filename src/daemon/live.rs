//! What can be replaced while the shards run: the routes, and the settings of their parts.

use crate::config::Config;
use crate::route::RouteTable;
use crate::{front, hold, origin, session, shard};
use std::sync::Arc;
use std::time::Duration;

/// The routes and the settings that all shards use now.
#[derive(Clone, Debug)]
pub(super) struct Live {
    pub(super) routes: Arc<RouteTable>,
    pub(super) settings: Arc<ShardSettings>,
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
