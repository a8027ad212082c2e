//! Routes that change while gripd runs.

use super::args::Args;
use crate::config::Config;
use crate::daemon::Daemon;
use std::path::PathBuf;
use std::time::SystemTime;

/// Reads the routes again when a file in which they are written has changed, or when it is told to.
pub(super) struct Reload<'a> {
    args: &'a Args,
    files: Vec<PathBuf>,
    /// What the files were like when they were last read.
    seen: Vec<Stamp>,
    /// Whether the demo runs, which has no routes to change.
    is_demo: bool,
}

/// What tells one version of a file from another, as far as that can be told without reading it.
type Stamp = Option<(SystemTime, u64)>;

impl<'a> Reload<'a> {
    pub(super) fn new(args: &'a Args, config: &Config) -> Self {
        let files = config.sources.clone();
        let seen = stamps(&files);
        Self { args, files, seen, is_demo: config.routes.is_none() }
    }

    /// Reads the routes again if a file has changed, or if that is asked for. A wrong file changes nothing.
    pub(super) fn look(&mut self, daemon: &Daemon, asked_for: bool) {
        let now = stamps(&self.files);
        if !asked_for && now == self.seen {
            return;
        }
        self.seen = now;
        match Config::load(self.args.config.as_deref(), &self.args.overrides()) {
            Err(error) => {
                for line in error.to_string().lines() {
                    tracing::error!("{line}");
                }
                tracing::error!("the routes stay as they are");
            }
            Ok(Config { routes: Some(routes), sources, .. }) if !self.is_demo => {
                self.seen = stamps(&sources);
                self.files = sources;
                daemon.reroute(routes);
            }
            Ok(_) => tracing::warn!("the demo has no routes to change: restart gripd"),
        }
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    files.iter().map(stamp).collect()
}
