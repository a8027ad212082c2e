//! The reload: replacing the routes and the settings of a running daemon.

use super::live::ShardSettings;
use super::{Daemon, configure, warn_of_ignored};
use crate::config::{Config, SettingChanges};
use crate::route::RouteTable;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

impl Daemon {
    /// Replaces the routes for requests that come from now on. Connections that are held already stay as they are.
    pub fn reroute(&self, routes: Arc<RouteTable>) {
        if self.live.borrow().routes == routes {
            return;
        }
        tracing::info!(routes = routes.routes().count(), "the routes have changed");
        warn_of_ignored(&routes);
        configure(&self.hub, &routes);
        self.live.send_modify(|live| live.routes = routes);
    }

    /// Replaces the routes and all settings that can be changed while gripd runs. Logs the names of the changed
    /// settings, and of those that need a restart.
    pub fn reload(&self, mut config: Config) {
        // The written settings are locked until the end, so that reloads do not mix.
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = written.changes(&config.written);
        let concerns_webhooks = changes.concern_webhooks();
        let SettingChanges { at_once, at_start } = changes;
        if !at_once.is_empty() {
            // The demo's own webhook is in no configuration.
            config.notify.hooks.extend(self.demo_webhook.clone());
            let settings = Arc::new(ShardSettings::of(&config));
            self.live.send_modify(|live| {
                live.settings = settings;
                if concerns_webhooks {
                    live.notifier = live.notifier.reload(config.notify, &self.webhook_metrics);
                }
            });
            config.control.access.admit_demo(self.demo_secret.as_deref());
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
    pub fn longest_drain(&self) -> Duration {
        let settings = &self.live.borrow().settings;
        settings.drain + settings.shard.close_grace
    }
}
