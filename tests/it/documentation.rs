//! The documentation of the repository: its links lead to files and headings, and its examples work.

use crate::support::{Answer, Client, Gripd, Origin, chunk, folder, get};
use gripd::config::{Config, Overrides};
use gripd::grip::item::parse_batch;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The largest number of words in README.md, so that it can be read in a few minutes.
const README_WORDS: usize = 600;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns all Markdown files of the repository.
fn papers() -> Vec<PathBuf> {
    let folders = ["", "docs", "packaging", "tests/bench", "tests/interop"].map(|name| root().join(name));
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    let papers: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|ending| ending == "md")).collect();
    assert!(papers.len() > 12, "too few files were found: {papers:?}");
    papers
}

/// Returns the text of a page without its blocks of code.
fn prose(text: &str) -> String {
    let mut is_code = false;
    let lines = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        is_code ^= fence;
        !is_code && !fence && !line.starts_with("    ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns the blocks of code that are marked with this language. They may be indented.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("```") {
        let indent = before.len() - before.trim_end_matches(' ').len();
        let (name, after) = after.split_once('\n').unwrap();
        let (block, after) = after.split_once("```").unwrap_or_else(|| panic!("a block of code has no end: {name}"));
        if name == language {
            let lines = block.lines().map(|line| line.get(indent..).unwrap_or_default());
            blocks.push(lines.collect::<Vec<_>>().join("\n"));
        }
        rest = after;
    }
    blocks
}

/// Returns the targets of the links in a text.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap())
}

/// Returns the anchors of a page's headings, as GitHub generates them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    headings.map(|heading| heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")).collect()
}

/// Returns the bodies with items that the `curl` commands in a text send.
fn published(text: &str) -> Vec<String> {
    let bodies = text.split("-d '").skip(1).map(|rest| rest.split('\'').next().unwrap().to_owned());
    bodies.filter(|body| body.starts_with("{\"items\"")).collect()
}

#[test]
fn links_lead_to_files_and_headings() {
    let mut followed = 0;
    for paper in papers() {
        for link in links(&prose(&read(&paper))).filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { paper.clone() } else { paper.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: the link '{link}' leads to no file", paper.display());
            assert!(
                anchor.is_empty() || anchors(&prose(&read(&target))).contains(anchor),
                "{}: the link '{link}' leads to no heading",
                paper.display()
            );
            followed += 1;
        }
    }
    assert!(followed > 40, "only {followed} links were found");
}

#[test]
fn the_readme_is_short_and_leads_to_every_page() {
    let readme = read(&root().join("README.md"));
    let words = readme.split_whitespace().count();
    assert!(words <= README_WORDS, "README.md has {words} words, and at most {README_WORDS} are allowed");
    assert!(readme.contains("    cargo run --release ") && readme.contains("    cargo test\n"));
    let linked: BTreeSet<&str> = links(&readme).collect();
    for paper in papers().iter().filter(|paper| paper.parent().unwrap().ends_with("docs")) {
        let name = format!("docs/{}", paper.file_name().unwrap().to_str().unwrap());
        assert!(linked.contains(&*name), "README.md does not lead to {name}");
    }
}

#[test]
fn the_example_of_the_readme_works_as_shown() {
    let readme = read(&root().join("README.md"));
    let [answer] = &blocks(&readme, "http")[..] else { panic!("README.md must show exactly one HTTP response") };
    let answer = answer.trim().replace('\n', "\r\n") + "\r\nContent-Length: 0\r\n\r\n";
    let gripd = Gripd::start(&Origin::start(move |_| Answer::Bytes(answer.clone())));
    let mut client = Client::send(gripd.clients, get("/events/456"));
    let head = client.head();
    assert!(head.starts_with("http/1.1 200") && !head.contains("grip-"), "{head}");
    let mut played = 0;
    for block in blocks(&readme, "").iter().filter(|block| block.starts_with("$ curl")) {
        let [body] = &published(block)[..] else { panic!("this block must publish exactly once: {block}") };
        let reply = gripd.publish_body("Accept: application/json\r\n", body);
        assert_eq!((reply.0, reply.1.trim()), (200, block.trim().lines().last().unwrap()));
        played += 1;
    }
    assert_eq!((played, client.rest()), (2, chunk("data: hello\n\n") + "0\r\n\r\n"));
}

#[test]
fn items_and_json_of_the_pages_can_be_read() {
    let mut items = 0;
    for paper in papers() {
        let text = read(&paper);
        for body in published(&text) {
            let batch = parse_batch(body.as_bytes());
            let batch = batch.unwrap_or_else(|error| panic!("{}: {error} in {body}", paper.display()));
            assert!(batch.warnings.is_empty(), "{}: {:?} in {body}", paper.display(), batch.warnings);
            items += 1;
        }
        for block in blocks(&text, "json") {
            let json: Result<Value, _> = serde_json::from_str(&block);
            assert!(json.is_ok(), "{}: {json:?} in {block}", paper.display());
        }
    }
    assert!(items > 8, "only {items} requests that publish were found");
}

#[test]
fn configurations_of_the_pages_can_be_loaded() {
    let folder = folder("documentation");
    fs::write(folder.join("ops.token"), "a-secret-of-many-characters\n").unwrap();
    let mut loaded = 0;
    for paper in papers() {
        for block in blocks(&read(&paper), "toml") {
            // The variable is not set in the environment of the test.
            let block = block.replace("env:CHAT_KEY", "a key that is long enough");
            let file = folder.join("gripd.toml");
            fs::write(&file, &block).unwrap();
            let config =
                Config::load(Some(&file), &Overrides { demo: !block.contains("[[route]]"), ..Overrides::default() });
            assert!(config.is_ok(), "{}: {config:?} in {block}", paper.display());
            loaded += 1;
        }
    }
    assert!(loaded >= 4, "only {loaded} configurations were found");
}
