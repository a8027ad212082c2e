//! `GET /denied` and `DELETE /denied/CHANNEL`.

use super::error::ApiError;
use super::query::{QueryParams, name};
use super::reply::{ApiReply, MediaType};
use crate::cluster::Cluster;
use crate::hub::{Denial, DenialCursor, now};
use serde::Serialize;

/// A page of denials, and the parameter `after` of the next page.
#[derive(Serialize)]
struct DenialPage {
    denied: Vec<DenialRow>,
    next: Option<String>,
}

#[derive(Serialize)]
struct DenialRow {
    channel: String,
    /// The number of seconds for which the denial still lasts.
    seconds: u64,
    with: Vec<String>,
    except: Vec<String>,
}

impl DenialRow {
    fn new(denial: Denial, now: u64) -> Self {
        let Denial { channel, until, with, except } = denial;
        Self { channel, seconds: until.saturating_sub(now), with, except }
    }
}

/// Returns a page of the denials, in the order of their channels.
pub(super) fn list(cluster: &Cluster, query: Option<&str>) -> Result<ApiReply, ApiError> {
    let query = QueryParams::read(query, &["prefix", "after", "limit"])?;
    let after = query.get("after").map(place);
    let (denials, next) = cluster.denials(query.get("prefix").unwrap_or_default(), after.as_ref(), query.limit()?);
    let next = next.map(|after| text(&after));
    let now = now();
    let denied = denials.into_iter().map(|denial| DenialRow::new(denial, now)).collect();
    Ok(ApiReply::json(&DenialPage { denied, next }))
}

/// Returns the parameter `after` of the page that follows `after`. It is the name of a channel, preceded by the
/// serial number of a denial and a colon if the next page continues with the same channel.
fn text(after: &DenialCursor) -> String {
    let DenialCursor { channel, serial } = after;
    match serial {
        Some(serial) => format!("{serial}:{channel}"),
        // The name of this channel looks like a serial number, a colon and a name. The largest serial number in front
        // of it makes the parameter unambiguous.
        None if place(channel).serial.is_some() => format!("{}:{channel}", u64::MAX),
        None => channel.clone(),
    }
}

/// Parses the parameter `after`: the name of a channel, or the serial number of a denial, a colon and the name of its
/// channel.
fn place(text: &str) -> DenialCursor {
    let named = text.split_once(':').and_then(|(serial, channel)| Some((serial.parse().ok()?, channel)));
    match named {
        Some((serial, channel)) => DenialCursor { channel: channel.to_owned(), serial: Some(serial) },
        None => DenialCursor { channel: text.to_owned(), serial: None },
    }
}

/// Ends all denials of a channel.
///
/// # Errors
/// The channel has no denials, or the change could not be written to disk.
pub(super) async fn delete(cluster: &Cluster, media: MediaType, channel: &str) -> Result<ApiReply, ApiError> {
    let channel = name(channel)?;
    let deleted = cluster.pardon(&channel).await;
    if deleted == 0 {
        return Err(ApiError::NotFound(format!("The channel '{channel}' is not denied to anybody.")));
    }
    cluster.wait_until_persisted().await.map_err(|why| {
        ApiError::NotPersisted(format!("Deleted, but the deletion will be lost when gripd stops: {why}"))
    })?;
    Ok(ApiReply::done(media, "Deleted", &serde_json::json!({ "deleted": deleted })))
}
