//! Addresses in memory, at which connections in memory are accepted.

use super::{MemoryClient, MemoryStream};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Bytes that may be under way in each direction of a connection.
const CAPACITY: usize = 64 << 10;

/// An address in memory. Its clones are the same address.
#[derive(Clone, Debug, Default)]
pub struct MemoryAddress(Arc<Mutex<Arrivals>>);

#[derive(Debug, Default)]
struct Arrivals {
    /// Connections that nobody has accepted yet.
    waiting: VecDeque<MemoryStream>,
    /// The listeners that wait for one.
    listeners: Vec<Waker>,
}

impl MemoryAddress {
    /// Connects to the address. Nobody needs to listen there yet.
    pub fn connect(&self) -> MemoryClient {
        let (stream, client) = MemoryStream::bytes(CAPACITY);
        let mut arrivals = self.lock();
        arrivals.waiting.push_back(stream);
        arrivals.listeners.drain(..).for_each(Waker::wake);
        client
    }

    pub(in crate::net) fn poll_accept(&self, cx: &Context<'_>) -> Poll<MemoryStream> {
        let mut arrivals = self.lock();
        match arrivals.waiting.pop_front() {
            Some(stream) => Poll::Ready(stream),
            None => {
                arrivals.listeners.push(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Arrivals> {
        // No change of the arrivals panics halfway, so poisoned ones are still whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartialEq for MemoryAddress {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for MemoryAddress {}
