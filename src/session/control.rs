//! Control messages, carried out.

use super::live::{End, Session};
use crate::grip::control::{Control, Refused};
use crate::grip::{Channel, CloseReason, Filter};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Names that an origin may say of one client.
const MAX_META: usize = 64;

impl Session<'_> {
    /// Carries out a control message: the JSON behind `c:`.
    pub(super) fn carry_out(&mut self, text: &[u8]) -> Option<End> {
        let uri = &self.about.uri;
        match Control::parse(text) {
            Ok(Control::Detach) => return self.detach(),
            Ok(control) => self.follow(control),
            Err(Refused::Invalid(error)) => tracing::warn!(%uri, %error, "a control message is ignored"),
            Err(Refused::TooManyFilters(error)) => {
                tracing::warn!(%uri, %error, "a control message ends its WebSocket");
                return Some(End::Close(CloseReason::new(1011, "too many filters")));
            }
        }
        None
    }

    fn follow(&mut self, control: Control) {
        match control {
            Control::Subscribe { channel, filters } => self.subscribe(&channel, filters),
            Control::Unsubscribe { channel } => self.unsubscribe(&channel),
            // Only a state service, which there is none of, would make something of a session.
            Control::Detach | Control::Session { .. } => {}
            Control::SetMeta { name, value } => {
                self.set_meta(&name, value.as_deref());
                self.change_terms();
            }
            Control::KeepAlive(timed) => {
                let timed = timed.map(|timed| {
                    let wait = self.sessions.spread.rest(timed.timeout, Duration::ZERO);
                    (timed, Instant::now() + wait)
                });
                if timed.is_some() || self.extras.is_some() {
                    self.extras().keep_alive = timed;
                }
            }
            Control::SendDelayed(timed) => {
                self.flush_delayed();
                let at = Instant::now() + timed.timeout;
                self.extras().delayed = Some((timed, at));
            }
            Control::FlushDelayed => self.flush_delayed(),
        }
    }

    fn flush_delayed(&mut self) {
        if let Some((timed, _)) = self.extras.as_mut().and_then(|extras| extras.delayed.take()) {
            self.send_timed(&timed);
        }
    }

    fn subscribe(&mut self, name: &str, filters: Vec<Filter>) {
        // Who closes, or is being closed, gets nothing any more.
        if self.is_closing() {
            return;
        }
        let channel = Channel::prefixed(&self.about.route.prefix, name);
        let held = self.parked.channels();
        if !held.contains(&channel) {
            if held.len() >= self.sessions.settings.max_channels {
                self.sessions.metrics.refused_subscriptions.fetch_add(1, Relaxed);
                let most = self.sessions.settings.max_channels;
                return tracing::warn!(uri = %self.about.uri, channel = name, most, "a WebSocket may hold no more channels");
            }
            // Those that it holds have their terms by now, and this one has them from its first item on.
            if self.stale {
                self.agree();
            }
            self.set_filters(&channel, filters);
            self.put_small();
            if let Err(denied) = self.parked.enter(&channel) {
                tracing::info!(uri = %self.about.uri, %denied, "a subscription of a WebSocket is refused");
                self.set_filters(&channel, Vec::new());
            }
        } else {
            self.set_filters(&channel, filters);
        }
        self.change_terms();
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
        if self.implicit().iter().any(|implicit| **implicit == *channel) {
            return;
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
            Some(value) if meta.get(name).is_some() || meta.len() < MAX_META => meta.set(name, value),
            Some(_) => tracing::warn!(uri = %self.about.uri, name, "the origin sets too much meta: this is left out"),
        }
    }

    /// Has items taken on the terms as they are when this turn is over. A session without filters has none.
    fn change_terms(&mut self) {
        let filters = self.extras.as_ref().is_some_and(|extras| !extras.filters.is_empty());
        self.stale |= filters || self.parked.is_on_terms();
    }
}
