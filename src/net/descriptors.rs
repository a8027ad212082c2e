//! The file descriptors of the process, and how many of them are kept back from clients.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The number of file descriptors that the process may have, and how many it uses for each purpose.
///
/// Clients could use up all of them. Some are therefore kept back for connections to origins, without which no client
/// could be served, and some for the control port, so that a client that floods gripd can still be kicked.
#[derive(Debug)]
pub struct Descriptors {
    limit: u64,
    for_origins: u64,
    for_control: u64,
    /// The number of descriptors that are not for connections: those of listeners, runtimes, the log and the like.
    others: u64,
    clients: AtomicU64,
    origins: AtomicU64,
    control: AtomicU64,
}

/// A file descriptor that counts as in use until this value is dropped.
#[derive(Debug)]
pub struct DescriptorGuard {
    descriptors: Arc<Descriptors>,
    of: fn(&Descriptors) -> &AtomicU64,
}

/// The number of descriptors that a thread needs for its runtime.
const OF_RUNTIME: u64 = 4;
/// The number of descriptors for files and sockets that are open only briefly, as when gripd reads a file again or
/// asks a name server.
const OF_MOMENT: u64 = 4;

impl Descriptors {
    /// Creates the descriptor budget of a process that may open `limit` descriptors, `others` of which are not used for
    /// connections.
    pub fn new(limit: u64, others: u64) -> Self {
        Self {
            limit,
            for_origins: (limit / 16).clamp(8, 256),
            for_control: (limit / 16).clamp(12, 64),
            others,
            clients: AtomicU64::new(0),
            origins: AtomicU64::new(0),
            control: AtomicU64::new(0),
        }
    }

    /// Returns the descriptor budget of this process, based on its limit of open files and the descriptors that it
    /// has open now. Those that `threads` threads will need for their runtimes are added, so the threads must not
    /// have started yet.
    pub fn of_process(threads: usize) -> Arc<Self> {
        let limit = rlimit::Resource::NOFILE.get_soft().unwrap_or(u64::MAX);
        let in_use = in_use().unwrap_or_default();
        Arc::new(Self::new(limit, in_use + OF_RUNTIME * threads as u64 + OF_MOMENT))
    }

    /// Counts one more connection of a client, even if there is no descriptor left for it.
    pub fn client_came(&self) {
        self.clients.fetch_add(1, Relaxed);
    }

    /// Counts one connection of a client less.
    pub fn client_went(&self) {
        self.clients.fetch_sub(1, Relaxed);
    }

    /// Returns the counter of clients that are connected.
    pub const fn clients(&self) -> &AtomicU64 {
        &self.clients
    }

    /// Counts a connection to an origin until the returned value is dropped. Returns `None` if no descriptor is left
    /// for it besides those that are kept back for the control API.
    pub fn origin(self: &Arc<Self>) -> Option<DescriptorGuard> {
        let of: fn(&Self) -> &AtomicU64 = |descriptors| &descriptors.origins;
        let counted = DescriptorGuard::new(self, of);
        let control = self.control.load(Relaxed).max(self.for_control);
        (self.connections() + control <= self.limit).then_some(counted)
    }

    /// Counts a connection to the control API until the returned value is dropped.
    pub fn control(self: &Arc<Self>) -> DescriptorGuard {
        DescriptorGuard::new(self, |descriptors| &descriptors.control)
    }

    /// Returns whether there is a descriptor for one more client, not counting those that are kept back.
    pub fn has_room_for_client(&self) -> bool {
        let origins = self.origins.load(Relaxed).max(self.for_origins);
        let control = self.control.load(Relaxed).max(self.for_control);
        self.others + self.clients.load(Relaxed) + origins + control < self.limit
    }

    /// Returns whether there is a descriptor for one more connection to the control API.
    pub fn has_room_for_control(&self) -> bool {
        self.connections() + self.control.load(Relaxed) < self.limit
    }

    /// Returns whether connections to origins use more descriptors than are kept back for them.
    pub fn origins_exceed_reserve(&self) -> bool {
        self.origins.load(Relaxed) > self.for_origins
    }

    /// Returns the number of descriptors that the process may have.
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// Returns the number of descriptors that are kept back from clients.
    pub const fn reserved(&self) -> u64 {
        self.for_origins + self.for_control
    }

    /// Returns the number of descriptors in use. If the system does not tell it, this is the number that gripd has
    /// counted.
    pub fn in_use(&self) -> u64 {
        in_use().unwrap_or_else(|| self.connections() + self.control.load(Relaxed))
    }

    /// Returns the number of descriptors in use, as far as gripd has counted, except those of the control API.
    fn connections(&self) -> u64 {
        self.others + self.clients.load(Relaxed) + self.origins.load(Relaxed)
    }
}

/// Returns the number of descriptors that this process has open, or `None` if the system does not tell.
fn in_use() -> Option<u64> {
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count();
    // Listing the directory takes a descriptor itself, which is left out.
    u64::try_from(open).ok().map(|open| open.saturating_sub(1))
}

impl DescriptorGuard {
    fn new(descriptors: &Arc<Descriptors>, of: fn(&Descriptors) -> &AtomicU64) -> Self {
        of(descriptors).fetch_add(1, Relaxed);
        Self { descriptors: Arc::clone(descriptors), of }
    }
}

impl Drop for DescriptorGuard {
    fn drop(&mut self) {
        (self.of)(&self.descriptors).fetch_sub(1, Relaxed);
    }
}

/// Returns whether an operation failed because the process or the machine has reached its limit of open files.
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(descriptors: &Descriptors) -> u64 {
        while descriptors.has_room_for_client() {
            descriptors.client_came();
        }
        descriptors.clients().load(Relaxed)
    }

    #[test]
    fn some_are_kept_back() {
        for (limit, clients) in [(64, 14), (1024, 866), (20_000, 19_650)] {
            let descriptors = Arc::new(Descriptors::new(limit, 30));
            assert_eq!(fill(&descriptors), clients, "{limit}");
            let origins: Vec<DescriptorGuard> = std::iter::from_fn(|| descriptors.origin()).collect();
            assert_eq!(origins.len() as u64, (limit / 16).clamp(8, 256), "{limit}");
            let mut control = Vec::new();
            while descriptors.has_room_for_control() {
                control.push(descriptors.control());
            }
            assert_eq!(control.len() as u64, (limit / 16).clamp(12, 64), "{limit}");
        }
    }

    #[test]
    fn what_origins_use_is_no_longer_kept_back() {
        let descriptors = Arc::new(Descriptors::new(64, 30));
        let origins: Vec<DescriptorGuard> = (0..20).filter_map(|_| descriptors.origin()).collect();
        assert_eq!((origins.len(), fill(&descriptors)), (20, 2));
        drop(origins);
        assert_eq!(fill(&descriptors), 14);
    }

    #[test]
    fn those_in_use_are_counted() {
        let descriptors = Descriptors::of_process(0);
        let before = descriptors.in_use();
        let files: Vec<_> = (0..50).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        // The comparison allows for other tests, which open and close files at the same time.
        assert!(descriptors.in_use() + 40 > before + files.len() as u64);
    }
}
