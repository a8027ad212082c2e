//! The one who publishes.

use crate::net::Peer;

/// The one who sent a batch, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub struct Publisher<'a> {
    /// The name of the configured token that was shown; `None`, if none was.
    pub token: Option<&'a str>,
    /// The subject (`sub`) of the JWT that was shown, if it names one.
    pub subject: Option<&'a str>,
    /// The address from which the batch came.
    pub address: Peer,
}
