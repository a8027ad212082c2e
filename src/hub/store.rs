//! The decisions of operators on disk.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};

/// Lines of the journal after which all files are written anew. Reading so many takes milliseconds.
const MAX_JOURNAL: usize = 10_000;
/// Bytes of the journal after which all files are written anew. At the start all of it is in memory at once.
const MAX_JOURNAL_BYTES: usize = 16 << 20;

/// A folder of small files, each written whole, and of a journal: a decision among thousands is one line more of it.
/// Without a folder nothing is kept.
#[derive(Debug)]
pub(super) struct Store {
    folder: Option<PathBuf>,
    /// The name of the journal.
    journal: &'static str,
    pending: Mutex<Pending>,
    changed: Notify,
    /// Up to which change everything was written, or why it could not be.
    written: watch::Sender<Written>,
}

/// Changes that are to be written.
#[derive(Debug, Default)]
struct Pending {
    /// The number of changes since the start, those that are written included.
    changes: u64,
    /// Whether all files are to be written, after which nothing of the journal is needed.
    whole: bool,
    /// Lines that are to be added to the journal.
    lines: Vec<String>,
}

impl Pending {
    /// Takes what is to be written, and says up to which change it goes.
    fn take(&mut self) -> (u64, bool, Vec<String>) {
        (self.changes, std::mem::take(&mut self.whole), std::mem::take(&mut self.lines))
    }
}

/// The last write: the change up to which it went, and the reason if it failed.
#[derive(Clone, Debug, Default)]
struct Written {
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
            written: watch::channel(Written::default()).0,
        }
    }

    /// Reads a file. `None`: it is not there.
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

    /// Reads the lines of the journal. One that was not written to its end is left out: nobody was told that it is kept.
    pub(super) fn read_journal(&self) -> io::Result<Vec<Vec<u8>>> {
        let bytes = self.read(self.journal)?.unwrap_or_default();
        if !bytes.is_empty() {
            self.pending().whole = true;
        }
        let lines = bytes.split_inclusive(|byte| *byte == b'\n');
        Ok(lines.filter_map(|line| line.strip_suffix(b"\n")).map(<[u8]>::to_vec).collect())
    }

    /// Says that something has changed for which a file is to be written.
    pub(super) fn change(&self) {
        let mut pending = self.pending();
        pending.whole = true;
        pending.changes += 1;
        drop(pending);
        self.changed.notify_one();
    }

    /// Adds a line to the journal. Carrying it out again must change nothing if the files already contain its change. The
    /// caller keeps the lines in the order of the changes, by a lock that it holds for both.
    pub(super) fn record(&self, line: impl FnOnce() -> Option<String>) {
        if self.folder.is_some() {
            let mut pending = self.pending();
            pending.lines.extend(line());
            pending.changes += 1;
            drop(pending);
            self.changed.notify_one();
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        // Nothing in here panics halfway, so a poisoned state is still a whole one.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until what has changed so far is on disk.
    ///
    /// # Errors
    /// Why it is not.
    pub(super) async fn kept(&self) -> Result<(), String> {
        if self.folder.is_none() {
            return Ok(());
        }
        let changes = self.pending().changes;
        let mut written = self.written.subscribe();
        // It cannot be closed: this is the sender.
        match written.wait_for(|written| written.changes >= changes).await {
            Ok(written) => written.error.clone().map_or(Ok(()), Err),
            Err(_) => Ok(()),
        }
    }

    /// Writes what has changed, forever: lines of the journal, or what `files` says, which are names and contents.
    pub(super) async fn keep(&self, files: impl Fn() -> Vec<(&'static str, String)>) {
        let (mut length, mut bytes) = (0, 0);
        loop {
            self.changed.notified().await;
            let Some(folder) = self.folder.clone() else { continue };
            let (changes, whole, lines) = self.pending().take();
            if !whole && lines.is_empty() {
                // It was written with what came before it.
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
                // Half a line may stand at the end of the journal.
                self.pending().whole = true;
            }
            self.written.send_replace(Written { changes, error });
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

/// Waits until the name of a new file is on disk as well.
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

/// Replaces one file by another, so that there is always a whole one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let fresh = path.with_extension("new");
    // The list of those who are kept out concerns nobody else on the machine.
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    sync_folder(path)
}
