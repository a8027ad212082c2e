//! Connections as such: listening, accepting and connecting, the bytes that they carry, and how slow the other side may be.

mod accept;
mod connect;
mod descriptors;
mod http_connection;
mod listen;
mod memory;
mod outbound;
mod pace;
mod transport;
mod unix;

pub use accept::{Acceptor, accept};
pub use connect::{connect, connect_to_file, connect_to_one_of};
pub use descriptors::{Counted, Descriptors, is_shortage};
pub use http_connection::{HttpConnection, READY_WAIT, Sent};
pub use listen::{Bound, BoundListener, ListenAddress, Listener, OPEN_MODE};
pub use memory::{MemoryAddress, MemoryClient, MemoryServer, MemoryStream};
pub use outbound::Outbound;
pub use pace::{ClientDelay, Limits, Pace};
pub use transport::{Flushed, NextWrite, Peer, Received, Transport};
pub use unix::{SocketFile, UnixAddress};
