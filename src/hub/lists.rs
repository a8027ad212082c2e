//! The decisions of operators, and the lists that they see: denials, allowed channels, connections.

use super::allowed::{Change, Kept, Rules, Unchanged};
use super::batch::close_frame;
use super::denial::{After, Denial};
use super::receipt::Finally;
use super::receipt::{Line, Receipt};
use super::{Hub, now};
use crate::grip::naming::Rule;
use crate::grip::{Channel, Formats};
use crate::shard::{Command, CommandEffect, ConnectionId, Page, Question, Row, Whom};
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::oneshot;

/// The file of denials.
const DENIED: &str = "denied.json";
/// The journal of the decisions about denials that are newer than the file of denials.
pub(super) const JOURNAL: &str = "denied.log";
/// The file of changed rules.
const ALLOWED: &str = "allowed.json";

/// How long a shard may take to tell which connections it holds.
const PATIENCE: Duration = Duration::from_secs(5);

/// The content of the file of denials.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Denied {
    denied: Vec<Denial>,
}

/// One line of the journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Decision {
    /// This is denied.
    Deny(Denial),
    /// The denials of this channel have ended.
    Pardon(String),
}

/// The content of the file of changed rules.
#[derive(Debug, Default, Serialize, Deserialize)]
struct AllowedFile {
    routes: Vec<Kept>,
}

/// The connections that a list is to have; all, by default.
#[derive(Clone, Debug, Default)]
pub struct ConnectionFilter {
    /// Selects the connections that are subscribed to this channel.
    pub channel: Option<Channel>,
    /// Those of this user.
    pub user: Option<Channel>,
}

impl Hub {
    /// Reads what was decided before a restart.
    ///
    /// # Errors
    /// What cannot be read, and why.
    pub fn load(&self) -> io::Result<()> {
        let read = |name| self.store.read(name).map_err(|error| named(name, &error));
        if let Some(text) = read(DENIED)? {
            let denied: Denied = serde_json::from_slice(&text).map_err(|error| named(DENIED, &error.into()))?;
            let state = &mut *self.state();
            denied.denied.into_iter().filter(|denial| denial.until > now()).for_each(|d| state.denials.add(d));
        }
        self.load_journal()?;
        self.denying.store(!self.state().denials.is_empty(), Relaxed);
        if let Some(text) = read(ALLOWED)? {
            let file: AllowedFile = serde_json::from_slice(&text).map_err(|error| named(ALLOWED, &error.into()))?;
            let state = &mut *self.state();
            state.allowed.restore(file.routes).map_err(|error| named(ALLOWED, &io::Error::other(error)))?;
            self.ruled.store(state.allowed.is_used(), Relaxed);
        }
        Ok(())
    }

    /// Carries out again what was decided after the file of denials was written.
    fn load_journal(&self) -> io::Result<()> {
        let lines = self.store.read_journal().map_err(|error| named(JOURNAL, &error))?;
        let state = &mut *self.state();
        for line in lines {
            match serde_json::from_slice(&line).map_err(|error| named(JOURNAL, &error.into()))? {
                Decision::Deny(denial) => state.denials.add(denial),
                Decision::Pardon(channel) => drop(state.denials.delete(&channel, now())),
            }
        }
        state.denials.expire(now());
        Ok(())
    }

    /// Keeps denials over a restart. They must be in the order in which they were decided.
    pub(super) fn record_denials(&self, denials: Vec<Denial>) {
        for denial in denials {
            self.store.record(|| serde_json::to_string(&Decision::Deny(denial)).ok());
        }
    }

    /// Keeps what is decided on disk, forever.
    pub async fn keep(&self) {
        let files = || {
            let mut state = self.state();
            state.denials.expire(now());
            self.denying.store(!state.denials.is_empty(), Relaxed);
            let (denied, routes) = (state.denials.all(now()), state.allowed.kept());
            drop(state);
            let texts = [
                (DENIED, serde_json::to_string_pretty(&Denied { denied })),
                (ALLOWED, serde_json::to_string_pretty(&AllowedFile { routes })),
            ];
            texts.into_iter().filter_map(|(name, text)| Some((name, text.ok()?))).collect()
        };
        self.store.keep(files).await;
    }

    /// Waits until what was decided so far survives a restart, if anything does.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn kept(&self) -> Result<(), String> {
        self.store.kept().await
    }

    /// Returns whether anything is denied to anybody.
    pub fn has_denials(&self) -> bool {
        self.denying.load(Relaxed)
    }

    /// Returns the channel that is denied to a connection that is about to hold all of `channels`.
    pub fn denies(&self, channels: &[Channel]) -> Option<Channel> {
        let state = self.state();
        if state.denials.is_empty() { None } else { state.denials.find(channels, &[], now()) }
    }

    /// Returns at most `limit` denials of channels whose names begin with `prefix`, in order, after `after`; and where
    /// there are more.
    pub fn denials(&self, prefix: &str, after: Option<&After>, limit: usize) -> (Vec<Denial>, Option<After>) {
        self.state().denials.list(prefix, after, limit, now())
    }

    /// Ends the denials of a channel, and says how many they were.
    pub fn pardon(&self, channel: &str) -> usize {
        let state = &mut *self.state();
        let ended = state.denials.delete(channel, now());
        self.denying.store(!state.denials.is_empty(), Relaxed);
        if ended > 0 {
            self.store.record(|| serde_json::to_string(&Decision::Pardon(channel.to_owned())).ok());
        }
        ended
    }

    /// Takes note of the routes that there are, and of their rules. Returns those whose rules were changed since.
    pub fn configure(&self, rules: impl IntoIterator<Item = (Arc<str>, Option<Arc<Rule>>)>) -> Vec<Arc<str>> {
        let state = &mut *self.state();
        let changed = state.allowed.configure(rules);
        self.ruled.store(state.allowed.is_used(), Relaxed);
        changed
    }

    /// Returns the rule for the names that the clients of a route may hold; `None`: all. `own`: the one that it was
    /// configured with.
    pub fn rule(&self, route: &str, own: Option<&Arc<Rule>>) -> Option<Arc<Rule>> {
        let ruled = self.ruled.load(Relaxed);
        if ruled { self.state().allowed.rule_of(route, own).cloned() } else { own.cloned() }
    }

    /// Returns the rules of all routes.
    pub fn rules(&self) -> Vec<Rules> {
        self.state().allowed.list()
    }

    /// Changes the rule of a route, of the only one if none is named.
    ///
    /// # Errors
    /// Why it is as it was.
    pub fn change_rule(&self, route: Option<&str>, change: &Change) -> Result<Rules, Unchanged> {
        let state = &mut *self.state();
        let rules = state.allowed.change(route, change)?;
        self.ruled.store(state.allowed.is_used(), Relaxed);
        self.store.change();
        Ok(rules)
    }

    /// Returns connections in order after `after`, at most `limit`, and whether there are more.
    pub async fn connections_of(
        &self,
        filter: &ConnectionFilter,
        after: Option<ConnectionId>,
        limit: usize,
    ) -> (Vec<(ConnectionId, Row)>, bool) {
        let mut found = Vec::new();
        for shard in after.map_or(0, |after| after.shard)..self.inboxes.len() {
            let mut after = after.filter(|after| after.shard == shard).map(|after| after.place.key());
            loop {
                let limit = limit - found.len();
                if limit == 0 {
                    // There may be none, which the next page tells.
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

    async fn ask(&self, shard: usize, filter: &ConnectionFilter, after: Option<u32>, limit: usize) -> Page {
        let (answer, answered) = oneshot::channel();
        let ConnectionFilter { channel, user } = filter.clone();
        self.inboxes[shard].ask(Question { channel, user, after, limit, answer });
        // A shard that has ended holds nobody, and does not say so.
        let answered = tokio::time::timeout(PATIENCE, answered).await;
        answered.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// Returns the connection that is called so.
    pub async fn connection(&self, id: ConnectionId) -> Option<Row> {
        if id.shard >= self.inboxes.len() {
            return None;
        }
        let before = id.place.key().checked_sub(1);
        let page = self.ask(id.shard, &ConnectionFilter::default(), before, 1).await;
        page.rows.into_iter().find(|row| row.place == id.place)
    }

    /// Closes one connection, as a close of a channel closes all of its. `finally` gets the outcome.
    pub fn close_connection(&self, id: ConnectionId, finally: Finally) -> Option<Receipt> {
        let inbox = self.inboxes.get(id.shard)?;
        let line =
            Line { channel: Channel::from(""), delivers: false, closes: true, subscribes: false, unsubscribes: false };
        let (receipt, tally) = Receipt::begin(Arc::new([line]), finally);
        let effect = CommandEffect::Close { formats: Formats::ALL, frame: close_frame(Formats::ALL, None) };
        let state = &mut *self.state();
        state.table.number += 1;
        let number = state.table.number;
        inbox.put(Vec::new(), vec![Command { number, whom: Whom::One(id.place), effect, tally, index: 0 }]);
        Some(receipt)
    }
}

fn named(name: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("state_dir: {name}: {error}"))
}
