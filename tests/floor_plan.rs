//! Tests of the structure of `src`: which module may use which others, that files do not import each other in a circle,
//! that pure modules do no I/O, and that files stay small.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules that all others may use. Among themselves they may use only what [`PLAN`] says.
const COMMON: [&str; 3] = ["grip", "telemetry", "wire"];

/// The modules, in the order in which data flows through them, each with the modules that it may use besides
/// [`COMMON`]. `*` stands for all modules.
const PLAN: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("lib", &[]),
    ("cli", &["config", "control", "daemon", "net", "route"]),
    ("daemon", &["*"]),
    ("config", &["control", "front", "hold", "hub", "net", "notify", "origin", "route", "session", "shard"]),
    ("demo", &[]),
    ("control", &["cluster", "hub", "net", "shard"]),
    ("cluster", &["hub", "net", "shard"]),
    ("front", &["admission", "hold", "net", "origin", "route", "session", "shard"]),
    ("hold", &["admission", "hub", "net", "origin", "route", "shard"]),
    ("session", &["admission", "net", "origin", "route", "shard"]),
    ("admission", &["hub", "route", "shard"]),
    ("origin", &["net", "route"]),
    ("hub", &["shard"]),
    ("notify", &["net", "route"]),
    ("shard", &["net"]),
    ("net", &[]),
    ("route", &[]),
    ("wire", &["grip"]),
    ("grip", &[]),
    ("telemetry", &[]),
];

/// The parts of which the configuration may use only the settings, each with the types of which its settings consist.
const SETTINGS: &[(&str, &[&str])] = &[
    ("control", &["Settings", "ControlAccess", "Scope", "ControlToken"]),
    ("front", &["Settings"]),
    ("hold", &["Settings"]),
    ("hub", &["Settings"]),
    ("notify", &["Settings", "EventKinds", "Webhook", "WebhookUrl"]),
    ("origin", &["Settings", "AcceptProto", "ForwardedEdit", "ForwardedFor", "ForwardedProto", "Forwarding"]),
    ("session", &["Settings"]),
    ("shard", &["Settings", "StepSizes"]),
];

/// The modules that use no runtime, no clock, no socket, no thread and no file.
const PURE: [&str; 3] = ["grip", "route", "wire"];

/// The largest number of lines in a file, including its unit tests.
const LONGEST_FILE: usize = 500;

struct Source {
    /// The top-level module to which the file belongs.
    module: String,
    /// The path of the module that the file contains, such as `shard::conn`.
    name: String,
    path: PathBuf,
    text: String,
}

impl Source {
    fn read(root: &Path, path: PathBuf) -> Self {
        let relative = path.strip_prefix(root).unwrap().with_extension("");
        let mut names: Vec<&str> = relative.iter().map(|part| part.to_str().unwrap()).collect();
        if names.len() > 1 && names.last() == Some(&"mod") {
            names.pop();
        }
        let (module, name) = (names[0].to_owned(), names.join("::"));
        let text = fs::read_to_string(&path).unwrap();
        Self { module, name, path, text }
    }

    /// Returns the code without the lines that are comments.
    fn code(&self) -> String {
        let lines = self.text.lines().filter(|line| !line.trim_start().starts_with("//"));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Returns the code without the lines that are comments, and without the tests at its end.
    fn code_without_tests(&self) -> String {
        let code = self.code();
        match code.find("#[cfg(test)]\nmod tests {") {
            Some(at) => code[..at].to_owned(),
            None => code,
        }
    }
}

/// Returns all source files in `src`.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut folders) = (Vec::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(Source::read(&root, path));
            }
        }
    }
    assert!(found.len() > PLAN.len(), "too few source files were found");
    found
}

/// Returns the full paths of all imports in the `use` items of some code. For `use crate::hub::{self, Busy};` these are
/// `crate::hub::self` and `crate::hub::Busy`.
fn imports(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, start) in code.match_indices("use ") {
        let begins = code[..at].chars().next_back().is_none_or(char::is_whitespace);
        let end = code[at..].find(';').map_or(code.len(), |end| at + end);
        if begins {
            expand(&code[at + start.len()..end], "", &mut found);
        }
    }
    found
}

/// Adds the full paths of all imports in a use tree to `found`. Each begins with `prefix`.
fn expand(tree: &str, prefix: &str, found: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((before, inner)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap().trim();
        found.push(format!("{prefix}{path}"));
        return;
    };
    let prefix = format!("{prefix}{}", before.trim());
    let inner = inner.trim_end().strip_suffix('}').unwrap_or(inner);
    let (mut depth, mut start) = (0, 0);
    for (at, letter) in inner.char_indices().chain([(inner.len(), ',')]) {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inner[start..at].trim().is_empty() {
                    expand(&inner[start..at], &prefix, found);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// Returns the paths that begin with `crate::` or `gripd::`, in imports and elsewhere, without that beginning.
fn absolute_paths(code: &str) -> Vec<String> {
    let inline = code.match_indices("crate::").chain(code.match_indices("gripd::")).map(|(at, start)| {
        let rest = &code[at + start.len()..];
        let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        rest.chars().take_while(|c| is_path(*c)).collect::<String>()
    });
    let imported = imports(code).into_iter().filter_map(|path| {
        let path = path.strip_prefix("crate::").or_else(|| path.strip_prefix("gripd::"));
        path.map(str::to_owned)
    });
    imported.chain(inline).filter(|path| !path.is_empty()).collect()
}

#[test]
fn every_module_uses_only_what_the_plan_allows() {
    let plan: BTreeMap<_, _> = PLAN.iter().copied().collect();
    let (mut seen, mut edges) = (BTreeSet::new(), 0);
    for source in sources() {
        let allowed =
            plan.get(source.module.as_str()).unwrap_or_else(|| panic!("{} is not in the plan", source.module));
        seen.insert(source.module.clone());
        for path in absolute_paths(&source.code()) {
            let target = path.split("::").next().unwrap();
            if target == source.module || !plan.contains_key(target) {
                continue;
            }
            edges += 1;
            let common = COMMON.contains(&target) && !COMMON.contains(&source.module.as_str());
            let named = allowed.contains(&target) || allowed.contains(&"*");
            assert!(common || named, "{}: {} may not use {target}", source.path.display(), source.module);
        }
    }
    let expected: BTreeSet<_> = PLAN.iter().map(|(module, _)| (*module).to_owned()).collect();
    assert_eq!(seen, expected, "PLAN names a module that does not exist");
    assert!(edges > 20, "too few uses of other modules were found: {edges}");
}

#[test]
fn the_configuration_uses_only_the_settings_of_other_parts() {
    let mut found = 0;
    for source in sources().iter().filter(|source| source.module == "config") {
        let code = source.code();
        for (part, allowed) in SETTINGS {
            let absolute = absolute_paths(&code).into_iter().filter(|path| path.split("::").next() == Some(part));
            let start = format!("{part}::");
            let relative = code.match_indices(&start).filter_map(|(at, start)| {
                let is_whole = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':' || c == '.');
                let rest: String =
                    code[at..].chars().take_while(|c| c.is_alphanumeric() || "_:".contains(*c)).collect();
                (is_whole && rest.len() > start.len()).then_some(rest)
            });
            for path in absolute.chain(relative) {
                // An import of the part itself names no type. Its types are then written as `part::Type` in the code.
                let Some(name) = path.split("::").nth(1).filter(|name| !["", "self"].contains(name)) else { continue };
                assert!(allowed.contains(&name), "{}: {path} is not in SETTINGS", source.path.display());
                found += 1;
            }
        }
    }
    assert!(found > 20, "too few uses of settings were found: {found}");
}

/// Returns the files of the same top-level module from which a file imports, except those of the modules that contain
/// the file.
fn neighbours<'a>(source: &Source, names: &BTreeSet<&'a str>) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    for path in imports(&source.code_without_tests()) {
        let mut own: Vec<&str> = source.name.split("::").collect();
        let mut parts: Vec<&str> = path.split("::").collect();
        match parts[0] {
            "crate" => {
                own.clear();
                parts.remove(0);
            }
            "self" => drop(parts.remove(0)),
            "super" => {
                while parts.first() == Some(&"super") {
                    own.pop();
                    parts.remove(0);
                }
            }
            // Other paths lead to a child module or to another crate.
            _ => continue,
        }
        own.extend(parts);
        let longest = (1..=own.len()).rev().find_map(|length| names.get(own[..length].join("::").as_str()));
        let is_neighbour = |name: &&&str| {
            let top = name.split("::").next() == Some(source.module.as_str());
            let above = source.name == **name || source.name.starts_with(&format!("{name}::"));
            top && !above
        };
        found.extend(longest.filter(is_neighbour));
    }
    found
}

#[test]
fn no_files_of_a_module_import_from_each_other_in_a_circle() {
    let sources = sources();
    let names: BTreeSet<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    let mut left: BTreeMap<&str, BTreeSet<&str>> =
        sources.iter().map(|source| (source.name.as_str(), neighbours(source, &names))).collect();
    assert!(left.values().map(BTreeSet::len).sum::<usize>() > 100, "too few imports were found");
    // Files that import from none of the remaining files are removed again and again. If any files remain, some of them
    // import from each other in a circle.
    loop {
        let free: Vec<&str> = left.iter().filter(|(_, uses)| uses.is_empty()).map(|(name, _)| *name).collect();
        if free.is_empty() {
            break;
        }
        for name in free {
            left.remove(name);
            for uses in left.values_mut() {
                uses.remove(name);
            }
        }
    }
    assert!(left.is_empty(), "these files import from each other in a circle, or from such files: {left:#?}");
}

#[test]
fn pure_modules_use_no_runtime_no_clock_and_no_socket() {
    let mut checked = 0;
    for source in sources().iter().filter(|source| PURE.contains(&source.module.as_str())) {
        // `IpAddr` is allowed because it is only a value.
        let text = source.text.replace("std::net::IpAddr", "").replace("std::net::{IpAddr,", "");
        for word in ["tokio", "Instant::now", "SystemTime::now", "std::net", "std::thread", "std::fs"] {
            assert!(!text.contains(word), "{} contains {word}", source.path.display());
        }
        checked += 1;
    }
    assert!(checked > 10, "too few files of pure modules were found: {checked}");
}

#[test]
fn files_stay_small() {
    for source in sources() {
        let lines = source.text.lines().count();
        assert!(lines <= LONGEST_FILE, "{} has {lines} lines, more than {LONGEST_FILE}", source.path.display());
    }
}
