//! Settings in environment variables: `GRIPD_`, and the name of the setting in capital letters with `_` for `.`, such
//! as `GRIPD_CLIENT_IDLE_TIMEOUT` for `idle_timeout` in `[client]`.

use super::field_names::fields_of;
use super::file::ConfigFile;
use super::places::SettingPlaces;
use super::table_path::insert;
use serde::Deserialize;
use std::path::PathBuf;
use toml::{Table, Value};

/// The beginning of the names of all variables.
const PREFIX: &str = "GRIPD_";
/// The variable with the routes, one line for each. It takes the place of all other routes, as `--route` does.
const ROUTES: &str = "GRIPD_ROUTE";
/// The variable with the path of the configuration file.
const CONFIG: &str = "GRIPD_CONFIG";

/// Returns the lines of routes in the environment.
pub(super) fn routes(variables: &[(String, String)]) -> Vec<String> {
    find(variables, ROUTES)
        .unwrap_or_default()
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Returns whether the environment names routes, so that gripd does not run the demo.
pub fn names_routes(variables: &[(String, String)]) -> bool {
    !routes(variables).is_empty() || find(variables, "GRIPD_ROUTES").is_some()
}

/// Returns the path of the configuration file, if the environment names one.
pub fn config_file(variables: &[(String, String)]) -> Option<PathBuf> {
    find(variables, CONFIG).map(PathBuf::from)
}

/// Returns the value of a variable. An empty variable counts as one that is not set, because some tools cannot leave a
/// variable out.
fn find<'a>(variables: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let (_, value) = variables.iter().find(|(found, _)| found == name)?;
    Some(value.as_str()).filter(|value| !value.is_empty())
}

/// Puts the settings of the environment into a table, in place of those that it has.
pub(super) fn overlay(table: &mut Table, places: &mut SettingPlaces, variables: &[(String, String)]) {
    for path in settings() {
        let name = variable(&path);
        let Some(text) = find(variables, &name).filter(|_| name != ROUTES) else { continue };
        let value = value(&path, text);
        insert(table, &path, value);
        places.set(&path, &format!("the environment variable {name}"));
    }
}

/// Returns the names of the variables that begin as settings do, but have no effect.
pub fn unknown_variables(variables: &[(String, String)]) -> Vec<String> {
    let known: Vec<String> = settings().iter().map(|path| variable(path)).chain([CONFIG.to_owned()]).collect();
    let names = variables.iter().map(|(name, _)| name).filter(|name| name.starts_with(PREFIX));
    names.filter(|name| !known.contains(name)).cloned().collect()
}

/// Returns the name of the variable for a setting such as `client.idle_timeout`.
fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "_").to_ascii_uppercase())
}

/// Returns the paths of all settings, such as `drain` and `client.idle_timeout`.
fn settings() -> Vec<String> {
    let tables = super::file::tables();
    let top = fields_of::<ConfigFile>().iter().filter(|name| tables.iter().all(|(table, _)| table != *name));
    let inner = tables.iter().flat_map(|(table, fields)| fields.iter().map(move |field| format!("{table}.{field}")));
    top.map(|name| (*name).to_owned()).chain(inner).collect()
}

/// Returns the value of a setting that is written as `text`: the text itself if the setting may be a string, or else
/// a TOML value, such as `true` or `["a", "b"]`, or else a list of the parts between commas.
fn value(path: &str, text: &str) -> Value {
    let plain = Value::String(text.to_owned());
    let parsed = toml::from_str::<Table>(&format!("value = {text}")).ok();
    let parsed = parsed.filter(|table| table.len() == 1).and_then(|mut table| table.remove("value"));
    let parts = text.split(',').map(|part| Value::String(part.trim().to_owned())).collect();
    let switch = match text {
        "1" => Some(Value::Boolean(true)),
        "0" => Some(Value::Boolean(false)),
        _ => None,
    };
    let candidates = [Some(plain.clone()), parsed.clone(), switch, Some(Value::Array(parts))];
    let accepted = candidates.into_iter().flatten().find(|candidate| {
        let mut table = Table::new();
        insert(&mut table, path, candidate.clone());
        ConfigFile::deserialize(table).is_ok()
    });
    accepted.or(parsed).unwrap_or(plain)
}
