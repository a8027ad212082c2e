//! Reloading the routes while gripd runs.

use super::args::ConfigSource;
use crate::config::Config;
use crate::daemon::Daemon;
use crate::route::RouteTable;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A reloader of routes. It reads the routes again when one of their files has changed, and when a signal asks for
/// it.
pub(super) struct RouteReload<'a> {
    source: &'a ConfigSource,
    files: Vec<PathBuf>,
    /// The state of the files just before they were last read.
    read: Vec<FileStamp>,
    /// The state of the files when they were last looked at.
    seen: Vec<FileStamp>,
    /// The routes in use; `None`: the demo runs, which has no routes to change.
    routes: Option<Arc<RouteTable>>,
}

/// The properties that tell one version of a file from another without reading it, or `None` if they cannot be read.
#[derive(Debug, PartialEq, Eq)]
struct FileStamp(Option<[i64; 6]>);

impl FileStamp {
    fn of(path: &Path) -> Self {
        let Ok(file) = std::fs::metadata(path) else { return Self(None) };
        let [inode, size] = [file.ino(), file.size()].map(u64::cast_signed);
        Self(Some([inode, size, file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()]))
    }
}

/// The occasion on which the files are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReloadOccasion {
    /// The files are checked at regular intervals.
    Routine,
    /// A SIGHUP has come.
    Signal,
}

impl<'a> RouteReload<'a> {
    /// Returns a reloader that watches the files of a configuration. The configuration must be read after this.
    pub(super) fn new(source: &'a ConfigSource) -> Self {
        let files: Vec<PathBuf> = source.file.iter().cloned().collect();
        let read = stamps(&files);
        Self { source, read, files, seen: Vec::new(), routes: None }
    }

    /// Notes the configuration with which gripd has started: its routes, and the files to watch.
    pub(super) fn started(&mut self, config: &Config) {
        // The files that the configuration names have no stamps from before they were read. They count as changed, so
        // the next checks read the routes once more.
        self.routes.clone_from(&config.routes);
        self.files.clone_from(&config.sources);
    }

    /// Reads the routes again if a file has changed since it was last read, or if a signal asks for it. A changed
    /// file is read only if it was the same at the last check, so that it is not read half written. If a file is
    /// wrong, the current routes remain in effect.
    pub(super) fn look(&mut self, daemon: &Daemon, occasion: ReloadOccasion) {
        let now = stamps(&self.files);
        let settled = now == self.seen;
        let changed = now != self.read && self.routes.is_some();
        self.seen = stamps(&self.files);
        if occasion == ReloadOccasion::Signal || (changed && settled) {
            self.read = now;
            self.read_again(daemon, occasion);
        }
    }

    fn read_again(&mut self, daemon: &Daemon, occasion: ReloadOccasion) {
        match self.source.load() {
            Err(error) => {
                for line in error.to_string().lines() {
                    tracing::error!("{line}");
                }
                tracing::error!("the reload failed; the current routes remain in effect");
            }
            Ok(Config { routes: Some(routes), sources, .. }) if self.routes.is_some() => {
                if sources != self.files {
                    self.read = stamps(&sources);
                    self.files = sources;
                }
                if self.routes.as_ref() != Some(&routes) {
                    self.routes = Some(Arc::clone(&routes));
                    daemon.reroute(routes);
                }
            }
            Ok(_) if occasion == ReloadOccasion::Signal => {
                tracing::warn!("the demo has no routes to reload; restart gripd to change its settings")
            }
            Ok(_) => {}
        }
    }
}

fn stamps(files: &[PathBuf]) -> Vec<FileStamp> {
    files.iter().map(|path| FileStamp::of(path)).collect()
}
