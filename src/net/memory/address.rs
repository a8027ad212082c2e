//! Addresses in memory, at which connections in memory are accepted.

use super::{MemoryClient, MemoryStream};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The number of bytes (64 KiB) that may be unread in each direction of a connection.
const CAPACITY: usize = 64 << 10;

/// An address in memory at which gripd accepts connections. Its clones are the same address.
#[derive(Clone, Debug, Default)]
pub struct MemoryAddress(Arrivals<MemoryStream>);

/// A server in memory to which gripd connects, as if it were an origin. Its clones are the same server.
#[derive(Clone, Debug, Default)]
pub struct MemoryServer(Arrivals<MemoryClient>);

/// A queue of connections that nobody has accepted yet. It holds the accepting end of each connection.
#[derive(Debug)]
struct Arrivals<E>(Arc<Mutex<WaitingEnds<E>>>);

#[derive(Debug)]
struct WaitingEnds<E> {
    ends: VecDeque<E>,
    /// The tasks that wait for a connection.
    acceptors: Vec<Waker>,
}

impl MemoryAddress {
    /// Connects to the address. Nobody needs to listen there yet.
    pub fn connect(&self) -> MemoryClient {
        let (stream, client) = MemoryStream::bytes(CAPACITY);
        self.0.add(stream);
        client
    }

    pub(in crate::net) fn poll_accept(&self, cx: &Context<'_>) -> Poll<MemoryStream> {
        self.0.poll_accept(cx)
    }
}

impl MemoryServer {
    /// Connects gripd to the server.
    pub fn connect(&self) -> MemoryStream {
        let (stream, server) = MemoryStream::bytes(CAPACITY);
        self.0.add(server);
        stream
    }

    /// Waits for the next connection of gripd, and returns the server's end of it.
    pub async fn accept(&self) -> MemoryClient {
        poll_fn(|cx| self.0.poll_accept(cx)).await
    }
}

impl<E> Arrivals<E> {
    fn add(&self, end: E) {
        let mut waiting = self.lock();
        waiting.ends.push_back(end);
        waiting.acceptors.drain(..).for_each(Waker::wake);
    }

    fn poll_accept(&self, cx: &Context<'_>) -> Poll<E> {
        let mut waiting = self.lock();
        match waiting.ends.pop_front() {
            Some(end) => Poll::Ready(end),
            None => {
                waiting.acceptors.push(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, WaitingEnds<E>> {
        // No method panics in the middle of a change, so the queue is consistent even if the lock is poisoned.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E> Default for Arrivals<E> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(WaitingEnds { ends: VecDeque::new(), acceptors: Vec::new() })))
    }
}

impl<E> Clone for Arrivals<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl PartialEq for MemoryAddress {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0.0, &other.0.0)
    }
}

impl Eq for MemoryAddress {}
