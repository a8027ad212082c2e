//! The ledger of a shard, which passes its reports on to the hub and to the webhooks.

use crate::grip::Channel;
use crate::hub::MembershipReport;
use crate::notify::{self, Notifier};
use crate::shard::{ConnectionId, DeniedChannel, EndReport, JoinInfo, JoinRequest, Ledger, Profile};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// The notifier that a shard uses now, which may be replaced.
pub(super) type SharedNotifier = Rc<RefCell<Arc<Notifier>>>;

/// The ledger of one shard. It reports to the hub and to the webhooks.
pub(super) struct ShardLedger {
    pub(super) shard: usize,
    pub(super) membership: MembershipReport,
    pub(super) notifier: SharedNotifier,
}

impl Ledger for ShardLedger {
    fn join(&self, entering: &JoinRequest<'_>) -> Result<JoinInfo, DeniedChannel> {
        let joined = self.membership.join(entering)?;
        self.notifier.borrow().joined(&entering.profile.route, entering.channels);
        Ok(joined)
    }

    fn left(&self, profile: &Profile, channels: &[Channel]) {
        self.membership.left(profile, channels);
        self.notifier.borrow().left(&profile.route, channels);
    }

    fn release(&self, channels: &[Channel]) {
        self.membership.release(channels);
    }

    fn user_joined(&self, profile: &Profile) {
        if let Some(user) = &profile.user {
            self.notifier.borrow().user_joined(&profile.route, user);
        }
    }

    fn user_left(&self, profile: &Profile) {
        if let Some(user) = &profile.user {
            self.notifier.borrow().user_left(&profile.route, user);
        }
    }

    fn ended(&self, profile: &Profile, ended: &EndReport) {
        if self.notifier.borrow().is_idle() {
            return;
        }
        self.notifier.borrow().ended(&notify::EndedConnection {
            connection: ConnectionId { shard: self.shard, place: ended.place }.to_string(),
            kind: ended.kind,
            route: Arc::clone(&profile.route),
            user: profile.user.clone(),
            reason: ended.reason.name(),
            duration: ended.duration,
            bytes: ended.bytes,
        });
    }
}
