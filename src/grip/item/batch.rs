//! A batch: the items of one `POST /publish`.

use super::{Item, item_of};
use crate::grip::{Invalid, invalid, json};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::HashMap;

/// Reads the body of `POST /publish`: `{"items": [...]}`. One bad item makes all of it an error.
///
/// # Errors
/// The body is not such a batch. The error says which item is at fault, and why.
pub fn parse_batch(body: &[u8]) -> Result<Vec<Item>, Invalid> {
    let value = json::read(body).map_err(|fault| Invalid::new(format!("Body is not valid JSON: {fault}.")))?;
    let Value::Object(mut object) = value else { return invalid("Invalid format.") };
    match object.remove("items") {
        None => invalid("Invalid format: object does not contain 'items'"),
        Some(Value::Array(items)) => {
            let alone = items.len() == 1;
            let wrong = |place: usize, why: Invalid| {
                let place = if alone { String::new() } else { format!("items[{place}]: ") };
                Invalid::new(format!("Invalid format: {place}{why}"))
            };
            let items = items.into_iter().enumerate();
            items.map(|(place, item)| item_of(item).map_err(|why| wrong(place, why))).collect()
        }
        Some(_) => invalid("Invalid format: object contains 'items' with wrong type"),
    }
}

/// Reads a batch as [`parse_batch`] does, and keeps the JSON of each item: that text is how an item travels to another node,
/// which reads it with [`super::parse_item`].
///
/// It costs a second look at the body, so it is only for those who need the texts.
///
/// # Errors
/// As for [`parse_batch`].
pub fn parse_batch_with_json(body: &[u8]) -> Result<Vec<(Item, Box<RawValue>)>, Invalid> {
    let items = parse_batch(body)?;
    let wrong = |fault: json::Fault| Invalid::new(format!("Body is not valid JSON: {fault}."));
    let mut members: HashMap<String, Box<RawValue>> = json::read(body).map_err(wrong)?;
    let list = members.remove("items").map(|list| json::read(list.get().as_bytes()));
    let texts: Vec<Box<RawValue>> = list.transpose().map_err(wrong)?.unwrap_or_default();
    Ok(items.into_iter().zip(texts).collect())
}

#[cfg(test)]
mod tests {
    use super::super::parse_item;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_json_of_each_item_is_kept() {
        let first = r#"{"channel": "a", "id": "1", "http-stream": {"content": "x"}}"#;
        let second = r#"{"channel":"b","action":"close"}"#;
        let body = format!("{{\"items\": [{first} ,\n{second}], \"more\": [1]}}");
        let batch = parse_batch_with_json(body.as_bytes()).unwrap();
        let texts: Vec<&str> = batch.iter().map(|(_, text)| text.get()).collect();
        assert_eq!(texts, [first, second]);
        assert!(!batch[0].0.is_command() && batch[1].0.is_command());
        let error = |body: &str| parse_batch_with_json(body.as_bytes()).unwrap_err().to_string();
        assert_eq!(error("{}"), "Invalid format: object does not contain 'items'");
        assert!(error(r#"{"items": [{"channel": "a"}]}"#).contains("no formats specified"));
        assert!(parse_item(b"{").unwrap_err().to_string().starts_with("The item is not valid JSON"));
    }

    proptest! {
        #[test]
        fn any_body_is_a_batch_or_an_error(body in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse_batch(&body);
        }

        // Texts with the faults that are put right, too: raw control characters and halves of surrogate pairs. Of two members
        // of one name the last counts.
        #[test]
        fn what_is_kept_of_an_item_is_read_as_the_item_was(
            contents in prop::collection::vec("([a-z\n\t]|\\\\ud83d|\\\\u00e9){0,6}", 0..4),
            twice: bool,
        ) {
            let item = |content: &String| format!(r#"{{"channel":"c","http-stream":{{"content":"{content}"}}}}"#);
            let items = contents.iter().map(item).collect::<Vec<_>>().join(", ");
            let before = if twice { r#""items": [1], "#  } else { "" };
            let body = format!(r#"{{{before}"items": [{items}]}}"#);
            let plain = parse_batch(body.as_bytes()).unwrap();
            let kept = parse_batch_with_json(body.as_bytes()).unwrap();
            prop_assert_eq!((plain.len(), kept.len()), (contents.len(), contents.len()));
            for (plain, (item, text)) in plain.iter().zip(&kept) {
                let read = parse_item(text.get().as_bytes()).unwrap();
                prop_assert_eq!(format!("{plain:?}"), format!("{item:?}"));
                prop_assert_eq!(format!("{plain:?}"), format!("{read:?}"));
            }
        }
    }
}
