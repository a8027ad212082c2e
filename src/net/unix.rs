//! Unix sockets to listen on.

use socket2::{Domain, SockAddr, Socket, Type};
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// The place of a Unix socket, and who may connect to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixAddress {
    /// The file of the socket.
    pub path: PathBuf,
    /// The permission bits of the file. Whoever may write to the file may connect.
    pub mode: u32,
}

/// The file of a socket that this process listens on. It is removed when this is dropped.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode. A file that another process has put in its place is not ours to remove.
    identity: (u64, u64),
}

impl UnixAddress {
    /// Listens there. The file of a process that no longer listens is replaced.
    ///
    /// # Errors
    /// Somebody listens there, something other than a socket is there, or the file cannot be made.
    pub(super) fn bind(&self) -> io::Result<(UnixListener, SocketFile)> {
        // Between the look at a stale file and the new socket no other gripd may do the same: it would remove ours.
        let _lock = lock_folder(&self.path)?;
        remove_stale(&self.path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(&self.path)?)?;
        let file = SocketFile::of(&self.path)?;
        // Nobody can connect before `listen`, so nobody gets in by the mode that the umask left.
        fs::set_permissions(&self.path, Permissions::from_mode(self.mode))?;
        socket.listen(super::listen::BACKLOG)?;
        Ok((socket.into(), file))
    }
}

/// Locks the folder of a file against other processes that lock it, until the returned handle is dropped.
fn lock_folder(path: &Path) -> io::Result<fs::File> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let handle = fs::File::open(folder)?;
    handle.lock()?;
    Ok(handle)
}

/// Removes the file of a socket on which nobody listens.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "a file is there that is no socket"));
        }
        Ok(_) => {}
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // One that listens and accepts nothing must not keep us waiting.
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => Err(io::Error::new(ErrorKind::AddrInUse, "it is in use by another process")),
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
            // A file that cannot be removed is stale from now on, and will be replaced.
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
                // The file of a gripd that was killed.
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
