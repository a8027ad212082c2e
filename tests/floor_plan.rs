//! The floor plan: which module may use which. It is what keeps `ls src` the way of the data.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What every module may use; these use none of the rest.
const COMMON: [&str; 3] = ["grip", "telemetry", "wire"];

/// Each module, in the order of the data, and the modules that it may use besides. `*` stands for all.
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

/// The parts of which the configuration knows nothing but their settings, and the types of which these consist.
const SETTINGS: &[(&str, &[&str])] = &[
    ("control", &["Settings", "Access", "Scope", "Token"]),
    ("front", &["Settings"]),
    ("hold", &["Settings"]),
    ("hub", &["Settings"]),
    ("notify", &["Settings", "Events", "Hook", "Url"]),
    ("origin", &["Settings", "AcceptProto", "Edit", "ForwardedFor", "ForwardedProto", "Forwarding"]),
    ("session", &["Settings"]),
    ("shard", &["Settings", "Steps"]),
];

/// Modules that know no runtime, no clock and no socket.
const PURE: [&str; 3] = ["grip", "route", "wire"];

/// Lines that a file may have, tests included.
const LONGEST_FILE: usize = 500;

struct Source {
    /// The module at the top to which the file belongs.
    module: String,
    /// The path of the file's own module: `shard::conn`.
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

    /// The code without comments.
    fn code(&self) -> String {
        let lines = self.text.lines().filter(|line| !line.trim_start().starts_with("//"));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The code without comments and without the tests at its end.
    fn code_without_tests(&self) -> String {
        let code = self.code();
        match code.find("#[cfg(test)]\nmod tests {") {
            Some(at) => code[..at].to_owned(),
            None => code,
        }
    }
}

/// Every source file.
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
    assert!(found.len() > PLAN.len(), "hardly a source file was found");
    found
}

/// The paths that the `use` items of a text name, each whole: `use crate::hub::{self, Busy};` names `crate::hub::self` and
/// `crate::hub::Busy`.
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

/// Adds the paths of a tree of imports, each behind `prefix`.
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

/// The paths that begin with `crate::` or `gripd::`, in imports and elsewhere, without that beginning.
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
    assert_eq!(seen, expected, "a module of the plan is gone");
    assert!(edges > 20, "hardly an edge was found: {edges}");
}

#[test]
fn the_configuration_knows_of_the_parts_only_their_settings() {
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
                // The module itself is imported, and then named in front of each type.
                let Some(name) = path.split("::").nth(1).filter(|name| !["", "self"].contains(name)) else { continue };
                assert!(allowed.contains(&name), "{}: {path} is not among the settings", source.path.display());
                found += 1;
            }
        }
    }
    assert!(found > 20, "hardly a setting was found: {found}");
}

/// The files of the same module at the top that a file imports from, the faces above it excepted.
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
            // Children of a face, and other crates.
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
    assert!(left.values().map(BTreeSet::len).sum::<usize>() > 100, "hardly an import was found");
    // Files that import from none that is left are taken away, again and again: a circle is what stays.
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
    assert!(left.is_empty(), "these import from each other in a circle, or from such a circle: {left:#?}");
}

#[test]
fn pure_modules_know_no_runtime_no_clock_and_no_socket() {
    let mut checked = 0;
    for source in sources().iter().filter(|source| PURE.contains(&source.module.as_str())) {
        // An address is no socket.
        let text = source.text.replace("std::net::IpAddr", "").replace("std::net::{IpAddr,", "");
        for word in ["tokio", "Instant::now", "SystemTime::now", "std::net", "std::thread", "std::fs"] {
            assert!(!text.contains(word), "{} names {word}", source.path.display());
        }
        checked += 1;
    }
    assert!(checked > 10, "hardly a pure module was found: {checked}");
}

#[test]
fn files_stay_small() {
    for source in sources() {
        let lines = source.text.lines().count();
        assert!(lines <= LONGEST_FILE, "{} has {lines} lines", source.path.display());
    }
}
