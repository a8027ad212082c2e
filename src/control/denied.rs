//! `GET /denied` and `DELETE /denied/CHANNEL`.

use super::query::{Query, name};
use super::reply::{Media, Reply};
use crate::hub::{Denial, Hub};
use serde::Serialize;
use std::time::SystemTime;

/// A page of denials, and the channel to ask for the next page with.
#[derive(Serialize)]
struct Page {
    denied: Vec<Row>,
    next: Option<String>,
}

#[derive(Serialize)]
struct Row {
    channel: String,
    /// Seconds that are left of it.
    seconds: u64,
    with: Vec<String>,
    except: Vec<String>,
}

impl Row {
    fn new(denial: Denial, now: u64) -> Self {
        let Denial { channel, until, with, except } = denial;
        Self { channel, seconds: until.saturating_sub(now), with, except }
    }
}

/// The channels that are denied to somebody, in order.
pub(super) fn list(hub: &Hub, query: Option<&str>) -> Result<Reply, Reply> {
    let query = Query::read(query, &["prefix", "after", "limit"])?;
    let (denials, more) = hub.denials(query.get("prefix").unwrap_or_default(), query.get("after"), query.limit()?);
    let next = denials.last().filter(|_| more).map(|denial| denial.channel.clone());
    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs());
    let denied = denials.into_iter().map(|denial| Row::new(denial, now)).collect();
    Ok(Reply::json(&Page { denied, next }))
}

/// Ends the denials of a channel.
pub(super) async fn delete(hub: &Hub, media: Media, channel: &str) -> Result<Reply, Reply> {
    let channel = name(channel)?;
    let deleted = hub.pardon(&channel);
    if deleted == 0 {
        return Err(Reply::text(404, format!("The channel '{channel}' is not denied to anybody.")));
    }
    hub.kept().await.map_err(|why| Reply::text(500, format!("Deleted until gripd ends: {why}")))?;
    Ok(Reply::done(media, "Deleted", &serde_json::json!({ "deleted": deleted })))
}
