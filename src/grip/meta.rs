//! Meta: names and values that origins give to clients, and publishers to items, for filters to look at.

use super::{InvalidText, invalid};
use serde_json::{Map, Value};

/// The maximum number of names in one meta. The number is limited because each added name is compared with all the
/// others.
const MAX_NAMES: usize = 100;

/// The maximum number of bytes of all names and values in one meta. They are limited because filters look at them for
/// each connection to which an item is offered.
pub const MAX_BYTES: usize = 64 << 10;

/// Returns the number of pairs and their total size in bytes after `name` is set to a value of `length` bytes. Each of
/// the `pairs` is a name and the length of its value.
pub fn size_with<'a>(pairs: impl Iterator<Item = (&'a str, usize)>, name: &str, length: usize) -> (usize, usize) {
    let others = pairs.filter(|(other, _)| *other != name);
    others.fold((1, name.len() + length), |(count, bytes), (name, length)| (count + 1, bytes + name.len() + length))
}

/// A list of names, each of which has one value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta(Vec<(Box<str>, Box<str>)>);

impl Meta {
    /// Returns the value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| &**n == name).map(|(_, value)| &**value)
    }

    /// Sets the value of `name`, and replaces its previous value if it has one.
    pub fn set(&mut self, name: &str, value: &str) {
        self.0.retain(|(n, _)| &**n != name);
        self.0.push((name.into(), value.into()));
    }

    /// Sets the value of `name` as [`Meta::set`] does, if the limits of the meta allow it.
    ///
    /// # Errors
    /// The meta would have too many names or bytes. The error says what the limit is.
    pub fn add(&mut self, name: &str, value: &str) -> Result<(), InvalidText> {
        let pairs = self.iter().map(|(name, value)| (name, value.len()));
        let (names, bytes) = size_with(pairs, name, value.len());
        if names > MAX_NAMES {
            return invalid(format!("'meta' has more than {MAX_NAMES} names"));
        }
        if bytes > MAX_BYTES {
            return invalid(format!("'meta' has more than {MAX_BYTES} bytes"));
        }
        self.set(name, value);
        Ok(())
    }

    /// Removes `name` and its value.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(n, _)| &**n != name);
    }

    /// Returns all names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Returns the number of names.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are no names.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the names and values as one line of JSON, sorted by name.
    pub fn to_json(&self) -> String {
        let map: Map<String, Value> = self.0.iter().map(|(n, v)| (n.to_string(), Value::from(&**v))).collect();
        Value::Object(map).to_string()
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Meta {
    fn from_iter<T: IntoIterator<Item = (&'a str, &'a str)>>(pairs: T) -> Self {
        let mut meta = Self::default();
        for (name, value) in pairs {
            meta.set(name, value);
        }
        meta
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_NAMES, Meta};

    #[test]
    fn the_last_value_of_a_name_stays() {
        let meta: Meta = [("user", "7"), ("a", "\""), ("user", "8")].into_iter().collect();
        assert_eq!((meta.get("user"), meta.get("b")), (Some("8"), None));
        assert_eq!(meta.to_json(), r#"{"a":"\"","user":"8"}"#);
        assert!(Meta::default().is_empty() && !meta.is_empty());
    }

    #[test]
    fn only_so_many_names_and_bytes_are_added() {
        let mut meta = Meta::default();
        for n in 0..MAX_NAMES {
            meta.add(&n.to_string(), "x").unwrap();
        }
        meta.add("7", "another value").unwrap();
        assert_eq!(meta.add("new", "x").unwrap_err().to_string(), "'meta' has more than 100 names");
        let mut meta = Meta::default();
        meta.add("a", &"x".repeat(65_535)).unwrap();
        assert_eq!(meta.add("b", "x").unwrap_err().to_string(), "'meta' has more than 65536 bytes");
        // A refused pair is not stored. If a pair replaces another, the bytes of the replaced one do not count.
        meta.add("a", "y").unwrap();
        assert_eq!((meta.get("b"), meta.get("a")), (None, Some("y")));
    }
}
