//! The settings as they are written, which tell what has changed when the configuration is read again.

use super::Overrides;
use super::table_path::{get, insert, remove};
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use toml::{Table, Value};

/// The settings, and the tables of settings, that have an effect only when gripd starts.
const AT_START: &[&str] = &[
    "control.health",
    "control.listen",
    "control.unix",
    "control.unix_mode",
    "listen",
    "listen_mode",
    "shards",
    "state_dir",
];

/// The settings that say where the routes are. The routes themselves are compared instead.
const ROUTES: [&str; 2] = ["route", "routes"];

/// The settings as they are written in the configuration file and in the environment. Keys and secrets that are in
/// files of their own are part of it.
#[derive(Clone, Default)]
pub struct WrittenSettings(Table);

/// The names of the settings that differ between two configurations, such as `client.idle_timeout`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingChanges {
    /// The settings that can be changed while gripd runs.
    pub at_once: Vec<String>,
    /// The settings that have an effect only when gripd starts.
    pub at_start: Vec<String>,
}

impl SettingChanges {
    /// Returns whether any webhook may have changed. By default, webhooks sign with the key of `[origin]`.
    pub fn concern_webhooks(&self) -> bool {
        let all = ["webhook", "origin.sig_iss", "origin.sig_key"];
        self.at_once.iter().any(|name| all.contains(&name.as_str()))
    }
}

impl WrittenSettings {
    /// Returns the settings of a table without those that the command line overrides. The paths of files are relative
    /// to `folder`.
    pub(super) fn new(mut table: Table, over: &Overrides, folder: &Path) -> Self {
        for name in over.overridden() {
            remove(&mut table, name);
        }
        table.iter_mut().for_each(|(_, value)| read_files(value, folder));
        Self(table)
    }

    /// Returns the names of the settings that differ, in alphabetical order. Routes are left out.
    pub fn changes(&self, other: &Self) -> SettingChanges {
        let names: BTreeSet<String> = self.names().chain(other.names()).collect();
        let differs = |name: &String| get(&self.0, name) != get(&other.0, name);
        let names = names.into_iter().filter(|name| differs(name) && !ROUTES.contains(&name.as_str()));
        let (at_start, at_once) = names.partition(|name| is_at_start(name));
        SettingChanges { at_once, at_start }
    }

    /// Takes the settings of `other`, except those that have an effect only when gripd starts.
    pub fn take_over(&mut self, other: Self) {
        let started = std::mem::replace(self, other);
        let names: BTreeSet<String> = self.names().chain(started.names()).filter(|name| is_at_start(name)).collect();
        for name in names {
            match get(&started.0, &name) {
                Some(value) => insert(&mut self.0, &name, value.clone()),
                None => remove(&mut self.0, &name),
            }
        }
    }

    /// Returns the names of all settings. A list of tables, such as `[[webhook]]`, counts as one setting.
    fn names(&self) -> impl Iterator<Item = String> {
        self.0.iter().flat_map(|(name, value)| match value {
            Value::Table(table) => table.keys().map(|inner| format!("{name}.{inner}")).collect(),
            _ => vec![name.clone()],
        })
    }
}

impl fmt::Debug for WrittenSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The values may be secrets.
        f.debug_set().entries(self.names()).finish()
    }
}

fn is_at_start(name: &str) -> bool {
    AT_START.contains(&name) || name.split_once('.').is_some_and(|(table, _)| AT_START.contains(&table))
}

/// Replaces each text `file:PATH` by the content of the file, so that a changed file is a changed setting. A text
/// whose file cannot be read stays as it is.
fn read_files(value: &mut Value, folder: &Path) {
    match value {
        Value::String(text) => {
            if let Some(path) = text.strip_prefix("file:")
                && let Ok(content) = std::fs::read_to_string(folder.join(path))
            {
                *text = content;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| read_files(value, folder)),
        Value::Table(table) => table.iter_mut().for_each(|(_, value)| read_files(value, folder)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> WrittenSettings {
        WrittenSettings(text.parse().unwrap())
    }

    #[test]
    fn changed_settings_are_named() {
        let mut running = written("log = 'info'\nlisten = 1\nshards = 2\n[control]\nlisten = 5561\n[[route]]\na = 1\n");
        let other = written("log = 'warn'\nlisten = 2\nshards = 2\nroutes = 'a'\n[control]\n");
        let changes = running.changes(&other);
        assert_eq!(
            (changes.at_once, changes.at_start),
            (vec!["log".into()], vec!["control.listen".into(), "listen".into()])
        );
        // A setting that needs a restart stays different, and one that has been applied does not.
        running.take_over(other.clone());
        let changes = running.changes(&other);
        assert_eq!((changes.at_once, changes.at_start), (vec![], vec!["control.listen".into(), "listen".into()]));
        running.take_over(written("listen = 1\nshards = 2\n[control]\nlisten = 5561\n"));
        assert_eq!(
            running.changes(&written("listen = 1\nshards = 2\ncontrol.listen = 5561\n")),
            SettingChanges::default()
        );
    }

    #[test]
    fn the_debug_output_has_no_secrets() {
        let text = format!("{:?}", written("[origin]\nsig_key = 's3cret'\n"));
        assert_eq!(text, "{\"origin.sig_key\"}");
    }
}
