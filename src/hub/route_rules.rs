//! The rules for the channels that the clients of each route may hold. Rules are configured, and may be changed
//! while gripd runs. Pure.

use crate::grip::naming::ChannelRule;
use crate::grip::{InvalidText, invalid};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The rules of all routes, by the names of the routes.
#[derive(Debug, Default)]
pub(super) struct RouteRules {
    configured: BTreeMap<Arc<str>, Option<Arc<ChannelRule>>>,
    changed: BTreeMap<Arc<str>, Arc<ChannelRule>>,
}

/// The rule of one route, as it is in force and as it is configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteRule {
    /// The name of the route.
    pub route: String,
    /// The patterns in force, or `None` if every channel may be held.
    pub channels: Option<Vec<String>>,
    /// The configured patterns, or `None` if no rule is configured for the route.
    pub configured: Option<Vec<String>>,
}

/// The changed rule of a route, as it is stored on disk.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredRule {
    route: String,
    channels: Vec<String>,
}

/// A change to the rule of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleChange {
    /// Replaces the patterns with these.
    Replace(Vec<String>),
    /// Adds this pattern.
    Add(String),
    /// Removes this pattern.
    Remove(String),
    /// Restores the configured rule.
    Reset,
}

/// The reason why a rule was not changed.
#[derive(Debug, PartialEq, Eq)]
pub enum RuleChangeError {
    /// There is no route of this name, or no name was given although there is not exactly one route. The text lists
    /// the names of the configured routes.
    Route(String),
    /// The rule does not contain this pattern.
    Pattern(String),
    /// This route has no rule. Adding one pattern would refuse all other channels.
    NoRule(String),
    /// A pattern is invalid.
    Invalid(InvalidText),
}

impl RouteRules {
    /// Sets the configured rules of all routes, in place of those of an earlier call. Returns the names of the
    /// routes whose rules were changed at run time. Those changes stay in force.
    pub(super) fn configure(
        &mut self,
        rules: impl IntoIterator<Item = (Arc<str>, Option<Arc<ChannelRule>>)>,
    ) -> Vec<Arc<str>> {
        self.configured = rules.into_iter().collect();
        self.changed.keys().cloned().collect()
    }

    /// Returns whether any route has a rule.
    pub(super) fn is_used(&self) -> bool {
        !self.changed.is_empty() || self.configured.values().any(Option::is_some)
    }

    /// Returns the rule of a route, or `None` if every channel may be held. `own` is the rule that the route was
    /// configured with. It applies if the route is no longer configured and its rule was not changed at run time.
    pub(super) fn rule_of<'a>(
        &'a self,
        route: &str,
        own: Option<&'a Arc<ChannelRule>>,
    ) -> Option<&'a Arc<ChannelRule>> {
        let configured = || self.configured.get(route).map_or(own, Option::as_ref);
        self.changed.get(route).or_else(configured)
    }

    fn rule(&self, route: &str) -> Option<&Arc<ChannelRule>> {
        self.rule_of(route, None)
    }

    /// Returns the rules of all routes, including routes that are no longer configured but whose rules were changed.
    pub(super) fn list(&self) -> Vec<RouteRule> {
        // The changed rule of a route is kept even if the route is no longer configured, because it may come back.
        let names: BTreeSet<&Arc<str>> = self.configured.keys().chain(self.changed.keys()).collect();
        names.into_iter().map(|route| self.rules(route)).collect()
    }

    fn rules(&self, route: &str) -> RouteRule {
        let patterns = |rule: &Arc<ChannelRule>| rule.patterns().map(str::to_owned).collect();
        let configured = self.configured.get(route).and_then(Option::as_ref);
        RouteRule {
            route: route.to_owned(),
            channels: self.rule(route).map(patterns),
            configured: configured.map(patterns),
        }
    }

    /// Changes the rule of a route. If `route` is `None`, the rule of the only configured route is changed.
    pub(super) fn change(&mut self, route: Option<&str>, change: &RuleChange) -> Result<RouteRule, RuleChangeError> {
        let route = self.named(route)?;
        let current = self.rule(&route);
        let rule = match change {
            RuleChange::Reset => None,
            RuleChange::Replace(patterns) => Some(ChannelRule::parse(patterns).map_err(RuleChangeError::Invalid)?),
            RuleChange::Add(pattern) => {
                let current = current.ok_or_else(|| RuleChangeError::NoRule(route.to_string()))?;
                Some(current.with(pattern).map_err(RuleChangeError::Invalid)?)
            }
            RuleChange::Remove(pattern) => {
                let without = current.and_then(|current| current.without(pattern));
                Some(without.ok_or_else(|| RuleChangeError::Pattern(pattern.clone()))?)
            }
        };
        match rule {
            Some(rule) => self.changed.insert(Arc::clone(&route), Arc::new(rule)),
            None => self.changed.remove(&route),
        };
        Ok(self.rules(&route))
    }

    fn named(&self, route: Option<&str>) -> Result<Arc<str>, RuleChangeError> {
        let found = match route {
            Some(name) => self.configured.get_key_value(name).map(|(name, _)| name).or_else(|| self.gone(name)),
            None if self.configured.len() == 1 => self.configured.keys().next(),
            None => None,
        };
        found.cloned().ok_or_else(|| {
            let names: Vec<&str> = self.configured.keys().map(|name| &**name).collect();
            RuleChangeError::Route(names.join(", "))
        })
    }

    fn gone(&self, route: &str) -> Option<&Arc<str>> {
        self.changed.get_key_value(route).map(|(name, _)| name)
    }

    /// Returns the changed rules in the form in which they are stored on disk.
    pub(super) fn kept(&self) -> Vec<StoredRule> {
        let patterns = |rule: &ChannelRule| rule.patterns().map(str::to_owned).collect();
        self.changed
            .iter()
            .map(|(route, rule)| StoredRule { route: route.to_string(), channels: patterns(rule) })
            .collect()
    }

    /// Restores the changed rules that were stored on disk.
    pub(super) fn restore(&mut self, kept: Vec<StoredRule>) -> Result<(), InvalidText> {
        for StoredRule { route, channels } in kept {
            match ChannelRule::parse(&channels) {
                Ok(rule) => drop(self.changed.insert(route.into(), Arc::new(rule))),
                Err(error) => return invalid(format!("the route '{route}': {error}")),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(routes: &[(&str, Option<&[&str]>)]) -> RouteRules {
        let mut allowed = RouteRules::default();
        let rule = |patterns: &&[&str]| Arc::new(ChannelRule::parse(patterns).unwrap());
        allowed.configure(routes.iter().map(|(name, patterns)| (Arc::from(*name), patterns.as_ref().map(rule))));
        allowed
    }

    fn patterns(allowed: &RouteRules, route: &str) -> Option<Vec<String>> {
        allowed.rule(route).map(|rule| rule.patterns().map(str::to_owned).collect())
    }

    #[test]
    fn a_rule_is_changed_and_reset() {
        let mut allowed = allowed(&[("a", Some(&["c{id}"])), ("b", None)]);
        let add = RuleChange::Add("d{id}".into());
        let rules = allowed.change(Some("a"), &add).unwrap();
        assert_eq!(rules.channels.unwrap(), ["c{id}", "d{id}"]);
        assert_eq!(rules.configured.unwrap(), ["c{id}"]);
        allowed.change(Some("a"), &RuleChange::Remove("c{id}".into())).unwrap();
        assert_eq!(patterns(&allowed, "a").unwrap(), ["d{id}"]);
        allowed.change(Some("a"), &RuleChange::Reset).unwrap();
        assert_eq!(patterns(&allowed, "a").unwrap(), ["c{id}"]);
        assert_eq!(allowed.change(Some("b"), &add), Err(RuleChangeError::NoRule("b".into())));
        assert_eq!(allowed.change(Some("b"), &RuleChange::Replace(vec![])).unwrap().channels.unwrap(), [""; 0]);
    }

    #[test]
    fn what_cannot_be_changed_is_said() {
        let mut allowed = allowed(&[("a", Some(&["c{id}"])), ("b", None)]);
        let unknown = RuleChangeError::Route("a, b".into());
        assert_eq!(allowed.change(None, &RuleChange::Reset), Err(unknown));
        assert!(matches!(allowed.change(Some("x"), &RuleChange::Reset), Err(RuleChangeError::Route(_))));
        let no_pattern = allowed.change(Some("a"), &RuleChange::Remove("x".into()));
        assert_eq!(no_pattern, Err(RuleChangeError::Pattern("x".into())));
        assert!(matches!(allowed.change(Some("a"), &RuleChange::Add("{".into())), Err(RuleChangeError::Invalid(_))));
        assert!(matches!(
            allowed.change(Some("a"), &RuleChange::Replace(vec!["".into()])),
            Err(RuleChangeError::Invalid(_))
        ));
        assert_eq!(patterns(&allowed, "a").unwrap(), ["c{id}"]);
    }

    #[test]
    fn changes_are_kept_over_a_restart() {
        let mut before = allowed(&[("a", Some(&["c{id}"]))]);
        assert!(before.kept().is_empty());
        before.change(None, &RuleChange::Replace(vec!["x".into()])).unwrap();
        let mut after = allowed(&[("a", None)]);
        assert!(!after.is_used());
        after.restore(before.kept()).unwrap();
        assert_eq!(patterns(&after, "a").unwrap(), ["x"]);
        assert!(after.is_used());
        let own = Arc::new(ChannelRule::parse(&["own"]).unwrap());
        assert_eq!(after.rule_of("a", Some(&own)), after.rule("a"));
        assert_eq!(after.rule_of("gone", Some(&own)), Some(&own));
    }
}
