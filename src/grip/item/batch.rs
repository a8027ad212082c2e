//! A batch: the items of one `POST /publish`.

use super::{Item, item_of, warnings};
use crate::grip::{InvalidText, invalid, json};
use serde_json::Value;

/// The items of one `POST /publish`.
#[derive(Debug)]
pub struct Batch {
    /// The items, in their order.
    pub items: Vec<Item>,
    /// The warnings for the publisher, each with the place of its item. Most batches have none.
    pub warnings: Vec<String>,
}

/// Parses the body of `POST /publish`: `{"items": [...]}`. If one item is invalid, the whole batch is refused.
///
/// # Errors
/// The body is not such a batch. The error says which item is at fault, and why.
pub fn parse_batch(body: &[u8]) -> Result<Batch, InvalidText> {
    let mut warnings = Vec::new();
    let items = parse_each(body, |place, item| {
        warnings::note(place, &item, &mut warnings);
        item_of(item)
    })?;
    Ok(Batch { items, warnings })
}

/// Parses a batch as [`parse_batch`] does, and also returns the JSON of each item. An item is sent to another node as
/// this text, and [`super::parse_item`] parses it there. The text means the same as that of the publisher, but may be
/// written differently.
///
/// # Errors
/// As for [`parse_batch`].
pub fn parse_batch_with_json(body: &[u8]) -> Result<Vec<(Item, String)>, InvalidText> {
    parse_each(body, |_, value| {
        let text = value.to_string();
        Ok((item_of(value)?, text))
    })
}

/// Parses a batch, and calls `read` with the place of each of its items, counted from 0, and with the item.
fn parse_each<T>(
    body: &[u8],
    mut read: impl FnMut(usize, Value) -> Result<T, InvalidText>,
) -> Result<Vec<T>, InvalidText> {
    let value = json::read(body).map_err(|fault| InvalidText::new(format!("Body is not valid JSON: {fault}.")))?;
    let Value::Object(mut object) = value else { return invalid("Invalid format.") };
    match object.remove("items") {
        None => invalid("Invalid format: object does not contain 'items'"),
        Some(Value::Array(items)) => {
            let alone = items.len() == 1;
            let wrong = |place: usize, why: InvalidText| {
                let place = if alone { String::new() } else { format!("items[{place}]: ") };
                InvalidText::new(format!("Invalid format: {place}{why}"))
            };
            let items = items.into_iter().enumerate();
            items.map(|(place, item)| read(place, item).map_err(|why| wrong(place, why))).collect()
        }
        Some(_) => invalid("Invalid format: object contains 'items' with wrong type"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse_item;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_json_of_each_item_is_kept() {
        let first = r#"{ "channel": "a", "id": "1", "http-stream": { "content": "x" } }"#;
        let body = format!("{{\"items\": [{first} ,\n{{\"channel\":\"b\",\"action\":\"close\"}}], \"more\": [1]}}");
        let batch = parse_batch_with_json(body.as_bytes()).unwrap();
        let texts: Vec<&str> = batch.iter().map(|(_, text)| text.as_str()).collect();
        let expected =
            [r#"{"channel":"a","http-stream":{"content":"x"},"id":"1"}"#, r#"{"action":"close","channel":"b"}"#];
        assert_eq!(texts, expected);
        assert!(!batch[0].0.is_command() && batch[1].0.is_command());
        let error = |body: &str| parse_batch_with_json(body.as_bytes()).unwrap_err().to_string();
        assert_eq!(error("{}"), "Invalid format: object does not contain 'items'");
        assert!(error(r#"{"items": [{"channel": "a"}]}"#).contains("no formats specified"));
        // These keys are special to some features of `serde_json`. In a batch, they are keys like any other.
        for key in ["$serde_json::private::RawValue", "$serde_json::private::Number"] {
            let hidden = format!(r#"{{"{key}":"{{\"items\":[{{\"channel\":\"a\",\"action\":\"close\"}}]}}"}}"#);
            assert_eq!(error(&hidden), "Invalid format: object does not contain 'items'", "{key}");
        }
        assert!(parse_item(b"{").unwrap_err().to_string().starts_with("The item is not valid JSON"));
    }

    proptest! {
        #[test]
        fn any_body_is_a_batch_or_an_error(body in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse_batch(&body);
        }

        // The texts include the faults that are corrected: raw control characters and halves of surrogate pairs. If
        // two members have the same name, the last one counts.
        #[test]
        fn what_is_kept_of_an_item_is_read_as_the_item_was(
            contents in prop::collection::vec("([a-z\n\t]|\\\\ud83d|\\\\u00e9){0,6}", 0..4),
            twice: bool,
        ) {
            let item = |content: &String| format!(r#"{{"channel":"c","http-stream":{{"content":"{content}"}}}}"#);
            let items = contents.iter().map(item).collect::<Vec<_>>().join(", ");
            let before = if twice { r#""items": [1], "#  } else { "" };
            let body = format!(r#"{{{before}"items": [{items}]}}"#);
            let plain = parse_batch(body.as_bytes()).unwrap().items;
            let kept = parse_batch_with_json(body.as_bytes()).unwrap();
            prop_assert_eq!((plain.len(), kept.len()), (contents.len(), contents.len()));
            for (plain, (item, text)) in plain.iter().zip(&kept) {
                let read = parse_item(text.as_bytes()).unwrap();
                prop_assert_eq!(format!("{plain:?}"), format!("{item:?}"));
                prop_assert_eq!(format!("{plain:?}"), format!("{read:?}"));
            }
        }
    }
}
