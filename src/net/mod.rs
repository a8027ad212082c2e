//! Connections: listening, accepting and connecting, the transports that carry bytes, limits for slow clients, and
//! the file descriptors that connections take.

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
pub use descriptors::{DescriptorGuard, Descriptors, is_shortage};
pub use http_connection::{HttpConnection, READY_WAIT, SendResult};
pub use listen::{BoundListener, BoundListeners, ListenAddress, Listener, OPEN_MODE, parse_address};
pub use memory::{MemoryAddress, MemoryClient, MemoryServer, MemoryStream};
pub use outbound::Outbound;
pub use pace::{ClientDelay, Pace, PaceLimits};
pub use transport::{NextWrite, Peer, ReadOutcome, Transport, WriteOutcome};
pub use unix::{SocketFile, UnixAddress};
