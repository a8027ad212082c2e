//! The page `docs/configuration.md`. Its list of settings is made from `config/gripd.toml`, so that the two cannot
//! differ.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

/// The line of the page after which everything is made from the configuration file.
const MARK: &str = "<!-- Everything below is made from config/gripd.toml. See tests/it/configuration_page.rs. -->\n";

/// The environment variable with which this test writes the page instead of comparing it.
const WRITE: &str = "GRIPD_WRITE_PAGES";

/// A line of the configuration file, without the `#` of a setting that is commented out.
#[derive(Debug, PartialEq)]
enum Line<'a> {
    Blank,
    /// The name of a table, with its brackets.
    Table(&'a str),
    /// A setting, and the comment after it on the same line.
    Setting(&'a str, &'a str),
    /// A line that continues the comment of the setting above.
    Continuation(&'a str),
    /// An indented line of a comment, which is an example.
    Example(&'a str),
    Comment(&'a str),
}

/// Settings that follow each other and have one comment together.
#[derive(Default)]
struct Group {
    settings: Vec<String>,
    comment: String,
    /// Whether the comment stands beside the setting, so that no other setting shares it.
    is_beside: bool,
}

/// The list of settings, as Markdown.
#[derive(Default)]
struct Page {
    text: String,
    group: Group,
}

/// Returns whether a text begins with a key, or with several separated by commas, that are followed by a value or a
/// comment.
fn is_setting(text: &str) -> bool {
    let is_key = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let (code, comment) = split(text);
    match code.split_once(" = ") {
        Some((key, _)) => is_key(key),
        None => !comment.is_empty() && code.split(", ").all(is_key),
    }
}

/// Splits a line into the setting and its comment.
fn split(line: &str) -> (&str, &str) {
    match line.split_once(" # ") {
        Some((setting, comment)) => (setting.trim(), comment.trim()),
        None => (line.trim(), ""),
    }
}

/// Returns a comment as a sentence of Markdown: with a capital letter, a full stop, and escaped characters.
fn sentence(comment: &str) -> String {
    let mut text = String::new();
    let mut is_code = false;
    for (i, c) in comment.char_indices() {
        is_code ^= c == '`';
        match c {
            '*' | '<' if !is_code => text.extend(['\\', c]),
            c if i == 0 => text.push(c.to_ascii_uppercase()),
            c => text.push(c),
        }
    }
    if !text.is_empty() && !text.ends_with(['.', '`', ':']) {
        text.push('.');
    }
    text
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Self {
        let text = line.strip_prefix('#').unwrap_or(line);
        let inner = text.trim_start();
        if inner.is_empty() {
            Self::Blank
        } else if inner.starts_with('[') && inner.ends_with(']') {
            Self::Table(inner)
        } else if is_setting(inner) {
            let (setting, comment) = split(inner);
            Self::Setting(setting, comment)
        } else if let Some(comment) = inner.strip_prefix("# ").filter(|_| text.starts_with("     ")) {
            Self::Continuation(comment.trim_start())
        } else if text.starts_with("   ") {
            Self::Example(inner)
        } else {
            Self::Comment(inner)
        }
    }
}

impl Page {
    /// Adds a word or a line to the comment of the current group.
    fn comment(&mut self, text: &str) {
        let comment = &mut self.group.comment;
        if !comment.is_empty() {
            comment.push(' ');
        }
        comment.push_str(text);
    }

    /// Adds a comment that stands beside the last setting.
    fn comment_beside(&mut self, text: &str) {
        self.group.is_beside = true;
        self.comment(text);
    }

    /// Writes the current group: as an item of a list if it has settings, otherwise as a paragraph.
    fn end_group(&mut self) {
        let Group { settings, comment, .. } = std::mem::take(&mut self.group);
        let settings: Vec<String> = settings.iter().map(|setting| format!("`{setting}`")).collect();
        match (&*settings.join(", "), &*sentence(&comment)) {
            ("", "") => {}
            ("", comment) => write!(self.text, "\n{comment}\n\n").unwrap(),
            (settings, "") => writeln!(self.text, "* {settings}").unwrap(),
            (settings, comment) => writeln!(self.text, "* {settings}: {comment}").unwrap(),
        }
    }

    fn add(&mut self, line: &Line) {
        match line {
            Line::Blank => self.end_group(),
            Line::Table(name) => {
                self.end_group();
                write!(self.text, "\n### `{name}`\n\n").unwrap();
            }
            Line::Setting(setting, comment) => {
                if self.group.is_beside || !comment.is_empty() {
                    self.end_group();
                }
                self.group.settings.push((*setting).to_owned());
                if !comment.is_empty() {
                    self.comment_beside(comment);
                }
            }
            Line::Continuation(text) => self.comment_beside(text),
            Line::Example(text) => {
                self.comment(&format!("`{}`", text.split_whitespace().collect::<Vec<_>>().join(" ")))
            }
            Line::Comment(text) => {
                if !self.group.settings.is_empty() {
                    self.end_group();
                }
                self.comment(text);
            }
        }
    }
}

/// Returns the list of settings that a configuration file describes. Its first paragraph is about the file itself.
fn settings(file: &str) -> String {
    let (_, settings) = file.split_once("\n\n").unwrap();
    let mut page = Page::default();
    settings.lines().for_each(|line| page.add(&Line::parse(line)));
    page.end_group();
    let lines: Vec<&str> = page.text.lines().collect();
    let is_doubled = |i: usize| lines[i].is_empty() && (i == 0 || lines[i - 1].is_empty());
    (0..lines.len()).filter(|&i| !is_doubled(i)).map(|i| format!("{}\n", lines[i])).collect()
}

#[test]
fn the_page_lists_the_settings_of_the_configuration_file() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("docs/configuration.md");
    let page = fs::read_to_string(&path).unwrap();
    let (head, _) = page.split_once(MARK).unwrap();
    let made = format!("{head}{MARK}\n{}", settings(&fs::read_to_string(root.join("config/gripd.toml")).unwrap()));
    if env::var_os(WRITE).is_some() {
        fs::write(&path, &made).unwrap();
    }
    let page = fs::read_to_string(&path).unwrap();
    assert!(
        page == made,
        "docs/configuration.md is old: write it anew by {WRITE}=1 cargo test --test it configuration_page"
    );
}

#[test]
fn a_comment_belongs_to_the_settings_after_it_or_beside_it() {
    let file = "# The file.\n\n# The port.\n#   a    b\nlisten = 1\n# mode = 2\n\n[client]\n# Both.\none = 1\ntwo = 2\n# A text.\n#\n# three = 3   # beside\n#           # it, `*` or *\n# four, five  # <two>\n# six = 6\n";
    let page = "* `listen = 1`, `mode = 2`: The port. `a b`\n\n### `[client]`\n\n* `one = 1`, `two = 2`: Both.\n\nA text.\n\n* `three = 3`: Beside it, `*` or \\*.\n* `four, five`: \\<two>.\n* `six = 6`\n";
    assert_eq!(settings(file), page);
}
