//! Control messages: requests of an origin to gripd within a WebSocket, as JSON after the prefix `c:`.

use super::content::{kind_named, problem};
use super::filter::{Filter, MAX_FILTERS};
use super::instruct::{KeepAliveMode, NamedChannel};
use super::json_object::{Fields, Object};
use super::message::MessageKind;
use super::{InvalidText, invalid, json};
use bytes::Bytes;
use serde_json::Value;
use std::fmt;
use std::time::Duration;

const KEEP_ALIVE_TIMEOUT: u64 = 55;
const DEFAULT_DELAY: u64 = 1;

/// A request of an origin to gripd that concerns one WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlMessage {
    /// Subscribes the client to a channel.
    Subscribe {
        /// The channel, by the name that the origin uses; not empty.
        channel: String,
        /// The filters that items of the channel pass through, in this order.
        filters: Vec<Filter>,
    },
    /// Ends the client's subscription to a channel.
    Unsubscribe {
        /// The channel, by the name that the origin uses; not empty.
        channel: String,
    },
    /// Closes the connection to the origin. The client stays connected and gets what is published.
    Detach,
    /// Assigns the WebSocket to a session, or to none. gripd ignores this, because it has no state service that would
    /// keep sessions.
    Session {
        /// The id of the session.
        id: Option<String>,
    },
    /// Sets or removes a value in the client's meta, which filters look at.
    SetMeta {
        /// The name of the value.
        name: String,
        /// The new value, or `None` to remove the value.
        value: Option<String>,
    },
    /// Sets the message that keeps the connection alive. With `None`, no such message is sent any more.
    KeepAlive(Option<TimedMessage>),
    /// Sends a message once, after a delay. If another message is still delayed, that one is sent immediately.
    SendDelayed(TimedMessage),
    /// Sends the delayed message immediately, if there is one.
    FlushDelayed,
}

/// A message that gripd sends by itself after some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedMessage {
    /// The kind of the message.
    pub kind: MessageKind,
    /// The content, which is valid for the kind.
    pub content: Bytes,
    /// The time to wait before the message is sent; at least one second.
    pub timeout: Duration,
    /// The event from which the time is counted. It has a meaning for keep-alives only.
    pub mode: KeepAliveMode,
}

/// The reason why a control message is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlRefusal {
    /// The message is invalid, and is ignored.
    Invalid(InvalidText),
    /// The message has more filters than a subscription may have. This ends the connection (1011), because without
    /// its filters the client would get items that are not meant for it.
    TooManyFilters(InvalidText),
}

impl From<InvalidText> for ControlRefusal {
    fn from(why: InvalidText) -> Self {
        Self::Invalid(why)
    }
}

impl fmt::Display for ControlRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(why) | Self::TooManyFilters(why) => why.fmt(f),
        }
    }
}

impl std::error::Error for ControlRefusal {}

impl ControlMessage {
    /// Parses the JSON that follows the prefix `c:`.
    ///
    /// # Errors
    /// The message is invalid. The error says why, and its variant says whether the message is ignored or ends the
    /// connection.
    pub fn parse(text: &[u8]) -> Result<Self, ControlRefusal> {
        let object = object(text)?;
        let fields = |of| Fields { of, object: &object };
        match required(&fields("control message"), "type")? {
            "subscribe" => subscribe(&fields("subscribe")),
            "unsubscribe" => Ok(Self::Unsubscribe { channel: named(&fields("unsubscribe"), "channel")?.to_owned() }),
            "detach" => Ok(Self::Detach),
            "session" => Ok(Self::Session { id: fields("session").string("id")?.map(str::to_owned) }),
            "set-meta" => Ok(set_meta(&fields("set-meta"))?),
            "keep-alive" => Ok(Self::KeepAlive(timed(&fields("keep-alive"), KEEP_ALIVE_TIMEOUT)?)),
            "send-delayed" => Ok(send_delayed(&fields("send-delayed"))?),
            "flush-delayed" => Ok(Self::FlushDelayed),
            other => Err(InvalidText::new(format!("control message contains unknown 'type' '{other}'")).into()),
        }
    }
}

fn object(text: &[u8]) -> Result<Object, InvalidText> {
    match json::read(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => invalid("control message must be an object"),
        Err(fault) => invalid(format!("failed to parse control message as JSON: {fault}")),
    }
}

fn subscribe(fields: &Fields<'_>) -> Result<ControlMessage, ControlRefusal> {
    let channel = named(fields, "channel")?;
    let filters = fields.strings("filters")?.unwrap_or_default();
    let refused = if filters.len() > MAX_FILTERS { ControlRefusal::TooManyFilters } else { ControlRefusal::Invalid };
    let NamedChannel { name, filters, .. } =
        NamedChannel::new(channel, None, filters.iter().copied()).map_err(refused)?;
    Ok(ControlMessage::Subscribe { channel: name, filters })
}

fn set_meta(fields: &Fields<'_>) -> Result<ControlMessage, InvalidText> {
    let name = named(fields, "name")?.to_owned();
    Ok(ControlMessage::SetMeta { name, value: fields.string("value")?.map(str::to_owned) })
}

fn send_delayed(fields: &Fields<'_>) -> Result<ControlMessage, InvalidText> {
    match timed(fields, DEFAULT_DELAY)? {
        Some(timed) => Ok(ControlMessage::SendDelayed(timed)),
        None => invalid("send-delayed does not contain 'content' or 'content-bin'"),
    }
}

/// Reads a message and the time to wait for it, or returns `None` if there is no content. As in Pushpin, the kind is
/// text by default even if the content is given in Base64, and a timeout of 0 seconds means the default of `usual`
/// seconds.
fn timed(fields: &Fields<'_>, usual: u64) -> Result<Option<TimedMessage>, InvalidText> {
    let Some(kind) = kind_named(fields.string("message-type")?.unwrap_or("text")) else {
        return fields.unknown_value("message-type");
    };
    let seconds = fields.seconds("timeout")?.filter(|seconds| *seconds > 0).unwrap_or(usual);
    let mode = KeepAliveMode::named(fields.string("mode")?.unwrap_or("idle"));
    let mode = mode.or_else(|_| fields.unknown_value("mode"))?;
    let Some(content) = fields.content("content-bin", "content")? else { return Ok(None) };
    if problem(kind, &content).is_some() {
        return fields.invalid_value("content");
    }
    Ok(Some(TimedMessage { kind, content, timeout: Duration::from_secs(seconds), mode }))
}

/// Returns the member `name` as a string that is not empty.
fn named<'a>(fields: &Fields<'a>, name: &str) -> Result<&'a str, InvalidText> {
    match required(fields, name)? {
        "" => fields.invalid_value(name),
        text => Ok(text),
    }
}

fn required<'a>(fields: &Fields<'a>, name: &str) -> Result<&'a str, InvalidText> {
    match fields.string(name)? {
        Some(text) => Ok(text),
        None => invalid(format!("{} does not contain '{name}'", fields.of)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn parse(message: &Value) -> Result<ControlMessage, ControlRefusal> {
        ControlMessage::parse(message.to_string().as_bytes())
    }

    fn error(message: Value) -> String {
        match parse(&message).unwrap_err() {
            ControlRefusal::Invalid(why) => why.to_string(),
            fatal @ ControlRefusal::TooManyFilters(_) => panic!("{fatal}"),
        }
    }

    fn keep_alive(message: Value) -> TimedMessage {
        match parse(&message).unwrap() {
            ControlMessage::KeepAlive(Some(timed)) => timed,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn subscriptions_have_known_filters() {
        let subscribe =
            parse(&json!({"type": "subscribe", "channel": "a", "filters": ["skip-self", "x", "var-subst"]}));
        let filters = vec![Filter::SkipSelf, Filter::VarSubst];
        assert_eq!(subscribe, Ok(ControlMessage::Subscribe { channel: "a".into(), filters }));
        let bare = parse(&json!({"type": "subscribe", "channel": "a", "filters": null, "more": 1}));
        assert_eq!(bare, Ok(ControlMessage::Subscribe { channel: "a".into(), filters: Vec::new() }));
        let unsubscribe = parse(&json!({"type": "unsubscribe", "channel": "a"}));
        assert_eq!(unsubscribe, Ok(ControlMessage::Unsubscribe { channel: "a".into() }));
    }

    #[test]
    fn too_many_filters_are_fatal() {
        let many = json!({"type": "subscribe", "channel": "a", "filters": ["a", "b", "c", "d", "e", "f"]});
        let why = "too many filters for channel 'a'";
        assert_eq!(parse(&many), Err(ControlRefusal::TooManyFilters(InvalidText::new(why))));
        assert_eq!(parse(&many).unwrap_err().to_string(), why);
    }

    #[test]
    fn plain_messages() {
        assert_eq!(parse(&json!({"type": "detach"})), Ok(ControlMessage::Detach));
        assert_eq!(parse(&json!({"type": "flush-delayed"})), Ok(ControlMessage::FlushDelayed));
        assert_eq!(parse(&json!({"type": "session", "id": "s"})), Ok(ControlMessage::Session { id: Some("s".into()) }));
        assert_eq!(parse(&json!({"type": "session"})), Ok(ControlMessage::Session { id: None }));
        let meta = |value: Option<&str>| ControlMessage::SetMeta { name: "user".into(), value: value.map(Into::into) };
        assert_eq!(parse(&json!({"type": "set-meta", "name": "user", "value": "7"})), Ok(meta(Some("7"))));
        assert_eq!(parse(&json!({"type": "set-meta", "name": "user", "value": ""})), Ok(meta(Some(""))));
        assert_eq!(parse(&json!({"type": "set-meta", "name": "user", "value": null})), Ok(meta(None)));
    }

    #[test]
    fn keep_alives_have_pushpins_defaults() {
        let usual = keep_alive(json!({"type": "keep-alive", "content": "hi"}));
        let (content, timeout) = (Bytes::from("hi"), Duration::from_secs(55));
        assert_eq!(usual, TimedMessage { kind: MessageKind::Text, content, timeout, mode: KeepAliveMode::Idle });
        let all = keep_alive(json!({"type": "keep-alive", "content": "no", "content-bin": "/w==", "timeout": "20",
            "message-type": "binary", "mode": "interval"}));
        let (content, timeout) = (Bytes::from_static(b"\xff"), Duration::from_secs(20));
        assert_eq!(all, TimedMessage { kind: MessageKind::Binary, content, timeout, mode: KeepAliveMode::Interval });
        assert_eq!(keep_alive(json!({"type": "keep-alive", "content": "", "timeout": 0})).timeout.as_secs(), 55);
        assert_eq!(keep_alive(json!({"type": "keep-alive", "content-bin": "aGk="})).kind, MessageKind::Text);
        assert_eq!(parse(&json!({"type": "keep-alive", "timeout": 5})), Ok(ControlMessage::KeepAlive(None)));
    }

    #[test]
    fn delayed_messages_wait_a_second_unless_told() {
        let delayed = |message: Value| match parse(&message).unwrap() {
            ControlMessage::SendDelayed(timed) => (timed.kind, timed.timeout.as_secs()),
            other => panic!("{other:?}"),
        };
        assert_eq!(delayed(json!({"type": "send-delayed", "content": "x"})), (MessageKind::Text, 1));
        let ping = json!({"type": "send-delayed", "content": "", "message-type": "ping", "timeout": 9});
        assert_eq!(delayed(ping), (MessageKind::Ping, 9));
        let none = error(json!({"type": "send-delayed"}));
        assert_eq!(none, "send-delayed does not contain 'content' or 'content-bin'");
    }

    #[test]
    fn errors_say_what_is_wrong() {
        assert_eq!(
            ControlMessage::parse(b"{").unwrap_err().to_string(),
            "failed to parse control message as JSON: EOF while parsing an object at line 1 column 1"
        );
        assert_eq!(error(json!([])), "control message must be an object");
        assert_eq!(error(json!({})), "control message does not contain 'type'");
        assert_eq!(error(json!({"type": 1})), "control message contains 'type' with wrong type");
        assert_eq!(error(json!({"type": "set-hold"})), "control message contains unknown 'type' 'set-hold'");
        assert_eq!(error(json!({"type": "subscribe"})), "subscribe does not contain 'channel'");
        let empty = json!({"type": "unsubscribe", "channel": ""});
        assert_eq!(error(empty), "unsubscribe contains 'channel' with invalid value");
        assert!(error(json!({"type": "subscribe", "channel": "a\nb"})).contains("control character"));
        assert_eq!(error(json!({"type": "session", "id": 1})), "session contains 'id' with wrong type");
        assert_eq!(error(json!({"type": "set-meta"})), "set-meta does not contain 'name'");
    }

    #[test]
    fn timed_messages_must_be_fit_to_send() {
        let wrong = |name: &str, value: Value| {
            let mut message = json!({"type": "keep-alive", "content": "x"});
            message[name] = value;
            error(message)
        };
        assert_eq!(wrong("message-type", json!("close")), "keep-alive contains 'message-type' with unknown value");
        assert_eq!(wrong("mode", json!("busy")), "keep-alive contains 'mode' with unknown value");
        assert_eq!(wrong("timeout", json!(-1)), "keep-alive 'timeout' has invalid value");
        assert_eq!(wrong("timeout", json!("soon")), "keep-alive contains 'timeout' with wrong type");
        assert_eq!(wrong("content-bin", json!("/w==")), "keep-alive contains 'content' with invalid value");
        assert_eq!(wrong("content-bin", json!("a*b")), "keep-alive contains 'content-bin', which is not base64");
        let long = json!({"type": "keep-alive", "message-type": "pong", "content": "x".repeat(126)});
        assert_eq!(error(long), "keep-alive contains 'content' with invalid value");
    }

    proptest! {
        #[test]
        fn any_text_is_a_message_or_an_error(text in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = ControlMessage::parse(&text);
        }
    }
}
