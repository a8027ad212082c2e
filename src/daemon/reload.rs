//! The reload: replacing the routes and the settings of a running daemon.

use super::demo_origin::DemoOrigin;
use super::replaceable_parts::{ReplaceableParts, ShardSettings};
use super::{configure, warn_of_ignored};
use crate::config::{Config, SettingChanges, WrittenSettings};
use crate::control::ControlApi;
use crate::hub::Hub;
use crate::notify;
use crate::origin::Shield;
use crate::route::RouteTable;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// The parts of a daemon whose settings can be replaced while it runs.
#[derive(Debug)]
pub(super) struct Reloader {
    /// The routes, settings and webhooks in use, from which the threads take theirs.
    pub(super) in_use: watch::Sender<ReplaceableParts>,
    /// The settings in use, as they are written.
    pub(super) written: Mutex<WrittenSettings>,
    pub(super) control: Arc<ControlApi>,
    pub(super) hub: Arc<Hub>,
    pub(super) shield: Arc<Shield>,
    pub(super) webhook_metrics: Arc<notify::Metrics>,
    /// The demo, if it runs.
    pub(super) demo: Option<DemoOrigin>,
}

impl Reloader {
    /// Replaces the routes for requests that come from now on. Connections that are held already stay as they are.
    pub(super) fn reroute(&self, routes: Arc<RouteTable>) {
        if self.in_use.borrow().routes == routes {
            return;
        }
        tracing::info!(routes = routes.routes().count(), "the routes have changed");
        warn_of_ignored(&routes);
        configure(&self.hub, &routes);
        self.in_use.send_modify(|parts| parts.routes = routes);
    }

    /// Replaces the routes and all settings that can be changed while gripd runs. Logs the names of the changed
    /// settings, and of those that need a restart.
    pub(super) fn reload(&self, mut config: Config) {
        // The written settings are locked until the end, so that reloads do not mix.
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = written.changes(&config.written);
        let concerns_webhooks = changes.concern_webhooks();
        let SettingChanges { at_once, at_start } = changes;
        if !at_once.is_empty() {
            if let Some(demo) = &self.demo {
                demo.admit(&mut config);
            }
            let settings = Arc::new(ShardSettings::of(&config));
            self.in_use.send_modify(|parts| {
                parts.settings = settings;
                if concerns_webhooks {
                    parts.notifier = parts.notifier.reload(config.notify, &self.webhook_metrics);
                }
            });
            self.control.change_settings(config.control);
            self.hub.change_settings(&config.hub);
            self.shield.set_limit(config.own_requests);
            tracing::info!(changed = at_once.join(", "), "the settings have changed");
        }
        if !at_start.is_empty() {
            tracing::warn!("needs a restart: {}", at_start.join(", "));
        }
        written.take_over(config.written);
        // The demo has a route of its own.
        if let Some(routes) = config.routes {
            self.reroute(routes);
        }
    }

    /// Returns the time that a drain may take: the time over which streams are ended, and the grace of the last one.
    pub(super) fn longest_drain(&self) -> Duration {
        let settings = &self.in_use.borrow().settings;
        settings.drain + settings.shard.close_grace
    }
}
