//! Reloading the configuration while gripd runs.

use super::args::ConfigSource;
use crate::config::Config;
use crate::daemon::Daemon;
use crate::telemetry::log::Log;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A reloader of the configuration. It reads the routes again when one of their files has changed, and everything when
/// a signal asks for it.
pub(super) struct Reload<'a> {
    source: &'a ConfigSource,
    files: Vec<PathBuf>,
    /// The state of the files just before they were last read.
    read: Vec<FileStamp>,
    /// The state of the files when they were last looked at.
    seen: Vec<FileStamp>,
    /// Whether there are routes, which the demo has not.
    has_routes: bool,
    /// The number of shards that run.
    shards: usize,
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

impl<'a> Reload<'a> {
    /// Returns a reloader that watches the files of a configuration. The configuration must be read after this.
    pub(super) fn new(source: &'a ConfigSource) -> Self {
        let files: Vec<PathBuf> = source.file.iter().cloned().collect();
        let read = stamps(&files);
        Self { source, read, files, seen: Vec::new(), has_routes: false, shards: 1 }
    }

    /// Notes the configuration with which gripd has started, and the files to watch.
    pub(super) fn started(&mut self, config: &Config) {
        // The files that the configuration names have no stamps from before they were read. They count as changed, so
        // the next checks read the routes once more.
        (self.has_routes, self.shards) = (config.routes.is_some(), config.shards);
        self.files.clone_from(&config.sources);
    }

    /// Reads the configuration again if a file has changed since it was last read, or if a signal asks for it. A
    /// changed file is read only if it was the same at the last check, so that it is not read half written. Only the
    /// routes are used then, because an operator may still be editing the settings. If a file is wrong, nothing
    /// changes.
    pub(super) fn look(&mut self, daemon: &Daemon, log: &Log, occasion: ReloadOccasion) {
        let now = stamps(&self.files);
        let settled = now == self.seen;
        let changed = now != self.read && self.has_routes;
        self.seen = stamps(&self.files);
        if occasion == ReloadOccasion::Signal || (changed && settled) {
            self.read = now;
            self.read_again(daemon, log, occasion);
        }
    }

    fn read_again(&mut self, daemon: &Daemon, log: &Log, occasion: ReloadOccasion) {
        let config = match self.source.load_again(self.shards) {
            Ok(config) => config,
            Err(error) => {
                for line in error.to_string().lines() {
                    tracing::error!("{line}");
                }
                tracing::error!("the reload failed; the current configuration remains in effect");
                return;
            }
        };
        if config.sources != self.files {
            self.read = stamps(&config.sources);
            self.files.clone_from(&config.sources);
        }
        match occasion {
            ReloadOccasion::Signal => {
                log.set_level(config.log);
                daemon.reload(config);
            }
            ReloadOccasion::Routine => {
                if let Some(routes) = config.routes {
                    daemon.reroute(routes);
                }
            }
        }
    }
}

fn stamps(files: &[PathBuf]) -> Vec<FileStamp> {
    files.iter().map(|path| FileStamp::of(path)).collect()
}
