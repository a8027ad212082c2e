//! The client's end of a connection, over each of the transports that gripd has.

use super::DEADLINE;
use gripd::net::{ListenAddress, MemoryClient};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// A connection whose reads and writes fail if they take longer than the deadline.
pub(crate) enum Wire {
    Tcp(TcpStream),
    Unix(UnixStream),
    Memory(Runtime, MemoryClient),
}

impl Wire {
    /// Connects to an address at which a gripd listens.
    pub(crate) fn connect(to: &ListenAddress) -> Self {
        match to {
            ListenAddress::Tcp(address) => {
                let stream = TcpStream::connect(address).unwrap();
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                stream.set_write_timeout(Some(DEADLINE)).unwrap();
                stream.set_nodelay(true).unwrap();
                Self::Tcp(stream)
            }
            ListenAddress::Unix(address) => {
                let stream = UnixStream::connect(&address.path).unwrap();
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                stream.set_write_timeout(Some(DEADLINE)).unwrap();
                Self::Unix(stream)
            }
            ListenAddress::Memory(address) => {
                Self::Memory(Builder::new_current_thread().enable_time().build().unwrap(), address.connect())
            }
        }
    }

    /// Returns the TCP connection. Panics if this is a connection of another transport.
    pub(crate) fn tcp(&self) -> &TcpStream {
        let Self::Tcp(stream) = self else { panic!("this needs a TCP connection") };
        stream
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
            Self::Memory(runtime, client) => {
                runtime.block_on(async { timeout(DEADLINE, client.read(buffer)).await.expect("nothing came in time") })
            }
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            Self::Memory(runtime, client) => {
                runtime.block_on(async { timeout(DEADLINE, client.write(bytes)).await.expect("not sent in time") })
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
