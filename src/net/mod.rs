//! Connections that gripd opens: to origins, to webhooks, and from the command line to a control port.

mod outbound;

pub use outbound::Outbound;
