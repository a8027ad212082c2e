//! A gripd in this process, a scripted origin, and clients that see every byte.

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

use std::time::{Duration, Instant};

/// How long anything may take before a test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Looks again and again until `done`, or fails at the deadline.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < DEADLINE, "not in time: {what}");
        std::thread::yield_now();
    }
}

/// A chunk of a chunked body.
pub(crate) fn chunk(content: &str) -> String {
    format!("{:x}\r\n{content}\r\n", content.len())
}
