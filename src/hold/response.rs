//! Response holds (long-polls). One item or the timeout answers the request, or the request is served again.

use super::race::{OnClose, RaceNotes, race};
use super::terms::ways_of_response;
use super::{AfterHold, ClientTraits, FinalAnswer, Hold, HoldFuture, Holds, KnownLastIds, ServedAgain, answer};
use crate::grip::item::{ItemBody, ResponseFormat};
use crate::net::Transport;
use crate::origin::{self, GoneLinkGuard, Requester};
use crate::shard::{
    AwayConnection, DeliveryForm, EndReason, ItemHandling, Parked, ParkedEvent, PendingDecision, PendingItem,
};
use crate::wire::{JsonpWrapper, Persistence, ResponseHead};
use bytes::Bytes;
use hyper::header::CONTENT_ENCODING;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::SystemTime;

/// A long-poll that is held.
struct LongPoll<'a> {
    holds: &'a Holds,
    parked: Parked,
    head: ResponseHead,
    body: Bytes,
    client: ClientTraits,
    request: Box<[u8]>,
    about: Requester,
    /// The parts of a long-poll that few long-polls need.
    extras: Option<Box<PollExtras>>,
}

struct PollExtras {
    gone: Option<GoneLinkGuard>,
    jsonp: Option<JsonpWrapper>,
    /// The last ids that the origin has named although the hub knows other ids. The request is served again because
    /// of them.
    behind: Option<KnownLastIds>,
    /// Whether the origin is to be asked once more, because a hint arrived, or an operator asked for it, while the
    /// request was served again.
    hinted: bool,
}

/// The event that ends a long-poll.
enum PollEnd {
    /// The client is gone.
    Gone,
    /// The response is the origin's own, as after a timeout.
    Timeout,
    /// An item answers the long-poll, with this body.
    Item(Arc<ResponseFormat>, Bytes),
    /// The request is served again, with this permission to ask the origin.
    Again(origin::OwnRequestPermit),
    /// The request is to be served again, once the origin may be asked.
    Refresh,
}

/// Begins to hold a long-poll. The returned future yields the connection if it may serve another request, or is to
/// serve the same request again.
pub(super) fn park<'a>(holds: &'a Holds, mut hold: Box<Hold>, transport: Transport, early: &[u8]) -> HoldFuture<'a> {
    let terms = hold.terms();
    let hinted = hold.away.as_ref().is_some_and(AwayConnection::wants_refresh);
    let ways = if terms.are_plain() { ItemHandling::default() } else { ways_of_response(&hold.instruct) };
    let (mut parked, behind) = match holds.subscribe(terms, ways, (transport, early), DeliveryForm::Response, &mut hold)
    {
        Ok(subscribed) => subscribed,
        Err(refused) => return refused.end(),
    };
    parked.set_timer(hold.instruct.hold_timeout());
    let Hold { instruct, head, body, client, request, about, cause, jsonp, gone, .. } = *hold;
    let behind = behind.filter(|behind| {
        let insists = cause.as_ref() == Some(behind);
        if insists {
            // The origin was asked again and names the same ids, so they are right and those of the hub are dropped.
            holds.membership.forget(behind.0.iter().map(|(channel, _)| channel.clone()));
        }
        !insists
    });
    // The gone link of the first response stays in force, whatever later responses say.
    let gone = gone.or_else(|| holds.gone(&about, instruct.links.gone.as_deref()));
    let extras = PollExtras { gone, jsonp, behind, hinted };
    let few = extras.gone.is_some() || extras.jsonp.is_some() || extras.behind.is_some() || hinted;
    let extras = if few { Some(Box::new(extras)) } else { None };
    Box::pin(LongPoll { holds, parked, head, body, client, request, about, extras }.wait())
}

impl LongPoll<'_> {
    async fn wait(mut self) -> Option<AfterHold> {
        let again = self.extras.as_ref().is_some_and(|extras| extras.behind.is_some() || extras.hinted);
        let mut end = if again { PollEnd::Refresh } else { self.next().await };
        if matches!(end, PollEnd::Refresh) && !self.parked.is_ending() {
            end = Box::pin(self.wait_for_turn()).await;
        }
        Box::pin(self.end(end)).await
    }

    /// Waits for the event that ends the hold.
    async fn next(&mut self) -> PollEnd {
        loop {
            return match self.parked.next().await {
                ParkedEvent::Gone => PollEnd::Gone,
                ParkedEvent::Item(response) => self.fit(response),
                ParkedEvent::Patch(item) => Box::pin(self.patch(&item)).await,
                ParkedEvent::Timer => PollEnd::Timeout,
                ParkedEvent::Close => Box::pin(self.take_queued()).await.unwrap_or(PollEnd::Timeout),
                ParkedEvent::Refresh => PollEnd::Refresh,
                ParkedEvent::Queued => match Box::pin(self.take_queued()).await {
                    Some(end) => end,
                    None => continue,
                },
                ParkedEvent::Readable => continue,
            };
        }
    }

    /// Applies a patch to the held body. Returns the item as the end of the hold if the patch fits. Otherwise the
    /// origin is asked again.
    async fn patch(&mut self, pending: &PendingItem) -> PollEnd {
        let Some(response) = &pending.item.response else { return PollEnd::Refresh };
        let mut notes = RaceNotes::default();
        match self.changed(response, &mut notes).await {
            Ok(Some(body)) => {
                self.parked.count(&pending.item);
                PollEnd::Item(Arc::clone(response), body)
            }
            Ok(None) => unanswered(&notes),
            Err(end) => end,
        }
    }

    /// Returns the body with which an item answers the long-poll, or `None` if the item is a patch that does not fit
    /// the held body. Patches take long to apply, and are therefore applied to one long-poll at a time. If the time
    /// of the long-poll is over meanwhile, the item still counts, because it was accepted before.
    ///
    /// # Errors
    /// The hold has ended while it waited for its turn to patch. If a later item has ended it, that item is the
    /// answer.
    async fn changed(&mut self, response: &ResponseFormat, notes: &mut RaceNotes) -> Result<Option<Bytes>, PollEnd> {
        if let ItemBody::Whole(body) = &response.body {
            return Ok(Some(body.clone()));
        }
        let (holds, mut over) = (self.holds, false);
        let goes_on = |_: &mut Parked| {
            over = true;
            ControlFlow::Continue(())
        };
        let turn = race(&mut self.parked, notes, OnClose::Wait, holds.patching.next(), goes_on).await;
        notes.over |= over;
        match turn {
            Some(_turn) => Ok(response.body.apply_to(&self.body)),
            None => Err(self.note(std::mem::take(notes))),
        }
    }

    /// Returns the end of the hold by an item: the answer, or a refresh if the item is a patch that does not fit.
    fn fit(&self, response: Arc<ResponseFormat>) -> PollEnd {
        match response.body.apply_to(&self.body) {
            Some(body) => PollEnd::Item(response, body),
            None => PollEnd::Refresh,
        }
    }

    /// Waits until the origin may be asked again. Meanwhile the hold can still end for another reason.
    async fn wait_for_turn(&mut self) -> PollEnd {
        let (holds, about) = (self.holds, self.about.clone());
        let turn = async move {
            tokio::time::sleep(holds.settings.get().refresh_pause).await;
            holds.origin.turn(origin::Lane::Asking, &about, &about.route).await
        };
        let mut notes = RaceNotes::default();
        match race(&mut self.parked, &mut notes, OnClose::GiveUp, turn, |_| ControlFlow::Break(())).await {
            // The client has sent more after its request than is kept, so the connection cannot return to hyper.
            Some(_) if !self.parked.may_return() => PollEnd::Timeout,
            Some(turn) => PollEnd::Again(turn),
            None => self.note(notes),
        }
    }

    /// Decides the waiting items one by one. Filters that ask a URL are asked about them. Returns the end of the hold,
    /// or `None` if the hold continues.
    async fn take_queued(&mut self) -> Option<PollEnd> {
        loop {
            let pending = match self.parked.take_next_item() {
                PendingDecision::Empty => return None,
                PendingDecision::Decided => continue,
                PendingDecision::Ask(pending) => pending,
            };
            let (response, terms) = (pending.item.response.clone()?, self.parked.terms(Clone::clone)?);
            let mut notes = RaceNotes::default();
            let body = match self.changed(&response, &mut notes).await {
                Ok(Some(body)) => body,
                Ok(None) => {
                    self.parked.undo_pending(pending);
                    return Some(unanswered(&notes));
                }
                Err(end) => return Some(end),
            };
            let deciding = self.holds.origin.filter(&self.about, terms.passage(&pending.item), body);
            match race(&mut self.parked, &mut notes, OnClose::Wait, deciding, |_| ControlFlow::Break(())).await {
                Some(Some(body)) => {
                    self.parked.count(&pending.item);
                    return Some(PollEnd::Item(response, body));
                }
                Some(None) => self.parked.skip_pending(&pending),
                None => return Some(self.note(notes)),
            }
            if notes.closing || notes.over {
                return Some(PollEnd::Timeout);
            }
            if notes.refresh {
                return Some(PollEnd::Refresh);
            }
        }
    }

    /// Returns the end of the hold that the events noted during a request mean.
    fn note(&self, notes: RaceNotes) -> PollEnd {
        match notes.item {
            _ if notes.gone => PollEnd::Gone,
            Some(response) => self.fit(response),
            None => PollEnd::Timeout,
        }
    }

    async fn end(mut self, end: PollEnd) -> Option<AfterHold> {
        let (head, body) = match end {
            PollEnd::Gone => return None,
            PollEnd::Again(turn) => return self.serve_again(turn),
            // A refresh is still wanted here in two cases: an item that arrived during the wait for permission does
            // not fit, or the connection is being ended. In both cases the origin's own response is the answer.
            PollEnd::Refresh | PollEnd::Timeout => {
                self.parked.set_end_reason(EndReason::Timeout);
                (self.head.clone(), self.body.clone())
            }
            PollEnd::Item(ref response, ref body) => {
                self.parked.set_end_reason(EndReason::Answered);
                (published_head(&self.head, response), body.clone())
            }
        };
        self.answer(head, body).await
    }

    /// Sends the response. Yields the connection if it may serve another request.
    async fn answer(mut self, head: ResponseHead, body: Bytes) -> Option<AfterHold> {
        self.parked.unsubscribe();
        let persistent = self.client.persistent && self.parked.may_return();
        let persistence = if persistent { Persistence::KeepAlive } else { Persistence::Close };
        let (head, body) = finish_response(head, body, self.extras.as_deref());
        answer(&mut self.parked, &head, &body, self.client, persistence);
        if persistent {
            return self.parked.release().await.map(|(transport, early)| AfterHold::Next(transport, early));
        }
        self.parked.finish().await;
        None
    }

    /// Yields the connection with the bytes of its request, to be served again. The connection keeps its channels
    /// meanwhile.
    fn serve_again(self, turn: origin::OwnRequestPermit) -> Option<AfterHold> {
        let Self { parked, request, about, extras, head, body, client, .. } = self;
        let last_ids = parked.last_ids();
        let (transport, early, away) = parked.lend()?;
        let early = Bytes::from([&request[..], &early[..]].concat());
        let (head, body) = finish_response(head, body, extras.as_deref());
        let final_answer = Some(Box::new(FinalAnswer { head, body, client, away }));
        let (gone, cause) = extras.map_or((None, None), |extras| (extras.gone, extras.behind));
        Some(AfterHold::Again(
            transport,
            early,
            Box::new(ServedAgain { about, last_ids, cause, turn, final_answer, gone }),
        ))
    }
}

/// Returns the end of a long-poll to which a patch did not fit: the origin is asked again, unless the hold has ended
/// meanwhile.
const fn unanswered(notes: &RaceNotes) -> PollEnd {
    if notes.closing || notes.over { PollEnd::Timeout } else { PollEnd::Refresh }
}

impl FinalAnswer {
    /// Sends the response, and ends the connection.
    pub(super) async fn end(self: Box<Self>, transport: Transport) -> Option<AfterHold> {
        let Self { head, body, client, away } = *self;
        let mut parked = away.end(transport);
        answer(&mut parked, &head, &body, client, Persistence::Close);
        parked.finish().await;
        None
    }
}

/// Returns the response as it is sent: with the current date, and wrapped as a JSON-P script if the request asked for
/// one.
fn finish_response(mut head: ResponseHead, body: Bytes, extras: Option<&PollExtras>) -> (ResponseHead, Bytes) {
    head.date(SystemTime::now());
    match extras.and_then(|extras| extras.jsonp.as_ref()) {
        Some(jsonp) => jsonp.wrap(&head, &body),
        None => (head, body),
    }
}

/// Returns the head of a published response: the header fields of the origin's response, with those that the
/// publisher names replaced or removed.
fn published_head(instruct: &ResponseHead, response: &ResponseFormat) -> ResponseHead {
    let mut head = ResponseHead {
        status: response.code,
        reason: response.reason.as_deref().map(Into::into),
        fields: instruct.fields.clone(),
    };
    head.fields.forget_body();
    // The origin's Content-Encoding describes its own body and not the publisher's.
    head.fields.remove(&CONTENT_ENCODING);
    for (name, _) in &response.headers {
        head.fields.remove(name);
    }
    for (name, value) in &response.headers {
        head.fields.push(name, value.as_bytes());
    }
    for name in &response.hide {
        head.fields.remove(name);
    }
    head
}
