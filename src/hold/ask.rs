//! What origins are asked about items: HTTP filters.

use super::Holds;
use crate::grip::link::resolve;
use crate::grip::{Filter, Meta};
use crate::origin::{Ask, Asking, Failure, Kind};
use crate::shard::{Delivery, Terms};
use bytes::Bytes;
use hyper::header::HeaderName;
use hyper::{Method, StatusCode};

/// What becomes of an item that somebody is asked about.
#[derive(Debug)]
pub(super) enum Decision {
    /// It is delivered with this content.
    Send(Bytes),
    /// It is for others.
    Drop,
}

/// Passes an item through the filters of its channel, in their order.
pub(super) async fn decide(holds: &Holds, about: &Asking, terms: &Terms, item: &Delivery, content: Bytes) -> Decision {
    match filter(holds, about, terms, item, content).await {
        Ok(decision) => decision,
        Err(failure) => {
            tracing::warn!(channel = ?item.channel, uri = %about.uri, error = failure.explain(), "an item could not be filtered");
            Decision::Drop
        }
    }
}

async fn filter(
    holds: &Holds,
    about: &Asking,
    terms: &Terms,
    item: &Delivery,
    mut content: Bytes,
) -> Result<Decision, Failure> {
    let filters = terms.of(&item.channel).map_or(&[][..], |term| &term.filters);
    for filter in filters {
        if filter.asks() {
            match ask(holds, about, terms, item, *filter, &content).await? {
                Decision::Send(changed) => content = changed,
                Decision::Drop => return Ok(Decision::Drop),
            }
            continue;
        }
        let context = terms.context(item.meta());
        if !filter.passes(&context) {
            return Ok(Decision::Drop);
        }
        let changed = filter.apply(&context, (&content[..]).into());
        let changed = changed.map_err(|error| Failure::because(Kind::Unusable, error.to_string()))?;
        if filter.changes_content() {
            content = changed.into_owned().into();
        }
    }
    Ok(Decision::Send(content))
}

/// Asks the URL of the client's meta about an item, as Pushpin does: 200 or 204, and `Action: drop` to keep it.
async fn ask(
    holds: &Holds,
    about: &Asking,
    terms: &Terms,
    item: &Delivery,
    filter: Filter,
    content: &Bytes,
) -> Result<Decision, Failure> {
    let uri = terms.meta.get("url").and_then(|url| resolve(&about.uri, url));
    let Some(uri) = uri else {
        return Err(Failure::because(Kind::Unusable, "the client's meta has no usable 'url'"));
    };
    let item_meta = item.meta().map_or_else(|| Meta::default().to_json(), Meta::to_json);
    let headers =
        [(HeaderName::from_static("sub-meta"), terms.meta.to_json()), (HeaderName::from_static("pub-meta"), item_meta)];
    let modifies = filter == Filter::HttpModify;
    let ask = Ask {
        method: Method::POST,
        uri: &uri,
        headers: &headers,
        body: if modifies { content.clone() } else { Bytes::new() },
        last_ids: &terms.last_ids(),
    };
    let told = holds.origin.ask_filter(about, ask).await?;
    if told.headers.get("action").is_some_and(|action| action == "drop") {
        return Ok(Decision::Drop);
    }
    match (told.status, told.rest.is_some()) {
        (StatusCode::OK, true) => Err(Failure::because(Kind::TooLarge, "network response exceeded 100000 bytes")),
        (StatusCode::OK, false) if modifies => Ok(Decision::Send(told.body)),
        (StatusCode::OK | StatusCode::NO_CONTENT, _) => Ok(Decision::Send(content.clone())),
        (status, _) => {
            let why = format!("unexpected network request status: code={}", status.as_u16());
            Err(Failure::because(Kind::Unusable, why))
        }
    }
}
