//! An address on which nobody listens.

use socket2::{Domain, Socket, Type};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

/// An address that refuses connections as long as this value exists. Its port is bound, so that nobody else can listen
/// there.
pub(crate) struct Nobody(Socket);

impl Nobody {
    pub(crate) fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        Self(socket)
    }
}

impl fmt::Display for Nobody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.local_addr().unwrap().as_socket().unwrap().fmt(f)
    }
}
