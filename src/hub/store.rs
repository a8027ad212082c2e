//! What operators decide, on disk.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::sync::{Notify, watch};

/// A folder of small files, each written whole. Without a folder nothing is kept.
#[derive(Debug)]
pub(super) struct Store {
    folder: Option<PathBuf>,
    /// How often something has changed,
    changes: AtomicU64,
    changed: Notify,
    /// and up to which change it was written, or why it could not be.
    written: watch::Sender<Written>,
}

/// What was written last.
#[derive(Clone, Debug, Default)]
struct Written {
    changes: u64,
    error: Option<String>,
}

impl Store {
    pub(super) fn new(folder: Option<PathBuf>) -> Self {
        Self {
            folder,
            changes: AtomicU64::new(0),
            changed: Notify::new(),
            written: watch::channel(Written::default()).0,
        }
    }

    /// Reads a file. `None`: it is not there.
    pub(super) fn read(&self, name: &str) -> io::Result<Option<String>> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let wrong = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", folder.display()));
        std::fs::create_dir_all(folder).map_err(wrong)?;
        match std::fs::read_to_string(folder.join(name)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(wrong(error)),
        }
    }

    /// Says that something has changed.
    pub(super) fn change(&self) {
        self.changes.fetch_add(1, Relaxed);
        self.changed.notify_one();
    }

    /// Waits until what has changed so far is on disk.
    ///
    /// # Errors
    /// Why it is not.
    pub(super) async fn kept(&self) -> Result<(), String> {
        if self.folder.is_none() {
            return Ok(());
        }
        let changes = self.changes.load(Relaxed);
        let mut written = self.written.subscribe();
        // It cannot be closed: this is the sender.
        match written.wait_for(|written| written.changes >= changes).await {
            Ok(written) => written.error.clone().map_or(Ok(()), Err),
            Err(_) => Ok(()),
        }
    }

    /// Writes what `files` says whenever something has changed, for ever. `files` yields names and contents.
    pub(super) async fn keep(&self, files: impl Fn() -> Vec<(&'static str, String)>) {
        loop {
            self.changed.notified().await;
            let Some(folder) = self.folder.clone() else { continue };
            let (changes, files) = (self.changes.load(Relaxed), files());
            let write = move || files.iter().try_for_each(|(name, text)| replace(&folder.join(name), text));
            let done = tokio::task::spawn_blocking(write).await.unwrap_or_else(|error| Err(io::Error::other(error)));
            let error = done.err().map(|error| format!("state_dir cannot be written: {error}"));
            if let Some(error) = &error {
                tracing::error!(error, "what was decided will be lost when gripd ends");
            }
            self.written.send_replace(Written { changes, error });
        }
    }
}

/// Puts a file in the place of another, so that there is always a whole one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let fresh = path.with_extension("new");
    // The list of those who are kept out concerns nobody else on the machine.
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    // So that the new name survives as well.
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
