//! The places where settings are written, which errors name.

use super::file_path::display_name;
use std::collections::BTreeMap;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The places of a table, a list or a value of the configuration, and of everything in it.
#[derive(Clone, Debug, Default)]
pub(super) struct SettingPlaces {
    place: String,
    members: BTreeMap<String, Self>,
    elements: Vec<Self>,
}

/// A step on the way to a setting: a member of a table, or an element of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PathStep {
    Member(String),
    Element(usize),
}

impl SettingPlaces {
    /// Returns the places of the settings in a file with this text. Without a file, the place has no name.
    pub(super) fn of(path: Option<&Path>, text: &str, table: &Spanned<DeTable<'_>>) -> Self {
        let (name, lines) = (display_name(path), LineIndex::new(text));
        let place = |at: usize| format!("{name}:{}", lines.of(at));
        Self { place: name.clone(), ..Self::of_table(table.get_ref(), &place, &name) }
    }

    fn of_table(table: &DeTable<'_>, place: &dyn Fn(usize) -> String, whole: &str) -> Self {
        let member = |(name, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
            // A table begins at its name. The place of another value is more exact: an error may be in its last line.
            let at = if value.get_ref().is_table() { name.span().start } else { value.span().start };
            (String::from(AsRef::<str>::as_ref(name.get_ref())), Self::of_value(value.get_ref(), &place(at), place))
        };
        Self { place: whole.to_owned(), members: table.iter().map(member).collect(), elements: Vec::new() }
    }

    fn of_value(value: &DeValue<'_>, at: &str, place: &dyn Fn(usize) -> String) -> Self {
        match value {
            DeValue::Table(table) => Self::of_table(table, place, at),
            DeValue::Array(list) => {
                let element =
                    |value: &Spanned<DeValue<'_>>| Self::of_value(value.get_ref(), &place(value.span().start), place);
                Self { place: at.to_owned(), members: BTreeMap::new(), elements: list.iter().map(element).collect() }
            }
            _ => Self { place: at.to_owned(), ..Self::default() },
        }
    }

    /// Returns the place of a setting, such as `origin.sig_key`, or that of the innermost table around it.
    pub(super) fn of_setting(&self, path: &str) -> &str {
        self.find(path.split('.').map(|name| PathStep::Member(name.to_owned())))
    }

    /// Returns the place of an entry of a list of tables, such as `[[route]]`.
    pub(super) fn of_entry(&self, list: &str, index: usize) -> &str {
        let list = list.split('.').map(|name| PathStep::Member(name.to_owned()));
        self.find(list.chain([PathStep::Element(index)]))
    }

    /// Returns the place that the steps lead to, as far as they lead to one.
    pub(super) fn find(&self, steps: impl IntoIterator<Item = PathStep>) -> &str {
        let mut at = self;
        for step in steps {
            let next = match step {
                PathStep::Member(name) => at.members.get(&name),
                PathStep::Element(index) => at.elements.get(index),
            };
            match next {
                Some(next) => at = next,
                None => break,
            }
        }
        &at.place
    }

    /// Notes that a setting is written at `place`, in place of the one where it was written before.
    pub(super) fn set(&mut self, path: &str, place: &str) {
        let mut at = self;
        for name in path.split('.') {
            at = at.members.entry(name.to_owned()).or_default();
        }
        *at = Self { place: place.to_owned(), ..Self::default() };
    }

    /// Removes the place that the steps lead to. The elements after a removed one move up.
    pub(super) fn remove(&mut self, steps: &[PathStep]) {
        match steps {
            [PathStep::Member(name)] => drop(self.members.remove(name)),
            [PathStep::Element(index)] if *index < self.elements.len() => drop(self.elements.remove(*index)),
            [PathStep::Member(name), rest @ ..] => {
                if let Some(member) = self.members.get_mut(name) {
                    member.remove(rest);
                }
            }
            [PathStep::Element(index), rest @ ..] => {
                if let Some(element) = self.elements.get_mut(*index) {
                    element.remove(rest);
                }
            }
            [] => {}
        }
    }
}

/// The positions of the line ends of a text, in bytes.
#[derive(Debug)]
pub(super) struct LineIndex(Vec<usize>);

impl LineIndex {
    pub(super) fn new(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(at, _)| at).collect())
    }

    /// Returns the number of the line that contains the byte at `at`. The first line is 1.
    pub(super) fn of(&self, at: usize) -> usize {
        1 + self.0.partition_point(|end| *end < at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str) -> SettingPlaces {
        SettingPlaces::of(Some(Path::new("g.toml")), text, &DeTable::parse(text).unwrap())
    }

    #[test]
    fn every_setting_has_its_line() {
        let text = "drain = 1\n\n[client]\nproxies = [\n  \"a\",\n  \"b\",\n]\n[[route]]\ntarget = \"a\"\n[[route]]\n";
        let mut places = places(text);
        assert_eq!(places.of_setting("drain"), "g.toml:1");
        assert_eq!(places.of_setting("client.proxies"), "g.toml:4");
        assert_eq!(places.of_setting("client.unknown"), "g.toml:3");
        assert_eq!(places.of_setting("unknown"), "g.toml");
        assert_eq!((places.of_entry("route", 0), places.of_entry("route", 1)), ("g.toml:8", "g.toml:10"));
        let step = |name: &str| PathStep::Member(name.to_owned());
        assert_eq!(places.find([step("client"), step("proxies"), PathStep::Element(1)]), "g.toml:6");
        places.remove(&[step("route"), PathStep::Element(0)]);
        assert_eq!(places.of_entry("route", 0), "g.toml:10");
        places.set("client.proxies", "GRIPD_CLIENT_PROXIES");
        assert_eq!(places.of_setting("client.proxies"), "GRIPD_CLIENT_PROXIES");
        places.remove(&[step("client"), step("proxies")]);
        assert_eq!(places.of_setting("client.proxies"), "g.toml:3");
        assert_eq!(SettingPlaces::default().of_setting("a.b"), "");
    }
}
