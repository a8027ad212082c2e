//! Reading the settings from the configuration file and the environment, with all errors in them.

use super::environment;
use super::error::ConfigError;
use super::file::ConfigFile;
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
    pub(super) fn read(path: Option<&Path>, variables: &[(String, String)], error: &mut ConfigError) -> Self {
        let mut text = String::new();
        if let Some(path) = path {
            match std::fs::read_to_string(path) {
                Ok(read) => text = read,
                Err(why) => error.push(&path.display().to_string(), format!("cannot be read: {why}")),
            }
        }
        let (document, faults) = DeTable::parse_recoverable(&text);
        let mut places = SettingPlaces::of(path, &text, &document);
        let (name, lines) = (places.of_setting("").to_owned(), LineIndex::new(&text));
        let is_sound = faults.is_empty();
        for fault in faults {
            let line = fault.span().map_or(1, |span| lines.of(span.start));
            error.push(&format!("{name}:{line}"), describe(fault.message(), None));
        }
        let mut table = Table::deserialize(Deserializer::from(document)).unwrap_or_default();
        environment::overlay(&mut table, &mut places, variables);
        deserialize(table.clone(), &mut places.clone(), whole_path, |place, message, is_missing| {
            // What is missing may be in a line that could not be parsed.
            if is_sound || !is_missing {
                error.push(place, message);
            }
        });
        // A route, webhook or token with an error is left out as a whole, so that later checks do not report what is
        // missing in the rest of it.
        let file = deserialize(table.clone(), &mut places, entry_path, |_, _, _| {});
        Self { file, table, places }
    }
}

/// Deserializes the settings. `wrong` is called for each setting with an error, with its place, with the description
/// of the error, and with whether a required setting is missing. The part of the setting's path that `left_out`
/// returns is left out.
fn deserialize(
    mut table: Table,
    places: &mut SettingPlaces,
    left_out: impl Fn(&[PathStep]) -> &[PathStep],
    mut wrong: impl FnMut(&str, String, bool),
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
            wrong(places.find(steps.iter().cloned()), description, missing.is_some());
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
