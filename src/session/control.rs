//! The control messages of GRIP (`c:` followed by JSON) that an origin sends within a WebSocket, and their effects.

use super::live::{Session, SessionEnd};
use crate::admission::NotAdmitted;
use crate::grip::control::{ControlMessage, ControlRefusal};
use crate::grip::{Channel, CloseReason, Filter, Rights};
use crate::shard::{DeniedChannel, EndReason, Profile};
use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

impl Session<'_> {
    /// Carries out a control message. `text` is the JSON after `c:`. Returns how the session ends, or `None` if it
    /// continues.
    pub(super) fn carry_out(&mut self, text: &[u8]) -> Option<SessionEnd> {
        match ControlMessage::parse(text) {
            Ok(ControlMessage::Detach) => return self.detach(),
            Ok(control) => return self.follow(control),
            Err(ControlRefusal::Invalid(error)) => {
                tracing::warn!(uri = %self.about.shown(), %error, "a control message was ignored")
            }
            Err(ControlRefusal::TooManyFilters(error)) => {
                tracing::warn!(
                    uri = %self.about.shown(),
                    %error,
                    "a WebSocket was closed because of a control message"
                );
                return Some(SessionEnd::Close(CloseReason::new(1011, "too many filters")));
            }
        }
        None
    }

    fn follow(&mut self, control: ControlMessage) -> Option<SessionEnd> {
        match control {
            ControlMessage::Subscribe { channel, filters } => self.subscribe(&channel, filters),
            ControlMessage::Unsubscribe { channel } => self.unsubscribe(&channel),
            // The control message `session` is ignored: it has a meaning only together with a state service, which
            // gripd does not have.
            ControlMessage::Detach | ControlMessage::Session { .. } => {}
            ControlMessage::SetMeta { name, value } => {
                self.set_meta(&name, value.as_deref());
                let end = self.know_user(&name);
                self.change_terms();
                return end;
            }
            ControlMessage::KeepAlive(timed) => {
                let timed = timed.map(|timed| {
                    let wait = self.sessions.spread.wait_until_due(timed.timeout, Duration::ZERO);
                    (timed, Instant::now() + wait)
                });
                if timed.is_some() || self.extras.is_some() {
                    self.extras().keep_alive = timed;
                }
            }
            ControlMessage::SendDelayed(timed) => {
                self.flush_delayed();
                let at = Instant::now() + timed.timeout;
                self.extras().delayed = Some((timed, at));
            }
            ControlMessage::FlushDelayed => self.flush_delayed(),
        }
        None
    }

    fn flush_delayed(&mut self) {
        if let Some((timed, _)) = self.extras.as_mut().and_then(|extras| extras.delayed.take()) {
            self.send_timed(&timed);
        }
    }

    fn subscribe(&mut self, name: &str, filters: Vec<Filter>) {
        // The client's side is closed, or the shard is ending the connection. Items published from now on no longer
        // reach the client.
        if !self.phase.is_open() {
            return;
        }
        let channel = Channel::prefixed(&self.about.route.prefix, name);
        let held = self.parked.channels();
        if !held.contains(&channel) {
            let admission = &self.sessions.admission;
            if let Err(NotAdmitted { refusal, .. }) =
                admission.admit(&self.about.route, &self.rights(), std::iter::once(name))
            {
                return tracing::warn!(
                    uri = %self.about.shown(),
                    channel = name,
                    %refusal,
                    "a subscription was ignored"
                );
            }
            let most = admission.max_channels();
            if held.len() >= most {
                self.sessions.metrics.refused_subscriptions.inc();
                return tracing::warn!(
                    uri = %self.about.shown(),
                    channel = name,
                    most,
                    "a subscription was ignored: the WebSocket has reached its maximum number of channels \
                     ([client] max_channels)"
                );
            }
            if self.enter(&channel, filters.clone()).is_err() {
                // The same response may subscribe the client to another channel that exempts it from the denial
                // (`except`). The subscription is therefore tried once more at the end of this poll.
                return self.extras().denied.push((channel, filters));
            }
        } else {
            self.set_filters(&channel, filters);
        }
        self.change_terms();
    }

    fn enter(&mut self, channel: &Channel, filters: Vec<Filter>) -> Result<(), DeniedChannel> {
        // Entering a channel first delivers everything that was accepted before, and the changed terms of the other
        // channels must apply to that. The terms of the new channel are applied at the end of this poll, before its
        // first item.
        if self.terms_due {
            self.agree();
        }
        self.set_filters(channel, filters);
        self.put_small();
        let entered = self.parked.enter(channel);
        if entered.is_err() {
            self.set_filters(channel, Vec::new());
        }
        entered
    }

    /// Tries once more to subscribe the client to the channels that were denied during this poll of the session.
    pub(super) fn enter_denied(&mut self) {
        let Some(extras) = self.extras.as_mut().filter(|extras| !extras.denied.is_empty()) else { return };
        for (channel, filters) in std::mem::take(&mut extras.denied) {
            let held = self.parked.channels();
            let name = channel.strip_prefix(&self.about.route.prefix).unwrap_or(&channel);
            let refused = held.len() >= self.sessions.admission.max_channels() || !self.admits(name);
            if !self.phase.is_open() || held.contains(&channel) || refused {
                continue;
            }
            match self.enter(&channel, filters) {
                Ok(()) => self.change_terms(),
                Err(denied) => {
                    self.sessions.admission.note_denied(&denied);
                    tracing::info!(uri = %self.about.shown(), %denied, "a subscription was ignored");
                }
            }
        }
    }

    /// Returns whether the client may hold a channel, by the rule of its route and by its token. `name` is the
    /// channel's name without the prefix of the route.
    fn admits(&self, name: &str) -> bool {
        self.sessions.admission.admits(&self.about.route, &self.rights(), name)
    }

    fn rights(&self) -> Cow<'_, Rights> {
        self.rights.as_deref().map_or_else(Cow::default, Cow::Borrowed)
    }

    /// Learns the user of the client, if `name` is the meta in which the origin names users (`user_meta`). The
    /// session ends if the user's own channel is denied to the client: without that channel, nobody could close this
    /// connection together with the other connections of the user.
    fn know_user(&mut self, name: &str) -> Option<SessionEnd> {
        let about = Rc::clone(&self.about);
        let route = &about.route;
        let users = route.users.as_ref().filter(|users| users.are_named_by(name))?;
        let rights = self.extras.as_ref().and_then(|extras| users.rights_by(&extras.meta)).unwrap_or_default();
        let old = self.rights.replace(Box::new(rights.clone())).unwrap_or_default();
        if *old == rights || !self.phase.is_open() {
            return None;
        }
        if let Some(own) = old.own_channel(&route.prefix) {
            self.parked.leave(&Channel::from(own.as_str()));
        }
        // The previous user may have been allowed channels that the new one is not.
        for channel in self.parked.channels() {
            let name = channel.strip_prefix(&route.prefix).unwrap_or(&channel);
            if !self.implicit().iter().any(|implicit| **implicit == *channel) && !self.admits(name) {
                self.parked.leave(&channel);
            }
        }
        self.parked.identify(&Profile::new(&route.name, &rights, self.about.client));
        let own = Channel::from(rights.own_channel(&route.prefix)?.as_str());
        if self.parked.channels().contains(&own) {
            return None;
        }
        match self.enter(&own, Vec::new()) {
            Ok(()) => None,
            Err(denied) => {
                self.sessions.admission.note_denied(&denied);
                tracing::info!(
                    uri = %self.about.shown(),
                    %denied,
                    "a WebSocket was closed because the channel of its user is denied to it"
                );
                self.parked.set_end_reason(EndReason::Kicked);
                Some(SessionEnd::Close(CloseReason::new(1008, "denied")))
            }
        }
    }

    fn set_filters(&mut self, channel: &Channel, filters: Vec<Filter>) {
        if filters.is_empty() && self.extras.is_none() {
            return;
        }
        let all = &mut self.extras().filters;
        all.retain(|(name, _)| name != channel);
        if !filters.is_empty() {
            all.push((channel.clone(), filters));
        }
    }

    fn unsubscribe(&mut self, name: &str) {
        let channel = Channel::prefixed(&self.about.route.prefix, name);
        let own = self.rights.as_ref().and_then(|rights| rights.own.as_deref());
        if own == Some(name) || self.implicit().iter().any(|implicit| **implicit == *channel) {
            return;
        }
        if let Some(extras) = &mut self.extras {
            extras.denied.retain(|(denied, _)| *denied != channel);
        }
        if self.parked.leave(&channel) {
            self.set_filters(&channel, Vec::new());
            self.change_terms();
        }
    }

    fn set_meta(&mut self, name: &str, value: Option<&str>) {
        let meta = &mut self.extras().meta;
        match value {
            None => meta.remove(name),
            Some(value) => {
                if let Err(error) = meta.add(name, value) {
                    tracing::warn!(
                        uri = %self.about.shown(),
                        name,
                        %error,
                        "the origin sets too many or too long meta values: this one is ignored"
                    );
                }
            }
        }
    }

    /// Marks the terms as changed. They are applied once, at the end of this poll of the session. A session without
    /// filters has no terms, so that nothing needs to be applied.
    fn change_terms(&mut self) {
        let filters = self.extras.as_ref().is_some_and(|extras| !extras.filters.is_empty());
        self.terms_due |= filters || self.parked.is_on_terms();
    }
}
