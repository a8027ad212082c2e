//! An instruct: what the `Grip-*` headers of an origin's answer ask for.

use super::fields::{Element, elements};
use super::{Invalid, base64};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName};
use std::borrow::Cow;
use std::time::Duration;

const DEFAULT_TIMEOUT: u64 = 55;
const SHORTEST_HOLD: u64 = 5;
const SHORTEST_KEEP_ALIVE: u64 = 1;

/// How a connection is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldMode {
    /// Nothing is sent until an item or the timeout ends the hold (a long-poll).
    Response,
    /// The answer begins at once and items are appended to it.
    Stream,
}

/// What to send on a stream in which nothing happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// The bytes, not empty.
    pub content: Vec<u8>,
    /// How long to wait before sending them; at least a second.
    pub timeout: Duration,
    /// What the wait is counted from.
    pub mode: KeepAliveMode,
}

/// What a keep-alive's wait is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAliveMode {
    /// From the last thing sent.
    Idle,
    /// From the last keep-alive, whatever else was sent.
    Interval,
}

/// The instruct of one answer. Without a `hold` the answer is an ordinary one.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Instruct {
    /// How to hold the connection, if at all.
    pub hold: Option<HoldMode>,
    /// The channels to subscribe it to, as the origin names them.
    pub channels: Vec<String>,
    /// When a response hold gives up; at least 5 seconds, 55 unless told.
    pub timeout: Option<Duration>,
    /// What keeps a stream alive.
    pub keep_alive: Option<KeepAlive>,
    /// The status for the client instead of the origin's, with its reason if given.
    pub status: Option<(u16, Option<String>)>,
    /// What the origin says of the client, for filters: names and values.
    pub meta: Vec<(String, String)>,
    /// If not empty: the only headers of the answer that reach the client, in lower case.
    pub expose: Vec<String>,
    /// Headers and parameters that mean something in GRIP but nothing to this version.
    pub ignored: Vec<&'static str>,
}

impl Instruct {
    /// Whether an answer with these headers is for gripd: it has a `Grip-*` header, or its body is an
    /// instruct.
    pub fn concerns(headers: &HeaderMap) -> bool {
        headers.keys().any(is_grip) || is_instruct_body(headers)
    }

    /// Reads the instruct of an answer.
    ///
    /// # Errors
    /// Which header is wrong, in Pushpin's words, or which one asks for what is not supported.
    pub fn parse(headers: &HeaderMap) -> Result<Self, Invalid> {
        if is_instruct_body(headers) {
            return Err(Invalid::new("application/grip-instruct bodies are not supported yet: use Grip-* headers"));
        }
        let mut instruct = Self { hold: parse_hold(headers)?, ..Self::default() };
        instruct.parse_channels(headers)?;
        instruct.timeout = parse_timeout(headers)?;
        instruct.keep_alive = text(headers, "grip-keep-alive")?.map(|t| parse_keep_alive(&t)).transpose()?;
        instruct.status = text(headers, "grip-status")?.map_or(Ok(None), |t| parse_status(&t))?;
        instruct.meta = parse_meta(headers)?;
        instruct.parse_links(headers)?;
        for value in texts(headers, "grip-expose-headers")? {
            instruct.expose.extend(elements(&value).map(str::to_ascii_lowercase));
        }
        Ok(instruct)
    }

    /// How long a response hold lasts.
    pub fn hold_timeout(&self) -> Duration {
        self.timeout.unwrap_or(Duration::from_secs(DEFAULT_TIMEOUT))
    }

    fn parse_channels(&mut self, headers: &HeaderMap) -> Result<(), Invalid> {
        for value in texts(headers, "grip-channel")? {
            for part in elements(&value) {
                let element = Element::parse(part).ok_or_else(|| Invalid::new("failed to parse Grip-Channel"))?;
                if let Some(filter) = element.get("filter") {
                    return Err(Invalid::new(format!(
                        "filter '{filter}' of channel '{}' is not supported yet",
                        element.value
                    )));
                }
                if element.get("prev-id").is_some() {
                    self.ignored.push("prev-id in Grip-Channel");
                }
                if !self.channels.iter().any(|c| c == element.value) {
                    self.channels.push(element.value.to_owned());
                }
            }
        }
        Ok(())
    }

    fn parse_links(&mut self, headers: &HeaderMap) -> Result<(), Invalid> {
        if !headers.contains_key("grip-link") {
            return Ok(());
        }
        if self.hold.is_none() {
            return Err(Invalid::new("Grip-Link without Grip-Hold is not supported yet"));
        }
        self.ignored.push("Grip-Link");
        Ok(())
    }
}

/// Whether a header is GRIP's own.
pub fn is_grip(name: &HeaderName) -> bool {
    name.as_str().starts_with("grip-")
}

fn is_instruct_body(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|v| v.as_bytes().split(|b| *b == b';').next() == Some(b"application/grip-instruct"))
}

/// The values of a header. GRIP's are text; another encoding is an error rather than a lost channel.
fn texts<'a>(headers: &'a HeaderMap, name: &str) -> Result<Vec<Cow<'a, str>>, Invalid> {
    let text = |v: &'a hyper::header::HeaderValue| std::str::from_utf8(v.as_bytes()).map(Cow::Borrowed);
    let values: Result<_, _> = headers.get_all(name).iter().map(text).collect();
    values.map_err(|_| Invalid::new(format!("{name} is not UTF-8")))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<Cow<'a, str>>, Invalid> {
    Ok(texts(headers, name)?.into_iter().next())
}

fn parse_hold(headers: &HeaderMap) -> Result<Option<HoldMode>, Invalid> {
    match text(headers, "grip-hold")?.as_deref() {
        None => Ok(None),
        Some("response") => Ok(Some(HoldMode::Response)),
        Some("stream") => Ok(Some(HoldMode::Stream)),
        Some(_) => Err(Invalid::new("Grip-Hold must be set to either 'response' or 'stream'")),
    }
}

fn parse_timeout(headers: &HeaderMap) -> Result<Option<Duration>, Invalid> {
    let Some(value) = text(headers, "grip-timeout")? else { return Ok(None) };
    let seconds = seconds(&value, "failed to parse Grip-Timeout", "Grip-Timeout has invalid value")?;
    Ok(Some(Duration::from_secs(seconds.max(SHORTEST_HOLD))))
}

/// Whole seconds; `unreadable` if it is no number, `negative` if it is below zero.
fn seconds(value: &str, unreadable: &str, negative: &str) -> Result<u64, Invalid> {
    let number: i32 = value.trim().parse().map_err(|_| Invalid::new(unreadable))?;
    u64::try_from(number).map_err(|_| Invalid::new(negative))
}

fn parse_keep_alive(value: &str) -> Result<KeepAlive, Invalid> {
    let element = Element::parse(value).ok_or_else(|| Invalid::new("failed to parse Grip-Keep-Alive"))?;
    if element.value.is_empty() {
        return Err(Invalid::new("Grip-Keep-Alive cannot be empty"));
    }
    let timeout = element.get("timeout").map_or(Ok(DEFAULT_TIMEOUT), |t| {
        let (unreadable, negative) =
            ("failed to parse Grip-Keep-Alive timeout value", "Grip-Keep-Alive timeout has invalid value");
        seconds(t, unreadable, negative)
    })?;
    Ok(KeepAlive {
        content: keep_alive_content(element.value, element.get("format"))?,
        timeout: Duration::from_secs(timeout.max(SHORTEST_KEEP_ALIVE)),
        mode: match element.get("mode") {
            None | Some("idle") => KeepAliveMode::Idle,
            Some("interval") => KeepAliveMode::Interval,
            Some(other) => return Err(Invalid::new(format!("no such Grip-Keep-Alive mode '{other}'"))),
        },
    })
}

fn keep_alive_content(value: &str, format: Option<&str>) -> Result<Vec<u8>, Invalid> {
    let content = match format {
        None | Some("raw") => Some(value.as_bytes().to_vec()),
        Some("cstring") => unescape(value),
        Some("base64") => base64::decode(value),
        Some(other) => return Err(Invalid::new(format!("no such Grip-Keep-Alive format '{other}'"))),
    };
    content
        .filter(|c| !c.is_empty())
        .ok_or_else(|| Invalid::new(format!("failed to parse Grip-Keep-Alive {} format", format.unwrap_or("raw"))))
}

/// Resolves `\\`, `\n`, `\r` and `\xHH`; any other escape vanishes, as Pushpin does.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next()? {
            b'\\' => out.push(b'\\'),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b'x' => out.push(hex_digit(bytes.next()?)? << 4 | hex_digit(bytes.next()?)?),
            _ => {}
        }
    }
    Some(out)
}

fn hex_digit(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

fn parse_status(value: &str) -> Result<Option<(u16, Option<String>)>, Invalid> {
    let value = value.trim();
    if value.is_empty() {
        return Ok(None);
    }
    let (code, reason) = value.split_once(' ').map_or((value, None), |(c, r)| (c, Some(r.trim().to_owned())));
    // A final status: an informational one would make the client wait for another answer.
    let code = code.parse().ok().filter(|c| (200..=999).contains(c));
    let code = code.ok_or_else(|| Invalid::new("Grip-Status contains invalid status code"))?;
    Ok(Some((code, reason)))
}

fn parse_meta(headers: &HeaderMap) -> Result<Vec<(String, String)>, Invalid> {
    let empty = || Invalid::new("Grip-Set-Meta cannot be empty");
    let mut meta = Vec::new();
    for value in texts(headers, "grip-set-meta")? {
        for part in elements(&value) {
            // An element's parameters stand behind a `;`, and a meta pair is just such a parameter.
            let pair = format!(";{part}");
            let element = Element::parse(&pair).ok_or_else(empty)?;
            let name = element.names().next().ok_or_else(empty)?;
            meta.push((name.to_owned(), element.get(name).unwrap_or_default().to_owned()));
        }
    }
    Ok(meta)
}

#[cfg(test)]
mod tests {
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

    fn parse(pairs: &[(&'static str, &str)]) -> Result<Instruct, Invalid> {
        Instruct::parse(&headers(pairs))
    }

    fn error(name: &'static str, value: &str) -> String {
        parse(&[("grip-hold", "stream"), (name, value)]).unwrap_err().to_string()
    }

    #[test]
    fn channels_come_from_repeated_headers_and_lists_once_each() {
        let i = parse(&[("grip-hold", "stream"), ("grip-channel", "a, b"), ("grip-channel", "c,a")]).unwrap();
        assert_eq!(i.hold, Some(HoldMode::Stream));
        assert_eq!(i.channels, ["a", "b", "c"]);
        assert!(i.ignored.is_empty());
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
        assert_eq!(meta, [("user".into(), "7".into()), ("name".into(), "a, b".into())]);
        assert_eq!(error("grip-set-meta", "=x"), "Grip-Set-Meta cannot be empty");
    }

    #[test]
    fn what_is_not_supported_is_named() {
        assert_eq!(
            error("grip-channel", "a; filter=skip-self"),
            "filter 'skip-self' of channel 'a' is not supported yet"
        );
        let i = parse(&[("grip-hold", "stream"), ("grip-channel", "a; prev-id=1"), ("grip-link", "</x>; rel=next")]);
        assert_eq!(i.unwrap().ignored, ["prev-id in Grip-Channel", "Grip-Link"]);
        assert!(parse(&[("grip-link", "</x>; rel=next")]).is_err());
        assert!(parse(&[("content-type", "application/grip-instruct; charset=utf-8")]).is_err());
    }

    #[test]
    fn any_grip_header_makes_an_answer_gripds_concern() {
        assert!(Instruct::concerns(&headers(&[("grip-anything", "")])));
        assert!(Instruct::concerns(&headers(&[("content-type", "application/grip-instruct")])));
        assert!(!Instruct::concerns(&headers(&[("content-type", "text/plain"), ("x-grip", "1")])));
    }

    proptest! {
        #[test]
        fn hostile_values_are_errors_not_panics(value in "[ -~]{0,40}") {
            for name in ["grip-hold", "grip-channel", "grip-timeout", "grip-keep-alive", "grip-status", "grip-set-meta"] {
                let _ = parse(&[(name, &value)]);
            }
        }
    }
}
