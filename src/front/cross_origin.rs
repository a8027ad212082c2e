//! The changes that make responses usable by web pages of any web origin: CORS headers, or a script (JSON-P).

use super::head::{compact, parts};
use crate::wire::{JsonpWrapper, cors};
use bytes::Bytes;
use hyper::header::HeaderMap;
use hyper::http::response;

/// The changes that the response to one request needs, so that pages of other web origins can use it.
#[derive(Default)]
pub(super) struct CrossOrigin {
    /// The headers of the request, if its route lets pages of any web origin read the response.
    pub(super) request: Option<HeaderMap>,
    /// How the response is wrapped up as a script, if a `<script>` element made the request.
    pub(super) script: Option<JsonpWrapper>,
}

impl CrossOrigin {
    /// Adds the CORS headers that let pages read a response. A script needs none.
    pub(super) fn allow(&self, headers: &mut HeaderMap) {
        if let Some(request) = &self.request
            && self.script.is_none()
        {
            cors::allow(request, headers);
        }
    }

    /// Returns the response as a script if a `<script>` element made the request. Otherwise, returns the response
    /// unchanged.
    pub(super) fn wrap(&self, head: response::Parts, body: Bytes) -> (response::Parts, Bytes) {
        let Some(script) = &self.script else { return (head, body) };
        let (wrapped, body) = script.wrap(&compact(&head, 0), &body);
        (parts(&wrapped), body)
    }
}
