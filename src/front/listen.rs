//! Listeners for clients.

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

/// Connections that the kernel accepts before us.
const BACKLOG: i32 = 4096;
/// Bytes that the kernel takes of a connection beyond what it can send. More would hide from a slow client's
/// bound, and would still be sent after a close.
const UNSENT: u32 = 64 << 10;
/// Silence after which the kernel asks whether a client is still there, and how often it asks then.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(120);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(30);

/// Returns `count` listeners on one address, between which the kernel spreads the clients. With port 0 the first
/// one chooses the port of all.
///
/// The first listener takes the address alone and shares it only afterwards. Of two processes that start in the same
/// moment one is therefore refused, although both would share the address with listeners of their own.
///
/// # Errors
/// The address cannot be used; another process that listens on it is an error as well.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let first = listener(address, false)?;
    first.set_reuse_port(true)?;
    let mut listeners: Vec<TcpListener> = vec![first.into()];
    let address = listeners[0].local_addr()?;
    for _ in 1..count {
        listeners.push(listener(address, true)?.into());
    }
    Ok(listeners)
}

/// Returns a listener whose connections inherit the options that every client's connection needs.
fn listener(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(UNSENT)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY))?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::thread;

    #[test]
    fn of_processes_that_start_at_once_one_has_the_address() {
        for _ in 0..50 {
            let free = bind(([127, 0, 0, 1], 0).into(), 1).unwrap()[0].local_addr().unwrap();
            let together = Barrier::new(4);
            let bound: Vec<_> = thread::scope(|scope| {
                let start = || {
                    together.wait();
                    bind(free, 3)
                };
                let starting: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
                starting.into_iter().map(|one| one.join().unwrap()).collect()
            });
            // The listeners of the first one live on in `bound` until all have tried.
            assert_eq!(bound.iter().filter(|bound| bound.is_ok()).count(), 1);
            let refused = bound.into_iter().filter_map(Result::err);
            assert!(refused.into_iter().all(|error| error.kind() == io::ErrorKind::AddrInUse));
        }
    }

    #[test]
    fn all_listeners_get_clients() {
        let listeners = bind(([127, 0, 0, 1], 0).into(), 2).unwrap();
        let address = listeners[0].local_addr().unwrap();
        let _clients: Vec<_> = (0..64).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        for listener in &listeners {
            listener.set_nonblocking(true).unwrap();
            assert!(listener.accept().is_ok());
        }
    }
}
