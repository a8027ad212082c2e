//! The formats of an item.

use super::super::content::{kind_named, problem};
use super::super::fields::elements;
use super::super::json_object::{Fields, MAX_HEADERS, is_gripds_own, is_reason};
use super::super::message::may_be_sent;
use super::super::{CloseReason, InvalidText, MessageKind, invalid};
use super::patch::BodyPatch;
use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};

/// The names of the content filters for which a content is made, in order. A connection gets the content only if the
/// filters of its subscription that change content are exactly these. With `None`, the filters of a subscription do
/// not matter.
pub type ContentFilters = Option<Box<[Box<str>]>>;

/// The response of an item for long-polls (`http-response`).
#[derive(Debug, PartialEq, Eq)]
pub struct ResponseFormat {
    /// The status code, from 200 to 999.
    pub code: u16,
    /// The reason phrase, if it is not the code's usual one.
    pub reason: Option<String>,
    /// The headers, without those of GRIP and those that frame the response. They replace headers of the same name in
    /// the held response.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The headers that are removed from the response, whether the item or the held response has them. As in Pushpin,
    /// this is what `Grip-Expose-Headers` among the headers of an item means.
    pub hide: Vec<HeaderName>,
    /// The body.
    pub body: ItemBody,
    /// The content filters that a subscription must have to get the response.
    pub content_filters: ContentFilters,
}

/// The body of the response that an item has for long-polls.
#[derive(Debug, PartialEq, Eq)]
pub enum ItemBody {
    /// The complete body.
    Whole(Bytes),
    /// A patch of the body of the held response.
    Patch(BodyPatch),
}

/// The content of an item for streams (`http-stream`), or for event streams (`sse`).
#[derive(Debug, PartialEq, Eq)]
pub struct StreamFormat {
    /// The bytes that are appended to the stream.
    pub content: Bytes,
    /// The content filters that a subscription must have to get the content.
    pub content_filters: ContentFilters,
}

/// The message of an item for WebSockets (`ws-message`).
#[derive(Debug, PartialEq, Eq)]
pub struct MessageFormat {
    /// The kind of message.
    pub kind: MessageKind,
    /// The content, which is valid for the kind.
    pub content: Bytes,
    /// The content filters that a subscription must have to get the message.
    pub content_filters: ContentFilters,
}

/// The code of a close that has a reason but no code.
const NORMAL: i64 = 1000;

impl ItemBody {
    /// Returns about how many bytes of memory the body takes.
    pub fn weight(&self) -> usize {
        match self {
            Self::Whole(bytes) => bytes.len(),
            Self::Patch(patch) => patch.weight(),
        }
    }

    /// Returns the body for a connection whose held response has the body `held`, or `None` if the patch cannot be
    /// applied to it.
    pub fn apply_to(&self, held: &Bytes) -> Option<Bytes> {
        match self {
            Self::Whole(bytes) => Some(bytes.clone()),
            Self::Patch(patch) => patch.apply(held),
        }
    }
}

pub(super) fn response(fields: &Fields<'_>) -> Result<ResponseFormat, InvalidText> {
    let code = fields.integer("code")?.unwrap_or(200);
    // Only a final status is allowed: after an informational one, the client would wait for another response.
    let Some(code) = u16::try_from(code).ok().filter(|c| (200..=999).contains(c)) else {
        return invalid("'http-response' contains 'code' with invalid value");
    };
    let reason = fields.string("reason")?.map(str::to_owned);
    if reason.as_deref().is_some_and(|reason| !is_reason(reason)) {
        return invalid("'http-response' contains 'reason' with invalid value");
    }
    let all = fields.headers()?;
    let hide = all.iter().filter(|(name, _)| name == "grip-expose-headers").filter_map(|(_, v)| v.to_str().ok());
    let hide: Vec<HeaderName> = hide.flat_map(elements).filter_map(|name| HeaderName::try_from(name).ok()).collect();
    if hide.len() > MAX_HEADERS {
        return invalid(format!("'http-response' contains 'Grip-Expose-Headers' with more than {MAX_HEADERS} names"));
    }
    let headers = all.into_iter().filter(|(name, _)| !is_gripds_own(name)).collect();
    let (body, content_filters) = (body(fields)?, content_filters(fields)?);
    Ok(ResponseFormat { code, reason, headers, hide, body, content_filters })
}

fn body(fields: &Fields<'_>) -> Result<ItemBody, InvalidText> {
    if let Some(body) = fields.content("body-bin", "body")? {
        return Ok(ItemBody::Whole(body));
    }
    let Some(patch) = fields.get("body-patch") else {
        return invalid("'http-response' does not contain 'body', 'body-bin', or 'body-patch'");
    };
    BodyPatch::read(patch).map(ItemBody::Patch)
}

pub(super) fn stream(fields: &Fields<'_>) -> Result<StreamFormat, InvalidText> {
    match fields.content("content-bin", "content")? {
        Some(content) => Ok(StreamFormat { content, content_filters: content_filters(fields)? }),
        None => invalid("'http-stream' does not contain 'content' or 'content-bin'"),
    }
}

pub(super) fn content_filters(fields: &Fields<'_>) -> Result<ContentFilters, InvalidText> {
    let names = fields.strings("content-filters")?;
    Ok(names.map(|names| names.into_iter().map(Into::into).collect()))
}

/// Parses a WebSocket message. Only pings and pongs may omit the content, which may be empty for every kind.
pub(super) fn message(fields: &Fields<'_>) -> Result<MessageFormat, InvalidText> {
    let kind = match fields.string("type")?.map(kind_named) {
        Some(None) => return fields.unknown_value("type"),
        Some(kind) => kind,
        None => None,
    };
    let usual = if fields.get("content-bin").is_some() { MessageKind::Binary } else { MessageKind::Text };
    let kind = kind.unwrap_or(usual);
    let content = match (fields.content("content-bin", "content")?, kind) {
        (Some(content), _) => content,
        (None, MessageKind::Ping | MessageKind::Pong) => Bytes::new(),
        (None, _) => return invalid("'ws-message' does not contain 'content' or 'content-bin'"),
    };
    if problem(kind, &content).is_some() {
        return fields.invalid_value("content");
    }
    Ok(MessageFormat { kind, content, content_filters: content_filters(fields)? })
}

/// Parses the code and the reason of a close. Returns `None` if both are absent.
pub(super) fn close_reason(fields: &Fields<'_>) -> Result<Option<CloseReason>, InvalidText> {
    let (code, text) = (fields.integer("code")?, fields.string("reason")?);
    if code.is_none() && text.is_none() {
        return Ok(None);
    }
    let Ok(code) = u16::try_from(code.unwrap_or(NORMAL)) else { return fields.invalid_value("code") };
    let reason = CloseReason::new(code, text.unwrap_or_default());
    if text.is_some_and(|text| text != reason.reason) {
        return fields.invalid_value("reason");
    }
    if may_be_sent(code) { Ok(Some(reason)) } else { fields.invalid_value("code") }
}
