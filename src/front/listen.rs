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

/// So many listeners on one address, between which the kernel spreads the clients. With port 0 the first
/// one chooses the port of all.
///
/// # Errors
/// The address cannot be used; another process that listens on it is an error as well.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    // Listeners that share a port would share it with another gripd too: try alone first.
    drop(listener(address, false)?);
    let first = listener(address, true)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..count {
        listeners.push(listener(address, true)?);
    }
    Ok(listeners)
}

/// A listener whose connections inherit what every client's connection needs.
fn listener(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
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
    if shared {
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}
