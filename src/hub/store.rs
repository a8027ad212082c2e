//! The storage for the decisions of operators on disk.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};

/// The number of lines in the journal beyond which all files are written anew. Reading this many lines takes
/// milliseconds.
const MAX_JOURNAL: usize = 10_000;
/// The number of bytes in the journal beyond which all files are written anew. When gripd starts, the whole journal
/// is in memory at once.
const MAX_JOURNAL_BYTES: usize = 16 << 20;

/// A folder that holds small files, each written as a whole, and a journal. The journal makes a single decision
/// cheap: it costs one more line, even if there are thousands of decisions. Without a folder, nothing is stored.
#[derive(Debug)]
pub(super) struct Store {
    folder: Option<PathBuf>,
    /// The name of the file that is the journal.
    journal: &'static str,
    pending: Mutex<PendingChanges>,
    changed: Notify,
    /// The result of the last write, for those who wait for their change to be on disk.
    written: watch::Sender<LastWrite>,
}

/// The changes that are still to be written.
#[derive(Debug, Default)]
struct PendingChanges {
    /// The number of changes since the start, including those that are written.
    changes: u64,
    /// Whether all files are to be written. They contain everything, so the journal is emptied after that.
    whole: bool,
    /// The lines that are to be added to the journal.
    lines: Vec<String>,
}

impl PendingChanges {
    /// Takes everything that is to be written. Returns the number of the last change, whether all files are to be
    /// written, and the lines for the journal.
    fn take(&mut self) -> (u64, bool, Vec<String>) {
        (self.changes, std::mem::take(&mut self.whole), std::mem::take(&mut self.lines))
    }
}

/// The result of the last write: the number of the last change that it included, and the reason if it failed.
#[derive(Clone, Debug, Default)]
struct LastWrite {
    changes: u64,
    error: Option<String>,
}

impl Store {
    pub(super) fn new(folder: Option<PathBuf>, journal: &'static str) -> Self {
        Self {
            folder,
            journal,
            pending: Mutex::default(),
            changed: Notify::new(),
            written: watch::channel(LastWrite::default()).0,
        }
    }

    /// Reads a file of the folder, which is created if it is missing. Returns `None` if there is no such file, or no
    /// folder is configured.
    pub(super) fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let wrong = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", folder.display()));
        std::fs::create_dir_all(folder).map_err(wrong)?;
        match std::fs::read(folder.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(wrong(error)),
        }
    }

    /// Reads the lines of the journal. A last line without a newline was not written completely. It is left out,
    /// because nobody was told that it was stored.
    pub(super) fn read_journal(&self) -> io::Result<Vec<Vec<u8>>> {
        let bytes = self.read(self.journal)?.unwrap_or_default();
        if !bytes.is_empty() {
            self.pending().whole = true;
        }
        let lines = bytes.split_inclusive(|byte| *byte == b'\n');
        Ok(lines.filter_map(|line| line.strip_suffix(b"\n")).map(<[u8]>::to_vec).collect())
    }

    /// Notes that the content of the files has changed, so that all files are written.
    pub(super) fn change(&self) {
        let mut pending = self.pending();
        pending.whole = true;
        pending.changes += 1;
        drop(pending);
        self.changed.notify_one();
    }

    /// Adds a line to the journal. Applying the line again must have no effect if the files already contain its
    /// change. The caller must hold one lock for both its change and this call, so that the lines are in the order
    /// of the changes.
    pub(super) fn record(&self, line: impl FnOnce() -> Option<String>) {
        if self.folder.is_some() {
            let mut pending = self.pending();
            pending.lines.extend(line());
            pending.changes += 1;
            drop(pending);
            self.changed.notify_one();
        }
    }

    fn pending(&self) -> MutexGuard<'_, PendingChanges> {
        // No code panics in the middle of a change to this state, so it is consistent even if the lock is poisoned.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all changes made so far are on disk. Returns at once if no folder is configured.
    ///
    /// # Errors
    /// The changes could not be written. The error says why.
    pub(super) async fn wait_until_written(&self) -> Result<(), String> {
        if self.folder.is_none() {
            return Ok(());
        }
        let changes = self.pending().changes;
        let mut written = self.written.subscribe();
        // The channel cannot be closed, because `self` owns its sender.
        match written.wait_for(|written| written.changes >= changes).await {
            Ok(written) => written.error.clone().map_or(Ok(()), Err),
            Err(_) => Ok(()),
        }
    }

    /// Writes changes to disk, and never returns. It adds lines to the journal, or it writes all files and then
    /// empties the journal. `files` returns the names and contents of all files.
    pub(super) async fn keep(&self, files: impl Fn() -> Vec<(&'static str, String)>) {
        let (mut length, mut bytes) = (0, 0);
        loop {
            self.changed.notified().await;
            let Some(folder) = self.folder.clone() else { continue };
            let (changes, whole, lines) = self.pending().take();
            if !whole && lines.is_empty() {
                // An earlier write already included this change.
                continue;
            }
            length += lines.len();
            bytes += lines.iter().map(String::len).sum::<usize>();
            let journal = folder.join(self.journal);
            let files = (whole || length > MAX_JOURNAL || bytes > MAX_JOURNAL_BYTES).then(&files);
            if files.is_some() {
                (length, bytes) = (0, 0);
            }
            let write = move || match files {
                None => append(&journal, &lines),
                Some(files) => {
                    files.iter().try_for_each(|(name, text)| replace(&folder.join(name), text))?;
                    clear(&journal)
                }
            };
            let done = tokio::task::spawn_blocking(write).await.unwrap_or_else(|error| Err(io::Error::other(error)));
            let error = done.err().map(|error| format!("state_dir cannot be written: {error}"));
            if let Some(error) = &error {
                tracing::error!(error, "denials and changes to allowed channels will be lost when gripd stops");
                // The journal may now end in half a line, so the next write replaces it.
                self.pending().whole = true;
            }
            self.written.send_replace(LastWrite { changes, error });
        }
    }
}

/// Adds lines to a journal, and waits until they are on disk.
fn append(path: &Path, lines: &[String]) -> io::Result<()> {
    let is_new = !path.exists();
    let mut file = File::options().append(true).create(true).mode(0o600).open(path)?;
    let text: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
    file.write_all(text.as_bytes())?;
    file.sync_data()?;
    if is_new { sync_folder(path) } else { Ok(()) }
}

/// Waits until the directory entry of a new file is on disk as well.
fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Empties a journal, if there is one.
fn clear(path: &Path) -> io::Result<()> {
    match File::options().write(true).truncate(true).open(path) {
        Ok(file) => file.sync_data(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Replaces the content of a file. The file is complete at any time, with either its old or its new content.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let fresh = path.with_extension("new");
    // The list of denials is private, so only the user that runs gripd may read the file.
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    sync_folder(path)
}
