//! A parser for the body of an `application/grip-instruct` response.

use super::super::json_object::{Fields, Object, is_gripds_own, is_reason};
use super::super::{InvalidText, invalid, json};
use super::{HoldMode, Instruct, KeepAlive, KeepAliveMode, NamedChannel, SubstituteAnswer, final_status, hold_time};
use serde_json::Value;

/// Parses a body into `instruct`, which already contains the values of the response's headers. Channels and meta are
/// added to those of the headers, and all other values of the body have precedence.
pub(super) fn read(instruct: &mut Instruct, body: &[u8]) -> Result<(), InvalidText> {
    let value = json::read(body).map_err(|fault| {
        InvalidText::new(format!("failed to parse application/grip-instruct content as JSON: {fault}"))
    })?;
    let Value::Object(object) = value else { return invalid("instruct must be an object") };
    let fields = Fields { of: "instruct", object: &object };
    if let Some(hold) = fields.object("hold")? {
        read_hold(instruct, &Fields { of: "hold", object: hold })?;
    }
    // The headers of the response itself are always discarded, even if the body has no `response`.
    let empty = Object::new();
    let response = fields.object("response")?.unwrap_or(&empty);
    read_response(instruct, &Fields { of: "response", object: response })
}

fn read_hold(instruct: &mut Instruct, fields: &Fields<'_>) -> Result<(), InvalidText> {
    instruct.hold = match fields.string("mode")? {
        None | Some("response") => Some(HoldMode::Response),
        Some("stream") => Some(HoldMode::Stream),
        Some(_) => return invalid("hold 'mode' must be set to either 'response' or 'stream'"),
    };
    let Some(channels) = fields.list("channels")? else { return invalid("hold does not contain 'channels'") };
    let channels = channels.iter().map(|channel| match channel {
        Value::Object(object) => channel_of(&Fields { of: "channel", object }),
        _ => invalid("channels contains value with wrong type"),
    });
    instruct.name_channels(channels.collect::<Result<_, _>>()?);
    if let Some(seconds) = fields.seconds("timeout")? {
        instruct.timeout = Some(hold_time(seconds));
    }
    if let Some(object) = fields.object("keep-alive")? {
        instruct.keep_alive = Some(keep_alive(&Fields { of: "keep-alive", object })?);
    }
    if let Some(meta) = fields.meta("meta")? {
        meta.iter().try_for_each(|(name, value)| instruct.meta.add(name, value))?;
    }
    Ok(())
}

fn channel_of(fields: &Fields<'_>) -> Result<NamedChannel, InvalidText> {
    let Some(name) = fields.string("name")? else { return invalid("channel does not contain 'name'") };
    let filters = fields.strings("filters")?.unwrap_or_default();
    NamedChannel::new(name, fields.string("prev-id")?, filters.iter().copied())
}

/// Parses a keep-alive. As in Pushpin, the default mode is `interval` here, unlike in the header.
fn keep_alive(fields: &Fields<'_>) -> Result<KeepAlive, InvalidText> {
    let content = fields.content("content-bin", "content")?.filter(|content| !content.is_empty());
    let Some(content) = content else { return invalid("keep-alive does not contain 'content' or 'content-bin'") };
    let seconds = fields.seconds("timeout")?;
    let mode = KeepAliveMode::named(fields.string("mode")?.unwrap_or("interval"))?;
    Ok(KeepAlive::new(content.to_vec(), seconds, mode))
}

fn read_response(instruct: &mut Instruct, fields: &Fields<'_>) -> Result<(), InvalidText> {
    let reason = fields.string("reason")?.map(str::to_owned);
    if reason.as_deref().is_some_and(|reason| !is_reason(reason)) {
        return invalid("response contains 'reason' with invalid value");
    }
    if let Some(code) = fields.integer("code")? {
        let Some(code) = u16::try_from(code).ok().and_then(final_status) else {
            return invalid("response contains 'code' with invalid value");
        };
        instruct.status = Some((code, reason));
    } else if let Some(reason) = reason {
        let code = instruct.status.as_ref().map_or(200, |(code, _)| *code);
        instruct.status = Some((code, Some(reason)));
    }
    let headers = fields.headers()?.into_iter().filter(|(name, _)| !is_gripds_own(name)).collect();
    let body = fields.content("body-bin", "body")?.unwrap_or_default();
    instruct.substitute = Some(SubstituteAnswer { headers, body });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use std::time::Duration;

    fn parse(body: &Value) -> Result<Instruct, String> {
        let mut instruct = Instruct::default();
        let read = instruct.read_body(200, body.to_string().as_bytes());
        read.map(|()| instruct).map_err(|e| e.to_string())
    }

    #[test]
    fn a_hold_with_everything() {
        let i = parse(&json!({
            "hold": {"mode": "stream", "channels": [{"name": "a", "prev-id": "1", "filters": ["skip-self", "x"]},
                {"name": "b"}], "timeout": "20", "keep-alive": {"content": "ping", "timeout": 0}, "meta": {"user": "7"}},
            "response": {"code": 201, "reason": "Made", "headers": [["X-A", "1"], ["X-A", "2"], ["Content-Length", "9"]],
                "body": "text", "body-bin": "aGk="}}))
        .unwrap();
        assert_eq!((i.hold, i.timeout), (Some(HoldMode::Stream), Some(Duration::from_secs(20))));
        assert_eq!((i.channels[0].prev_id.as_deref(), i.channels[0].filters.len()), (Some("1"), 1));
        let keep_alive = i.keep_alive.unwrap();
        assert_eq!((keep_alive.timeout.as_secs(), keep_alive.mode), (1, KeepAliveMode::Interval));
        assert_eq!((i.meta.get("user"), i.status), (Some("7"), Some((201, Some("Made".into())))));
        let substitute = i.substitute.unwrap();
        assert_eq!((substitute.headers.len(), &substitute.body[..]), (2, &b"hi"[..]));
    }

    #[test]
    fn the_default_is_a_long_poll_with_an_empty_answer() {
        let i = parse(&json!({"hold": {"channels": []}})).unwrap();
        assert_eq!((i.hold, i.substitute), (Some(HoldMode::Response), Some(SubstituteAnswer::default())));
        assert_eq!(parse(&json!({})).unwrap().hold, None);
    }

    #[test]
    fn wrong_bodies_are_errors() {
        let error = |body: Value| parse(&body).unwrap_err();
        assert_eq!(error(json!([])), "instruct must be an object");
        assert_eq!(error(json!({"hold": {}})), "hold does not contain 'channels'");
        assert_eq!(error(json!({"hold": {"channels": [{}]}})), "channel does not contain 'name'");
        assert_eq!(error(json!({"hold": 1})), "instruct contains 'hold' with wrong type");
        let filters = json!({"hold": {"channels": [{"name": "a", "filters": ["a", "b", "c", "d", "e", "f"]}]}});
        assert_eq!(error(filters), "too many filters for channel 'a'");
        let pairs = json!({"response": {"headers": [["a"]]}});
        assert_eq!(error(pairs), "headers contains list with wrong number of elements");
        let forever = json!({"hold": {"channels": [], "timeout": 1e300}});
        assert_eq!(error(forever), "hold 'timeout' has invalid value");
        let name = json!({"hold": {"channels": [{"name": "a\nb"}]}});
        assert!(error(name).contains("control character"));
        assert_eq!(error(json!({"response": {"code": 101}})), "response contains 'code' with invalid value");
        let mut instruct = Instruct::default();
        assert!(instruct.read_body(200, b"{").unwrap_err().to_string().ends_with("at line 1 column 1"));
        let status = instruct.read_body(404, b"{}").unwrap_err().to_string();
        assert_eq!(status, "response code for application/grip-instruct content must be 200");
    }

    proptest! {
        #[test]
        fn any_body_is_an_instruct_or_an_error(body in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Instruct::default().read_body(200, &body);
        }
    }
}
