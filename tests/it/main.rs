//! gripd seen from outside: real sockets, a scripted origin, port 0 everywhere, deadlines and no sleeps.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

mod channels;
mod cli;
mod close;
mod demo;
mod drain;
mod filters;
mod instruct;
mod links;
mod poll;
mod proxy;
mod publish;
mod reliable;
mod retry;
mod routes;
mod slow;
mod stream;
mod trust;
