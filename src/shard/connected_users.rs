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
    fn keep(&mut self, whose: &Profile) -> Rc<Profile> {
        if !whose.is_common() {
            return Rc::new(whose.clone());
        }
        let profile = self.common.entry(whose.route.clone()).or_insert_with(|| Rc::new(whose.clone()));
        Rc::clone(profile)
    }

    /// Adds a connection to those of its user. Returns whether its user is known.
    fn add(&mut self, key: ConnectionKey, whose: &Profile) -> bool {
        let Some(user) = &whose.user else { return false };
        whose.place.set(Some(self.registry.add(key, &Channel::from(&**user))));
        true
    }

    /// Removes a connection from those of its user. Returns whether it was among them.
    fn remove(&mut self, key: ConnectionKey, whose: &Profile, conns: &Connections) -> bool {
        let Some(place) = whose.place.take() else { return false };
        self.registry.remove(key, &[place], |moved, s| conns[moved].profile.place.set(Some(s)));
        true
    }
}

impl ShardState {
    /// Notes the profile of a connection: its route, its user and the time at which it ends.
    pub(super) fn identify(&mut self, key: ConnectionKey, whose: &Profile) {
        if self.conn(key).profile.is_like(whose) {
            return;
        }
        self.forget_whose(key);
        let whose = self.users.keep(whose);
        self.conn(key).profile = Rc::clone(&whose);
        if self.users.add(key, &whose) {
            self.ledger.user_joined(&whose);
        }
        if let Some(at) = whose.until {
            self.expiring.add(key, at);
        }
    }

    /// Forgets the user of a connection, and the time at which it ends.
    pub(super) fn forget_whose(&mut self, key: ConnectionKey) {
        let whose = Rc::clone(&self.conns[key].profile);
        if self.users.remove(key, &whose, &self.conns) {
            self.ledger.user_left(&whose);
        }
        if let Some(at) = whose.until {
            self.expiring.remove(key, at);
        }
    }
}
