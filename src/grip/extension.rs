//! The WebSocket extension `grip`, by which an origin says that its messages have prefixes: one for messages to the
//! client, and `c:` for control messages to gripd.

use super::fields::{FieldElement, elements};
use hyper::header::HeaderValue;

const NAME: &str = "grip";
const PREFIX: &str = "message-prefix";
/// The default prefix that marks a message from the origin as one for the client.
const USUAL_PREFIX: &str = "m:";

/// Returns the prefix of messages for the client, which is read from the values of `Sec-WebSocket-Extensions`.
/// Returns `None` if the extension `grip` is not among them.
pub fn message_prefix<'a>(values: impl IntoIterator<Item = &'a HeaderValue>) -> Option<String> {
    let texts = values.into_iter().filter_map(|value| value.to_str().ok());
    let grip = texts.flat_map(elements).filter_map(FieldElement::parse).find(|e| e.value.eq_ignore_ascii_case(NAME))?;
    Some(grip.get(PREFIX).unwrap_or(USUAL_PREFIX).to_owned())
}

/// Returns the value of `Sec-WebSocket-Extensions` that stands for the extension `grip` with this prefix.
pub fn answer(prefix: &str) -> String {
    if prefix == USUAL_PREFIX {
        return NAME.to_owned();
    }
    let quoted = prefix.replace('\\', "\\\\").replace('"', "\\\"");
    format!("{NAME}; {PREFIX}=\"{quoted}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Option<String> {
        let values: Vec<HeaderValue> = values.iter().map(|value| HeaderValue::from_str(value).unwrap()).collect();
        message_prefix(&values)
    }

    #[test]
    fn the_prefix_is_given_or_usual() {
        assert_eq!(read(&["permessage-deflate, grip"]).as_deref(), Some("m:"));
        assert_eq!(read(&["x", "Grip; message-prefix=\"a,b;\""]).as_deref(), Some("a,b;"));
        assert_eq!(read(&["grip; message-prefix=\"\""]).as_deref(), Some(""));
        assert_eq!(read(&["grip; message-prefix="]).as_deref(), Some(""));
        assert_eq!(read(&["gripe"]), None);
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn what_is_answered_is_read_again() {
        for prefix in ["m:", "", "a\"b\\c, d;"] {
            assert_eq!(read(&[&answer(prefix)]).as_deref(), Some(prefix));
        }
    }
}
