//! Helpers of the tests: a gripd in the process of the test, origins that respond as a script says, and clients that
//! send and read raw bytes.

mod client;
mod daemon;
pub(crate) mod events;
pub(crate) mod kinds;
mod nobody;
mod origin;
pub(crate) mod paused;
mod program;
pub(crate) mod tokens;
pub(crate) mod websocket;
mod wire;

pub(crate) use client::{Client, get};
pub(crate) use daemon::Gripd;
pub(crate) use events::Events;
pub(crate) use kinds::{KINDS, Kind, Member};
pub(crate) use nobody::Nobody;
pub(crate) use origin::{Answer, Asked, HOLD_STREAM, Origin};
pub(crate) use program::{Program, folder, gripd, run};
pub(crate) use websocket::{Socket, SocketOrigin};

use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

/// The time after which a test fails if something that it waits for has not happened.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Calls `done` again and again until it returns `true`. At the deadline, panics with `what`, which says what should
/// have happened.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        std::thread::yield_now();
    }
}

/// Returns a gate at which an origin waits: the sender that opens it, and the function that waits. Each message lets
/// one call of the function return. Every call returns when the sender is dropped, or at the deadline.
pub(crate) fn gate() -> (mpsc::Sender<()>, impl Fn() + Send + Sync + 'static) {
    let (open, opened) = mpsc::channel();
    let opened = Mutex::new(opened);
    let wait = move || {
        let _ = opened.lock().unwrap().recv_timeout(DEADLINE);
    };
    (open, wait)
}

/// Returns a chunk of a chunked body.
pub(crate) fn chunk(content: &str) -> String {
    format!("{:x}\r\n{content}\r\n", content.len())
}
