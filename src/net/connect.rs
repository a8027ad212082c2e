//! Connecting to a server whose name may have several addresses.

use super::{Transport, is_shortage};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::sleep;

/// The time for which a new attempt runs before the next address is tried in parallel (RFC 8305 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The number of attempts that may run at the same time, since each takes a file descriptor. If another address is
/// due, the oldest attempt is dropped, because it has had the longest time.
const MOST_ATTEMPTS: usize = 3;

type Attempt = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// Resolves a host name, and connects to the address that accepts the connection first.
///
/// # Errors
/// The name cannot be resolved, or it has no address that accepts the connection, as for [`connect_to_one_of`].
pub async fn connect(host: &str, port: u16) -> io::Result<Transport> {
    connect_to_one_of(lookup_host((host, port)).await?.collect()).await
}

/// Connects to the Unix socket whose file is at `path`.
///
/// # Errors
/// There is no such socket, nobody listens on it, or this process may not write to its file.
pub async fn connect_to_file(path: &Path) -> io::Result<Transport> {
    UnixStream::connect(path).await.map(Transport::from)
}

/// Connects to the address that accepts the connection first. The next address is tried at once if an attempt fails,
/// and in parallel if one does not answer soon, because it may be out of reach (RFC 8305). The caller limits the total
/// time.
///
/// # Errors
/// There is no address, or none accepts the connection. The error is that of the attempt that failed last, or a
/// shortage of file descriptors if there was one.
pub async fn connect_to_one_of(addresses: Vec<SocketAddr>) -> io::Result<Transport> {
    let stream = race(addresses).await?;
    stream.set_nodelay(true)?;
    Ok(stream.into())
}

async fn race(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    if let [only] = addresses[..] {
        return TcpStream::connect(only).await;
    }
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "the host name does not resolve to an address");
    let mut left = by_turns(addresses).into_iter();
    let mut attempts: Vec<Attempt> = Vec::new();
    loop {
        if left.len() > 0 && attempts.len() == MOST_ATTEMPTS {
            drop(attempts.remove(0));
        }
        attempts.extend(left.next().map(|address| Box::pin(TcpStream::connect(address)) as Attempt));
        if attempts.is_empty() {
            return Err(last);
        }
        tokio::select! {
            ended = poll_fn(|cx| poll_any(&mut attempts, cx)) => match ended {
                Ok(stream) => return Ok(stream),
                // A shortage of file descriptors explains the failure better than the errors of other addresses, so
                // it is kept.
                Err(error) if !is_shortage(&last) => last = error,
                Err(_) => {}
            },
            () = sleep(ATTEMPT_DELAY), if left.len() > 0 => {}
        }
    }
}

/// Returns the addresses with IPv6 and IPv4 in alternation, beginning with the family of the first (RFC 8305 4).
fn by_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (own, other): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == first);
    let (mut own, mut other) = (own.into_iter(), other.into_iter());
    let mut order = Vec::with_capacity(own.len() + other.len());
    while own.len() + other.len() > 0 {
        order.extend(own.next());
        order.extend(other.next());
    }
    order
}

/// Polls the attempts in order. Removes the first one that has ended, and returns its outcome.
fn poll_any(attempts: &mut Vec<Attempt>, cx: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
    for place in 0..attempts.len() {
        if let Poll::Ready(ended) = attempts[place].as_mut().poll(cx) {
            drop(attempts.remove(place));
            return Poll::Ready(ended);
        }
    }
    Poll::Pending
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Peer;
    use socket2::{Domain, Socket, Type};
    use std::net::{Ipv4Addr, TcpListener};
    use tokio::time::timeout;

    /// A listener, and the clients that fill its queue of pending connections.
    type FullListener = (Socket, Vec<Socket>);

    /// Returns an address that never answers: the queue of its listener is full, so the kernel drops further attempts
    /// to connect.
    fn silent() -> (SocketAddr, FullListener) {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let connect = |_| {
            let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            // The socket does not block, so this returns an error while the connection is being established.
            let _ = client.connect(&address);
            client
        };
        let clients = (0..8).map(connect).collect();
        (address.as_socket().unwrap(), (listener, clients))
    }

    /// Returns an address that refuses connections, and a socket that is bound to its port without listening. The
    /// address refuses connections as long as the socket is open.
    fn refusing() -> (SocketAddr, Socket) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        (socket.local_addr().unwrap().as_socket().unwrap(), socket)
    }

    async fn reached(addresses: &[SocketAddr]) -> io::Result<SocketAddr> {
        let connecting = connect_to_one_of(addresses.to_vec());
        let transport = timeout(Duration::from_secs(20), connecting).await.expect("it takes too long")?;
        let Some(Peer::Tcp { remote, .. }) = transport.peer() else { panic!("{transport:?}") };
        Ok(remote)
    }

    #[tokio::test]
    async fn an_address_that_swallows_connections_does_not_hide_the_next() {
        let (silent, _full) = silent();
        let (refusing, _socket) = refusing();
        let good = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = good.local_addr().unwrap();
        assert_eq!(reached(&[silent, address]).await.unwrap(), address);
        assert_eq!(reached(&[silent, refusing, silent, address]).await.unwrap(), address);
        assert_eq!(reached(&[address, silent]).await.unwrap(), address);
        // Four silent addresses are more than the attempts that may run at the same time.
        assert_eq!(reached(&[silent, silent, silent, silent, address]).await.unwrap(), address);
    }

    #[tokio::test]
    async fn when_all_refuse_the_last_error_is_told() {
        let (refusing, _socket) = refusing();
        let both = reached(&[refusing, refusing]).await;
        assert_eq!(both.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(reached(&[]).await.unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn families_take_turns() {
        let parse = |all: &[&str]| all.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let all = parse(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"]);
        assert_eq!(by_turns(all), parse(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"]));
        let all = parse(&["1.1.1.1:1", "2.2.2.2:1", "[::1]:1"]);
        assert_eq!(by_turns(all), parse(&["1.1.1.1:1", "[::1]:1", "2.2.2.2:1"]));
    }
}
