//! The access log, which has one line for each request.

use super::connection_slot::ClientAddress;
use super::idle::BusyGuard;
use super::request_context::RequestContext;
use crate::route::{Route, Target};
use crate::telemetry::log::{ACCESS, ACCESS_ALWAYS};
use hyper::{Method, Uri};
use std::rc::Rc;
use std::sync::Arc;
use tokio::time::Instant;

/// The log line of a request. It is written when this is dropped: when the response is complete, when a hold or a
/// session begins, or when the client has left.
pub(super) struct AccessLog {
    client: Option<Rc<ClientAddress>>,
    method: Method,
    uri: Uri,
    began: Instant,
    retry: bool,
    route: Option<Arc<Route>>,
    /// The index of the target of the route that answered.
    target: usize,
    status: u16,
    bytes: u64,
    hold: Option<&'static str>,
    /// The guard that marks the connection as busy until the line is written.
    _busy: BusyGuard,
}

impl AccessLog {
    pub(super) fn begin(context: &RequestContext, busy: BusyGuard) -> Self {
        Self {
            client: context.client().cloned(),
            method: context.request.method.clone(),
            uri: context.request.uri.clone(),
            began: Instant::now(),
            retry: context.retry.is_some(),
            route: None,
            target: 0,
            status: 0,
            bytes: 0,
            hold: None,
            _busy: busy,
        }
    }

    /// Removes the query from the URI that is logged.
    pub(super) fn hide_query(&mut self) {
        if self.uri.query().is_some()
            && let Ok(uri) = self.uri.path().parse()
        {
            self.uri = uri;
        }
    }

    pub(super) fn route(&mut self, route: &Arc<Route>) {
        if route.users.is_some()
            && let Ok(shown) = route.shown(&self.uri.to_string()).parse()
        {
            self.uri = shown;
        }
        self.route = Some(Arc::clone(route));
    }

    /// Notes the status of the origin's response, and the index of the target that sent it.
    pub(super) const fn answered(&mut self, status: u16, target: usize) {
        self.status = status;
        self.target = target;
    }

    pub(super) const fn status(&mut self, status: u16) {
        self.status = status;
    }

    /// Notes that the request is held. `what` says how: `response`, `stream` or `websocket`.
    pub(super) const fn hold(&mut self, what: &'static str) {
        self.hold = Some(what);
    }

    pub(super) const fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    fn target(&self) -> Option<&Target> {
        self.route.as_ref()?.targets.get(self.target)
    }

    /// Logs that the response was ended early because its client was slow while other requests waited for the
    /// origin.
    pub(super) fn gave_way(&self) {
        tracing::debug!(uri = %self.uri, "a response to a slow client was ended to make room for a waiting request");
    }

    /// Logs that the response is incomplete because the origin ended it early.
    pub(super) fn broken(&self, error: &hyper::Error) {
        let target = self.target().map(tracing::field::display);
        tracing::warn!(uri = %self.uri, target, %error, "the origin's response ended before it was complete");
    }
}

/// The log level of lines about requests, in Pushpin's numbering.
const DEFAULT_LEVEL: u8 = 2;

impl Drop for AccessLog {
    fn drop(&mut self) {
        match self.route.as_ref().and_then(|route| route.log_level) {
            None => self.write(),
            Some(DEFAULT_LEVEL..) => self.write_regardless(),
            Some(_) => {}
        }
    }
}

/// Writes the line of a request. This is a macro because the target of a `tracing` event must be a constant.
macro_rules! line {
    ($access_log:expr, $target:expr) => {
        tracing::info!(
            target: $target,
            client = $access_log.client.as_ref().and_then(|client| client.text.to_str().ok()).map(tracing::field::display),
            method = $access_log.method.as_str(),
            uri = %$access_log.uri,
            route = $access_log.route.as_ref().map(|r| tracing::field::display(&r.name)),
            target = $access_log.target().map(tracing::field::display),
            // There is no status if the client left before there was a response.
            status = ($access_log.status > 0).then_some($access_log.status),
            retry = $access_log.retry.then_some(true),
            bytes = $access_log.bytes,
            ms = $access_log.began.elapsed().as_millis() as u64,
            hold = $access_log.hold,
        )
    };
}

impl AccessLog {
    fn write(&self) {
        line!(self, ACCESS);
    }

    /// Writes the line even if the configured log level would leave it out.
    fn write_regardless(&self) {
        line!(self, ACCESS_ALWAYS);
    }
}
