//! The URL of a webhook.

use crate::grip::{InvalidText, invalid};
use crate::route::Address;
use crate::wire::is_authority;
use hyper::Uri;
use hyper::header::HeaderValue;
use hyper::http::uri::PathAndQuery;
use std::fmt;

/// The port of `http:` URLs that name no port.
const PORT: u16 = 80;

/// An `http:` URL. It is shown without its query, which may contain a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl {
    host: HeaderValue,
    address: Address,
    path: PathAndQuery,
}

impl WebhookUrl {
    /// Parses a URL.
    ///
    /// # Errors
    /// The text is not a valid URL, its scheme is not `http`, or it contains a user name or a fragment.
    pub fn parse(text: &str) -> Result<Self, InvalidText> {
        let no_url = || invalid("the URL of a webhook must be like http://host:port/path");
        // The parser accepts a path in UTF-8, but a request must not contain one.
        if !text.is_ascii() {
            return no_url();
        }
        let Ok(uri) = text.parse::<Uri>() else { return no_url() };
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return invalid("the URL of a webhook must begin with http://: https is not supported yet");
            }
            _ => return invalid("the URL of a webhook must begin with http://"),
        }
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return invalid(
                "the URL of a webhook must not contain a user name: requests are authenticated by their Grip-Sig \
                 header",
            );
        }
        if text.contains('#') {
            return invalid("the URL of a webhook must not have a fragment");
        }
        let port = if uri.port().is_some() { uri.port_u16().filter(|port| *port > 0) } else { Some(PORT) };
        let (Some(host), Some(port), true) = (uri.host(), port, is_authority(authority.as_bytes())) else {
            return invalid("the URL of a webhook has no host, or no port from 1 to 65535");
        };
        let address = Address { host: host.trim_matches(['[', ']']).to_owned(), port };
        let host = HeaderValue::from_str(authority.trim_end_matches(':'));
        let host = host.map_err(|_| InvalidText::new("the URL of a webhook has no host"))?;
        let path = uri.into_parts().path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        Ok(Self { host, address, path })
    }

    /// Returns the value of the `Host` header.
    pub(super) fn host(&self) -> HeaderValue {
        self.host.clone()
    }

    /// Returns the host and port to connect to.
    pub(super) const fn address(&self) -> &Address {
        &self.address
    }

    /// Returns the path and query of the request.
    pub(super) fn path(&self) -> Uri {
        self.path.clone().into()
    }
}

impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.host.to_str().unwrap_or_default(), self.path.path())
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::WebhookUrl;

    #[test]
    fn a_url_says_where_to_connect_and_what_to_ask_for() {
        let parts = |text: &str| {
            let url = WebhookUrl::parse(text).unwrap();
            let host = url.host().to_str().unwrap().to_owned();
            (host, url.address().to_string(), url.path().to_string())
        };
        let expect = |host: &str, address: &str, path: &str| (host.to_owned(), address.to_owned(), path.to_owned());
        assert_eq!(parts("http://127.0.0.1:8000/events"), expect("127.0.0.1:8000", "127.0.0.1:8000", "/events"));
        assert_eq!(parts("http://a"), expect("a", "a:80", "/"));
        assert_eq!(parts("HTTP://a:/"), expect("a", "a:80", "/"));
        assert_eq!(parts("http://[::1]:81/a?b=c"), expect("[::1]:81", "[::1]:81", "/a?b=c"));
        assert_eq!(parts("http://[::1]?b"), expect("[::1]", "[::1]:80", "/?b"));
    }

    #[test]
    fn what_cannot_be_asked_is_an_error_that_tells_no_secret() {
        let cases = [
            ("https://a/", "https is not supported"),
            ("https://u:secret@a/", "https is not supported"),
            ("ftp://a/", "must begin with http://"),
            ("/events", "must begin with http://"),
            ("a:80", "must begin with http://"),
            ("http://", "must be like"),
            ("http://a b/", "must be like"),
            ("http://a/é", "must be like"),
            ("http://u:secret@a/", "must not contain a user name"),
            ("http://@a/", "must not contain a user name"),
            ("http://a/#x", "fragment"),
            ("http://a:0/", "no port"),
            ("http://a:99999/", "no port"),
            ("http://:80/", "no host"),
            ("", "must be like"),
        ];
        for (text, why) in cases {
            let error = WebhookUrl::parse(text).unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn the_query_is_not_shown() {
        let url = WebhookUrl::parse("http://a:8000/events?token=secret").unwrap();
        assert_eq!((url.to_string(), format!("{url:?}")), ("http://a:8000/events".into(), url.to_string()));
    }
}
