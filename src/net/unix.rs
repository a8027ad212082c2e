//! Unix sockets to listen on.

use socket2::{Domain, SockAddr, Socket, Type};
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// The path of a Unix socket, and the permissions that its file gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixAddress {
    /// The file of the socket.
    pub path: PathBuf,
    /// The permission bits of the file. Every user who may write to the file may connect.
    pub mode: u32,
}

/// The file of a socket that this process listens on. The file is removed when this value is dropped, unless another
/// process has replaced it.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// The device and inode number of the file, by which it is recognized. A file that another process has put at the
    /// same path must not be removed.
    identity: (u64, u64),
}

impl UnixAddress {
    /// Listens on the socket. A file that is left over from a process that no longer listens is replaced.
    ///
    /// # Errors
    /// Another process listens on the socket, there is something other than a socket at the path, or the file cannot
    /// be created.
    pub(super) fn bind(&self) -> io::Result<(UnixListener, SocketFile)> {
        // Without this lock, another gripd that has found the same stale file could remove the new socket of this
        // one.
        let _lock = lock_folder(&self.path)?;
        remove_stale(&self.path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(&self.path)?)?;
        let file = SocketFile::of(&self.path)?;
        // Nobody can connect before `listen` is called, so the permissions that the umask has set until now let
        // nobody in.
        fs::set_permissions(&self.path, Permissions::from_mode(self.mode))?;
        socket.listen(super::listen::BACKLOG)?;
        Ok((socket.into(), file))
    }
}

/// Locks the folder of a file until the returned handle is dropped. The lock only keeps out processes that lock the
/// folder as well.
fn lock_folder(path: &Path) -> io::Result<fs::File> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let handle = fs::File::open(folder)?;
    handle.lock()?;
    Ok(handle)
}

/// Removes the file of a socket on which nobody listens. Returns an error if it is in use or is not a socket.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "the path is taken by a file that is no socket"));
        }
        Ok(_) => {}
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A process that listens but does not accept connections must not block this attempt.
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => Err(io::Error::new(ErrorKind::AddrInUse, "the socket is in use by another process")),
    }
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_path_buf(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            // If the file cannot be removed, the next gripd replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::thread;

    #[test]
    fn of_processes_that_start_at_once_one_has_the_socket() {
        let folder = std::env::temp_dir().join(format!("gripd-listen-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for round in 0..50 {
            let address = UnixAddress { path: folder.join(format!("{round}.sock")), mode: 0o600 };
            if round % 2 == 0 {
                // This leaves the same file as a gripd that was killed.
                drop(UnixListener::bind(&address.path).unwrap());
            }
            let together = Barrier::new(4);
            let bound: Vec<_> = thread::scope(|scope| {
                let start = || {
                    together.wait();
                    address.bind()
                };
                let starting: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
                starting.into_iter().map(|one| one.join().unwrap()).collect()
            });
            assert_eq!(bound.iter().filter(|bound| bound.is_ok()).count(), 1);
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
