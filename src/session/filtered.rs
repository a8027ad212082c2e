//! The delivery of items to a session whose channels have filters.

use super::extras::{FilteredItem, SessionExtras};
use super::live::Session;
use crate::grip::Channel;
use crate::shard::{ChannelTerms, ItemHandling, PendingDecision, Terms};
use std::rc::Rc;
use std::task::{Context, Poll};

impl Session<'_> {
    /// Returns the terms of the channels that the session holds.
    fn terms(&self) -> Terms {
        let none = SessionExtras::default();
        let extras = self.extras.as_deref().unwrap_or(&none);
        let prefix = self.about.route.prefix.len();
        let term = |channel: Channel| {
            let filters = extras.filters.iter().find(|(name, _)| *name == channel);
            let filters = filters.map(|(_, filters)| filters.clone()).unwrap_or_default();
            let prefix = if self.implicit().iter().any(|name| **name == *channel) { 0 } else { prefix };
            ChannelTerms { prefix, filters, ..ChannelTerms::plain(&channel) }
        };
        Terms { meta: extras.meta.clone(), channels: self.parked.channels().into_iter().map(term).collect() }
    }

    /// Applies the current terms to all items that are decided from now on, including those that wait. If no term has
    /// an effect, and items need not wait for a filter or a relayed message, the connection takes items without terms
    /// again.
    pub(super) fn agree(&mut self) {
        self.terms_due = false;
        let terms = self.terms();
        // While a filter is being asked about an item, later items must wait, so that their order is kept.
        let asks = terms.channels.iter().any(ChannelTerms::asks) || self.is_asking();
        let plain = terms.are_plain() && !self.is_asking() && !self.is_streaming();
        if !plain || self.parked.is_on_terms() {
            self.parked.set_terms(terms, ItemHandling { can_refresh: false, decides_items: asks });
        }
        if plain {
            self.take_queued();
            self.parked.clear_terms();
        }
    }

    /// Makes items wait until the message that is being relayed to the client is complete.
    pub(super) fn hold_back(&mut self) {
        self.agree();
        self.parked.queue_items();
    }

    /// Begins to ask the HTTP filters about the item that has waited longest, unless they are being asked about
    /// another one already. Items that can be decided without a request are decided at once.
    pub(super) fn take_queued(&mut self) {
        self.put_small();
        while !self.is_asking() {
            let asked = match self.parked.take_next_item() {
                PendingDecision::Empty => return,
                PendingDecision::Decided => continue,
                PendingDecision::Ask(asked) => asked,
            };
            let Some(terms) = self.parked.terms(Clone::clone) else { return };
            let (origin, about) = (Rc::clone(&self.sessions.origin), Rc::clone(&self.about));
            self.extras().asking = Some(Box::pin(async move {
                let content = asked.item.message.as_ref().map(|message| message.content().clone()).unwrap_or_default();
                let decided = origin.filter(&about, terms.passage(&asked.item), content).await;
                (asked, decided)
            }));
        }
    }

    pub(super) fn is_asking(&self) -> bool {
        self.extras.as_ref().is_some_and(|extras| extras.asking.is_some())
    }

    /// Returns the item about which the filters were asked, once they have decided it.
    pub(super) fn poll_asked(&mut self, cx: &mut Context<'_>) -> Option<FilteredItem> {
        let extras = self.extras.as_mut()?;
        let Poll::Ready(decided) = extras.asking.as_mut()?.as_mut().poll(cx) else { return None };
        extras.asking = None;
        Some(decided)
    }

    /// Delivers an item if the filters returned content for it and its channel still has a term, and begins with the
    /// next item that waits.
    pub(super) fn decide(&mut self, (asked, content): FilteredItem) {
        // The client may have left the channel while the filters were asked. The term of such a channel remains only
        // as long as other items of the channel wait.
        let held = self.parked.terms(|terms| terms.of(&asked.item.channel).is_some()).unwrap_or_default();
        self.put_small();
        match content {
            Some(content) if held => self.parked.deliver_pending(asked, Some(content)),
            _ => self.parked.skip_pending(&asked),
        }
        self.take_queued();
        self.terms_due |= !self.is_asking();
    }
}
