//! The changes to every answer of a route that web pages of other origins may use: CORS headers, or a script.

use super::head::{compact, parts};
use crate::wire::{Jsonp, cors};
use bytes::Bytes;
use hyper::header::HeaderMap;
use hyper::http::response;

/// The cross-origin changes that the answers to one request need.
#[derive(Default)]
pub(super) struct CrossOrigin {
    /// The headers of the request, if pages of other origins may read the answer.
    pub(super) request: Option<HeaderMap>,
    /// The script that the answer is to be.
    pub(super) script: Option<Jsonp>,
}

impl CrossOrigin {
    /// Adds what lets pages read an answer.
    pub(super) fn allow(&self, headers: &mut HeaderMap) {
        if let Some(request) = &self.request
            && self.script.is_none()
        {
            cors::allow(request, headers);
        }
    }

    /// Returns the answer as a script, if one is wanted.
    pub(super) fn wrap(&self, head: response::Parts, body: Bytes) -> (response::Parts, Bytes) {
        let Some(script) = &self.script else { return (head, body) };
        let (wrapped, body) = script.wrap(&compact(&head), &body);
        (parts(&wrapped), body)
    }
}
