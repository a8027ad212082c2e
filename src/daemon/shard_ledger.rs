//! The ledger of a shard, which passes its reports on to the hub and to the webhooks.

use crate::grip::Channel;
use crate::hub::MembershipReport;
use crate::notify::{self, Notifier};
use crate::shard::{ConnectionId, DeniedChannel, EndReport, JoinInfo, JoinRequest, Ledger, Profile};
use std::sync::Arc;

/// The ledger of one shard. It reports to the hub and to the webhooks.
pub(super) struct ShardLedger {
    pub(super) shard: usize,
    pub(super) membership: MembershipReport,
    pub(super) notifier: Arc<Notifier>,
}

impl Ledger for ShardLedger {
    fn join(&self, entering: &JoinRequest<'_>) -> Result<JoinInfo, DeniedChannel> {
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

    fn user_joined(&self, whose: &Profile) {
        if let Some(user) = &whose.user {
            self.notifier.user_joined(&whose.route, user);
        }
    }

    fn user_left(&self, whose: &Profile) {
        if let Some(user) = &whose.user {
            self.notifier.user_left(&whose.route, user);
        }
    }

    fn ended(&self, whose: &Profile, ended: &EndReport) {
        if self.notifier.is_idle() {
            return;
        }
        self.notifier.ended(&notify::EndedConnection {
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
