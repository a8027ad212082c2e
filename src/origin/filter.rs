//! The filtering of items, where some of the filters send a request to an origin.

use super::{Failure, FailureKind, OriginClient, OwnRequest, Requester};
use crate::grip::filter::FilterInput;
use crate::grip::{Filter, Meta};
use bytes::Bytes;
use hyper::header::HeaderName;
use hyper::{Method, StatusCode};

impl OriginClient {
    /// Returns the content with which a connection gets an item. Returns `None` if a filter drops the item for this
    /// connection, or if a filter fails, which is logged.
    pub async fn filter(&self, about: &Requester, item: FilterInput<'_>, content: Bytes) -> Option<Bytes> {
        match self.pass(about, &item, content).await {
            Ok(content) => content,
            Err(failure) => {
                let error = failure.explain();
                tracing::warn!(
                    channel = ?item.channel,
                    uri = %about.shown(),
                    error,
                    "an item was not delivered to a client because a filter failed"
                );
                None
            }
        }
    }

    async fn pass(
        &self,
        about: &Requester,
        item: &FilterInput<'_>,
        mut content: Bytes,
    ) -> Result<Option<Bytes>, Failure> {
        for filter in item.filters {
            if filter.asks() {
                match self.ask_about(about, item, *filter, &content).await? {
                    Some(changed) => content = changed,
                    None => return Ok(None),
                }
                continue;
            }
            if !filter.passes(&item.context) {
                return Ok(None);
            }
            let changed = filter.apply(&item.context, (&content[..]).into());
            let changed = changed.map_err(|error| Failure::because(FailureKind::Unusable, error.to_string()))?;
            if filter.changes_content() {
                content = changed.into_owned().into();
            }
        }
        Ok(Some(content))
    }

    /// Sends a request about an item to the URL in the client's meta `url`, as Pushpin does. Returns `None` if the
    /// response says `Action: drop`, whatever its status. The body of a 200 response is the new content if the filter
    /// may change the content. Otherwise 200 and 204 leave the content as it is, and any other status is an error. A
    /// 200 response that is too large to be collected is an error as well, even if the filter does not need its body.
    async fn ask_about(
        &self,
        about: &Requester,
        item: &FilterInput<'_>,
        filter: Filter,
        content: &Bytes,
    ) -> Result<Option<Bytes>, Failure> {
        let client = item.context.client;
        let uri = client.get("url").and_then(|url| about.resolve(url));
        let Some(uri) = uri else {
            return Err(Failure::because(
                FailureKind::Unusable,
                "the value 'url' of the client's meta is missing or is not a valid URL",
            ));
        };
        let item_meta = item.context.item.map_or_else(|| Meta::default().to_json(), Meta::to_json);
        let headers =
            [(HeaderName::from_static("sub-meta"), client.to_json()), (HeaderName::from_static("pub-meta"), item_meta)];
        let modifies = filter == Filter::HttpModify;
        let body = if modifies { content.clone() } else { Bytes::new() };
        let ask = OwnRequest { method: Method::POST, uri: &uri, headers: &headers, body, last_ids: &item.last_ids };
        let told = self.ask_filter(about, ask).await?;
        if told.headers.get("action").is_some_and(|action| action == "drop") {
            return Ok(None);
        }
        match (told.status, told.rest.is_some()) {
            (StatusCode::OK, true) => {
                Err(Failure::because(FailureKind::TooLarge, "network response exceeded 100000 bytes"))
            }
            (StatusCode::OK, false) if modifies => Ok(Some(told.body)),
            (StatusCode::OK | StatusCode::NO_CONTENT, _) => Ok(Some(content.clone())),
            (status, _) => {
                let why = format!("unexpected network request status: code={}", status.as_u16());
                Err(Failure::because(FailureKind::Unusable, why))
            }
        }
    }
}
