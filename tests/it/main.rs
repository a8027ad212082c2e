//! Tests of gripd from the outside, with scripted origins. They use sockets on free ports, or connections in memory and
//! a paused clock. They wait with deadlines, and never sleep in real time.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

mod caches;
mod channels;
mod cli;
mod close;
mod compressed;
mod configuration_page;
mod connections;
mod control_messages;
mod control_port;
mod demo;
mod denied;
mod descriptors;
mod documentation;
mod drain;
mod event_streams;
mod fairness;
mod filters;
mod framing;
mod gone_links;
mod hints;
mod impostors;
mod instruct;
mod lenient;
mod links;
mod messages;
mod naming;
mod over_http;
mod pace;
mod poll;
mod proxies;
mod proxy;
mod publish;
mod relayed;
mod reliable;
mod reload;
mod request_spoofing;
mod retry;
mod routes;
mod selection;
mod service_manager;
mod slow;
mod stream;
mod subscriptions;
mod tokens;
mod tokens_cli;
mod tokens_unix;
mod transports;
mod trust;
mod unreadable;
mod user_identity;
mod webhooks;
mod websocket;
mod websocket_edge_cases;
mod websocket_endings;
mod websocket_interleavings;
mod websocket_under_load;
