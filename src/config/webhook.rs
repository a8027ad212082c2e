//! A webhook as a table of the configuration file.

use super::file::ConfigFile;
use super::file_path::folder;
use super::places::SettingPlaces;
use super::value::{Seconds, WaitTime};
use super::{ConfigError, keys};
use crate::grip::signature::Signer;
use crate::notify::{EventKinds, Settings, Webhook, WebhookUrl};
use crate::route::RouteTable;
use serde::Deserialize;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WebhookTable {
    url: String,
    route: Option<String>,
    events: Option<Vec<String>>,
    #[serde(default)]
    channels: Vec<String>,
    users: Option<bool>,
    sig_iss: Option<String>,
    sig_key: Option<String>,
    grace: Option<Seconds>,
    batch: Option<NonZeroUsize>,
    batch_wait: Option<Seconds>,
    queue: Option<NonZeroUsize>,
    timeout: Option<WaitTime>,
}

/// Returns the webhooks of a file. `routes` are the routes that a webhook may name. All errors are added to `error`.
pub(super) fn load(
    path: Option<&Path>,
    file: &ConfigFile,
    routes: Option<&RouteTable>,
    places: &SettingPlaces,
    error: &mut ConfigError,
) -> Settings {
    let mut settings = Settings::default();
    for (index, table) in file.webhook.iter().enumerate() {
        let mut wrong =
            |why: String| error.push(places.of_entry("webhook", index), format!("[[webhook]] {}: {why}", index + 1));
        settings.hooks.extend(table.hook(file, folder(path), routes, &mut wrong));
    }
    settings
}

impl WebhookTable {
    /// Returns the webhook. `wrong` is called for each error. Returns `None` if the URL has one.
    fn hook(
        &self,
        file: &ConfigFile,
        folder: &Path,
        routes: Option<&RouteTable>,
        wrong: &mut dyn FnMut(String),
    ) -> Option<Webhook> {
        let url = WebhookUrl::parse(&self.url).map_err(|error| wrong(format!("url: {error}"))).ok();
        if let Some(name) = &self.route {
            // If a route has an error, it is not known which routes there are.
            let known = routes.is_none_or(|routes| routes.routes().any(|route| *route.name == **name));
            if !known {
                wrong(format!("route: there is no route '{name}': give a route's id, or its host and path"));
            }
        }
        let events = self.events.as_ref().map(|events| EventKinds::parse(events.iter().map(String::as_str)));
        let events = events.transpose().map_err(|error| wrong(format!("events: {error}"))).ok().flatten();
        let issuer = self.sig_iss.as_ref().unwrap_or(&file.origin.sig_iss);
        let key = self.sig_key.as_ref().unwrap_or(&file.origin.sig_key);
        let signer = keys::read(key, folder).and_then(|key| Signer::new(issuer, &key));
        let signer = signer.unwrap_or_else(|error| {
            // An error in the key of [origin] is reported there.
            if self.sig_key.is_some() {
                wrong(format!("sig_key: {error}"));
            }
            None
        });
        let mut hook = Webhook::new(url?);
        hook.route.clone_from(&self.route);
        hook.events = events.unwrap_or(hook.events);
        hook.channels = self.channels.iter().map(|glob| glob.as_str().into()).collect();
        hook.signer = signer.map(Arc::new);
        hook.users = self.users.unwrap_or(hook.users);
        hook.grace = self.grace.map_or(hook.grace, |grace| grace.0);
        hook.batch = self.batch.map_or(hook.batch, NonZeroUsize::get);
        hook.batch_wait = self.batch_wait.map_or(hook.batch_wait, |wait| wait.0);
        hook.queue = self.queue.map_or(hook.queue, NonZeroUsize::get);
        hook.timeout = self.timeout.map_or(hook.timeout, |timeout| timeout.0);
        Some(hook)
    }
}
