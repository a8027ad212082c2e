//! WebSocket handshakes with origins.

use super::conversation::{OpenResult, OverHttpConversation};
use super::{
    BodySource, FailedRequest, Failure, FailureKind, OriginAnswer, OriginClient, OriginRequest, RequestBody,
    RequestPurpose, Requester, destination, test_target, tried,
};
use crate::grip::base64;
use crate::net::{DescriptorGuard, Outbound, Transport};
use crate::route::{Address, Target, TargetPlace};
use crate::wire::names_token;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use bytes::Bytes;
use hyper::header::{CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use hyper::http::response;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::timeout;

/// The result of a handshake.
#[derive(Debug)]
pub enum Handshake {
    /// The origin has accepted the WebSocket.
    Accepted(OriginSocket),
    /// The origin has refused the WebSocket with this response.
    Refused(OriginAnswer),
}

/// A WebSocket that an origin has accepted.
#[derive(Debug)]
pub enum OriginSocket {
    /// The origin gets the events of the WebSocket over HTTP.
    Conversation {
        /// The conversation that carries the events of the WebSocket.
        conversation: Box<OverHttpConversation>,
        /// The head of the response that accepts the WebSocket.
        head: response::Parts,
        /// The content of the response that accepts the WebSocket. Its first event is `OPEN`.
        reply: super::OverHttpReply,
        /// The index of the route's target that has accepted the WebSocket.
        target: usize,
    },
    /// The origin speaks WebSocket, so its connection is relayed.
    Socket {
        /// The connection to the origin.
        socket: RelayedSocket,
        /// The bytes that were read from the connection after the head of the response.
        early: Bytes,
        /// The head of the response that accepts the WebSocket.
        head: response::Parts,
        /// The index of the route's target that has accepted the WebSocket.
        target: usize,
    },
    /// The target is the `test` handler, and the client's messages are sent back to the client.
    Echo {
        /// The channels to which the WebSocket is subscribed.
        channels: Vec<String>,
        /// The index of the route's target that has accepted the WebSocket.
        target: usize,
    },
}

/// The connection of a relayed WebSocket to its origin. Until it is dropped, it counts among the descriptors of the
/// process and the relayed WebSockets of the origin.
#[derive(Debug)]
pub struct RelayedSocket {
    /// The connection.
    pub transport: Transport,
    _counted: Option<DescriptorGuard>,
    _place: Option<RelayedPermit>,
}

impl RelayedSocket {
    /// Returns a connection that counts neither among the descriptors nor among the relayed WebSockets.
    #[cfg(test)]
    pub const fn uncounted(transport: Transport) -> Self {
        Self { transport, _counted: None, _place: None }
    }
}

/// A guard that counts one of the WebSockets that are relayed to an origin, until it is dropped.
#[derive(Debug)]
pub(super) struct RelayedPermit(Rc<Cell<usize>>);

impl RelayedPermit {
    /// Adds one to `taken` and returns its guard. Returns `None` if `taken` has reached `most` already.
    pub(super) fn take(taken: &Rc<Cell<usize>>, most: usize) -> Option<Self> {
        if taken.get() >= most {
            return None;
        }
        taken.set(taken.get() + 1);
        Some(Self(Rc::clone(taken)))
    }
}

impl Drop for RelayedPermit {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl OriginSocket {
    /// Returns the index of the route's target that has accepted the WebSocket.
    pub const fn target(&self) -> usize {
        match self {
            Self::Conversation { target, .. } | Self::Socket { target, .. } | Self::Echo { target, .. } => *target,
        }
    }
}

/// Returns the value of `Sec-WebSocket-Accept` that belongs to a `Sec-WebSocket-Key` (RFC 6455 4.2.2).
pub fn accept_for(key: &[u8]) -> String {
    let both = [key, b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    base64::encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &both).as_ref())
}

impl OriginClient {
    /// Asks the targets of a route, in their order, to accept a client's WebSocket. The next target is asked only if
    /// the one before it cannot have received the handshake.
    ///
    /// # Errors
    /// No target has given a usable response. The error says why the last one has not.
    pub async fn open(
        self: &Rc<Self>,
        origin_request: &OriginRequest<'_>,
        about: &Rc<Requester>,
    ) -> Result<Handshake, Failure> {
        let targets = &origin_request.route.targets;
        let mut failed = None;
        for (index, target) in targets.iter().enumerate() {
            if failed.is_some() {
                self.metrics.fail_overs.inc();
            }
            let opened = match &target.place {
                TargetPlace::Test => return Ok(test_target::open(origin_request, index)),
                TargetPlace::Address(_) if target.over_http => self.open_over_http(origin_request, about, index).await,
                TargetPlace::Address(address) => self.open_socket(origin_request, target, address, index).await,
            };
            match opened {
                Ok(opened) => return Ok(opened),
                Err(lost) => {
                    let goes_on = lost.unsent;
                    failed = Some(lost.failure);
                    if !goes_on {
                        break;
                    }
                }
            }
        }
        self.metrics.failures.inc();
        Err(tried(origin_request.route, failed))
    }

    async fn open_over_http(
        self: &Rc<Self>,
        origin_request: &OriginRequest<'_>,
        about: &Rc<Requester>,
        target: usize,
    ) -> Result<Handshake, FailedRequest> {
        let conversation = OverHttpConversation::new(Rc::clone(self), origin_request, Rc::clone(about), target);
        Ok(match conversation.open().await? {
            OpenResult::Accepted { conversation, head, reply } => {
                Handshake::Accepted(OriginSocket::Conversation { conversation, head, reply, target })
            }
            OpenResult::Refused(answered) => Handshake::Refused(answered),
        })
    }

    async fn open_socket(
        &self,
        origin_request: &OriginRequest<'_>,
        target: &Target,
        address: &Address,
        index: usize,
    ) -> Result<Handshake, FailedRequest> {
        let origin_request = OriginRequest { purpose: RequestPurpose::WebSocket, ..*origin_request };
        let place = self.pool.relayed_place(&destination(target, address)).map_err(FailedRequest::unsent)?;
        let (response, lease) = self.send_to(&origin_request, target, address, RequestBody::of(Bytes::new())).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let (head, incoming) = response.into_parts();
            let body = BodySource::Incoming(incoming, lease);
            return Ok(Handshake::Refused(OriginAnswer { head, body, target: index }));
        }
        check(&origin_request.request.headers, response.headers()).map_err(FailedRequest::sent)?;
        let limit = self.response_timeout(origin_request.route);
        let ((transport, counted), early, head) = take_over(response, limit).await.map_err(FailedRequest::sent)?;
        let socket = RelayedSocket { transport, _counted: counted, _place: Some(place) };
        Ok(Handshake::Accepted(OriginSocket::Socket { socket, early, head, target: index }))
    }
}

/// Takes the connection of a 101 response from hyper. Returns it with the bytes that were read from it after the head
/// of the response, and with that head.
async fn take_over(
    mut response: Response<hyper::body::Incoming>,
    limit: Duration,
) -> Result<((Transport, Option<DescriptorGuard>), Bytes, response::Parts), Failure> {
    let upgraded = timeout(limit, hyper::upgrade::on(&mut response)).await;
    let late = |_| Failure::over_time(FailureKind::TimedOut, "response_timeout", limit);
    let upgraded = upgraded.map_err(late)?.map_err(Failure::from_hyper)?;
    let Ok(parts) = upgraded.downcast::<TokioIo<Outbound>>() else {
        return Err(Failure::because(
            FailureKind::Unusable,
            "internal error: the connection to the origin cannot be used after the handshake",
        ));
    };
    Ok((parts.io.into_inner().into_parts(), parts.read_buf, response.into_parts().0))
}

/// Checks that the origin has understood the handshake (RFC 6455 4.1).
fn check(asked: &HeaderMap, answered: &HeaderMap) -> Result<(), Failure> {
    if !names_token(answered, &UPGRADE, "websocket") || !names_token(answered, &CONNECTION, "upgrade") {
        let why = "the response with status 101 lacks 'Upgrade: websocket' or 'Connection: Upgrade'";
        return Err(Failure::because(FailureKind::Unusable, why));
    }
    let key = asked.get(SEC_WEBSOCKET_KEY).map_or(&b""[..], HeaderValue::as_bytes);
    let accept = answered.get(SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
    if accept == Some(accept_for(key).as_bytes()) {
        return Ok(());
    }
    Err(Failure::because(
        FailureKind::Unusable,
        "the Sec-WebSocket-Accept of the response does not match the key of the request",
    ))
}
