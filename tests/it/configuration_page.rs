//! The page `docs/configuration.md` and the manual page gripd.toml(5). Their lists of settings are made from
//! `config/gripd.toml`, so that they cannot differ.

use std::path::PathBuf;
use std::{env, fs};

/// The line of the page after which everything is made from the configuration file.
const MARK: &str = "<!-- Everything below is made from config/gripd.toml. See tests/it/configuration_page.rs. -->\n";

/// The beginning of the manual page.
const MANUAL: &str = r#".TH gripd.toml 5 " " "gripd VERSION" gripd
.SH NAME
gripd.toml \- the configuration of gripd
.SH DESCRIPTION
A file in TOML, which \fBgripd \-\-config\fR reads. This page shows each setting with its
default. Times are in seconds and may have a fraction, and sizes are in bytes. Paths are relative to the folder of the file.
An unknown key is an error.
"#;
/// The end of the manual page.
const MANUAL_END: &str = ".SH SEE ALSO\n\\fBgripd\\fR(1)\n";

/// The environment variable with which these tests write the pages instead of comparing them.
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

/// A part of the list of settings.
enum Entry {
    /// The name of a table, with its brackets.
    Table(String),
    /// A paragraph about no particular setting.
    Paragraph(String),
    /// Settings and the comment about them, which may be empty.
    Settings(Vec<String>, String),
}

/// The list of settings, as it is read.
#[derive(Default)]
struct Page {
    entries: Vec<Entry>,
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

/// Returns a comment as a sentence: with a capital letter and a full stop. `escape` is applied to each character, and
/// is told whether it is in code.
fn sentence(comment: &str, escape: impl Fn(char, bool) -> String) -> String {
    let mut text = String::new();
    let mut is_code = false;
    for (i, c) in comment.char_indices() {
        is_code ^= c == '`';
        text += &escape(if i == 0 { c.to_ascii_uppercase() } else { c }, is_code);
    }
    if !comment.is_empty() && !comment.ends_with(['.', '`', ':']) {
        text.push('.');
    }
    text
}

/// Escapes a character for Markdown.
fn for_markdown(c: char, is_code: bool) -> String {
    if matches!(c, '*' | '<') && !is_code { format!("\\{c}") } else { c.to_string() }
}

/// Escapes a character for a manual page. Code becomes bold.
fn for_manual(c: char, is_code: bool) -> String {
    match c {
        '`' => (if is_code { "\\fB" } else { "\\fR" }).to_owned(),
        '\\' => "\\e".to_owned(),
        '-' if is_code => "\\-".to_owned(),
        c => c.to_string(),
    }
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

    /// Ends the current group: as settings if it has any, otherwise as a paragraph.
    fn end_group(&mut self) {
        let Group { settings, comment, .. } = std::mem::take(&mut self.group);
        match (settings.is_empty(), comment.is_empty()) {
            (true, true) => {}
            (true, false) => self.entries.push(Entry::Paragraph(comment)),
            (false, _) => self.entries.push(Entry::Settings(settings, comment)),
        }
    }

    fn add(&mut self, line: &Line) {
        match line {
            Line::Blank => self.end_group(),
            Line::Table(name) => {
                self.end_group();
                self.entries.push(Entry::Table((*name).to_owned()));
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
fn entries(file: &str) -> Vec<Entry> {
    let (_, settings) = file.split_once("\n\n").unwrap();
    let mut page = Page::default();
    settings.lines().for_each(|line| page.add(&Line::parse(line)));
    page.end_group();
    page.entries
}

/// Returns the list of settings as Markdown.
fn markdown(file: &str) -> String {
    let mut text = String::new();
    for entry in entries(file) {
        text += &match entry {
            Entry::Table(name) => format!("\n### `{name}`\n\n"),
            Entry::Paragraph(comment) => format!("\n{}\n\n", sentence(&comment, for_markdown)),
            Entry::Settings(settings, comment) => {
                let comment = sentence(&comment, for_markdown);
                let colon = if comment.is_empty() { "" } else { ": " };
                format!("* `{}`{colon}{comment}\n", settings.join("`, `"))
            }
        };
    }
    let lines: Vec<&str> = text.lines().collect();
    let is_doubled = |i: usize| lines[i].is_empty() && (i == 0 || lines[i - 1].is_empty());
    (0..lines.len()).filter(|&i| !is_doubled(i)).map(|i| format!("{}\n", lines[i])).collect()
}

/// Returns the list of settings for a manual page.
fn manual(file: &str) -> String {
    let escaped = |text: &str| sentence(text, for_manual);
    // Without the \& at its beginning, a line that begins with a dot or a quote would be a command.
    let mut text = String::new();
    for entry in entries(file) {
        text += &match entry {
            Entry::Table(name) => format!(".SH {}\n", name.trim_matches(['[', ']'])),
            Entry::Paragraph(comment) => format!(".PP\n\\&{}\n", escaped(&comment)),
            Entry::Settings(settings, comment) => {
                let settings: String = settings.join(", ").chars().map(|c| for_manual(c, true)).collect();
                format!(".TP\n\\fB{settings}\\fR\n\\&{}\n", escaped(&comment))
            }
        };
    }
    text
}

/// Compares a page with the text that was made for it, or writes it.
fn compare(page: &str, made: &str) {
    let path = root().join(page);
    if env::var_os(WRITE).is_some() {
        fs::write(&path, made).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == made,
        "{page} is old: write it anew by {WRITE}=1 cargo test --test it configuration_page"
    );
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn configuration() -> String {
    fs::read_to_string(root().join("config/gripd.toml")).unwrap()
}

#[test]
fn the_page_lists_the_settings_of_the_configuration_file() {
    let page = fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let (head, _) = page.split_once(MARK).unwrap();
    compare("docs/configuration.md", &format!("{head}{MARK}\n{}", markdown(&configuration())));
}

#[test]
fn the_manual_page_lists_the_settings_of_the_configuration_file() {
    let head = MANUAL.replace("VERSION", env!("CARGO_PKG_VERSION"));
    compare("packaging/man/gripd.toml.5", &(head + &manual(&configuration()) + MANUAL_END));
}

#[test]
fn a_comment_belongs_to_the_settings_after_it_or_beside_it() {
    let file = "# The file.\n\n# The port.\n#   a    b\nlisten = 1\n# mode = 2\n\n[client]\n# Both.\none = 1\ntwo = 2\n# A text.\n#\n# three = 3   # beside\n#           # it, `*` or *\n# four, five  # <two>\n# six = 6\n";
    let page = "* `listen = 1`, `mode = 2`: The port. `a b`\n\n### `[client]`\n\n* `one = 1`, `two = 2`: Both.\n\nA text.\n\n* `three = 3`: Beside it, `*` or \\*.\n* `four, five`: \\<two>.\n* `six = 6`\n";
    assert_eq!(markdown(file), page);
}
