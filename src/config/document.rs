//! Reading the settings from the configuration file and the environment, with all errors in them.

use super::environment;
use super::error::ConfigError;
use super::file::ConfigFile;
use super::file_path::display_name;
use super::places::{LineIndex, PathStep, SettingPlaces};
use super::toml_error::{describe, missing_name, unknown_name};
use serde::Deserialize;
use serde_path_to_error::{Path as ErrorPath, Segment};
use std::path::Path;
use std::slice;
use toml::de::{DeTable, Deserializer};
use toml::{Table, Value};

/// The settings as they are written, and the places where they are written.
#[derive(Default)]
pub(super) struct ConfigDocument {
    pub(super) file: ConfigFile,
    /// The table in which the settings are written.
    pub(super) table: Table,
    pub(super) places: SettingPlaces,
}

impl ConfigDocument {
    /// Reads the configuration file, if there is one, and the environment, which takes precedence. A setting with an
    /// error is left out, and the error is added to `error`.
    ///
    /// # Errors
    /// The file cannot be read, or is not TOML. Nothing else can be said about its settings then.
    pub(super) fn read(
        path: Option<&Path>,
        variables: &[(String, String)],
        error: &mut ConfigError,
    ) -> Result<Self, ConfigError> {
        let name = display_name(path);
        let text = match path.map(std::fs::read_to_string) {
            None => String::new(),
            Some(Ok(text)) => text,
            Some(Err(why)) => return Err(ConfigError::one(&name, format!("cannot be read: {why}"))),
        };
        let (document, faults) = DeTable::parse_recoverable(&text);
        let mut places = SettingPlaces::of(path, &text, &document);
        // A number that is too large is an error only when the document becomes a table.
        let table = if faults.is_empty() {
            Table::deserialize(Deserializer::from(document)).map_err(|fault| vec![fault])
        } else {
            Err(faults)
        };
        let mut table = table.map_err(|faults| syntax_errors(&name, &text, &faults))?;
        environment::overlay(&mut table, &mut places, variables);
        deserialize(table.clone(), &mut places.clone(), whole_path, |place, message| error.push(place, message));
        // A route, webhook or token with an error is left out as a whole, so that later checks do not report what is
        // missing in the rest of it.
        let file = deserialize(table.clone(), &mut places, entry_path, |_, _| {});
        Ok(Self { file, table, places })
    }
}

/// Returns the errors of a file that is not TOML, each with its line.
fn syntax_errors(name: &str, text: &str, faults: &[toml::de::Error]) -> ConfigError {
    let lines = LineIndex::new(text);
    let mut error = ConfigError::default();
    for fault in faults {
        let line = fault.span().map_or(1, |span| lines.of(span.start));
        error.push(&format!("{name}:{line}"), describe(fault.message(), None));
    }
    error
}

/// Deserializes the settings. `wrong` is called for each setting with an error, with its place and the description of
/// the error. The part of the setting's path that `left_out` returns is left out.
fn deserialize(
    mut table: Table,
    places: &mut SettingPlaces,
    left_out: impl Fn(&[PathStep]) -> &[PathStep],
    mut wrong: impl FnMut(&str, String),
) -> ConfigFile {
    let mut all_left_out = Vec::new();
    loop {
        let error = match serde_path_to_error::deserialize::<_, ConfigFile>(table.clone()) {
            Ok(file) => return file,
            Err(error) => error,
        };
        let mut steps = steps(error.path());
        let message = error.inner().message();
        if let Some(name) = unknown_name(message)
            && steps.last() != Some(&PathStep::Member(name.to_owned()))
        {
            steps.push(PathStep::Member(name.to_owned()));
        }
        let missing = missing_name(message).map(|name| PathStep::Member(name.to_owned()));
        let is_left_out = missing
            .as_ref()
            .is_some_and(|missing| all_left_out.contains(&[&steps[..], slice::from_ref(missing)].concat()));
        if !is_left_out {
            let description = describe(message, Some(&setting_name(&steps)));
            wrong(places.find(steps.iter().cloned()), description);
        }
        let left_out = left_out(&steps);
        if !remove(&mut table, left_out) {
            return ConfigFile::default();
        }
        places.remove(left_out);
        all_left_out.push(left_out.to_vec());
    }
}

/// Returns the whole path of a setting.
const fn whole_path(steps: &[PathStep]) -> &[PathStep] {
    steps
}

/// Returns the path of the entry of a list that a setting is in, or the whole path if it is in none.
fn entry_path(steps: &[PathStep]) -> &[PathStep] {
    let element = steps.iter().position(|step| matches!(step, PathStep::Element(_)));
    element.map_or(steps, |element| &steps[..=element])
}

fn steps(path: &ErrorPath) -> Vec<PathStep> {
    let step = |segment: &Segment| match segment {
        Segment::Map { key } => Some(PathStep::Member(key.clone())),
        Segment::Seq { index } => Some(PathStep::Element(*index)),
        Segment::Enum { .. } | Segment::Unknown => None,
    };
    path.iter().map_while(step).collect()
}

/// Returns the name of the last setting in a path, as errors call it.
fn setting_name(steps: &[PathStep]) -> String {
    let names = steps.iter().filter_map(|step| match step {
        PathStep::Member(name) => Some(name.as_str()),
        PathStep::Element(_) => None,
    });
    names.collect::<Vec<_>>().join(".")
}

/// Removes the setting that the steps lead to. Returns whether there was one.
fn remove(table: &mut Table, steps: &[PathStep]) -> bool {
    let Some((PathStep::Member(first), rest)) = steps.split_first() else { return false };
    let Some((last, between)) = rest.split_last() else { return table.remove(first).is_some() };
    let mut at = table.get_mut(first);
    for step in between {
        at = at.and_then(|value| match step {
            PathStep::Member(name) => value.get_mut(name),
            PathStep::Element(index) => value.get_mut(*index),
        });
    }
    match (at, last) {
        (Some(Value::Table(table)), PathStep::Member(name)) => table.remove(name).is_some(),
        (Some(Value::Array(list)), PathStep::Element(index)) if *index < list.len() => {
            list.remove(*index);
            true
        }
        _ => false,
    }
}
