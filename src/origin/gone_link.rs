//! Gone links: gripd requests them when a hold is over, for whatever reason, to tell the origin that the client of the
//! hold is gone.

use super::{CollectedAnswer, Lane, OriginClient, OwnRequest, Requester};
use bytes::Bytes;
use hyper::{Method, Uri};
use std::rc::Rc;

/// A guard that requests a gone link when it is dropped.
#[derive(Debug)]
pub struct GoneLinkGuard {
    origin: Rc<OriginClient>,
    about: Requester,
    uri: Uri,
}

impl GoneLinkGuard {
    /// Returns a guard that requests `uri` once, when it is dropped.
    pub const fn new(origin: Rc<OriginClient>, about: Requester, uri: Uri) -> Self {
        Self { origin, about, uri }
    }
}

impl Drop for GoneLinkGuard {
    fn drop(&mut self) {
        let (origin, about, uri) = (Rc::clone(&self.origin), self.about.clone(), self.uri.clone());
        if !self.origin.background.enqueue(async move { origin.ask_gone(&about, &uri).await }) {
            tracing::warn!(
                uri = %self.about.route.shown(&self.uri.to_string()),
                "too many requests to links with rel=gone are waiting: this one was dropped"
            );
        }
    }
}

impl OriginClient {
    async fn ask_gone(&self, about: &Requester, uri: &Uri) {
        let ask = OwnRequest { method: Method::POST, uri, headers: &[], body: Bytes::new(), last_ids: &[] };
        let told = async {
            let _turn = self.turn_for(Lane::Leaving, about, uri).await?;
            self.ask(about, ask).await
        };
        let (told, uri) = (told.await, uri.to_string());
        let uri = about.route.shown(&uri);
        match told {
            Ok(CollectedAnswer { status, .. }) if status.is_success() => {}
            Ok(CollectedAnswer { status, .. }) => {
                tracing::warn!(%uri, status = status.as_u16(), "the request to a link with rel=gone was refused")
            }
            Err(failure) => {
                tracing::warn!(%uri, error = failure.explain(), "the request to a link with rel=gone failed")
            }
        }
    }
}
