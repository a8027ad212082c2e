//! Instructs: what an origin asks for in its response, by `Grip-*` headers or by an `application/grip-instruct` body.

mod headers;
mod json;
mod keep_alive;

pub use keep_alive::{KeepAlive, KeepAliveMode};

use super::channel::{MAX_NAME, check_length};
use super::filter::{Filter, MAX_FILTERS};
use super::link::Links;
use super::media::is_media_type;
use super::{InvalidText, Meta, invalid};
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use std::collections::HashMap;
use std::time::Duration;

const DEFAULT_TIMEOUT: u64 = 55;
const SHORTEST_HOLD: u64 = 5;

/// The way in which a connection is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldMode {
    /// Nothing is sent until an item or the timeout ends the hold (a long-poll).
    Response,
    /// The response begins at once, and items are appended to it.
    Stream,
}

/// A channel that an instruct names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedChannel {
    /// The name of the channel that the origin uses, without the prefix of the route.
    pub name: String,
    /// The id of the last item that the response takes into account.
    pub prev_id: Option<String>,
    /// The filters that items of the channel pass through, in this order.
    pub filters: Vec<Filter>,
}

/// The response in an `application/grip-instruct` body, which replaces the origin's own response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubstituteAnswer {
    /// The headers, without those of GRIP and those that frame the response.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Bytes,
}

/// The instruct of one response. Without a `hold`, the connection is not held.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Instruct {
    /// The way in which the connection is held, if it is held.
    pub hold: Option<HoldMode>,
    /// The channels. No name occurs twice among those of the headers, or among those of the body.
    pub channels: Vec<NamedChannel>,
    /// The time after which a long-poll gets the origin's own response, at least 5 seconds. `None` means 55 seconds.
    pub timeout: Option<Duration>,
    /// The content that keeps the connection of a stream alive.
    pub keep_alive: Option<KeepAlive>,
    /// The status code, and optionally the reason phrase, to send to the client instead of the origin's.
    pub status: Option<(u16, Option<String>)>,
    /// The meta that the origin gives the client, for filters.
    pub meta: Meta,
    /// The only headers of the response that reach the client, in lower case. An empty list means all headers.
    pub expose: Vec<String>,
    /// The links that gripd requests later: to continue a stream, and when the client is gone.
    pub links: Links,
    /// The response to send instead of the one that brought the instruct.
    pub substitute: Option<SubstituteAnswer>,
}

impl Instruct {
    /// Returns whether a response with these headers is for gripd: it has a `Grip-*` header, or its body is an
    /// instruct.
    pub fn concerns(headers: &HeaderMap) -> bool {
        headers.keys().any(is_grip) || is_body(headers)
    }

    /// Parses the `Grip-*` headers of a response.
    ///
    /// # Errors
    /// A header is invalid. The error says why, and is worded as in Pushpin.
    pub fn parse(headers: &HeaderMap) -> Result<Self, InvalidText> {
        headers::parse(headers)
    }

    /// Parses the body of an `application/grip-instruct` response whose status code is `status`. Its channels and
    /// meta are added to those of the headers, and its other values have precedence over theirs.
    ///
    /// # Errors
    /// `status` is not 200, or the body is not a valid instruct. The error is worded as in Pushpin.
    pub fn read_body(&mut self, status: u16, body: &[u8]) -> Result<(), InvalidText> {
        if status != 200 {
            return invalid("response code for application/grip-instruct content must be 200");
        }
        json::read(self, body)
    }

    /// Returns the names of the channels as the origin writes them, without the prefix of the route.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.channels.iter().map(|channel| channel.name.as_str())
    }

    /// Returns the time after which a long-poll gets the origin's own response.
    pub fn hold_timeout(&self) -> Duration {
        self.timeout.unwrap_or(Duration::from_secs(DEFAULT_TIMEOUT))
    }

    /// Returns whether the body of the response itself has to be filtered, because a channel has the filter
    /// `build-id`.
    pub fn filters_content(&self) -> bool {
        self.channels.iter().any(|channel| channel.filters.contains(&Filter::BuildId))
    }

    /// Adds channels. If several of them have the same name, the last one replaces the others, at the position of the
    /// first.
    fn name_channels(&mut self, named: Vec<NamedChannel>) {
        let mut places: HashMap<String, usize> = HashMap::with_capacity(named.len());
        for channel in named {
            match places.get(&channel.name) {
                Some(place) => self.channels[*place] = channel,
                None => {
                    places.insert(channel.name.clone(), self.channels.len());
                    self.channels.push(channel);
                }
            }
        }
    }
}

impl NamedChannel {
    /// Returns a channel with the filters of these names. As in Pushpin, unknown names are ignored. It is an error if
    /// there are too many filters, or if the name or `prev_id` is too long or contains control characters.
    pub(super) fn new<'a>(
        name: &str,
        prev_id: Option<&str>,
        filters: impl Iterator<Item = &'a str> + Clone,
    ) -> Result<Self, InvalidText> {
        // The name and the id are sent in a header when the origin is asked again, so they must be valid there.
        if [Some(name), prev_id].into_iter().flatten().any(|text| text.contains(char::is_control)) {
            let shown: String = name.chars().take(32).collect();
            return invalid(format!("channel {shown:?} or its prev-id contains a control character"));
        }
        check_length("the channel", name, MAX_NAME)?;
        check_length("prev-id", prev_id.unwrap_or_default(), MAX_NAME)?;
        if filters.clone().count() > MAX_FILTERS {
            return invalid(format!("too many filters for channel '{name}'"));
        }
        let filters = filters.filter_map(Filter::named).collect();
        Ok(Self { name: name.to_owned(), prev_id: prev_id.map(str::to_owned), filters })
    }
}

/// Returns whether a header is defined by GRIP, which is so if its name begins with `Grip-`.
pub fn is_grip(name: &HeaderName) -> bool {
    name.as_str().starts_with("grip-")
}

/// Returns whether the body of a response with these headers is an instruct.
pub fn is_body(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| is_media_type(value.as_bytes(), "application/grip-instruct"))
}

/// Returns the duration of a hold: this many seconds, but at least 5.
fn hold_time(seconds: u64) -> Duration {
    Duration::from_secs(seconds.max(SHORTEST_HOLD))
}

/// Returns the code if it is a final status code, from 200 to 999. After an informational one, the client would wait
/// for another response.
fn final_status(code: u16) -> Option<u16> {
    Some(code).filter(|code| (200..=999).contains(code))
}
