//! gripd is a reverse proxy that makes any web backend realtime, with the protocol GRIP.
//!
//! It forwards each request to the *origin*. If the origin's answer carries `Grip-Hold` and `Grip-Channel`, it holds the client's
//! connection, subscribed to those channels, and the origin is done. A publisher POSTs *items* to the control port, and gripd
//! writes them to every connection of the channel, or closes exactly the connections of one channel. It speaks as Pushpin does.
//!
//! `ARCHITECTURE.md` describes the parts, the way of a request, of an item, of a kick and of a WebSocket message, the contract of a
//! close, the invariants, and the words. The library exists for the program and its tests, and promises nothing to other users.

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
