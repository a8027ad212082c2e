//! The errors of the TOML parser, reworded for operators who do not know the type names of Rust and serde.

use toml::de::Error;

/// Returns the description of an error in `text`. It names the setting, if the setting begins on the line of the
/// error.
///
/// A message that this function does not know is not reworded.
pub(super) fn describe(error: &Error, text: &str) -> String {
    let message = error.message();
    let name = error.span().and_then(|span| name_before(text, span.start));
    let wrong_type = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    if let Some((found, expected)) = wrong_type.and_then(|types| types.split_once(", expected ")) {
        return format!("{} must be {}, but is {}", subject(name), expected_type(expected), found_type(found));
    }
    if let Some(unknown) = message.strip_prefix("unknown field ") {
        return unknown_word("setting", unknown);
    }
    if let Some(unknown) = message.strip_prefix("unknown variant ") {
        return format!("{}: {}", subject(name), unknown_word("value", unknown));
    }
    if let Some(missing) = message.strip_prefix("missing field ") {
        return format!("the setting {} is missing", quoted(missing));
    }
    if message == "invalid socket address syntax" {
        return format!("{} must be an IP address and a port, as in 127.0.0.1:5561", subject(name));
    }
    match name {
        // The messages of gripd's own types may begin with the name of the setting.
        Some(name) if !message.starts_with(name) => format!("'{name}': {message}"),
        _ => message.to_owned(),
    }
}

/// Returns the name of the setting whose value is at byte `at` of `text`, if the setting begins on the same line.
fn name_before(text: &str, at: usize) -> Option<&str> {
    let before = text.get(..at)?;
    let line = before.rsplit('\n').next()?;
    let (name, _) = line.split_once('=')?;
    let name = name.trim();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (!name.is_empty() && name.chars().all(is_plain)).then_some(name)
}

fn subject(name: Option<&str>) -> String {
    name.map_or_else(|| "the value".to_owned(), |name| format!("'{name}'"))
}

fn quoted(text: &str) -> String {
    text.replace('`', "'")
}

/// Rewords the end of a message about an unknown word. `text` has the form "`a`, expected one of `b`, `c`".
fn unknown_word(kind: &str, text: &str) -> String {
    let (word, known) = text.split_once(", ").unwrap_or((text, ""));
    let known = known.trim_start_matches("expected ").trim_start_matches("one of ").replace('`', "");
    format!("unknown {kind} {}; the {kind}s allowed here are: {known}", quoted(word))
}

fn expected_type(expected: &str) -> String {
    let number = expected.strip_prefix("a nonzero ").unwrap_or(expected);
    let is_whole = matches!(number, "u8" | "u16" | "u32" | "u64" | "usize");
    match expected {
        _ if is_whole && number != expected => "a whole number above 0",
        _ if is_whole => "a whole number, 0 or greater",
        "f64" => "a number",
        "a string" | "path string" => "a string in quotes",
        "a sequence" => "a list, as in [\"a\", \"b\"]",
        "a boolean" => "true or false",
        _ if expected.starts_with("struct ") || expected == "a map" => "a table",
        other => other,
    }
    .to_owned()
}

fn found_type(found: &str) -> String {
    if let Some(text) = found.strip_prefix("string ") {
        return format!("the string {text}");
    }
    for number in ["integer `", "floating point `"] {
        if let Some(number) = found.strip_prefix(number) {
            return format!("the number {}", number.trim_end_matches('`'));
        }
    }
    match found {
        "sequence" => "a list".to_owned(),
        "map" => "a table".to_owned(),
        other => other.trim_start_matches("boolean ").replace('`', ""),
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::ConfigFile;
    use super::*;

    fn error(text: &str) -> String {
        describe(&toml::from_str::<ConfigFile>(text).unwrap_err(), text)
    }

    #[test]
    fn wrong_types_are_named_with_the_setting() {
        assert_eq!(error("drain = \"x\""), "'drain' must be a number, but is the string \"x\"");
        assert_eq!(error("shards = \"x\""), "'shards' must be a whole number, 0 or greater, but is the string \"x\"");
        assert_eq!(
            error("\n[client]\nproxies = \"::1\""),
            "'proxies' must be a list, as in [\"a\", \"b\"], but is the string \"::1\""
        );
        assert_eq!(
            error("[client]\nproxies = [\"::1\", 3]"),
            "'proxies' must be a string in quotes, but is the number 3"
        );
        assert_eq!(
            error("[delivery]\nclient_buffer = -5"),
            "'client_buffer' must be a whole number above 0, but is the number -5"
        );
        assert_eq!(
            error("[delivery]\nclient_buffer = 1.5"),
            "'client_buffer' must be a whole number above 0, but is the number 1.5"
        );
        assert_eq!(error("[websocket]\ncompression = 1"), "'compression' must be true or false, but is the number 1");
        assert_eq!(error("routes = true"), "'routes' must be a string in quotes, but is true");
        assert_eq!(error("state_dir = {a = 1}"), "'state_dir' must be a string in quotes, but is a table");
        assert_eq!(error("client = 1"), "'client' must be a table, but is the number 1");
        let level = "[[route]]\ntarget = \"o:1\"\nlog_level = 300";
        assert_eq!(error(level), "'log_level' must be a whole number, 0 or greater, but is the number 300");
        assert_eq!(error("[[route]]\ntarget = 5"), "'target': give a string in quotes, or a list of such strings");
    }

    #[test]
    fn unknown_and_missing_settings_are_named() {
        let unknown = error("[websocket]\ncompress = true");
        assert!(
            unknown.starts_with("unknown setting 'compress'; the settings allowed here are: compression, "),
            "{unknown}"
        );
        assert_eq!(error("[[route]]\nhost = \"x\""), "the setting 'target' is missing");
        let unknown = error("[control]\nwithout_token = [\"x\"]");
        assert_eq!(unknown, "'without_token': unknown value 'x'; the values allowed here are: unix or loopback");
    }

    #[test]
    fn values_are_refused_with_an_example() {
        assert_eq!(
            error("control.listen = \"here\""),
            "'control.listen' must be an IP address and a port, as in 127.0.0.1:5561"
        );
        assert_eq!(error("drain = -1"), "'drain': give a time in seconds, from 0 to 31536000");
        assert_eq!(error("log = \"loud\""), "log must be one of error, warn, info, debug, trace, off");
    }
}
