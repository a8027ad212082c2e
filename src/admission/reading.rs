//! The reading of an origin's answer that concerns gripd, to a request or to a link.

use super::terms;
use crate::grip::instruct::is_body;
use crate::grip::{Filter, Instruct, Invalid, invalid};
use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use std::fmt;

/// An answer of an origin, as it is to be understood.
#[derive(Debug, Default)]
pub struct Reading {
    /// The instruct.
    pub instruct: Instruct,
    /// The body for the client, or its beginning.
    pub body: Bytes,
    /// The headers for the client, if the answer describes another one that stands for it.
    pub headers: Option<Vec<(HeaderName, HeaderValue)>>,
    /// Whether filters have made the body another one than the origin has sent.
    pub is_changed: bool,
}

/// The reason why an answer cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// Its instruct is wrong.
    Instruct(Invalid),
    /// Its body cannot pass through the filters that it names.
    Filter(Invalid),
    /// It would have to be read whole, and is too large for that.
    TooLarge,
}

impl Reading {
    /// Reads the instruct in the headers of an answer, for which its body need not be there yet.
    ///
    /// # Errors
    /// The answer cannot be used.
    pub fn begin(headers: &HeaderMap) -> Result<Instruct, Unusable> {
        Instruct::parse(headers).map_err(Unusable::Instruct)
    }

    /// Reads an answer whose headers have this instruct. `is_whole` says that all of its body is here; of a larger one there
    /// is only the beginning.
    ///
    /// # Errors
    /// The answer cannot be used.
    pub fn of(
        instruct: Instruct,
        headers: &HeaderMap,
        status: u16,
        (body, is_whole): (&Bytes, bool),
        max_channels: usize,
    ) -> Result<Self, Unusable> {
        let mut reading = Self { instruct, body: body.clone(), ..Self::default() };
        if !is_whole {
            if is_body(headers) || reading.instruct.filters_content() {
                return Err(Unusable::TooLarge);
            }
        } else if is_body(headers) {
            reading.instruct.read_body(status, body).map_err(Unusable::Instruct)?;
            let substitute = reading.instruct.substitute.take().unwrap_or_default();
            reading.headers = Some(substitute.headers);
            reading.body = substitute.body;
        }
        check_count(&reading.instruct, max_channels).map_err(Unusable::Instruct)?;
        if reading.instruct.filters_content() {
            reading.body = filter(&reading.instruct, &reading.body).map_err(Unusable::Filter)?;
            reading.is_changed = true;
        }
        Ok(reading)
    }
}

/// Refuses an instruct that names too many channels.
fn check_count(instruct: &Instruct, most: usize) -> Result<(), Invalid> {
    let asked = instruct.channels.len();
    if asked > most {
        return invalid(format!("it names {asked} channels, and max_channels is {most}"));
    }
    Ok(())
}

/// Applies the filters of an answer's own content, as if it were an item.
fn filter(instruct: &Instruct, body: &[u8]) -> Result<Bytes, Invalid> {
    let terms = terms(instruct, "", &[]);
    // However many channels list it, it is applied once, as in Pushpin.
    Filter::BuildId.apply(&terms.context(None), body.into()).map(|done| done.into_owned().into())
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instruct(invalid) => write!(f, "Failed to parse accept instructions: {invalid}"),
            Self::Filter(invalid) => write!(f, "filter error: {invalid}"),
            Self::TooLarge => f.write_str("GRIP instruct response too large"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&str, &str)], body: &str, is_whole: bool) -> Result<Reading, String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let body = Bytes::from(body.to_owned());
        let read = Reading::begin(&map).and_then(|instruct| Reading::of(instruct, &map, 200, (&body, is_whole), 2));
        read.map_err(|unusable| unusable.to_string())
    }

    const BODY: (&str, &str) = ("content-type", "application/grip-instruct");

    #[test]
    fn headers_leave_the_body_as_it_is() {
        let reading = read(&[("grip-hold", "stream"), ("grip-channel", "a, b")], "hello", true).unwrap();
        assert_eq!(reading.instruct.names().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((&reading.body[..], reading.headers, reading.is_changed), (&b"hello"[..], None, false));
    }

    #[test]
    fn a_body_describes_the_answer_that_stands_for_it() {
        let json =
            r#"{"hold":{"mode":"stream","channels":[{"name":"a"}]},"response":{"headers":{"X-A":"1"},"body":"hi"}}"#;
        let reading = read(&[BODY], json, true).unwrap();
        let headers = reading.headers.unwrap();
        assert_eq!((&reading.body[..], headers[0].0.as_str(), headers.len()), (&b"hi"[..], "x-a", 1));
        assert!(read(&[BODY], "{", true).unwrap_err().starts_with("Failed to parse accept instructions: "));
    }

    #[test]
    fn an_answer_that_is_not_whole_is_of_use_only_if_nothing_reads_its_body() {
        let held = [("grip-hold", "stream"), ("grip-channel", "a")];
        assert_eq!(read(&held, "begin", false).unwrap().body, "begin");
        assert_eq!(read(&[BODY], "{", false).unwrap_err(), "GRIP instruct response too large");
        let filtered = [("grip-hold", "stream"), ("grip-channel", "a; filter=build-id")];
        assert_eq!(read(&filtered, "begin", false).unwrap_err(), "GRIP instruct response too large");
    }

    #[test]
    fn the_number_of_channels_is_bounded() {
        let held = [("grip-hold", "stream"), ("grip-channel", "a, b, c")];
        let wrong = "Failed to parse accept instructions: it names 3 channels, and max_channels is 2";
        assert_eq!(read(&held, "", true).unwrap_err(), wrong);
    }
}
