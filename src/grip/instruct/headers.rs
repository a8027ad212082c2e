//! A parser for the `Grip-*` headers of a response.

use super::super::fields::{FieldElement, elements, seconds};
use super::super::json_object::is_reason;
use super::super::{InvalidText, Meta, invalid};
use super::{HoldMode, Instruct, KeepAlive, NamedChannel, final_status, hold_time};
use hyper::header::{HeaderMap, HeaderValue};
use std::borrow::Cow;
use std::time::Duration;

pub(super) fn parse(headers: &HeaderMap) -> Result<Instruct, InvalidText> {
    let mut instruct = Instruct { hold: parse_hold(headers)?, ..Instruct::default() };
    let mut channels = Vec::new();
    for value in texts(headers, "grip-channel")? {
        for part in elements(&value) {
            channels.push(parse_channel(part)?);
        }
    }
    instruct.name_channels(channels);
    instruct.timeout = parse_timeout(headers)?;
    instruct.keep_alive = text(headers, "grip-keep-alive")?.map(|t| KeepAlive::parse(&t)).transpose()?;
    instruct.status = text(headers, "grip-status")?.map_or(Ok(None), |t| parse_status(&t))?;
    instruct.meta = parse_meta(headers)?;
    for value in texts(headers, "grip-link")? {
        instruct.links.parse(&value)?;
    }
    for value in texts(headers, "grip-expose-headers")? {
        instruct.expose.extend(elements(&value).map(str::to_ascii_lowercase));
    }
    Ok(instruct)
}

/// Returns the values of a header as text. A value that is not UTF-8 is an error; it is not skipped, because a channel
/// would be lost silently.
fn texts<'a>(headers: &'a HeaderMap, name: &str) -> Result<Vec<Cow<'a, str>>, InvalidText> {
    let text = |v: &'a HeaderValue| std::str::from_utf8(v.as_bytes()).map(Cow::Borrowed);
    let values: Result<_, _> = headers.get_all(name).iter().map(text).collect();
    values.map_err(|_| InvalidText::new(format!("{name} is not UTF-8")))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<Cow<'a, str>>, InvalidText> {
    Ok(texts(headers, name)?.into_iter().next())
}

fn parse_hold(headers: &HeaderMap) -> Result<Option<HoldMode>, InvalidText> {
    match text(headers, "grip-hold")?.as_deref() {
        None => Ok(None),
        Some("response") => Ok(Some(HoldMode::Response)),
        Some("stream") => Ok(Some(HoldMode::Stream)),
        Some(_) => invalid("Grip-Hold must be set to either 'response' or 'stream'"),
    }
}

fn parse_channel(part: &str) -> Result<NamedChannel, InvalidText> {
    let Some(element) = FieldElement::parse(part) else { return invalid("failed to parse Grip-Channel") };
    // As in Pushpin, the name of the parameter `filter` must be in lower case.
    let filters = element.parameters().filter(|(name, _)| *name == "filter").map(|(_, value)| value);
    let filters: Vec<&str> = filters.collect();
    NamedChannel::new(element.value, element.get("prev-id"), filters.iter().copied())
}

fn parse_timeout(headers: &HeaderMap) -> Result<Option<Duration>, InvalidText> {
    let Some(value) = text(headers, "grip-timeout")? else { return Ok(None) };
    let seconds = seconds(&value, "failed to parse Grip-Timeout", "Grip-Timeout has invalid value")?;
    Ok(Some(hold_time(seconds)))
}

fn parse_status(value: &str) -> Result<Option<(u16, Option<String>)>, InvalidText> {
    let value = value.trim();
    if value.is_empty() {
        return Ok(None);
    }
    let (code, reason) = value.split_once(' ').map_or((value, None), |(c, r)| (c, Some(r.trim().to_owned())));
    if reason.as_deref().is_some_and(|reason| !is_reason(reason)) {
        return invalid("Grip-Status contains invalid reason");
    }
    let code = code.parse().ok().and_then(final_status);
    let code = code.ok_or_else(|| InvalidText::new("Grip-Status contains invalid status code"))?;
    Ok(Some((code, reason)))
}

fn parse_meta(headers: &HeaderMap) -> Result<Meta, InvalidText> {
    let empty = || InvalidText::new("Grip-Set-Meta cannot be empty");
    let mut meta = Meta::default();
    for value in texts(headers, "grip-set-meta")? {
        for part in elements(&value) {
            // A pair of a name and a value has the syntax of a parameter, and parameters are parsed only after a `;`.
            let pair = format!(";{part}");
            let element = FieldElement::parse(&pair).ok_or_else(empty)?;
            let (name, value) = element.parameters().next().ok_or_else(empty)?;
            meta.add(name, value)?;
        }
    }
    Ok(meta)
}

#[cfg(test)]
mod tests {
    use super::super::super::filter::Filter;
    use super::super::{HoldMode, KeepAliveMode};
    use super::*;
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        map
    }

    fn parse(pairs: &[(&'static str, &str)]) -> Result<Instruct, InvalidText> {
        super::parse(&headers(pairs))
    }

    fn error(name: &'static str, value: &str) -> String {
        parse(&[("grip-hold", "stream"), (name, value)]).unwrap_err().to_string()
    }

    #[test]
    fn channels_come_from_repeated_headers_and_lists_once_each() {
        let i = parse(&[("grip-hold", "stream"), ("grip-channel", "a, b"), ("grip-channel", "c,a")]).unwrap();
        assert_eq!(i.hold, Some(HoldMode::Stream));
        assert_eq!(i.channels.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn timeouts_have_a_default_and_a_minimum() {
        assert_eq!(parse(&[]).unwrap().hold_timeout(), Duration::from_secs(55));
        assert_eq!(parse(&[("grip-timeout", "1")]).unwrap().hold_timeout(), Duration::from_secs(5));
        assert_eq!(parse(&[("grip-timeout", "90")]).unwrap().hold_timeout(), Duration::from_secs(90));
        assert_eq!(error("grip-timeout", "x"), "failed to parse Grip-Timeout");
        assert_eq!(error("grip-timeout", "-1"), "Grip-Timeout has invalid value");
    }

    #[test]
    fn keep_alives_in_all_formats_and_modes() {
        let keep_alive = |v| parse(&[("grip-keep-alive", v)]).unwrap().keep_alive.unwrap();
        let raw = keep_alive("ping");
        assert_eq!((raw.content, raw.timeout.as_secs(), raw.mode), (b"ping".to_vec(), 55, KeepAliveMode::Idle));
        let c = keep_alive(r"a\n\x3b\\\q; format=cstring; timeout=20; mode=interval");
        assert_eq!((c.content, c.timeout.as_secs(), c.mode), (b"a\n;\\".to_vec(), 20, KeepAliveMode::Interval));
        assert_eq!(keep_alive("AAE=; format=base64; timeout=0").content, [0, 1]);
        assert_eq!(keep_alive("x; timeout=0").timeout.as_secs(), 1);
    }

    #[test]
    fn errors_are_pushpins_words() {
        assert_eq!(error("grip-keep-alive", "; timeout=5"), "Grip-Keep-Alive cannot be empty");
        assert_eq!(error("grip-keep-alive", "x; format=zip"), "no such Grip-Keep-Alive format 'zip'");
        assert_eq!(error("grip-keep-alive", "x; mode=z"), "no such Grip-Keep-Alive mode 'z'");
        assert_eq!(error("grip-keep-alive", r"x\xg; format=cstring"), "failed to parse Grip-Keep-Alive cstring format");
        assert_eq!(error("grip-keep-alive", "x; timeout=z"), "failed to parse Grip-Keep-Alive timeout value");
        assert_eq!(error("grip-keep-alive", "x; timeout=-2"), "Grip-Keep-Alive timeout has invalid value");
        assert_eq!(error("grip-status", "abc"), "Grip-Status contains invalid status code");
        assert_eq!(error("grip-status", "101"), "Grip-Status contains invalid status code");
        assert_eq!(error("grip-channel", "a; x=\"b"), "failed to parse Grip-Channel");
        let hold = parse(&[("grip-hold", "forever")]).unwrap_err().to_string();
        assert_eq!(hold, "Grip-Hold must be set to either 'response' or 'stream'");
    }

    #[test]
    fn status_and_meta() {
        assert_eq!(parse(&[("grip-status", "404 Nope Sir")]).unwrap().status, Some((404, Some("Nope Sir".into()))));
        assert_eq!(parse(&[("grip-status", "201")]).unwrap().status, Some((201, None)));
        assert_eq!(parse(&[("grip-status", "")]).unwrap().status, None);
        let meta = parse(&[("grip-set-meta", r#"user=7, name="a, b""#)]).unwrap().meta;
        assert_eq!((meta.get("user"), meta.get("name")), (Some("7"), Some("a, b")));
        assert_eq!(error("grip-set-meta", "=x"), "Grip-Set-Meta cannot be empty");
    }

    #[test]
    fn channels_have_prev_ids_and_filters() {
        let i = parse(&[(
            "grip-channel",
            "a; prev-id=1; filter=skip-self; Filter=var-subst; filter=unknown, b, a; prev-id=\"\"",
        )]);
        let i = i.unwrap();
        let names: Vec<_> = i.channels.iter().map(|c| (c.name.as_str(), c.prev_id.as_deref())).collect();
        // If a channel is listed twice, the later entry counts.
        assert_eq!(names, [("a", Some("")), ("b", None)]);
        let i = parse(&[("grip-channel", "a; filter=skip-self; Filter=var-subst; filter=unknown; filter=build-id")])
            .unwrap();
        assert_eq!(i.channels[0].filters, [Filter::SkipSelf, Filter::BuildId]);
        assert!(i.filters_content());
        let many = format!("a{}", "; filter=x".repeat(6));
        assert_eq!(error("grip-channel", &many), "too many filters for channel 'a'");
    }

    #[test]
    fn links_come_from_all_their_headers() {
        let links = parse(&[("grip-link", "</x>; rel=next"), ("grip-link", "</y>; rel=gone")]).unwrap().links;
        assert_eq!((links.next.unwrap().uri.as_str(), links.gone.as_deref()), ("/x", Some("/y")));
    }

    proptest! {
        #[test]
        fn hostile_values_are_errors_not_panics(value in "[ -~]{0,40}") {
            for name in ["grip-hold", "grip-channel", "grip-timeout", "grip-keep-alive", "grip-status", "grip-set-meta", "grip-link"] {
                let _ = parse(&[(name, &value)]);
            }
        }
    }
}
