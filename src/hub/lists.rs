//! The decisions of operators and the lists that operators see: denials, allowed channels, connections.

use super::batch::close_frame;
use super::denial::{Denial, DenialCursor};
use super::receipt::OnFinalOutcomes;
use super::receipt::{Receipt, ReceiptLine};
use super::route_rules::{RouteRule, RuleChange, RuleChangeError, StoredRule};
use super::{Hub, now};
use crate::grip::naming::ChannelRule;
use crate::grip::{Channel, Formats};
use crate::shard::{Command, CommandEffect, CommandTarget, ConnectionId, ListedConnection, ListingPage, ListingQuery};
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::oneshot;

/// The name of the file of denials.
const DENIED: &str = "denied.json";
/// The name of the journal. It holds the decisions about denials that are newer than the file of denials.
pub(super) const JOURNAL: &str = "denied.log";
/// The name of the file of changed rules.
const ALLOWED: &str = "allowed.json";

/// The time within which a shard must return a page of its connections.
const SHARD_TIMEOUT: Duration = Duration::from_secs(5);

/// The content of the file of denials.
#[derive(Debug, Default, Serialize, Deserialize)]
struct DenialsFile {
    denied: Vec<Denial>,
}

/// One line of the journal: a decision about denials.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum JournalLine {
    /// This denial was added.
    Deny(Denial),
    /// All denials of this channel were ended.
    Pardon(String),
}

/// The content of the file of changed rules.
#[derive(Debug, Default, Serialize, Deserialize)]
struct AllowedFile {
    routes: Vec<StoredRule>,
}

/// A filter for lists of connections. The default selects all connections.
#[derive(Clone, Debug, Default)]
pub struct ConnectionFilter {
    /// Selects the connections that are subscribed to this channel.
    pub channel: Option<Channel>,
    /// Selects the connections of this user.
    pub user: Option<Channel>,
}

impl Hub {
    /// Reads the denials and the changed rules that were stored before a restart. Does nothing if there is no state
    /// folder.
    ///
    /// # Errors
    /// A file cannot be read, or its content is invalid. The error names the file.
    pub fn load(&self) -> io::Result<()> {
        let read = |name| self.store.read(name).map_err(|error| named(name, &error));
        if let Some(text) = read(DENIED)? {
            let denied: DenialsFile = serde_json::from_slice(&text).map_err(|error| named(DENIED, &error.into()))?;
            let state = &mut *self.state();
            denied.denied.into_iter().filter(|denial| denial.until > now()).for_each(|d| state.denials.add(d));
        }
        self.load_journal()?;
        self.has_denials.store(!self.state().denials.is_empty(), Relaxed);
        if let Some(text) = read(ALLOWED)? {
            let file: AllowedFile = serde_json::from_slice(&text).map_err(|error| named(ALLOWED, &error.into()))?;
            let state = &mut *self.state();
            state.allowed.restore(file.routes).map_err(|error| named(ALLOWED, &io::Error::other(error)))?;
            self.has_rules.store(state.allowed.is_used(), Relaxed);
        }
        Ok(())
    }

    /// Applies the decisions in the journal, in their order. The file of denials may already contain some of them.
    fn load_journal(&self) -> io::Result<()> {
        let lines = self.store.read_journal().map_err(|error| named(JOURNAL, &error))?;
        let state = &mut *self.state();
        for line in lines {
            match serde_json::from_slice(&line).map_err(|error| named(JOURNAL, &error.into()))? {
                JournalLine::Deny(denial) => state.denials.add(denial),
                JournalLine::Pardon(channel) => drop(state.denials.delete(&channel, now())),
            }
        }
        state.denials.expire(now());
        Ok(())
    }

    /// Adds denials to the journal, so that they survive a restart. They must be in the order in which they were
    /// decided.
    pub(super) fn record_denials(&self, denials: Vec<Denial>) {
        for denial in denials {
            self.store.record(|| serde_json::to_string(&JournalLine::Deny(denial)).ok());
        }
    }

    /// Writes the decisions of operators to disk whenever there are new ones. Never returns.
    pub async fn keep_writing(&self) {
        let files = || {
            let mut state = self.state();
            state.denials.expire(now());
            self.has_denials.store(!state.denials.is_empty(), Relaxed);
            let (denied, routes) = (state.denials.all(now()), state.allowed.kept());
            drop(state);
            let texts = [
                (DENIED, serde_json::to_string_pretty(&DenialsFile { denied })),
                (ALLOWED, serde_json::to_string_pretty(&AllowedFile { routes })),
            ];
            texts.into_iter().filter_map(|(name, text)| Some((name, text.ok()?))).collect()
        };
        self.store.keep(files).await;
    }

    /// Waits until all decisions made so far are on disk. Returns at once if there is no state folder.
    ///
    /// # Errors
    /// The decisions could not be written. The error says why.
    pub async fn wait_until_written(&self) -> Result<(), String> {
        self.store.wait_until_written().await
    }

    /// Returns whether any channel is denied to anybody. This takes no lock, and may go on returning `true` after the
    /// last denial has expired.
    pub fn has_denials(&self) -> bool {
        self.has_denials.load(Relaxed)
    }

    /// Returns the first of `channels` that is denied to a connection that is about to hold all of them, or `None`
    /// if none is.
    pub fn denies(&self, channels: &[Channel]) -> Option<Channel> {
        let state = self.state();
        if state.denials.is_empty() { None } else { state.denials.find(channels, &[], now()) }
    }

    /// Returns at most `limit` denials of channels whose names begin with `prefix`, in the order of the names, from
    /// the one after `after` on. The second value is the `after` of the next page, or `None` if there are no more
    /// denials.
    pub fn denials(
        &self,
        prefix: &str,
        after: Option<&DenialCursor>,
        limit: usize,
    ) -> (Vec<Denial>, Option<DenialCursor>) {
        self.state().denials.list(prefix, after, limit, now())
    }

    /// Ends the denials of a channel. Returns how many of them had not expired.
    pub fn pardon(&self, channel: &str) -> usize {
        let state = &mut *self.state();
        let ended = state.denials.delete(channel, now());
        self.has_denials.store(!state.denials.is_empty(), Relaxed);
        if ended > 0 {
            self.store.record(|| serde_json::to_string(&JournalLine::Pardon(channel.to_owned())).ok());
        }
        ended
    }

    /// Sets the configured rules of all routes, in place of those of an earlier call. Returns the names of the
    /// routes whose rules were changed at run time. Those changes stay in force.
    pub fn configure(&self, rules: impl IntoIterator<Item = (Arc<str>, Option<Arc<ChannelRule>>)>) -> Vec<Arc<str>> {
        let state = &mut *self.state();
        let changed = state.allowed.configure(rules);
        self.has_rules.store(state.allowed.is_used(), Relaxed);
        changed
    }

    /// Returns the rule for the channels that the clients of a route may hold, or `None` if they may hold every
    /// channel. `own` is the rule that the caller's copy of the route was configured with. It applies if the route
    /// is no longer configured and its rule was not changed at run time, and also if no route has a rule now.
    pub fn rule(&self, route: &str, own: Option<&Arc<ChannelRule>>) -> Option<Arc<ChannelRule>> {
        let ruled = self.has_rules.load(Relaxed);
        if ruled { self.state().allowed.rule_of(route, own).cloned() } else { own.cloned() }
    }

    /// Returns the rules of all routes, including routes that are no longer configured but whose rules were changed.
    pub fn rules(&self) -> Vec<RouteRule> {
        self.state().allowed.list()
    }

    /// Changes the rule of a route. If `route` is `None`, the rule of the only configured route is changed.
    ///
    /// # Errors
    /// The rule stays as it was. The error says why.
    pub fn change_rule(&self, route: Option<&str>, change: &RuleChange) -> Result<RouteRule, RuleChangeError> {
        let state = &mut *self.state();
        let rules = state.allowed.change(route, change)?;
        self.has_rules.store(state.allowed.is_used(), Relaxed);
        self.store.change();
        Ok(rules)
    }

    /// Returns the connections that `filter` selects, in the order of their ids, from the one after `after` on: at
    /// most `limit`, and whether there may be more. The connections of a shard that does not answer within 5 seconds
    /// are left out.
    pub async fn connections_of(
        &self,
        filter: &ConnectionFilter,
        after: Option<ConnectionId>,
        limit: usize,
    ) -> (Vec<(ConnectionId, ListedConnection)>, bool) {
        let mut found = Vec::new();
        for shard in after.map_or(0, |after| after.shard)..self.inboxes.len() {
            let mut after = after.filter(|after| after.shard == shard).map(|after| after.place.key());
            loop {
                let limit = limit - found.len();
                if limit == 0 {
                    // There may be no more connections. The next page will show that.
                    return (found, true);
                }
                let page = self.ask(shard, filter, after, limit).await;
                found.extend(page.rows.into_iter().map(|row| (ConnectionId { shard, place: row.place }, row)));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        (found, false)
    }

    async fn ask(&self, shard: usize, filter: &ConnectionFilter, after: Option<u32>, limit: usize) -> ListingPage {
        let (answer, answered) = oneshot::channel();
        let ConnectionFilter { channel, user } = filter.clone();
        self.inboxes[shard].ask(ListingQuery { channel, user, after, limit, answer });
        // A shard that has ended holds no connections and does not answer, so an empty page is right.
        let answered = tokio::time::timeout(SHARD_TIMEOUT, answered).await;
        answered.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// Returns the connection with this id, or `None` if it is not held.
    pub async fn connection(&self, id: ConnectionId) -> Option<ListedConnection> {
        if id.shard >= self.inboxes.len() {
            return None;
        }
        let before = id.place.key().checked_sub(1);
        let page = self.ask(id.shard, &ConnectionFilter::default(), before, 1).await;
        page.rows.into_iter().find(|row| row.place == id.place)
    }

    /// Closes one connection in the same way as the close of a channel closes the connections of that channel.
    /// `finally` gets the outcome. Returns `None` if `id` names a shard that does not exist.
    pub fn close_connection(&self, id: ConnectionId, finally: OnFinalOutcomes) -> Option<Receipt> {
        let inbox = self.inboxes.get(id.shard)?;
        let line = ReceiptLine {
            channel: Channel::from(""),
            delivers: false,
            closes: true,
            subscribes: false,
            unsubscribes: false,
        };
        let (receipt, tally) = Receipt::begin(Arc::new([line]), finally);
        let effect = CommandEffect::Close { formats: Formats::ALL, frame: close_frame(Formats::ALL, None) };
        let state = &mut *self.state();
        state.table.number += 1;
        let number = state.table.number;
        inbox.put(Vec::new(), vec![Command { number, whom: CommandTarget::One(id.place), effect, tally, index: 0 }]);
        Some(receipt)
    }
}

fn named(name: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("state_dir: {name}: {error}"))
}
