//! Patches of the bodies of held responses (`body-patch`), and the limits that keep one patch from occupying a shard
//! for long.

use super::super::{InvalidText, invalid};
use bytes::Bytes;
use json_patch::{Patch, PatchOperation};
use serde::Deserialize;
use serde_json::Value;

/// The number of operations that one patch may have. The number is limited because each operation may move every
/// element of an array.
const MAX_OPERATIONS: usize = 256;

/// The number of bytes that a patch may have, written as JSON.
const MAX_BYTES: usize = 128 << 10;

/// The number of bytes that one patch may copy within a document.
const MAX_COPIED: usize = 1 << 20;

/// The number of array elements that one patch may shift to another index.
const MAX_SHIFTED: usize = 1 << 20;

/// A JSON Patch (RFC 6902) for the bodies of held responses, which must be JSON documents.
#[derive(Debug, PartialEq, Eq)]
pub struct BodyPatch {
    operations: Patch,
    /// The length of the patch in bytes, written as JSON.
    bytes: usize,
}

impl BodyPatch {
    /// Parses a patch.
    ///
    /// # Errors
    /// `value` is not a JSON Patch, or it is larger than allowed. The error says what the limit is.
    pub(super) fn read(value: &Value) -> Result<Self, InvalidText> {
        let operations = match Patch::deserialize(value) {
            Ok(operations) => operations,
            Err(error) => {
                return invalid(format!(
                    "'http-response' contains 'body-patch', which is not a valid JSON patch: {error}"
                ));
            }
        };
        let count = operations.0.len();
        if count > MAX_OPERATIONS {
            return invalid(format!(
                "'http-response' contains 'body-patch' with {count} operations, and at most {MAX_OPERATIONS} are \
                 allowed"
            ));
        }
        let bytes = value.to_string().len();
        if bytes > MAX_BYTES {
            return invalid(format!(
                "'http-response' contains 'body-patch' with {bytes} bytes, and at most {MAX_BYTES} are allowed"
            ));
        }
        Ok(Self { operations, bytes })
    }

    /// Returns about how many bytes of memory the patch takes.
    pub(super) fn weight(&self) -> usize {
        self.bytes + self.operations.0.len() * size_of::<PatchOperation>()
    }

    /// Returns the patched document, with the line end of `held` if there is one. Returns `None` if `held` is not
    /// JSON, if the patch does not fit it, or if the patch would copy or shift more of it than one patch may.
    pub(super) fn apply(&self, held: &Bytes) -> Option<Bytes> {
        let mut document: Value = serde_json::from_slice(held).ok()?;
        let (mut copied, mut shifted) = (0, 0);
        for operation in self.operations.iter() {
            if let PatchOperation::Copy(copy) = operation {
                // A document that is copied into itself doubles in size each time.
                copied += serde_json::to_vec(document.pointer(copy.from.as_str())?).ok()?.len();
            }
            shifted += shifts(&document, operation);
            if copied > MAX_COPIED || shifted > MAX_SHIFTED {
                return None;
            }
            json_patch::patch(&mut document, std::slice::from_ref(operation)).ok()?;
        }
        let mut bytes = serde_json::to_vec(&document).ok()?;
        let end: &[u8] = if held.ends_with(b"\r\n") {
            b"\r\n"
        } else if held.ends_with(b"\n") {
            b"\n"
        } else {
            b""
        };
        bytes.extend_from_slice(end);
        Some(bytes.into())
    }
}

/// Returns the maximum number of array elements that an operation shifts in `document`.
fn shifts(document: &Value, operation: &PatchOperation) -> usize {
    let length = |path: &json_patch::jsonptr::Pointer| {
        let parent = path.parent().and_then(|parent| document.pointer(parent.as_str()));
        parent.and_then(Value::as_array).map_or(0, Vec::len)
    };
    match operation {
        PatchOperation::Add(add) => length(&add.path),
        PatchOperation::Remove(remove) => length(&remove.path),
        PatchOperation::Copy(copy) => length(&copy.path),
        PatchOperation::Move(moved) => length(&moved.from) + length(&moved.path),
        PatchOperation::Replace(_) | PatchOperation::Test(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn patch(held: &str, operations: &Value) -> Option<String> {
        let body = BodyPatch::read(operations).unwrap();
        body.apply(&Bytes::from(held.to_owned())).map(|b| String::from_utf8(b.to_vec()).unwrap())
    }

    #[test]
    fn patches_follow_rfc_6902() {
        let add = json!([{"op": "add", "path": "/a/1", "value": 9}]);
        assert_eq!(patch("{\"a\": [1, 2, 3]}\n", &add).unwrap(), "{\"a\":[1,9,2,3]}\n");
        let root = json!([{"op": "replace", "path": "", "value": 12_345_678_901_234_567_u64}]);
        assert_eq!(patch("{}\r\n", &root).unwrap(), "12345678901234567\r\n");
    }

    #[test]
    fn a_patch_that_does_not_fit_is_none() {
        let test = json!([{"op": "test", "path": "/a", "value": 2}]);
        assert_eq!(patch("{\"a\":1}", &test), None);
        assert_eq!(patch("no json", &test), None);
    }

    #[test]
    fn a_document_may_be_copied_into_itself_only_so_often() {
        let double = json!({"op": "copy", "from": "", "path": "/a"});
        assert_eq!(patch("{\"a\":1}", &vec![double.clone(); 3].into()).unwrap(), r#"{"a":{"a":{"a":{"a":1}}}}"#);
        let both = json!([{"op": "copy", "from": "/a", "path": "/b"}, {"op": "copy", "from": "", "path": "/a"}]);
        let many: Vec<Value> = (0..30).flat_map(|_| both.as_array().unwrap().clone()).collect();
        assert_eq!(patch("{\"a\":1}", &many.into()), None);
    }

    #[test]
    fn what_a_patch_shifts_is_bounded_for_each_operation_that_shifts() {
        let long = format!("[{}0]", "0,".repeat(49_000));
        let first = [
            json!({"op": "add", "path": "/0", "value": 1}),
            json!({"op": "remove", "path": "/0"}),
            json!({"op": "move", "from": "/1", "path": "/0"}),
            json!({"op": "copy", "from": "/1", "path": "/0"}),
        ];
        for operation in first {
            assert!(patch(&long, &vec![operation.clone(); 5].into()).is_some(), "{operation}");
            assert_eq!(patch(&long, &vec![operation.clone(); 200].into()), None, "{operation}");
        }
        // An operation that shifts nothing may be repeated up to the maximum number of operations.
        let replace = json!({"op": "replace", "path": "/0", "value": 1});
        assert!(patch(&long, &vec![replace; MAX_OPERATIONS].into()).is_some());
    }

    #[test]
    fn a_patch_that_is_too_large_is_refused_with_the_bound() {
        let one = json!({"op": "add", "path": "/a", "value": 1});
        assert!(BodyPatch::read(&vec![one.clone(); 256].into()).is_ok());
        let error = BodyPatch::read(&vec![one; 257].into()).unwrap_err().to_string();
        assert!(error.contains("257 operations, and at most 256"), "{error}");
        let large = json!([{"op": "add", "path": "/a", "value": "x".repeat(128 << 10)}]);
        let error = BodyPatch::read(&large).unwrap_err().to_string();
        assert!(error.contains("bytes, and at most 131072"), "{error}");
    }
}
