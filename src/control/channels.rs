//! `GET /channels` and `GET /channels/NAME`.

use super::reply::Reply;
use crate::hub::{Held, Hub};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use std::borrow::Cow;

/// Channels of a page, unless the request says otherwise.
const DEFAULT_LIMIT: usize = 100;
/// The most channels of a page.
const MAX_LIMIT: usize = 1000;

/// A page of channels, and the name to ask for the next page with.
#[derive(Serialize)]
struct Page {
    channels: Vec<Held>,
    next: Option<String>,
}

/// The channels that are held, in order.
pub(super) fn list(hub: &Hub, query: Option<&str>) -> Reply {
    let (mut prefix, mut after, mut limit) = (String::new(), None, DEFAULT_LIMIT);
    for pair in query.unwrap_or_default().split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Some(value) = decode(&value.replace('+', " ")) else {
            return Reply::text(400, format!("The query's '{name}' is not UTF-8."));
        };
        match name {
            "prefix" => prefix = value,
            "after" => after = Some(value),
            "limit" => match value.parse() {
                Ok(number @ 1..=MAX_LIMIT) => limit = number,
                _ => return Reply::text(400, format!("limit must be 1 to {MAX_LIMIT}.")),
            },
            _ => {
                return Reply::text(
                    400,
                    format!("Unknown query parameter '{name}': there are prefix, after and limit."),
                );
            }
        }
    }
    let (channels, more) = hub.channels(&prefix, after.as_deref(), limit);
    let next = channels.last().filter(|_| more).map(|held| held.channel.clone());
    Reply::json(&Page { channels, next })
}

/// One channel. `name` is percent-encoded as a whole. A channel that nobody holds has no connections.
pub(super) fn one(hub: &Hub, name: &str) -> Reply {
    match decode(name) {
        Some(channel) => Reply::json(&Held { connections: hub.connections(&channel), channel }),
        None => Reply::text(400, "The channel's name is not UTF-8."),
    }
}

/// Resolves percent-encoding. `None`: the result is not UTF-8.
fn decode(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(Cow::into_owned)
}
