//! Addresses to listen on, and their listeners.

use super::unix::{SocketFile, UnixAddress};
use super::{MemoryAddress, Transport};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// The number of established connections that the kernel keeps for a listener until they are accepted.
pub(super) const BACKLOG: i32 = 4096;
/// The number of bytes that the kernel takes for a connection beyond those that it can send at once
/// (`TCP_NOTSENT_LOWAT`). If it took more, a slow client would look like a fast one, and the bytes would still be
/// sent after a close.
const MAX_UNSENT: u32 = 64 << 10;
/// The time without data after which the kernel checks whether the other side of a connection is still there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(120);
/// The time between two such checks by the kernel, if the other side does not reply.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(30);
/// The permission bits of a Unix socket if none are configured. Every user of the machine may connect, as to a TCP
/// port.
pub const OPEN_MODE: u32 = 0o666;

/// An address to listen on, written as `127.0.0.1:7999` or `unix:/run/gripd/client.sock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The file of a Unix socket.
    Unix(UnixAddress),
    /// An address in memory, for tests. It cannot be configured, because it has no text that could be parsed.
    Memory(MemoryAddress),
}

/// The listeners on one address.
#[derive(Debug)]
pub struct BoundListeners {
    /// The address on which the listeners listen. If port 0 was asked for, this has the port that the kernel has
    /// chosen.
    pub address: ListenAddress,
    /// One listener for each thread that accepts.
    pub listeners: Vec<BoundListener>,
}

/// A listener that can be sent to the thread that accepts from it.
#[derive(Debug)]
pub enum BoundListener {
    /// A listener on a TCP address.
    Tcp(TcpListener),
    /// A listener on a Unix socket, and the file of that socket, which is removed with the last of its listeners. The
    /// file comes before the listener so that it is dropped first: once the socket is closed, its inode number may
    /// belong to another file, which would then be removed by mistake.
    Unix(Arc<SocketFile>, UnixListener),
    /// A listener in memory.
    Memory(MemoryAddress),
}

/// A listener that is registered with the runtime of its thread.
#[derive(Debug)]
pub enum Listener {
    /// A listener on a TCP address.
    Tcp(tokio::net::TcpListener),
    /// A listener on a Unix socket, and the file of that socket. The order matters, as in [`BoundListener::Unix`].
    Unix(Arc<SocketFile>, tokio::net::UnixListener),
    /// A listener in memory.
    Memory(MemoryAddress),
}

impl ListenAddress {
    /// Returns the address if it is a TCP address.
    pub const fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) | Self::Memory(_) => None,
        }
    }

    /// Returns the address with the path of a Unix socket resolved relative to `folder`, unless the path is absolute.
    /// Other addresses are returned unchanged.
    #[must_use]
    pub fn within(self, folder: &Path) -> Self {
        match self {
            Self::Unix(address) => Self::Unix(UnixAddress { path: folder.join(address.path), ..address }),
            Self::Tcp(_) | Self::Memory(_) => self,
        }
    }

    /// Listens on this address with `count` listeners, among which the connections are distributed. `whom` says in
    /// errors for whom gripd listens, such as "clients".
    ///
    /// # Errors
    /// The address cannot be used, for example because another process listens on it. The error names the address and
    /// `whom`.
    pub fn bind(&self, whom: &str, count: usize) -> io::Result<BoundListeners> {
        let bound = match self {
            Self::Tcp(address) => bind_tcp(*address, count),
            Self::Unix(address) => bind_unix(address, count),
            Self::Memory(address) => Ok(bind_memory(address, count)),
        };
        bound.map_err(|error| io::Error::new(error.kind(), format!("cannot listen for {whom} on {self}: {error}")))
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => {
                Err("the path of the Unix socket is missing: give one, such as unix:/run/gripd/client.sock".to_owned())
            }
            Some(path) => Ok(Self::Unix(UnixAddress { path: PathBuf::from(path), mode: OPEN_MODE })),
            None => parse_address(text, Ipv4Addr::UNSPECIFIED)
                .map(Self::Tcp)
                .map_err(|error| format!("{error}, or the path of a Unix socket, such as unix:/run/gripd/client.sock")),
        }
    }
}

/// Parses an address to listen on: an IP address and a port, such as `127.0.0.1:7999` or `[::1]:7999`, or a port of
/// this machine's loopback address (`localhost:7999`) or of all its IPv4 addresses (`:7999`). A port alone, such as
/// `7999`, is a port of `usual`.
///
/// # Errors
/// The text is none of these.
pub fn parse_address(text: &str, usual: Ipv4Addr) -> Result<SocketAddr, String> {
    let port = |text: &str| text.parse::<u16>().ok();
    let parsed = if let Ok(address) = text.parse() {
        Some(address)
    } else if let Some(rest) = text.strip_prefix("localhost:") {
        port(rest).map(|port| (Ipv4Addr::LOCALHOST, port).into())
    } else if let Some(rest) = text.strip_prefix(':') {
        port(rest).map(|port| (Ipv4Addr::UNSPECIFIED, port).into())
    } else {
        port(text).map(|port| (usual, port).into())
    };
    parsed.ok_or_else(|| {
        format!(
            "'{text}' is not a valid address: give an IP address and a port, such as 127.0.0.1:7999, or a port alone"
        )
    })
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(address) => write!(f, "unix:{}", address.path.display()),
            Self::Memory(_) => f.write_str("memory"),
        }
    }
}

impl BoundListener {
    /// Registers the listener with the runtime of the calling thread.
    ///
    /// # Errors
    /// The runtime cannot watch the listener, because the system is short of a resource for that, such as memory.
    pub fn start(self) -> io::Result<Listener> {
        match self {
            Self::Tcp(listener) => tokio::net::TcpListener::from_std(listener).map(Listener::Tcp),
            Self::Unix(file, listener) => {
                tokio::net::UnixListener::from_std(listener).map(|listener| Listener::Unix(file, listener))
            }
            Self::Memory(address) => Ok(Listener::Memory(address)),
        }
    }
}

impl Listener {
    /// Polls for the next connection.
    ///
    /// # Errors
    /// A connection ended before it was accepted, or no connection can be accepted at the moment.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Transport>> {
        Poll::Ready(match self {
            Self::Tcp(listener) => ready!(listener.poll_accept(cx)).map(|(stream, _)| stream.into()),
            Self::Unix(_, listener) => ready!(listener.poll_accept(cx)).map(|(stream, _)| stream.into()),
            Self::Memory(address) => Ok(ready!(address.poll_accept(cx)).into()),
        })
    }
}

/// Returns `count` listeners on one TCP address. With port 0, the first listener gets a port from the kernel, and the
/// others use the same port.
///
/// The first listener binds its port without `SO_REUSEPORT`, and sets that option only afterwards. If two processes
/// start at the same moment, one of them is therefore refused. If both bound with the option, both would get the
/// address.
fn bind_tcp(address: SocketAddr, count: usize) -> io::Result<BoundListeners> {
    let first = tcp_listener(address, PortSharing::First)?;
    if count > 1 {
        first.set_reuse_port(true)?;
    }
    let first = TcpListener::from(first);
    let address = first.local_addr()?;
    let mut listeners = vec![BoundListener::Tcp(first)];
    for _ in 1..count {
        listeners.push(BoundListener::Tcp(tcp_listener(address, PortSharing::Shared)?.into()));
    }
    Ok(BoundListeners { address: address.into(), listeners })
}

/// The way in which a listener binds its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PortSharing {
    /// No other listener may have the port yet.
    First,
    /// Other listeners of this process may have the port as well.
    Shared,
}

/// Returns a listener on a TCP address. Its connections inherit the socket options that are set on it here.
fn tcp_listener(address: SocketAddr, sharing: PortSharing) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if sharing == PortSharing::Shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(MAX_UNSENT)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY))?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Returns `count` handles of one listener on a Unix socket. Each handle is for a thread of its own, and a connection
/// goes to the thread that accepts it first.
fn bind_unix(address: &UnixAddress, count: usize) -> io::Result<BoundListeners> {
    let (first, file) = address.bind()?;
    let file = Arc::new(file);
    let mut listeners = Vec::with_capacity(count);
    for _ in 1..count {
        listeners.push(BoundListener::Unix(Arc::clone(&file), first.try_clone()?));
    }
    listeners.push(BoundListener::Unix(file, first));
    Ok(BoundListeners { address: ListenAddress::Unix(address.clone()), listeners })
}

fn bind_memory(address: &MemoryAddress, count: usize) -> BoundListeners {
    let listeners = (0..count).map(|_| BoundListener::Memory(address.clone())).collect();
    BoundListeners { address: ListenAddress::Memory(address.clone()), listeners }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;
    use std::sync::Barrier;
    use std::thread;

    fn any_port() -> ListenAddress {
        "127.0.0.1:0".parse().unwrap()
    }

    #[test]
    fn of_processes_that_start_at_once_one_has_the_address() {
        for _ in 0..50 {
            let free = any_port().bind("a test", 1).unwrap().address;
            let together = Barrier::new(4);
            let bound: Vec<_> = thread::scope(|scope| {
                let start = || {
                    together.wait();
                    free.bind("a test", 3)
                };
                let starting: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
                starting.into_iter().map(|one| one.join().unwrap()).collect()
            });
            // `bound` keeps the listeners of the successful thread open until all threads have tried.
            assert_eq!(bound.iter().filter(|bound| bound.is_ok()).count(), 1);
            let refused = bound.into_iter().filter_map(Result::err);
            assert!(refused.into_iter().all(|error| error.kind() == io::ErrorKind::AddrInUse));
        }
    }

    #[test]
    fn all_listeners_get_clients() {
        let bound = any_port().bind("a test", 2).unwrap();
        let address = bound.address.tcp().unwrap();
        let _clients: Vec<_> = (0..64).map(|_| TcpStream::connect(address).unwrap()).collect();
        for listener in &bound.listeners {
            let BoundListener::Tcp(listener) = listener else { panic!("{listener:?}") };
            assert!(listener.accept().is_ok());
        }
    }

    #[test]
    fn addresses_are_read_and_written() {
        for text in ["127.0.0.1:7999", "[::1]:80", "unix:/run/gripd/client.sock", "unix:client.sock"] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        for (text, meant) in [("7999", "0.0.0.0:7999"), (":80", "0.0.0.0:80"), ("localhost:80", "127.0.0.1:80")] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), meant);
        }
        assert_eq!(parse_address("5561", Ipv4Addr::LOCALHOST), Ok(([127, 0, 0, 1], 5561).into()));
        for wrong in ["", "unix:", "localhost", "70000", ":x", "host:80", "unix", "/run/x.sock"] {
            assert!(wrong.parse::<ListenAddress>().is_err(), "{wrong}");
        }
        let within = |text: &str| text.parse::<ListenAddress>().unwrap().within(Path::new("/etc")).to_string();
        assert_eq!(within("unix:client.sock"), "unix:/etc/client.sock");
        assert_eq!(within("unix:/run/client.sock"), "unix:/run/client.sock");
        assert_eq!(within("[::1]:80"), "[::1]:80");
    }
}
