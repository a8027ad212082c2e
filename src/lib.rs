//! gripd is a reverse proxy that makes any web backend realtime, with the protocol GRIP.
//!
//! It forwards each request to the *origin*. If the origin's response carries `Grip-Hold` and `Grip-Channel`, gripd
//! keeps the client's connection open and subscribes it to those channels, and the origin has nothing more to do. A
//! publisher POSTs *items* to the control port. gripd writes each item to every connection of its channel, or closes
//! exactly the connections of one channel. It is compatible with Pushpin.
//!
//! `ARCHITECTURE.md` describes the parts of gripd, how a request, an item, a kick and a WebSocket message pass
//! through them, the contract of a close, the invariants, and a glossary. The library exists for the program and its
//! tests, and its API is not stable.

pub mod admission;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod control;
pub mod daemon;
pub mod demo;
pub mod front;
pub mod grip;
pub mod hold;
pub mod hub;
pub mod net;
pub mod notify;
pub mod origin;
pub mod route;
pub mod session;
pub mod shard;
pub mod telemetry;
pub mod wire;
