//! `POST /publish`.

use super::ControlApi;
use super::access::Grant;
use super::body;
use super::error::ApiError;
use super::reply::{ApiReply, MediaType};
use crate::cluster::Publisher;
use crate::grip::Item;
use crate::grip::item::{Batch, parse_batch};
use crate::hub::{BusyReason, OnFinalOutcomes, Outcome, Receipt};
use crate::telemetry::Hint;
use bytes::Bytes;
use hyper::Request;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// The JSON reply to a publisher.
#[derive(Debug, Serialize, Deserialize)]
pub struct Published {
    /// A text for people, which is `Published`.
    #[serde(default)]
    pub message: String,
    /// The outcome of each item, in the order in which they were sent.
    pub items: Vec<Outcome>,
    /// The warnings about items that probably do not mean what the publisher believes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Publishes the items of a request, either all of them or none.
///
/// # Errors
/// The body cannot be read or parsed, or a denial could not be written to disk.
pub(super) async fn publish(
    control: &ControlApi,
    grant: &Grant<'_>,
    media: MediaType,
    request: Request<Incoming>,
) -> Result<ApiReply, ApiError> {
    let Batch { items, warnings } = parse(&body::read(control, request.into_body()).await?)?;
    if let Err(refusal) = grant.check_items(&items) {
        return Ok(control.refuse(refusal));
    }
    hint(&warnings, &grant.publisher());
    let denies = items.iter().any(|item| item.deny_for.is_some());
    let published = match media {
        MediaType::Text => {
            let finally = Box::new(|outcomes: Vec<Outcome>| log(&outcomes));
            control.cluster.publish(items, &grant.publisher(), finally).await.map(|_| None)
        }
        MediaType::Json => publish_and_wait(control, items, &grant.publisher()).await.map(Some),
    };
    if denies
        && published.is_ok()
        && let Err(why) = control.cluster.wait_until_persisted().await
    {
        let why = format!("Published, but the denials will be lost when gripd stops: {why}");
        return Err(ApiError::NotPersisted(why));
    }
    Ok(match published {
        Ok(None) => ApiReply::text(200, "Published"),
        Ok(Some(items)) => ApiReply::json(&Published { message: "Published".to_owned(), items, warnings }),
        Err(busy) => ApiReply::text(503, busy.to_string()).retry_after(1),
    })
}

/// Publishes items, and waits until their outcomes are final, for at most `receipt_wait`.
///
/// # Errors
/// There was no room for the items in time. None was published then.
async fn publish_and_wait(
    control: &ControlApi,
    items: Vec<Item>,
    publisher: &Publisher<'_>,
) -> Result<Vec<Outcome>, BusyReason> {
    let (finally, told) = wait_for();
    let receipt = control.cluster.publish(items, publisher, finally).await?;
    Ok(told.outcomes(control.settings().receipt_wait, &receipt).await)
}

/// The outcomes of a batch, once they are final. They are sent by the [`OnFinalOutcomes`] that belongs to them. It is
/// called by the last shard that has counted, or by the hub if no shard has anything to count.
pub(super) struct FinalOutcomes(oneshot::Receiver<Vec<Outcome>>);

/// Returns a function to call with the final outcomes, which it logs, and a receiver that waits for them.
pub(super) fn wait_for() -> (OnFinalOutcomes, FinalOutcomes) {
    let (tell, told) = oneshot::channel();
    let finally = Box::new(|outcomes: Vec<Outcome>| {
        log(&outcomes);
        // An error means that the publisher no longer waits.
        let _ = tell.send(outcomes);
    });
    (finally, FinalOutcomes(told))
}

impl FinalOutcomes {
    /// Returns the outcomes as soon as they are final. After `wait` it returns the outcomes that `receipt` has
    /// counted so far.
    pub(super) async fn outcomes(self, wait: Duration, receipt: &Receipt) -> Vec<Outcome> {
        match timeout(wait, self.0).await {
            Ok(Ok(outcomes)) => outcomes,
            _ => receipt.outcomes(),
        }
    }
}

fn parse(body: &Bytes) -> Result<Batch, ApiError> {
    parse_batch(body).map_err(|error| ApiError::Malformed(error.to_string()))
}

/// Gives a hint about the first of the warnings, if there is one.
fn hint(warnings: &[String], publisher: &Publisher<'_>) {
    let Some(first) = warnings.first() else { return };
    Hint::UnknownMember.log(None, || {
        format!(
            "A publisher at {} has sent an item with a part that gripd does not know and ignores: {first} The JSON reply \
             to a publish has all such warnings.",
            publisher.address
        )
    });
}

/// Logs the sum of the outcomes of a batch.
fn log(outcomes: &[Outcome]) {
    let Some(first) = outcomes.first() else { return };
    let mut sum = Outcome::default();
    outcomes.iter().for_each(|outcome| sum.add(outcome));
    let or_none = |count: Option<u32>| count.unwrap_or_default();
    let unless_none = |count: Option<u32>| count.filter(|count| *count > 0);
    tracing::info!(
        channel = ?first.channel,
        items = outcomes.len(),
        delivered = or_none(sum.delivered),
        filtered = unless_none(sum.filtered),
        duplicate = unless_none(sum.duplicate),
        slow = or_none(sum.slow),
        closed = or_none(sum.closed),
        cut = or_none(sum.cut),
        "publish"
    );
}
