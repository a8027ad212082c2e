//! The users of the connections of a shard.

use super::connections::Connections;
use super::registry::SubscriberRegistry;
use super::{ConnectionKey, Profile, ShardState};
use crate::grip::Channel;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// The connections of users who are known, and the profiles that connections without a known user share.
#[derive(Default)]
pub(super) struct ConnectedUsers {
    /// The connections of each user. A user is entered as a channel is.
    registry: SubscriberRegistry,
    /// For each route, the profile that is shared by connections of which nothing but the route is known.
    common: HashMap<Arc<str>, Rc<Profile>>,
}

impl ConnectedUsers {
    /// Returns the connections of a user.
    pub(super) fn connections(&self, user: &str) -> &[ConnectionKey] {
        self.registry.subscribers(user)
    }

    /// Returns a profile in the form in which it is stored: connections of which nothing but the route is known share
    /// one.
    fn keep(&mut self, profile: &Profile) -> Rc<Profile> {
        if !profile.is_common() {
            return Rc::new(profile.clone());
        }
        let profile = self.common.entry(profile.route.clone()).or_insert_with(|| Rc::new(profile.clone()));
        Rc::clone(profile)
    }

    /// Adds a connection to those of its user. Returns whether its user is known.
    fn add(&mut self, key: ConnectionKey, profile: &Profile) -> bool {
        let Some(user) = &profile.user else { return false };
        profile.place.set(Some(self.registry.add(key, &Channel::from(&**user))));
        true
    }

    /// Removes a connection from those of its user. Returns whether it was among them.
    fn remove(&mut self, key: ConnectionKey, profile: &Profile, conns: &Connections) -> bool {
        let Some(place) = profile.place.take() else { return false };
        self.registry.remove(key, &[place], |moved, s| conns[moved].profile.place.set(Some(s)));
        true
    }
}

impl ShardState {
    /// Notes the profile of a connection: its route, its user and the time at which it ends.
    pub(super) fn identify(&mut self, key: ConnectionKey, profile: &Profile) {
        if self.conn(key).profile.is_like(profile) {
            return;
        }
        self.forget_whose(key);
        let profile = self.users.keep(profile);
        self.conn(key).profile = Rc::clone(&profile);
        if self.users.add(key, &profile) {
            self.ledger.user_joined(&profile);
        }
        if let Some(at) = profile.until {
            self.expiring.add(key, at);
        }
    }

    /// Forgets the user of a connection, and the time at which it ends.
    pub(super) fn forget_whose(&mut self, key: ConnectionKey) {
        let profile = Rc::clone(&self.conns[key].profile);
        if self.users.remove(key, &profile, &self.conns) {
            self.ledger.user_left(&profile);
        }
        if let Some(at) = profile.until {
            self.expiring.remove(key, at);
        }
    }
}
