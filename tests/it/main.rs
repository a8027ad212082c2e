//! gripd seen from outside: real sockets, a scripted origin, port 0 everywhere, deadlines and no sleeps.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

mod channels;
mod cli;
mod close;
mod drain;
mod poll;
mod proxy;
mod publish;
mod slow;
mod stream;
