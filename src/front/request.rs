//! The phases of a request: refuse, route, ask the origin, and relay, or see to its instruct.

use super::access::Access;
use super::body::Reply;
use super::dress::Dress;
use super::exchange::{AnswerContent, Exchange};
use super::identity::identify;
use super::idle::Busy;
use super::jsonp;
use super::slot::Slot;
use super::visit::Visit;
use super::{Front, answer, websocket};
use crate::grip::Instruct;
use crate::origin::{BodyState, Failure, Kind, ReadAhead, Upload};
use crate::wire::Answer;
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, HeaderValue, TRANSFER_ENCODING};
use hyper::{Method, Request, Response, Version};
use std::convert::Infallible;
use std::future::poll_fn;
use std::rc::Rc;

/// Answers a request, or leaves a hold in the slot and never returns.
pub(super) async fn serve(
    front: Rc<Front>,
    slot: Rc<Slot>,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Infallible> {
    front.metrics.requests.inc();
    slot.ask();
    let busy = slot.listed.occupy();
    let (request, body) = request.into_parts();
    let ambiguous = request.headers.contains_key(TRANSFER_ENCODING);
    let delimited_by_end = request.version == Version::HTTP_10 && request.method != Method::HEAD;
    let mut retry = slot.take_retry();
    slot.keep(retry.as_mut().and_then(|retry| retry.farewell.take()));
    let visit = Visit::new(&front, request, slot.peer.clone(), Rc::clone(&slot.waiting), retry);
    let upload = Upload::new(body, front.settings.body_pace, Rc::clone(&slot.waiting));
    let answering = answer(&front, &slot, visit, upload, busy);
    let mut response = tokio::select! {
        biased;
        // Word is left; the connection is about to leave hyper, and this is dropped.
        () = poll_fn(|cx| slot.poll_closed(cx)) => std::future::pending().await,
        response = answering => response,
    };
    slot.forget();
    slot.give_way(&front.gate);
    if delimited_by_end && response.body().size_hint().exact().is_none() {
        // HTTP/1.0 has no chunks: only the end of the connection tells where this answer ends. hyper would add a
        // `keep-alive` to an answer of version 1.1.
        *response.version_mut() = Version::HTTP_10;
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if ambiguous {
        // It may have come with a length as well, which hyper has dropped. Whoever sent both may want the
        // connection read differently by others: it ends here (RFC 9112 6.1).
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

async fn answer(front: &Front, slot: &Slot, mut visit: Visit, upload: Upload, busy: Busy) -> Response<Reply> {
    let mut access = Access::begin(&visit, busy);
    let mut dress = Dress::default();
    let route = match visit.refuse(front).map_or_else(|| visit.route(front), Err) {
        Ok(route) => route,
        Err(refusal) => {
            if front.origin.routes().has_tokens() {
                // No route says which part of it is secret.
                access.hide_query();
            }
            return answer::refuse(&refusal, &dress, access);
        }
    };
    access.route(&route);
    let mut sent = upload.clone();
    let mut original = None;
    if route.cors && !visit.sender.is_trusted() {
        dress.request = Some(visit.request.headers.clone());
        original = Some(visit.request.clone());
        match jsonp::rewrite(&route.jsonp, &mut visit.request, &mut sent) {
            Ok(script) => dress.script = script,
            Err(why) => return answer::respond(&Answer::new(400, why), &dress, access),
        }
        if let Some(refusal) = visit.refuse_method() {
            return answer::refuse(&refusal, &dress, access);
        }
    }
    let rights = match identify(&mut visit, original.as_ref(), &route) {
        Ok(rights) => rights,
        Err(unknown) => {
            front.metrics.unauthorized.inc();
            let mut refused = answer::respond(&unknown.answer(), &dress, access);
            unknown.challenge(&mut refused);
            return refused;
        }
    };
    if visit.is_websocket() {
        let (visit, upload, route) = (&visit, &upload, &route);
        let asked = websocket::HandshakeRequest { front, slot, visit, upload, route, rights, access };
        return Box::pin(websocket::open(asked)).await;
    }
    if let Some(refusal) = visit.refuse_events(front) {
        return answer::respond(&refusal, &dress, access);
    }
    // Kept until the origin has answered: what is read ahead takes memory.
    let _read_ahead = if sent.is_whole() {
        None
    } else {
        // Boxed: most requests have no body, and all would carry it along.
        match Box::pin(read_ahead(front, &mut sent)).await {
            Ok(read_ahead) => Some(read_ahead),
            Err(failure) => return answer::fail(front, &route, &visit.request.uri, &failure, &dress, access),
        }
    };
    let answered = match front.origin.send(&visit.errand(&route), &sent).await {
        Ok(answered) => answered,
        Err(failure) => return answer::fail(front, &route, &visit.request.uri, &failure, &dress, access),
    };
    access.answered(answered.head.status.as_u16(), answered.target);
    let is_instruct = !visit.sender.is_trusted() && !route.no_grip && Instruct::concerns(&answered.head.headers);
    let content = if is_instruct { AnswerContent::Instruct } else { AnswerContent::Plain };
    if content == AnswerContent::Plain && dress.script.is_none() {
        return answer::relay(front, &route, &visit.request, &dress, answered, access);
    }
    let exchange = Exchange { front, slot, route: &route, visit, rights, upload, original, dress };
    Box::pin(exchange.follow(answered, content, access)).await
}

/// Reads small bodies whole, and the beginning of large ones, before the origin is bothered: a client that sends slowly
/// would keep one of its connections meanwhile.
async fn read_ahead<'a>(front: &'a Front, upload: &mut Upload) -> Result<ReadAhead<'a>, Failure> {
    match upload.read_ahead(front.settings.body_buffer, &front.ahead).await {
        Ok(read_ahead) => Ok(read_ahead),
        Err(BodyState::TooSlow) => Err(Failure::new(Kind::RequestSlow)),
        Err(_) => Err(Failure::new(Kind::RequestBroken)),
    }
}
