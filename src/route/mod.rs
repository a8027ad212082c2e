//! Routes, pure: the origin to which a request goes, and the options with which gripd serves it.

mod condition;
mod line;
mod options;
mod section;
mod table;
mod target;
mod users;

pub use condition::{Protocol, RouteCondition, RouteQuery};
#[cfg(test)]
pub(crate) use line::routes_of;
pub use line::{InvalidLine, Numbered, parse_line, parse_lines};
pub use options::{JsonpOptions, Rewrite, Signing};
pub use table::RouteTable;
pub use target::{Address, Target, TargetPlace};
pub use users::{BearerTokens, UserIdentification, UserSource};

use crate::grip::Rights;
use crate::grip::identity::{TokenPlace, hide_tokens};
use crate::grip::naming::ChannelRule;
use crate::grip::signature::Signer;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// A condition, the targets of the requests that meet it, and the options for these requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// The condition that requests must meet.
    pub condition: RouteCondition,
    /// The id of the route, if it has one.
    pub id: Option<String>,
    /// The name of the route in logs and in the control API: its id, or else its condition.
    pub name: Arc<str>,
    /// The prefix that is put before each channel that the origin names.
    pub prefix: String,
    /// Whether clients are told why a request has failed or a hold has ended.
    pub debug: bool,
    /// Whether the route does without GRIP: responses are passed on as they are, and requests get no GRIP headers.
    pub no_grip: bool,
    /// The changes to requests before they are forwarded.
    pub rewrite: Rewrite,
    /// The signing options, as they are written in the configuration.
    pub signing: Signing,
    /// The signer of the requests to the origin.
    pub signer: RouteSigner,
    /// How the users of clients are identified, or `None` if they are not.
    pub users: Option<Arc<UserIdentification>>,
    /// The configured rule for the channels that clients may hold, or `None` if they may hold all.
    pub channels: Option<Arc<ChannelRule>>,
    /// Whether web pages of any web origin may use the route.
    pub cors: bool,
    /// The options for requests made by `<script>` elements. They have an effect only if `cors` is true.
    pub jsonp: JsonpOptions,
    /// How long the origin may take to answer, or `None` if the common timeout applies.
    pub response_timeout: Option<Duration>,
    /// The level that decides about log lines of requests, from 0 to 4 as in Pushpin. From 2 on, the lines are
    /// always written; below, they never are. `None` leaves the decision to the level of the log.
    pub log_level: Option<u8>,
    /// The targets. A request goes to the first one that can be reached.
    pub targets: Vec<Target>,
    /// The names of options that have a meaning in Pushpin but no effect in gripd.
    pub ignored: Vec<String>,
}

/// The signer of the requests of one route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RouteSigner {
    /// The common signer of all routes, if there is one.
    #[default]
    Common,
    /// No signer: the requests are not signed, even if those of other routes are.
    Nobody,
    /// A signer of the route's own.
    Own(Arc<Signer>),
}

impl Route {
    /// Returns whether the route is configured with a rule for the channels that clients may hold.
    const fn is_ruled(&self) -> bool {
        self.channels.is_some()
    }

    /// Returns whether the route accepts users' tokens in the queries of requests.
    fn has_tokens(&self) -> bool {
        let Some(UserSource::Token(bearer)) = self.users.as_ref().map(|users| &users.source) else { return false };
        bearer.places.iter().any(|place| matches!(place, TokenPlace::Query(_)))
    }

    /// Returns the channels that a connection holds regardless of its instruct: those of the target with this
    /// index, and the user's own.
    pub fn implicit(&self, target: usize, rights: &Rights) -> Vec<String> {
        let named = self.targets.get(target).map_or(&[][..], |target| &target.channels);
        named.iter().cloned().chain(rights.own_channel(&self.prefix)).collect()
    }

    /// Returns the URI of a request as logs show it: without the values of tokens.
    pub fn shown<'a>(&self, uri: &'a str) -> Cow<'a, str> {
        let Some(UserSource::Token(bearer)) = self.users.as_ref().map(|users| &users.source) else { return uri.into() };
        let Some((path, query)) = uri.split_once('?') else { return uri.into() };
        match hide_tokens(query, &bearer.places) {
            Some(hidden) => format!("{path}?{hidden}").into(),
            None => uri.into(),
        }
    }
}
