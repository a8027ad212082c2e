//! The ledger of a shard, which passes its reports on to the hub and to the webhooks.

use crate::grip::Channel;
use crate::hub::Membership;
use crate::notify::{self, Notifier};
use crate::shard::{ConnectionId, Denied, Ended, Entering, Joined, Ledger, Profile};
use std::sync::Arc;

/// The ledger of one shard. It reports to the hub and to the webhooks.
pub(super) struct Books {
    pub(super) shard: usize,
    pub(super) membership: Membership,
    pub(super) notifier: Arc<Notifier>,
}

impl Ledger for Books {
    fn join(&self, entering: &Entering<'_>) -> Result<Joined, Denied> {
        let joined = self.membership.join(entering)?;
        self.notifier.joined(&entering.whose.route, entering.channels);
        Ok(joined)
    }

    fn left(&self, whose: &Profile, channels: &[Channel]) {
        self.membership.left(whose, channels);
        self.notifier.left(&whose.route, channels);
    }

    fn release(&self, channels: &[Channel]) {
        self.membership.release(channels);
    }

    fn came(&self, whose: &Profile) {
        if let Some(user) = &whose.user {
            self.notifier.user_joined(&whose.route, user);
        }
    }

    fn went(&self, whose: &Profile) {
        if let Some(user) = &whose.user {
            self.notifier.user_left(&whose.route, user);
        }
    }

    fn ended(&self, whose: &Profile, ended: &Ended) {
        if self.notifier.is_idle() {
            return;
        }
        self.notifier.ended(&notify::Ended {
            connection: ConnectionId { shard: self.shard, place: ended.place }.to_string(),
            kind: ended.kind,
            route: Arc::clone(&whose.route),
            user: whose.user.clone(),
            reason: ended.reason.name(),
            duration: ended.duration,
            bytes: ended.bytes,
        });
    }
}
