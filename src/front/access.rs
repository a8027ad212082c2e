//! The access line of a request.

use crate::grip::HoldMode;
use crate::route::Route;
use hyper::http::request::Parts;
use hyper::{Method, Uri};
use std::sync::Arc;
use std::time::Instant;

/// What is logged of a request. It is written when this is dropped: when the answer is over, or the client is.
pub(super) struct Access {
    method: Method,
    uri: Uri,
    began: Instant,
    route: Option<Arc<Route>>,
    status: u16,
    bytes: u64,
    hold: Option<HoldMode>,
}

impl Access {
    pub(super) fn begin(request: &Parts) -> Self {
        Self {
            method: request.method.clone(),
            uri: request.uri.clone(),
            began: Instant::now(),
            route: None,
            status: 0,
            bytes: 0,
            hold: None,
        }
    }

    pub(super) fn route(&mut self, route: &Arc<Route>) {
        self.route = Some(Arc::clone(route));
    }

    pub(super) const fn status(&mut self, status: u16) {
        self.status = status;
    }

    pub(super) const fn hold(&mut self, mode: HoldMode) {
        self.hold = Some(mode);
    }

    pub(super) const fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// The origin broke off in the middle of its answer.
    pub(super) fn broken(&self, error: &hyper::Error) {
        let target = self.route.as_ref().map(|r| tracing::field::display(&r.target));
        tracing::warn!(uri = %self.uri, target, %error, "the origin's answer broke off");
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        let hold = self.hold.map(|mode| match mode {
            HoldMode::Response => "response",
            HoldMode::Stream => "stream",
        });
        // A client that left before there was an answer has no status.
        let status = (self.status > 0).then_some(self.status);
        tracing::info!(
            target: "access",
            method = self.method.as_str(),
            uri = %self.uri,
            route = self.route.as_ref().map(|r| tracing::field::display(r.label())),
            target = self.route.as_ref().map(|r| tracing::field::display(&r.target)),
            status,
            bytes = self.bytes,
            ms = self.began.elapsed().as_millis() as u64,
            hold,
        );
    }
}
