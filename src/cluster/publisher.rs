//! The publisher of a batch.

use crate::net::Peer;

/// The sender of a batch, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub struct Publisher<'a> {
    /// The name of the configured token with which the request was sent, or `None` if there was no such token.
    pub token: Option<&'a str>,
    /// The subject (`sub`) of the JWT with which the request was sent, if the JWT has one.
    pub subject: Option<&'a str>,
    /// The address from which the batch came.
    pub address: Peer,
}
