//! `Grip-Link`: the links that gripd requests later, to continue a stream or to say that the client is gone.

use super::fields::FieldElement;
use super::percent::{encode, is_odd};
use super::{InvalidText, invalid};
use hyper::Uri;
use std::time::Duration;

/// The number of seconds after which a stream requests its next link once more, unless all of its channels have had
/// items. The link may give another number.
const DEFAULT_TIMEOUT: u64 = 120;

/// The links of an origin's response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// The link that continues a stream.
    pub next: Option<NextLink>,
    /// The link that is requested when the hold has ended, also if the client is still there because its long-poll was
    /// answered.
    pub gone: Option<String>,
}

/// The link that continues a stream (`rel=next`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextLink {
    /// The URI as the origin wrote it: absolute, or relative to the URI of the request.
    pub uri: String,
    /// The period: the link is requested once in each, unless all channels have had items. If it is zero, the link is
    /// requested only for other reasons, such as a missing item.
    pub timeout: Duration,
}

impl Links {
    /// Adds the links of one header value. If several links have the same relation, the last one counts.
    ///
    /// The text between `<` and `>` is the URI, which may contain commas and semicolons (RFC 8288 3).
    pub(super) fn parse(&mut self, value: &str) -> Result<(), InvalidText> {
        let mut rest = value.trim();
        while !rest.is_empty() {
            let Some((uri, tail)) = rest.strip_prefix('<').and_then(|r| r.split_once('>')) else {
                let (part, tail) = super::fields::split_outside_quotes(rest, b',');
                if part.contains(';') {
                    return invalid("failed to parse Grip-Link value");
                }
                // As in Pushpin, an element without a URI in angle brackets is ignored if it has no parameters.
                rest = tail.unwrap_or_default().trim();
                continue;
            };
            if uri.is_empty() {
                return invalid("failed to parse Grip-Link value");
            }
            let (parameters, tail) = super::fields::split_outside_quotes(tail, b',');
            rest = tail.unwrap_or_default().trim();
            self.add(uri, parameters)?;
        }
        Ok(())
    }

    fn add(&mut self, uri: &str, parameters: &str) -> Result<(), InvalidText> {
        let Some(element) = FieldElement::parse(parameters) else { return invalid("failed to parse Grip-Link value") };
        match element.get("rel") {
            Some("next") => self.next = Some(NextLink { uri: check(uri)?, timeout: timeout(&element)? }),
            Some("gone") => self.gone = Some(check(uri)?),
            _ => {}
        }
        Ok(())
    }
}

fn timeout(element: &FieldElement<'_>) -> Result<Duration, InvalidText> {
    let seconds = match element.get("timeout") {
        None => DEFAULT_TIMEOUT,
        Some(text) => super::fields::seconds(
            text,
            "failed to parse Grip-Link timeout value",
            "Grip-Link timeout has invalid value",
        )?,
    };
    Ok(Duration::from_secs(seconds))
}

fn check(uri: &str) -> Result<String, InvalidText> {
    match resolve("http://localhost/", uri) {
        Some(_) => Ok(uri.to_owned()),
        None => invalid("Grip-Link contains invalid link"),
    }
}

/// Resolves a reference in the response to a request for the absolute URI `base` (RFC 3986 5.2). Returns `None` if
/// the result is not an HTTP or HTTPS URI.
pub fn resolve(base: &str, reference: &str) -> Option<Uri> {
    let reference = reference.split('#').next()?.trim();
    let (scheme, rest) = base.split_once("://")?;
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (path, query) = path.split_once('?').map_or((path, None), |(p, q)| (p, Some(q)));
    let whole = if has_scheme(reference) {
        reference.to_owned()
    } else if let Some(rest) = reference.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if reference.is_empty() {
        let query = query.map_or_else(String::new, |q| format!("?{q}"));
        format!("{scheme}://{authority}{path}{query}")
    } else if reference.starts_with('?') {
        format!("{scheme}://{authority}{path}{reference}")
    } else {
        let (link, query) = reference.split_at(reference.find('?').unwrap_or(reference.len()));
        let folder = &path[..path.rfind('/').map_or(0, |at| at + 1)];
        let path =
            if link.starts_with('/') { link.to_owned() } else { format!("/{}{link}", folder.trim_start_matches('/')) };
        format!("{scheme}://{authority}{}{query}", without_dots(&path))
    };
    // URIs that were made from templates often contain spaces and quotes, so these are encoded instead of refused.
    let encoded = encode(whole.as_bytes(), |byte| byte == b' ' || is_odd(byte));
    let whole = encoded.map_or(Ok(whole), String::from_utf8).ok()?;
    let uri: Uri = whole.parse().ok()?;
    (matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some()).then_some(uri)
}

/// Returns whether a reference begins with a scheme.
fn has_scheme(reference: &str) -> bool {
    let head = reference.split(['/', '?']).next().unwrap_or_default();
    head.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
    })
}

/// Returns an absolute path without the segments `.` and `..` (RFC 3986 5.2.4).
fn without_dots(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut parts = path.trim_start_matches('/').split('/').peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        match part {
            "." | ".." => {
                if part == ".." {
                    segments.pop();
                }
                if last {
                    segments.push("");
                }
            }
            _ => segments.push(part),
        }
    }
    format!("/{}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(value: &str) -> Result<Links, String> {
        let mut links = Links::default();
        links.parse(value).map(|()| links).map_err(|e| e.to_string())
    }

    #[test]
    fn links_are_taken_apart() {
        let links = parse("</a?x=1,2;y>; rel=next; timeout=20, <http://h/gone>; rel=\"gone\"").unwrap();
        let next = links.next.unwrap();
        assert_eq!((next.uri.as_str(), next.timeout.as_secs()), ("/a?x=1,2;y", 20));
        assert_eq!(links.gone.as_deref(), Some("http://h/gone"));
        assert_eq!(parse("</a>; rel=next").unwrap().next.unwrap().timeout.as_secs(), 120);
        assert_eq!(parse("</a>; rel=next, </b>; rel=next").unwrap().next.unwrap().uri, "/b");
        assert_eq!(parse("</a>; rel=prev, </b>, c,").unwrap(), Links::default());
        assert_eq!(parse("</a>; rel=gone,, </b>; rel=gone").unwrap().gone.as_deref(), Some("/b"));
    }

    #[test]
    fn wrong_links_are_pushpins_errors() {
        assert_eq!(parse("/a; rel=next").unwrap_err(), "failed to parse Grip-Link value");
        assert_eq!(parse("<>; rel=next").unwrap_err(), "failed to parse Grip-Link value");
        assert_eq!(parse("</a; rel=next").unwrap_err(), "failed to parse Grip-Link value");
        assert_eq!(parse("<ftp://h/>; rel=next").unwrap_err(), "Grip-Link contains invalid link");
        assert_eq!(parse("<http://h h/>; rel=next").unwrap_err(), "Grip-Link contains invalid link");
        assert_eq!(parse("</a>; rel=next; timeout=x").unwrap_err(), "failed to parse Grip-Link timeout value");
        assert_eq!(parse("</a>; rel=next; timeout=-1").unwrap_err(), "Grip-Link timeout has invalid value");
    }

    #[test]
    fn references_are_resolved_as_in_rfc_3986() {
        let cases = [
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g/x", "http://g/x"),
            ("?y", "http://a/b/c/d?y"),
            ("g?y/./x", "http://a/b/c/g?y/./x"),
            ("", "http://a/b/c/d?q"),
            (".", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../../../g", "http://a/g"),
            ("https://x:1/y", "https://x:1/y"),
            ("g?x=http://y", "http://a/b/c/g?x=http://y"),
            ("g#part", "http://a/b/c/g"),
        ];
        for (reference, expected) in cases {
            assert_eq!(resolve("http://a/b/c/d?q", reference).unwrap().to_string(), expected, "{reference}");
        }
        assert_eq!(resolve("http://a", "g").unwrap().to_string(), "http://a/g");
        assert_eq!(resolve("http://a/b", "mailto:x@y"), None);
    }

    proptest! {
        #[test]
        fn any_reference_is_resolved_or_refused(reference in ".{0,30}", value in "[<>/a;=,\" ]{0,20}") {
            let _ = (resolve("http://a/b", &reference), parse(&value));
        }
    }
}
