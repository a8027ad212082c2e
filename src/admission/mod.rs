//! The admission of holds: reading an origin's response, and deciding whether a client may hold the channels that
//! the response names.

mod interpreted_answer;
mod terms;

pub use interpreted_answer::{UnderstoodAnswer, UnusableAnswer};
pub use terms::terms;

use crate::grip::{Channel, ChannelRefusal, Rights};
use crate::hub::Hub;
use crate::route::Route;
use crate::shard::{DeniedChannel, Metrics};
use std::cell::Cell;
use std::sync::Arc;

/// The rules for the channels that clients may hold.
///
/// A channel that an origin names must be admitted by the route's rule and by the client's token, and must not be
/// denied at the moment. Denials are checked once more when the connection is subscribed, in one step with the
/// subscription.
#[derive(Debug)]
pub struct Admission {
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
    max_channels: Cell<usize>,
}

/// A channel that a client may not hold by the rule of its route or by its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAdmitted {
    /// The name that the origin gives to the channel.
    pub channel: String,
    /// The reason for the refusal: the rule of the route, or the client's token.
    pub refusal: ChannelRefusal,
}

impl Admission {
    /// Creates rules that follow the channel rules and denials of `hub`. Refusals are counted in `metrics`. One
    /// connection may hold at most `max_channels` channels.
    pub const fn new(hub: Arc<Hub>, metrics: Arc<Metrics>, max_channels: usize) -> Self {
        Self { hub, metrics, max_channels: Cell::new(max_channels) }
    }

    /// Returns how many channels one connection may hold.
    pub const fn max_channels(&self) -> usize {
        self.max_channels.get()
    }

    /// Sets how many channels one connection may hold. Channels that are held already stay held.
    pub fn set_max_channels(&self, max_channels: usize) {
        self.max_channels.set(max_channels);
    }

    /// Checks that the rule of the route and the token of the client admit all channels that an origin names. A
    /// refusal is counted.
    ///
    /// # Errors
    /// Returns the first channel that the client may not hold.
    pub fn admit<'a>(
        &self,
        route: &Route,
        rights: &Rights,
        mut names: impl Iterator<Item = &'a str>,
    ) -> Result<(), NotAdmitted> {
        let rule = self.hub.rule(&route.name, route.channels.as_ref());
        let refused = names.find_map(|name| {
            let refusal = rights.refusal(rule.as_deref(), name)?;
            Some(NotAdmitted { channel: name.to_owned(), refusal })
        });
        match refused {
            Some(refused) => {
                self.metrics.not_allowed.inc();
                Err(refused)
            }
            None => Ok(()),
        }
    }

    /// Returns whether the rule and the token admit one channel. Nothing is counted.
    pub fn admits(&self, route: &Route, rights: &Rights, name: &str) -> bool {
        let rule = self.hub.rule(&route.name, route.channels.as_ref());
        rights.refusal(rule.as_deref(), name).is_none()
    }

    /// Checks that no channel that a client is about to hold is denied. `names` are the channels that the origin
    /// names, without the prefix of the route. `implicit` are complete names. A refusal is counted.
    ///
    /// # Errors
    /// Returns a channel that is denied.
    pub fn check_denials<'a>(
        &self,
        route: &Route,
        names: impl Iterator<Item = &'a str>,
        implicit: &[String],
    ) -> Result<(), DeniedChannel> {
        if !self.hub.has_denials() {
            return Ok(());
        }
        let named = names.map(|name| Channel::prefixed(&route.prefix, name));
        let channels: Vec<Channel> = named.chain(implicit.iter().map(|name| Channel::from(name.as_str()))).collect();
        match self.hub.denies(&channels) {
            Some(denied) => {
                let denied = DeniedChannel(denied);
                self.note_denied(&denied);
                Err(denied)
            }
            None => Ok(()),
        }
    }

    /// Counts a subscription that was refused because a channel is denied.
    pub fn note_denied(&self, _: &DeniedChannel) {
        self.metrics.denied.inc();
    }
}
