//! gripd seen from outside: real sockets, a scripted origin, port 0 everywhere, deadlines and no sleeps.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

mod believed;
mod busy;
mod caches;
mod channels;
mod cli;
mod close;
mod compressed;
mod connections;
mod control_port;
mod controlled;
mod crowded;
mod demo;
mod denied;
mod descriptors;
mod documentation;
mod drain;
mod fairness;
mod filters;
mod framing;
mod goodbye;
mod impostors;
mod instruct;
mod lenient;
mod links;
mod members;
mod messages;
mod naming;
mod over_http;
mod pace;
mod poll;
mod proxies;
mod proxy;
mod publish;
mod rarer;
mod relayed;
mod reliable;
mod retry;
mod routes;
mod selection;
mod slow;
mod stream;
mod tokens;
mod tokens_cli;
mod tokens_unix;
mod transports;
mod trust;
mod unreadable;
mod users;
mod webhooks;
mod websocket;
