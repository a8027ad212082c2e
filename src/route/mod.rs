//! Routes, pure: which origin a request goes to, and how.

mod condition;
mod line;
mod options;
mod section;
mod table;
mod target;
mod users;

pub use condition::{Condition, Protocol, Query};
pub use line::{parse_line, parse_lines};
pub use options::{Jsonp, Rewrite, Signing};
pub use table::Table;
pub use target::{Address, Place, Target};
pub use users::{Bearer, UserSource, Users};

use crate::grip::Rights;
use crate::grip::identity::{Place as TokenPlace, hide_tokens};
use crate::grip::naming::Rule;
use crate::grip::signature::Signer;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// A condition, the origin of the requests that fit it, and what is special about them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Which requests it is for.
    pub condition: Condition,
    /// Its name, if it has one.
    pub id: Option<String>,
    /// The name in logs and for operators: its id, or its host and path.
    pub name: Arc<str>,
    /// The prefix of the names of all channels that its origin names.
    pub prefix: String,
    /// Whether clients are told why an answer of the origin could not be used.
    pub debug: bool,
    /// Whether its answers are left as they are, and its requests told nothing of GRIP.
    pub no_grip: bool,
    /// The changes to its requests.
    pub rewrite: Rewrite,
    /// By what its requests are signed, as written.
    pub signing: Signing,
    /// The signer of its requests.
    pub signer: RouteSigner,
    /// How it is known who its clients are, if it is.
    pub users: Option<Arc<Users>>,
    /// Which channels they may hold, if not all.
    pub channels: Option<Arc<Rule>>,
    /// Whether web pages of any origin may use it.
    pub cors: bool,
    /// How it answers requests made by `<script>` elements, if web pages may use it.
    pub jsonp: Jsonp,
    /// How long its origin may take to answer, if not as long as all.
    pub response_timeout: Option<Duration>,
    /// How much is logged of its requests, from 0 (errors) to 4, instead of what is configured.
    pub log_level: Option<u8>,
    /// Where its requests go: to the first that can be reached.
    pub targets: Vec<Target>,
    /// Options that mean something in Pushpin but nothing to this version.
    pub ignored: Vec<String>,
}

/// The signer of the requests of one route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RouteSigner {
    /// The one that signs for all routes, if there is one.
    #[default]
    Common,
    /// None: the requests are not signed, whatever those of other routes are.
    Nobody,
    /// A signer of its own.
    Own(Arc<Signer>),
}

impl Route {
    /// Returns whether a rule is configured for the names that its clients may hold.
    const fn is_ruled(&self) -> bool {
        self.channels.is_some()
    }

    /// Returns whether the queries of its requests may have tokens.
    fn has_tokens(&self) -> bool {
        let Some(UserSource::Token(bearer)) = self.users.as_ref().map(|users| &users.source) else { return false };
        bearer.places.iter().any(|place| matches!(place, TokenPlace::Query(_)))
    }

    /// Returns the channels that a connection holds whatever its origin says: those of its target, and its user's own.
    pub fn implicit(&self, target: usize, rights: &Rights) -> Vec<String> {
        let named = self.targets.get(target).map_or(&[][..], |target| &target.channels);
        named.iter().cloned().chain(rights.own_channel(&self.prefix)).collect()
    }

    /// Returns a URI of one of its requests as logs show it: without the tokens of users.
    pub fn shown<'a>(&self, uri: &'a str) -> Cow<'a, str> {
        let Some(UserSource::Token(bearer)) = self.users.as_ref().map(|users| &users.source) else { return uri.into() };
        let Some((path, query)) = uri.split_once('?') else { return uri.into() };
        match hide_tokens(query, &bearer.places) {
            Some(hidden) => format!("{path}?{hidden}").into(),
            None => uri.into(),
        }
    }
}
