//! The vocabulary of GRIP: items, instructs, filters, control messages and signatures.
//!
//! All code in this module is pure: it uses no socket, no clock and no runtime.

pub mod backlog;
pub mod base64;
pub mod channel;
mod content;
pub mod control;
pub mod event;
pub mod extension;
pub mod fields;
pub mod filter;
pub mod form;
pub mod format;
pub mod glob;
pub mod identity;
pub mod instruct;
pub mod invalid;
pub mod item;
pub mod json;
mod json_object;
pub mod jws;
mod key;
pub mod link;
mod media;
pub mod message;
pub mod meta;
pub mod naming;
pub mod percent;
pub mod rights;
pub mod signature;
pub mod similar;
mod template;

pub use backlog::Backlog;
pub use channel::Channel;
pub use control::ControlMessage;
pub use event::SocketEvent;
pub use filter::Filter;
pub use format::{Format, Formats};
pub use glob::Glob;
pub use instruct::{HoldMode, Instruct, KeepAlive, KeepAliveMode};
pub use invalid::{InvalidText, invalid};
pub use item::Item;
pub use media::is_media_type;
pub use message::{CloseReason, MessageKind};
pub use meta::Meta;
pub use rights::{ChannelRefusal, Rights};

/// The value of `Grip-Feature`: the features that an origin may use, in the order in which Pushpin lists them.
pub const FEATURES: &str = "status, link:next, link:gone, filter:skip-self, filter:skip-users, filter:require-sub, \
    filter:build-id, filter:var-subst, filter:http-check, filter:http-modify";
