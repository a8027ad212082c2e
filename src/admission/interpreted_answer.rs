//! The interpretation of origin responses that carry an instruct. They answer a client's request or a request for a
//! link.

use super::terms;
use crate::grip::instruct::is_body;
use crate::grip::{Filter, Instruct, InvalidText, invalid};
use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use std::fmt;

/// The response of an origin, as gripd interprets it.
#[derive(Debug, Default)]
pub struct UnderstoodAnswer {
    /// The instruct.
    pub instruct: Instruct,
    /// The body for the client. It is only the beginning if the body was too large to be collected.
    pub body: Bytes,
    /// The headers for the client, if the body of the response was an instruct: those of the response that the instruct
    /// describes, or an empty list if it describes no response. `None` if the headers of the response itself are used.
    pub headers: Option<Vec<(HeaderName, HeaderValue)>>,
    /// Whether filters have changed the body that the origin sent.
    pub is_changed: bool,
}

/// The reason why an origin's response cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnusableAnswer {
    /// The instruct is not valid.
    Instruct(InvalidText),
    /// A filter that the instruct names cannot be applied to the body.
    Filter(InvalidText),
    /// The body must be read completely, and is too large for that.
    TooLarge,
}

impl UnderstoodAnswer {
    /// Parses the instruct in the headers of a response. The body need not have arrived.
    ///
    /// # Errors
    /// The instruct is not valid.
    pub fn begin(headers: &HeaderMap) -> Result<Instruct, UnusableAnswer> {
        Instruct::parse(headers).map_err(UnusableAnswer::Instruct)
    }

    /// Interprets a response from whose headers `instruct` was parsed. `is_whole` tells whether `body` is complete;
    /// otherwise it is the beginning of a larger body. The instruct may name at most `max_channels` channels.
    ///
    /// # Errors
    /// The instruct is not valid, a filter cannot be applied, or the body is incomplete although it must be read.
    pub fn of(
        instruct: Instruct,
        headers: &HeaderMap,
        status: u16,
        (body, is_whole): (&Bytes, bool),
        max_channels: usize,
    ) -> Result<Self, UnusableAnswer> {
        let mut reading = Self { instruct, body: body.clone(), ..Self::default() };
        if !is_whole {
            if is_body(headers) || reading.instruct.filters_content() {
                return Err(UnusableAnswer::TooLarge);
            }
        } else if is_body(headers) {
            reading.instruct.read_body(status, body).map_err(UnusableAnswer::Instruct)?;
            let substitute = reading.instruct.substitute.take().unwrap_or_default();
            reading.headers = Some(substitute.headers);
            reading.body = substitute.body;
        }
        check_count(&reading.instruct, max_channels).map_err(UnusableAnswer::Instruct)?;
        if reading.instruct.filters_content() {
            reading.body = filter(&reading.instruct, &reading.body).map_err(UnusableAnswer::Filter)?;
            reading.is_changed = true;
        }
        Ok(reading)
    }
}

/// Refuses an instruct that names too many channels.
fn check_count(instruct: &Instruct, most: usize) -> Result<(), InvalidText> {
    let asked = instruct.channels.len();
    if asked > most {
        return invalid(format!("the response names {asked} channels, but max_channels is {most}"));
    }
    Ok(())
}

/// Applies `build-id`, the only filter for the body of a response itself, to this body as if it were an item.
fn filter(instruct: &Instruct, body: &[u8]) -> Result<Bytes, InvalidText> {
    let terms = terms(instruct, "", &[]);
    // The filter is applied once, even if several channels list it, as in Pushpin.
    Filter::BuildId.apply(&terms.context(None), body.into()).map(|done| done.into_owned().into())
}

impl fmt::Display for UnusableAnswer {
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

    fn read(headers: &[(&str, &str)], body: &str, is_whole: bool) -> Result<UnderstoodAnswer, String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let body = Bytes::from(body.to_owned());
        let read = UnderstoodAnswer::begin(&map)
            .and_then(|instruct| UnderstoodAnswer::of(instruct, &map, 200, (&body, is_whole), 2));
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
        let wrong = "Failed to parse accept instructions: the response names 3 channels, but max_channels is 2";
        assert_eq!(read(&held, "", true).unwrap_err(), wrong);
    }
}
