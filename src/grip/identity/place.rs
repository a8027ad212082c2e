//! The places in a request that may contain a token.

use super::super::{InvalidText, form, invalid};
use hyper::header::{COOKIE, HeaderMap, HeaderName, HeaderValue};
use std::borrow::Cow;
use std::fmt;

/// A place in a request that may contain a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenPlace {
    /// The header of this name. Its value is the token, optionally after `Bearer` (RFC 6750).
    Header(HeaderName),
    /// The cookie of this name (RFC 6265).
    Cookie(String),
    /// The query parameter of this name.
    Query(String),
}

impl TokenPlace {
    /// Parses a place: `header:NAME`, `cookie:NAME` or `query:NAME`.
    ///
    /// # Errors
    /// `text` has none of these forms, or its name is not valid for a header, a cookie or a query parameter.
    pub fn parse(text: &str) -> Result<Self, InvalidText> {
        // The names of headers and cookies have the same grammar (`token`, RFC 9110 5.6.2 and RFC 6265 4.1.1).
        let header = |name: &str| HeaderName::try_from(name).ok();
        let place = match text.split_once(':') {
            Some(("header", name)) => header(name).map(Self::Header),
            Some(("cookie", name)) => header(name).map(|_| Self::Cookie(name.to_owned())),
            Some(("query", "")) => None,
            Some(("query", name)) => Some(Self::Query(name.to_owned())),
            _ => return invalid(format!("'{text}' is not valid: use 'header:NAME', 'cookie:NAME' or 'query:NAME'")),
        };
        place.ok_or_else(|| {
            InvalidText::new(format!("'{text}' does not contain a valid name of a header, cookie or query parameter"))
        })
    }

    /// Returns all tokens at this place, in a request with these headers and this query. Values that are empty, that
    /// are not UTF-8, or that have another authentication scheme than `Bearer` are left out.
    pub fn find<'a>(&self, headers: &'a HeaderMap, query: Option<&'a str>) -> Vec<Cow<'a, str>> {
        match self {
            Self::Header(name) => headers.get_all(name).iter().filter_map(bearer).map(Cow::Borrowed).collect(),
            Self::Cookie(name) => {
                let cookies = headers.get_all(COOKIE).iter().flat_map(|value| value.as_bytes().split(|b| *b == b';'));
                cookies.filter_map(|pair| cookie(pair, name)).map(Cow::Borrowed).collect()
            }
            Self::Query(name) => {
                query.into_iter().flat_map(|query| query.split('&')).filter_map(|pair| parameter(pair, name)).collect()
            }
        }
    }
}

/// Returns a query in which the values of all tokens are replaced by `...`, for logs. Returns `None` if the query
/// contains no token.
pub fn hide_tokens(query: &str, places: &[TokenPlace]) -> Option<String> {
    let is_token = |pair: &str| {
        let name = pair.split_once('=').and_then(|(name, _)| form::decode(name));
        name.is_some_and(|name| places.iter().any(|place| matches!(place, TokenPlace::Query(own) if *own == name)))
    };
    if !query.split('&').any(is_token) {
        return None;
    }
    let hidden = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if is_token(pair) => format!("{name}=..."),
        _ => pair.to_owned(),
    };
    Some(query.split('&').map(hidden).collect::<Vec<_>>().join("&"))
}

impl fmt::Display for TokenPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
        }
    }
}

/// Returns the token in a header value: what follows `Bearer`, or the whole value if it names no authentication
/// scheme.
fn bearer(value: &HeaderValue) -> Option<&str> {
    let value = std::str::from_utf8(value.as_bytes().trim_ascii()).ok()?;
    let (token, is_bearer) = match value.split_at_checked("bearer".len()) {
        Some((scheme, token))
            if scheme.eq_ignore_ascii_case("bearer") && (token.is_empty() || token.starts_with(' ')) =>
        {
            (token.trim_start_matches(' '), true)
        }
        _ => (value, false),
    };
    // Without `Bearer`, a space shows that the value begins with another authentication scheme.
    (!token.is_empty() && (is_bearer || !token.contains(' '))).then_some(token)
}

/// Returns the value of a cookie `name=value`, if it has this name and the value is not empty.
fn cookie<'a>(pair: &'a [u8], name: &str) -> Option<&'a str> {
    let (own, value) = std::str::from_utf8(pair).ok()?.split_once('=')?;
    let value = value.trim_ascii();
    let value = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    (own.trim_ascii() == name && !value.is_empty()).then_some(value)
}

/// Returns the decoded value of a query parameter `name=value`, if it has this name and the value is not empty.
fn parameter<'a>(pair: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let (own, value) = pair.split_once('=')?;
    if form::decode(own)? != name {
        return None;
    }
    form::decode(value).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn find(place: &str, headers: &[(&'static str, &[u8])], query: Option<&str>) -> Option<String> {
        let value = |bytes: &[u8]| HeaderValue::from_bytes(bytes).unwrap();
        let headers = headers.iter().map(|(name, bytes)| (HeaderName::from_static(name), value(bytes))).collect();
        TokenPlace::parse(place).unwrap().find(&headers, query).into_iter().next().map(Cow::into_owned)
    }

    #[test]
    fn places_are_written_as_they_are_read() {
        for text in ["header:authorization", "cookie:__Host-s", "query:access token", "query:a:b"] {
            assert_eq!(TokenPlace::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(TokenPlace::parse("header:X-User"), TokenPlace::parse("header:x-user"));
        let wrong =
            ["", "header", "header:", "cookie:", "query:", "header:a b", "cookie:a=b", "Header:a", "body:a", "a"];
        for text in wrong {
            assert!(TokenPlace::parse(text).unwrap_err().to_string().contains(&format!("'{text}'")), "{text}");
        }
    }

    #[test]
    fn a_header_has_it_with_or_without_bearer() {
        let authorization = |value: &[u8]| find("header:Authorization", &[("authorization", value)], None);
        for value in ["a.b.c", "Bearer a.b.c", "bearer a.b.c", "BEARER   a.b.c", " Bearer a.b.c "] {
            assert_eq!(authorization(value.as_bytes()).as_deref(), Some("a.b.c"), "{value}");
        }
        for value in ["", " ", "Bearer", "Bearer "] {
            assert_eq!(authorization(value.as_bytes()), None, "{value:?}");
        }
        assert_eq!(authorization(b"Bearer \xff"), None);
        assert_eq!(authorization("é".as_bytes()).as_deref(), Some("é"));
        assert_eq!(authorization(b"Bearera").as_deref(), Some("Bearera"));
        assert_eq!(authorization(b"Basic YTpi"), None);
        assert_eq!(authorization(b"Bearer a b").as_deref(), Some("a b"));
        assert_eq!(find("header:x-t", &[("x-t", b""), ("x-t", b"1"), ("x-t", b"2")], None).as_deref(), Some("1"));
        assert_eq!(find("header:x-t", &[("x-u", b"1")], Some("x-t=2")), None);
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let cookie = |values: &[&'static [u8]]| {
            let headers: Vec<_> = values.iter().map(|value| ("cookie", *value)).collect();
            find("cookie:t", &headers, None)
        };
        assert_eq!(cookie(&[b"a=1; t=2; b=3"]).as_deref(), Some("2"));
        assert_eq!(cookie(&[b"a=1", b"t=2=3;t=4"]).as_deref(), Some("2=3"));
        assert_eq!(cookie(&[b"t=\"2\""]).as_deref(), Some("2"));
        assert_eq!(cookie(&[b"t=\"2"]).as_deref(), Some("\"2"));
        assert_eq!(cookie(&[b"a=\xff; t=2"]).as_deref(), Some("2"));
        for none in [&b"T=2"[..], b"at=2", b"t", b"t=", b"t=\"\"", b"t=\xff", b"a=t=2", b""] {
            assert_eq!(cookie(&[none]), None, "{none:?}");
        }
    }

    #[test]
    fn a_query_is_decoded() {
        let query = |text: &str| find("query:t o", &[], Some(text));
        assert_eq!(query("a=1&t+o=2&t%20o=3").as_deref(), Some("2"));
        assert_eq!(query("%74%20o=a%2eb+%2B=").as_deref(), Some("a.b +="));
        assert_eq!(query("t+o=&t+o=%ff&t+o=x").as_deref(), Some("x"));
        for none in ["", "t+o", "t+o=", "to=1", "T+o=1", "t+o=%ff", "=1", "a;t+o=1"] {
            assert_eq!(query(none), None, "{none}");
        }
        assert_eq!(find("query:t", &[], None), None);
    }

    #[test]
    fn tokens_are_hidden_from_logs() {
        let places = [TokenPlace::parse("header:token").unwrap(), TokenPlace::parse("query:t o").unwrap()];
        let hidden = |query: &str| hide_tokens(query, &places);
        assert_eq!(hidden("a=1&t+o=secret&t%20o=other&token=x").as_deref(), Some("a=1&t+o=...&t%20o=...&token=x"));
        assert_eq!(hidden("a=1&t+o"), None);
        assert_eq!(hidden(""), None);
    }

    #[test]
    fn what_needs_no_decoding_is_not_copied() {
        let found = TokenPlace::Query("t".into())
            .find(&HeaderMap::new(), Some("t=a.b-c_d"))
            .into_iter()
            .all(|found| matches!(found, Cow::Borrowed("a.b-c_d")));
        assert!(found);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(text in "(header|cookie|query):.{0,6}|.{0,9}", bytes: Vec<u8>, query in "[t=&%+a;]{0,12}") {
            if let (Ok(place), Ok(value)) = (TokenPlace::parse(&text), HeaderValue::from_bytes(&bytes)) {
                let headers: HeaderMap = [(COOKIE, value)].into_iter().collect();
                prop_assert!(!place.find(&headers, Some(&query)).contains(&Cow::Borrowed("")));
            }
        }
    }
}
