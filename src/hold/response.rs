//! Response holds (long-polls): one item, or the timeout, answers the request; or the request is served again.

use super::race::{Notes, OnClose, race};
use super::terms::ways_of_response;
use super::{After, Cause, Client, FinalAnswer, Hold, Holds, Retry, Waiting, answer};
use crate::grip::item::{Body, Response};
use crate::net::Transport;
use crate::origin::{self, Asking, Gone};
use crate::shard::{Away, Event, Feed, Parked, PendingItem, Reason, Turn, Ways};
use crate::wire::{Head, Jsonp, Persistence};
use bytes::Bytes;
use hyper::header::CONTENT_ENCODING;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::SystemTime;

/// A long-poll that is held.
struct Poll<'a> {
    holds: &'a Holds,
    parked: Parked,
    head: Head,
    body: Bytes,
    client: Client,
    request: Box<[u8]>,
    about: Asking,
    /// The parts that few long-polls have.
    extras: Option<Box<Extras>>,
}

struct Extras {
    gone: Option<Gone>,
    jsonp: Option<Jsonp>,
    /// The last ids that the origin names although others are known.
    behind: Option<Cause>,
    /// Whether a hint arrived while a request to the origin was in progress.
    hinted: bool,
}

/// The end of a long-poll.
enum End {
    /// The client is gone.
    Gone,
    /// It is answered as when its time is over.
    Timeout,
    /// It is answered by an item, with this body.
    Item(Arc<Response>, Bytes),
    /// Its request is served again.
    Again(origin::Turn),
    /// as soon as it may be.
    Refresh,
}

/// Holds a long-poll. Yields the connection when it may serve another request, or the same again.
pub(super) fn park<'a>(holds: &'a Holds, mut hold: Box<Hold>, transport: Transport, early: &[u8]) -> Waiting<'a> {
    let terms = hold.terms();
    let hinted = hold.away.as_ref().is_some_and(Away::is_hinted);
    let ways = if terms.are_plain() { Ways::default() } else { ways_of_response(&hold.instruct) };
    let (mut parked, behind) = match holds.subscribe(terms, ways, (transport, early), Feed::Response, &mut hold) {
        Ok(subscribed) => subscribed,
        Err(refused) => return refused.end(),
    };
    parked.set_timer(hold.instruct.hold_timeout());
    let Hold { instruct, head, body, client, request, about, cause, jsonp, gone, .. } = *hold;
    let behind = behind.filter(|behind| {
        let insists = cause.as_ref() == Some(behind);
        if insists {
            // The origin was asked again and names the same: it knows best.
            holds.membership.forget(behind.0.iter().map(|(channel, _)| channel.clone()));
        }
        !insists
    });
    // Whatever later answers say, the first one says whom to tell.
    let gone = gone.or_else(|| holds.gone(&about, instruct.links.gone.as_deref()));
    let extras = Extras { gone, jsonp, behind, hinted };
    let few = extras.gone.is_some() || extras.jsonp.is_some() || extras.behind.is_some() || hinted;
    let extras = if few { Some(Box::new(extras)) } else { None };
    Box::pin(Poll { holds, parked, head, body, client, request, about, extras }.wait())
}

impl Poll<'_> {
    async fn wait(mut self) -> Option<After> {
        let again = self.extras.as_ref().is_some_and(|extras| extras.behind.is_some() || extras.hinted);
        let mut end = if again { End::Refresh } else { self.next().await };
        if matches!(end, End::Refresh) && !self.parked.is_ending() {
            end = Box::pin(self.wait_for_turn()).await;
        }
        Box::pin(self.end(end)).await
    }

    /// Waits for what ends the hold.
    async fn next(&mut self) -> End {
        loop {
            return match self.parked.next().await {
                Event::Gone => End::Gone,
                Event::Item(response) => self.fit(response),
                Event::Patch(item) => Box::pin(self.patch(&item)).await,
                Event::Timer => End::Timeout,
                Event::Close => Box::pin(self.take_queued()).await.unwrap_or(End::Timeout),
                Event::Refresh => End::Refresh,
                Event::Queued => match Box::pin(self.take_queued()).await {
                    Some(end) => end,
                    None => continue,
                },
                Event::Readable => continue,
            };
        }
    }

    /// Returns the end by a patch; one that does not fit what is held has the origin asked again.
    async fn patch(&mut self, pending: &PendingItem) -> End {
        let Some(response) = &pending.item.response else { return End::Refresh };
        let mut notes = Notes::default();
        match self.changed(response, &mut notes).await {
            Ok(Some(body)) => {
                self.parked.count(&pending.item);
                End::Item(Arc::clone(response), body)
            }
            Ok(None) => unanswered(&notes),
            Err(end) => end,
        }
    }

    /// Returns the body with which an item answers; `None`: it is a patch that does not fit. Patching takes long, and is
    /// done for one poll after the other. The time of the poll may be over meanwhile: the item was accepted before.
    ///
    /// # Errors
    /// The end that the hold met while the poll waited for its turn: that may be a later item, which is the answer then.
    async fn changed(&mut self, response: &Response, notes: &mut Notes) -> Result<Option<Bytes>, End> {
        if let Body::Whole(body) = &response.body {
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
            Some(_turn) => Ok(response.body.over(&self.body)),
            None => Err(self.note(std::mem::take(notes))),
        }
    }

    /// Returns the end by an item.
    fn fit(&self, response: Arc<Response>) -> End {
        match response.body.over(&self.body) {
            Some(body) => End::Item(response, body),
            None => End::Refresh,
        }
    }

    /// Waits until the origin may be asked again. Until then the hold may end as any other.
    async fn wait_for_turn(&mut self) -> End {
        let (holds, about) = (self.holds, self.about.clone());
        let turn = async move {
            tokio::time::sleep(holds.settings.refresh_pause).await;
            holds.origin.turn(origin::Lane::Asking, &about, &about.route).await
        };
        let mut notes = Notes::default();
        match race(&mut self.parked, &mut notes, OnClose::GiveUp, turn, |_| ControlFlow::Break(())).await {
            // The client has sent more after its request than can be kept.
            Some(_) if !self.parked.may_return() => End::Timeout,
            Some(turn) => End::Again(turn),
            None => self.note(notes),
        }
    }

    /// Takes the items that wait to be asked about, one after the other. `None`: the hold goes on.
    async fn take_queued(&mut self) -> Option<End> {
        loop {
            let pending = match self.parked.turn() {
                Turn::Empty => return None,
                Turn::Decided => continue,
                Turn::Ask(pending) => pending,
            };
            let (response, terms) = (pending.item.response.clone()?, self.parked.terms(Clone::clone)?);
            let mut notes = Notes::default();
            let body = match self.changed(&response, &mut notes).await {
                Ok(Some(body)) => body,
                Ok(None) => {
                    self.parked.put_off(pending);
                    return Some(unanswered(&notes));
                }
                Err(end) => return Some(end),
            };
            let deciding = self.holds.origin.filter(&self.about, terms.passage(&pending.item), body);
            match race(&mut self.parked, &mut notes, OnClose::Wait, deciding, |_| ControlFlow::Break(())).await {
                Some(Some(body)) => {
                    self.parked.count(&pending.item);
                    return Some(End::Item(response, body));
                }
                Some(None) => self.parked.pass_over(&pending),
                None => return Some(self.note(notes)),
            }
            if notes.closing || notes.over {
                return Some(End::Timeout);
            }
            if notes.refresh {
                return Some(End::Refresh);
            }
        }
    }

    /// Returns the end that was met while the origin was asked.
    fn note(&self, notes: Notes) -> End {
        match notes.item {
            _ if notes.gone => End::Gone,
            Some(response) => self.fit(response),
            None => End::Timeout,
        }
    }

    async fn end(mut self, end: End) -> Option<After> {
        let (head, body) = match end {
            End::Gone => return None,
            End::Again(turn) => return self.serve_again(turn),
            // One refresh was waited for already; what came of it is an item that does not fit.
            End::Refresh | End::Timeout => {
                self.parked.because(Reason::Timeout);
                (self.head.clone(), self.body.clone())
            }
            End::Item(ref response, ref body) => {
                self.parked.because(Reason::Answered);
                (overlay(&self.head, response), body.clone())
            }
        };
        self.answer(head, body).await
    }

    /// Answers, and yields the connection if it may serve another request.
    async fn answer(mut self, head: Head, body: Bytes) -> Option<After> {
        self.parked.unsubscribe();
        let persistent = self.client.persistent && self.parked.may_return();
        let persistence = if persistent { Persistence::KeepAlive } else { Persistence::Close };
        let (head, body) = dress(head, body, self.extras.as_deref());
        answer(&mut self.parked, &head, &body, self.client, persistence);
        if persistent {
            return self.parked.release().await.map(|(transport, early)| After::Next(transport, early));
        }
        self.parked.finish().await;
        None
    }

    /// Yields the connection with its request in front of it.
    fn serve_again(self, turn: origin::Turn) -> Option<After> {
        let Self { parked, request, about, extras, head, body, client, .. } = self;
        let last_ids = parked.last_ids();
        let (transport, early, away) = parked.lend()?;
        let early = Bytes::from([&request[..], &early[..]].concat());
        let (head, body) = dress(head, body, extras.as_deref());
        let final_answer = Some(Box::new(FinalAnswer { head, body, client, away }));
        let (gone, cause) = extras.map_or((None, None), |extras| (extras.gone, extras.behind));
        Some(After::Again(transport, early, Box::new(Retry { about, last_ids, cause, turn, final_answer, gone })))
    }
}

/// Returns the end of a poll that a patch did not answer: the origin is asked again, unless it is too late for that.
const fn unanswered(notes: &Notes) -> End {
    if notes.closing || notes.over { End::Timeout } else { End::Refresh }
}

impl FinalAnswer {
    /// Answers, and ends the connection.
    pub(super) async fn end(self: Box<Self>, transport: Transport) -> Option<After> {
        let Self { head, body, client, away } = *self;
        let mut parked = away.end(transport);
        answer(&mut parked, &head, &body, client, Persistence::Close);
        parked.finish().await;
        None
    }
}

/// Returns the answer as it is sent now, as a script if that is wanted.
fn dress(mut head: Head, body: Bytes, extras: Option<&Extras>) -> (Head, Bytes) {
    head.date(SystemTime::now());
    match extras.and_then(|extras| extras.jsonp.as_ref()) {
        Some(jsonp) => jsonp.wrap(&head, &body),
        None => (head, body),
    }
}

/// Returns the head of a published answer: the instruct's fields, except for those that the publisher names.
fn overlay(instruct: &Head, response: &Response) -> Head {
    let mut head = Head {
        status: response.code,
        reason: response.reason.as_deref().map(Into::into),
        fields: instruct.fields.clone(),
    };
    head.fields.forget_body();
    // The publisher's body is not coded as the origin's was.
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
