//! The floor plan: which module may use which. It is what keeps `ls src` the way of the data.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What every module may use; these use none of the rest.
const COMMON: [&str; 3] = ["grip", "telemetry", "wire"];

/// Each module, in the order of the data, and what else it may use. `*`: all; `Settings`: of each part, its
/// settings.
const PLAN: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("lib", &[]),
    ("cli", &["config", "daemon", "net", "route"]),
    ("daemon", &["*"]),
    ("config", &["net", "notify", "route", "Settings"]),
    ("demo", &[]),
    ("control", &["hub", "net", "shard"]),
    ("front", &["admission", "hold", "net", "origin", "route", "session", "shard"]),
    ("admission", &["hub", "route", "shard"]),
    ("hold", &["admission", "hub", "net", "origin", "route", "shard"]),
    ("session", &["admission", "net", "origin", "route", "shard"]),
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

/// Modules that know no runtime, no clock and no socket.
const PURE: [&str; 3] = ["grip", "route", "wire"];

/// Lines that a file may have, tests included.
const LONGEST_FILE: usize = 500;

struct Source {
    module: String,
    path: PathBuf,
    text: String,
}

/// Every source file, with the module at the top to which it belongs.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut folders) = (Vec::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let top = path.strip_prefix(&root).unwrap().components().next().unwrap();
                let module = Path::new(&top).file_stem().unwrap().to_str().unwrap().to_owned();
                let text = fs::read_to_string(&path).unwrap();
                found.push(Source { module, path, text });
            }
        }
    }
    assert!(found.len() > PLAN.len(), "hardly a source file was found");
    found
}

/// The modules that a text names: `crate::hub`, `gripd::cli`, and those of `crate::{front, origin}`.
fn used(text: &str) -> BTreeSet<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let starts = ["crate::", "gripd::"];
    starts
        .iter()
        .flat_map(|start| code.match_indices(start).map(|(at, _)| &code[at + start.len()..]))
        .flat_map(names)
        .collect()
}

fn names(rest: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    match rest.strip_prefix('{') {
        Some(list) => list.split('}').next().unwrap().split(',').map(|name| word(name.trim())).collect(),
        None => vec![word(rest)],
    }
}

#[test]
fn every_module_uses_only_what_the_plan_allows() {
    let plan: BTreeMap<_, _> = PLAN.iter().copied().collect();
    let (mut seen, mut edges) = (BTreeSet::new(), 0);
    for source in sources() {
        let allowed =
            plan.get(source.module.as_str()).unwrap_or_else(|| panic!("{} is not in the plan", source.module));
        seen.insert(source.module.clone());
        for target in used(&source.text) {
            if target == source.module || !plan.contains_key(target.as_str()) {
                continue;
            }
            edges += 1;
            let common = COMMON.contains(&target.as_str()) && !COMMON.contains(&source.module.as_str());
            let settings = allowed.contains(&"Settings");
            let named = allowed.contains(&target.as_str()) || allowed.contains(&"*");
            assert!(common || settings || named, "{}: {} may not use {target}", source.path.display(), source.module);
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
        for part in ["control", "front", "hub", "origin", "session", "shard"] {
            for (at, _) in source.text.match_indices(&format!(" {part}::")) {
                let rest = &source.text[at + part.len() + 3..];
                assert!(rest.starts_with("Settings"), "{}: {part}::{}", source.path.display(), &rest[..20]);
                found += 1;
            }
        }
    }
    assert!(found > 5, "hardly a setting was found: {found}");
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
