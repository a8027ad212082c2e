//! The phases of a request. It may be refused; otherwise it is assigned to a route and forwarded to the origin, and
//! the response is relayed, or its instruct is followed.

use super::access_log::AccessLog;
use super::connection_slot::ConnectionSlot;
use super::cross_origin::CrossOrigin;
use super::exchange::{AnswerContent, BufferedExchange};
use super::identity::identify;
use super::idle::BusyGuard;
use super::jsonp;
use super::request_context::RequestContext;
use super::response_body::ResponseBody;
use super::{Front, answer, explanation, hints, websocket};
use crate::grip::Instruct;
use crate::origin::{Failure, FailureKind, ReadAhead, RequestBody, RequestBodyState};
use crate::wire::PlainAnswer;
use crate::wire::answer::ROUTE_NOT_FOUND;
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, HeaderValue, TRANSFER_ENCODING};
use hyper::{Method, Request, Response, Version};
use std::convert::Infallible;
use std::future::poll_fn;
use std::rc::Rc;

/// Returns the response to a request, or leaves a hold or a session in the slot and never returns.
pub(super) async fn serve(
    front: Rc<Front>,
    slot: Rc<ConnectionSlot>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    front.metrics.requests.inc();
    slot.ask();
    let busy = slot.listed.occupy();
    let (request, body) = request.into_parts();
    let ambiguous = request.headers.contains_key(TRANSFER_ENCODING);
    let delimited_by_end = request.version == Version::HTTP_10 && request.method != Method::HEAD;
    let mut retry = slot.take_retry();
    slot.keep_final_answer(retry.as_mut().and_then(|retry| retry.final_answer.take()));
    let context = RequestContext::new(&front, request, slot.peer.clone(), Rc::clone(&slot.waiting), retry);
    let upload = RequestBody::new(body, front.settings.borrow().body_pace, Rc::clone(&slot.waiting));
    let answering = answer(&front, &slot, context, upload, busy);
    let mut response = tokio::select! {
        biased;
        // The slot contains a reason to leave hyper. This future is dropped when the connection leaves.
        () = poll_fn(|cx| slot.poll_closed(cx)) => std::future::pending().await,
        response = answering => response,
    };
    slot.drop_final_answer();
    slot.give_way(&front.gate);
    if delimited_by_end && response.body().size_hint().exact().is_none() {
        // HTTP/1.0 has no chunks, so only the end of the connection marks the end of this response. The version is
        // set because hyper would add `keep-alive` to a response of version 1.1.
        *response.version_mut() = Version::HTTP_10;
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if ambiguous {
        // The request may have had a `Content-Length` as well, which hyper has dropped. A client that sends both
        // may want other servers to read the connection differently, so the connection ends (RFC 9112 6.1).
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

async fn answer(
    front: &Front,
    slot: &ConnectionSlot,
    mut context: RequestContext,
    upload: RequestBody,
    busy: BusyGuard,
) -> Response<ResponseBody> {
    let mut access_log = AccessLog::begin(&context, busy);
    let mut cross_origin = CrossOrigin::default();
    let route = match context.refuse(front).map_or_else(|| context.route(front), Err) {
        Ok(route) => route,
        Err(mut refusal) => {
            if front.origin.routes().has_tokens() {
                // There is no route that says which parts of the query are tokens.
                access_log.hide_query();
            }
            if refusal == ROUTE_NOT_FOUND {
                hints::about_request_without_route(&context.request);
                if front.settings.borrow().debug {
                    let why = explanation::of_missing_route(&context.request, &front.origin.routes());
                    refusal = refusal.explained(why);
                }
            }
            return answer::refuse(&refusal, &cross_origin, access_log);
        }
    };
    access_log.route(&route);
    let mut sent = upload.clone();
    let mut original = None;
    if route.cors && !context.sender.is_trusted() {
        cross_origin.request = Some(context.request.headers.clone());
        original = Some(context.request.clone());
        match jsonp::rewrite(&route.jsonp, &mut context.request, &mut sent) {
            Ok(script) => cross_origin.script = script,
            Err(why) => return answer::respond(&PlainAnswer::new(400, why), &cross_origin, access_log),
        }
        if let Some(refusal) = context.refuse_method() {
            return answer::refuse(&refusal, &cross_origin, access_log);
        }
    }
    let rights = match identify(&mut context, original.as_ref(), &route) {
        Ok(rights) => rights,
        Err(unknown) => {
            front.metrics.unauthorized.inc();
            let mut refused = answer::respond(&unknown.answer(), &cross_origin, access_log);
            unknown.challenge(&mut refused);
            return refused;
        }
    };
    if context.is_websocket() {
        let (context, upload, route) = (&context, &upload, &route);
        let asked = websocket::HandshakeRequest { front, slot, context, upload, route, rights, access_log };
        return Box::pin(websocket::open(asked)).await;
    }
    if let Some(refusal) = context.refuse_events(front) {
        return answer::respond(&refusal, &cross_origin, access_log);
    }
    // The guard is kept until the request is answered, because the bytes that were read ahead take memory until
    // then.
    let _read_ahead = if sent.is_whole() {
        None
    } else {
        // The future is boxed because most requests have no body. Without the box, it would enlarge the future of
        // every request.
        match Box::pin(read_ahead(front, &mut sent)).await {
            Ok(read_ahead) => Some(read_ahead),
            Err(failure) => {
                return answer::fail(front, &route, &context.request.uri, &failure, &cross_origin, access_log);
            }
        }
    };
    let answered = match front.origin.send(&context.origin_request(&route), &sent).await {
        Ok(answered) => answered,
        Err(failure) => {
            hints::about_failure(&route, &context.request, &failure);
            return answer::fail(front, &route, &context.request.uri, &failure, &cross_origin, access_log);
        }
    };
    access_log.answered(answered.head.status.as_u16(), answered.target);
    let is_instruct = !context.sender.is_trusted() && !route.no_grip && Instruct::concerns(&answered.head.headers);
    let content = if is_instruct { AnswerContent::Instruct } else { AnswerContent::Plain };
    if content == AnswerContent::Plain && cross_origin.script.is_none() {
        if hints::concern_answer(&route, answered.head.status.as_u16()) && !context.sender.is_trusted() {
            hints::about_answer(&route, &context.request, &answered.head);
        }
        return answer::relay(front, &route, &context.request, &cross_origin, answered, access_log);
    }
    let exchange = BufferedExchange { front, slot, route: &route, context, rights, upload, original, cross_origin };
    Box::pin(exchange.follow(answered, content, access_log)).await
}

/// Reads a small body completely, and the beginning of a large one, before the request is forwarded. Otherwise a
/// client that sends slowly would occupy a connection to the origin in the meantime.
async fn read_ahead<'a>(front: &'a Front, upload: &mut RequestBody) -> Result<ReadAhead<'a>, Failure> {
    let most = front.settings.borrow().body_buffer;
    match upload.read_ahead(most, &front.ahead).await {
        Ok(read_ahead) => Ok(read_ahead),
        Err(RequestBodyState::TooSlow) => Err(Failure::new(FailureKind::RequestSlow)),
        Err(_) => Err(Failure::new(FailureKind::RequestBroken)),
    }
}
