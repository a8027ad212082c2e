//! An instruct: what an origin's answer asks for, in `Grip-*` headers or as `application/grip-instruct`.

mod headers;
mod json;
mod keep_alive;

pub use keep_alive::{KeepAlive, KeepAliveMode};

use super::channel::{MAX_NAME, check_length};
use super::filter::{Filter, MAX_FILTERS};
use super::link::Links;
use super::media::is_media_type;
use super::{Invalid, Meta, invalid};
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use std::collections::HashMap;
use std::time::Duration;

const DEFAULT_TIMEOUT: u64 = 55;
const SHORTEST_HOLD: u64 = 5;

/// How a connection is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldMode {
    /// Nothing is sent until an item or the timeout ends the hold (a long-poll).
    Response,
    /// The answer begins at once and items are appended to it.
    Stream,
}

/// A channel that an instruct names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// The channel, as the origin calls it.
    pub name: String,
    /// The id of the last item that the answer takes into account.
    pub prev_id: Option<String>,
    /// The filters of the channel's items.
    pub filters: Vec<Filter>,
}

/// The answer that stands in an `application/grip-instruct` body, instead of the origin's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Substitute {
    /// The headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Bytes,
}

/// The instruct of one answer. Without a `hold` the answer is an ordinary one.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Instruct {
    /// How to hold the connection, if at all.
    pub hold: Option<HoldMode>,
    /// The channels, each once.
    pub channels: Vec<Named>,
    /// When a response hold gives up; at least 5 seconds, 55 unless told.
    pub timeout: Option<Duration>,
    /// The content that keeps a stream alive.
    pub keep_alive: Option<KeepAlive>,
    /// The status code, and optionally the reason phrase, to send to the client in place of the origin's.
    pub status: Option<(u16, Option<String>)>,
    /// The meta that the origin gives the client, for filters.
    pub meta: Meta,
    /// If not empty: the only headers of the answer that reach the client, in lower case.
    pub expose: Vec<String>,
    /// Where a stream goes on, and whom to tell of its end.
    pub links: Links,
    /// The answer to give instead of the one that brought the instruct.
    pub substitute: Option<Substitute>,
}

impl Instruct {
    /// Returns whether an answer with these headers is for gripd: it has a `Grip-*` header, or its body is an instruct.
    pub fn concerns(headers: &HeaderMap) -> bool {
        headers.keys().any(is_grip) || is_body(headers)
    }

    /// Reads what the headers of an answer say.
    ///
    /// # Errors
    /// Which header is wrong, in Pushpin's words.
    pub fn parse(headers: &HeaderMap) -> Result<Self, Invalid> {
        headers::parse(headers)
    }

    /// Reads what the body of an `application/grip-instruct` answer says, over what its headers said.
    ///
    /// # Errors
    /// What is wrong with it, in Pushpin's words.
    pub fn read_body(&mut self, status: u16, body: &[u8]) -> Result<(), Invalid> {
        if status != 200 {
            return invalid("response code for application/grip-instruct content must be 200");
        }
        json::read(self, body)
    }

    /// Returns the names of the channels as the origin writes them, without the prefix of the route.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.channels.iter().map(|channel| channel.name.as_str())
    }

    /// Returns how long a response hold lasts.
    pub fn hold_timeout(&self) -> Duration {
        self.timeout.unwrap_or(Duration::from_secs(DEFAULT_TIMEOUT))
    }

    /// Returns whether the content of its own answer is to be filtered.
    pub fn filters_content(&self) -> bool {
        self.channels.iter().any(|channel| channel.filters.contains(&Filter::BuildId))
    }

    /// Sets the channels. Of those that have one name, the last one counts, instead of the first.
    fn name_channels(&mut self, named: Vec<Named>) {
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

impl Named {
    /// Returns a channel with filters by their names; what no filter is called is ignored, as in Pushpin.
    pub(super) fn new<'a>(
        name: &str,
        prev_id: Option<&str>,
        filters: impl Iterator<Item = &'a str> + Clone,
    ) -> Result<Self, Invalid> {
        // They stand in headers when the origin is asked again.
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

/// Returns whether a header is GRIP's own.
pub fn is_grip(name: &HeaderName) -> bool {
    name.as_str().starts_with("grip-")
}

/// Returns whether the body of an answer with these headers is an instruct.
pub fn is_body(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| is_media_type(value.as_bytes(), "application/grip-instruct"))
}

/// Returns a time to hold, no shorter than it may be.
fn hold_time(seconds: u64) -> Duration {
    Duration::from_secs(seconds.max(SHORTEST_HOLD))
}

/// Returns a final status: an informational one would make the client wait for another answer.
fn final_status(code: u16) -> Option<u16> {
    Some(code).filter(|code| (200..=999).contains(code))
}
