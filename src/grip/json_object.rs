//! Access to JSON objects that publishers and origins have written. Errors are worded as in Pushpin.

use super::{InvalidText, Meta, base64, invalid};
use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

/// The maximum number of headers that one object may list, and of headers that one item may hide.
pub(super) const MAX_HEADERS: usize = 256;

/// A JSON object.
pub(super) type Object = Map<String, Value>;

/// A JSON object together with the name that errors give it. A member whose value is `null` counts as absent.
pub(super) struct Fields<'a> {
    pub(super) of: &'static str,
    pub(super) object: &'a Object,
}

impl<'a> Fields<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|v| !v.is_null())
    }

    pub(super) fn wrong_type<T>(&self, name: &str) -> Result<T, InvalidText> {
        invalid(format!("{} contains '{name}' with wrong type", self.of))
    }

    pub(super) fn invalid_value<T>(&self, name: &str) -> Result<T, InvalidText> {
        invalid(format!("{} contains '{name}' with invalid value", self.of))
    }

    pub(super) fn unknown_value<T>(&self, name: &str) -> Result<T, InvalidText> {
        invalid(format!("{} contains '{name}' with unknown value", self.of))
    }

    pub(super) fn string(&self, name: &str) -> Result<Option<&'a str>, InvalidText> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => self.wrong_type(name),
        }
    }

    pub(super) fn object(&self, name: &str) -> Result<Option<&'a Object>, InvalidText> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(_) => self.wrong_type(name),
        }
    }

    pub(super) fn list(&self, name: &str) -> Result<Option<&'a [Value]>, InvalidText> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(_) => self.wrong_type(name),
        }
    }

    /// Returns the member `name` as a list of strings, or `None` if it is absent.
    pub(super) fn strings(&self, name: &str) -> Result<Option<Vec<&'a str>>, InvalidText> {
        let Some(list) = self.list(name)? else { return Ok(None) };
        match list.iter().map(Value::as_str).collect() {
            Some(texts) => Ok(Some(texts)),
            None => self.wrong_type(name),
        }
    }

    pub(super) fn boolean(&self, name: &str) -> Result<bool, InvalidText> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(yes)) => Ok(*yes),
            Some(_) => self.wrong_type(name),
        }
    }

    /// Returns the member `name` as an object whose values are all strings, or `None` if it is absent.
    pub(super) fn meta(&self, name: &str) -> Result<Option<Meta>, InvalidText> {
        let Some(object) = self.object(name)? else { return Ok(None) };
        let mut meta = Meta::default();
        for (key, value) in object {
            match value.as_str() {
                Some(value) => meta.add(key, value)?,
                None => return invalid(format!("'{name}' contains '{key}' with wrong type")),
            }
        }
        Ok(Some(meta))
    }

    /// Returns the member `name` as a whole number, or `None` if it is absent. As in Pushpin, strings that contain a
    /// number and booleans count as numbers. Fractions are rounded.
    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>, InvalidText> {
        let number = match self.get(name) {
            None => return Ok(None),
            Some(Value::Bool(yes)) => Some(i64::from(*yes)),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(value) => value.as_i64().or_else(|| value.as_f64().map(|f| f.round() as i64)),
        };
        number.map_or_else(|| self.wrong_type(name), |n| Ok(Some(n)))
    }

    /// Returns the member `name` as a number of seconds, or `None` if it is absent. The maximum is `i32::MAX`, as in
    /// the `Grip-*` headers.
    pub(super) fn seconds(&self, name: &str) -> Result<Option<u64>, InvalidText> {
        let Some(number) = self.integer(name)? else { return Ok(None) };
        match i32::try_from(number).ok().and_then(|seconds| u64::try_from(seconds).ok()) {
            Some(seconds) => Ok(Some(seconds)),
            None => invalid(format!("{} '{name}' has invalid value", self.of)),
        }
    }

    /// Returns the bytes of the Base64 text in the member `binary` or, if that is absent, of the text in the member
    /// `text`. Returns `None` if both are absent.
    pub(super) fn content(&self, binary: &str, text: &str) -> Result<Option<Bytes>, InvalidText> {
        let Some(encoded) = self.string(binary)? else {
            return Ok(self.string(text)?.map(|t| Bytes::from(t.to_owned())));
        };
        match base64::decode(encoded) {
            Some(bytes) => Ok(Some(Bytes::from(bytes))),
            None => invalid(format!("{} contains '{binary}', which is not base64", self.of)),
        }
    }

    /// Returns the headers in the member `headers`, which is an object or a list of name-value pairs. A name may
    /// occur more than once in a list.
    pub(super) fn headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, InvalidText> {
        let pairs: Vec<(&str, &Value)> = match self.get("headers") {
            None => Vec::new(),
            Some(Value::Object(headers)) => headers.iter().map(|(n, v)| (n.as_str(), v)).collect(),
            Some(Value::Array(list)) => list.iter().map(|v| pair(self, v)).collect::<Result<_, _>>()?,
            Some(_) => return self.wrong_type("headers"),
        };
        if pairs.len() > MAX_HEADERS {
            return invalid(format!("headers contains {} headers, and at most {MAX_HEADERS} are allowed", pairs.len()));
        }
        let mut headers = Vec::with_capacity(pairs.len());
        for (name, value) in pairs {
            let Some(text) = value.as_str() else {
                return invalid(format!("headers contains '{name}' with wrong type"));
            };
            let (Ok(header), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(text)) else {
                return invalid(format!("headers contains '{name}', which is not a valid HTTP header"));
            };
            headers.push((header, value));
        }
        Ok(headers)
    }
}

fn pair<'a>(fields: &Fields<'_>, value: &'a Value) -> Result<(&'a str, &'a Value), InvalidText> {
    match value.as_array().map(Vec::as_slice) {
        Some([Value::String(name), value]) => Ok((name, value)),
        Some([_, _]) => fields.wrong_type("headers"),
        Some(_) => invalid("headers contains list with wrong number of elements"),
        None => fields.wrong_type("headers"),
    }
}

/// Returns whether a header is one that neither origins nor publishers may set in a body: a header of GRIP, or one by
/// which gripd frames a response or manages the connection (RFC 9110 7.6.1).
pub(super) fn is_gripds_own(name: &HeaderName) -> bool {
    super::instruct::is_grip(name)
        || matches!(
            name.as_str(),
            "content-length"
                | "transfer-encoding"
                | "connection"
                | "keep-alive"
                | "proxy-connection"
                | "te"
                | "trailer"
                | "upgrade"
        )
}

/// Returns whether a text can be a reason phrase. Control characters are not allowed, because a line end would end
/// the status line, and others would affect the terminal that shows the text.
pub(super) fn is_reason(text: &str) -> bool {
    !text.contains(char::is_control)
}
