//! The users of the connections of a shard.

use super::connections::Connections;
use super::registry::Registry;
use super::{Key, Profile, State};
use crate::grip::Channel;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// The connections of users who are known, and the profiles that connections without a known user share.
#[derive(Default)]
pub(super) struct Users {
    /// The connections of each user. A user is entered as a channel is.
    registry: Registry,
    /// For each route, the profile that is shared by connections of which nothing but the route is known.
    common: HashMap<Arc<str>, Rc<Profile>>,
}

impl Users {
    /// Returns the connections of a user.
    pub(super) fn connections(&self, user: &str) -> &[Key] {
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
    fn add(&mut self, key: Key, whose: &Profile) -> bool {
        let Some(user) = &whose.user else { return false };
        whose.place.set(Some(self.registry.add(key, &Channel::from(&**user))));
        true
    }

    /// Removes a connection from those of its user. Returns whether it was among them.
    fn remove(&mut self, key: Key, whose: &Profile, conns: &Connections) -> bool {
        let Some(place) = whose.place.take() else { return false };
        self.registry.remove(key, &[place], |moved, s| conns[moved].whose.place.set(Some(s)));
        true
    }
}

impl State {
    /// Notes the profile of a connection: its route, its user and the time at which it ends.
    pub(super) fn identify(&mut self, key: Key, whose: &Profile) {
        if self.conn(key).whose.is_like(whose) {
            return;
        }
        self.forget_whose(key);
        let whose = self.users.keep(whose);
        self.conn(key).whose = Rc::clone(&whose);
        if self.users.add(key, &whose) {
            self.ledger.came(&whose);
        }
        if let Some(at) = whose.until {
            self.expiring.add(key, at);
        }
    }

    /// Forgets the user of a connection, and the time at which it ends.
    pub(super) fn forget_whose(&mut self, key: Key) {
        let whose = Rc::clone(&self.conns[key].whose);
        if self.users.remove(key, &whose, &self.conns) {
            self.ledger.went(&whose);
        }
        if let Some(at) = whose.until {
            self.expiring.remove(key, at);
        }
    }
}
