//! The errors of the TOML parser, reworded for operators who do not know the type names of Rust and serde.

use crate::grip::similar::did_you_mean;

/// Returns the description of an error with this message. `name` is the name of the setting with the error, such as
/// `client.proxies`, if it is known.
///
/// A message that this function does not know is not reworded.
pub(super) fn describe(message: &str, name: Option<&str>) -> String {
    let name = name.filter(|name| !name.is_empty());
    let wrong_type = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    if let Some((found, expected)) = wrong_type.and_then(|types| types.split_once(", expected ")) {
        let found = if name.is_some_and(may_be_secret) { found_kind(found) } else { found_type(found) };
        return format!("{} must be {}, but is {found}", subject(name), expected_type(expected));
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
    match name {
        Some(name) => format!("'{name}': {message}"),
        None => message.to_owned(),
    }
}

/// Returns the name of the unknown setting that a message is about, if it is about one.
pub(super) fn unknown_name(message: &str) -> Option<&str> {
    message.strip_prefix("unknown field `")?.split('`').next()
}

/// Returns the name of the missing setting that a message is about, if it is about one.
pub(super) fn missing_name(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.split('`').next()
}

fn subject(name: Option<&str>) -> String {
    name.map_or_else(|| "the value".to_owned(), |name| format!("'{name}'"))
}

fn quoted(text: &str) -> String {
    text.replace('`', "'")
}

/// Rewords the end of a message about an unknown word: with the word that was probably meant, or else with all that are
/// allowed. `text` has the form "`a`, expected one of `b`, `c`".
fn unknown_word(kind: &str, text: &str) -> String {
    let (word, known) = text.split_once(", ").unwrap_or((text, ""));
    let known = known.trim_start_matches("expected ").trim_start_matches("one of ").replace('`', "");
    let names = known.split(", ").flat_map(|part| part.split(" or "));
    match did_you_mean(word.trim_matches('`'), names) {
        Some(question) => format!("unknown {kind} {}: {question}", quoted(word)),
        None => format!("unknown {kind} {}; the {kind}s allowed here are: {known}", quoted(word)),
    }
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

/// Returns whether the value of a setting may be, or contain, something that errors must not show.
fn may_be_secret(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    name.starts_with("control.token") || name.starts_with("webhook") || last.ends_with("key") || last == "secret"
}

/// Returns the type of a value, without the value.
fn found_kind(found: &str) -> String {
    let kind = found.split_whitespace().next().unwrap_or_default();
    match kind {
        "string" => "a string".to_owned(),
        "integer" | "floating" => "a number".to_owned(),
        _ => found_type(found),
    }
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
    use super::super::ConfigError;
    use super::super::document::ConfigDocument;
    use std::io::Write;

    /// Returns the errors of a file with this text, each with the number of its line.
    fn errors(text: &str) -> Vec<String> {
        let path = std::env::temp_dir().join(format!("gripd-{}-{:p}.toml", std::process::id(), text));
        std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        let mut error = ConfigError::default();
        if let Err(unreadable) = ConfigDocument::read(Some(&path), &[], &mut error) {
            error = unreadable;
        }
        std::fs::remove_file(&path).unwrap();
        let place = format!("{}:", path.display());
        error.to_string().lines().map(|line| line.replace(&place, "")).collect()
    }

    fn error(text: &str) -> String {
        let all = errors(text);
        assert_eq!(all.len(), 1, "{all:?}");
        all[0].split_once(": ").unwrap().1.to_owned()
    }

    #[test]
    fn wrong_types_are_named_with_the_setting() {
        assert_eq!(error("shards = \"x\""), "'shards' must be a whole number, 0 or greater, but is the string \"x\"");
        assert_eq!(
            error("\n[client]\nproxies = \"::1\""),
            "'client.proxies' must be a list, as in [\"a\", \"b\"], but is the string \"::1\""
        );
        assert_eq!(
            error("[client]\nproxies = [\"::1\", 3]"),
            "'client.proxies' must be a string in quotes, but is the number 3"
        );
        assert_eq!(
            error("[client]\nmax_channels = -5"),
            "'client.max_channels' must be a whole number above 0, but is the number -5"
        );
        let compression = error("[websocket]\ncompression = 1");
        assert_eq!(compression, "'websocket.compression' must be true or false, but is the number 1");
        assert_eq!(error("routes = true"), "'routes' must be a string in quotes, but is true");
        assert_eq!(error("state_dir = {a = 1}"), "'state_dir' must be a string in quotes, but is a table");
        assert_eq!(error("client = 1"), "'client' must be a table, but is the number 1");
        let level = "[[route]]\ntarget = \"o:1\"\nlog_level = 300";
        assert_eq!(error(level), "'route.log_level' must be a whole number, 0 or greater, but is the number 300");
        assert_eq!(
            error("[[route]]\ntarget = 5"),
            "'route.target': give a string in quotes, or a list of such strings"
        );
    }

    #[test]
    fn unknown_and_missing_settings_are_named() {
        assert_eq!(
            error("[websocket]\ncompresion = true"),
            "unknown setting 'compresion': did you mean 'compression'?"
        );
        let unknown = error("[websocket]\nspeed = 1");
        assert!(
            unknown.starts_with("unknown setting 'speed'; the settings allowed here are: compression, "),
            "{unknown}"
        );
        assert_eq!(error("[[route]]\nhost = \"x\""), "the setting 'target' is missing");
        let unknown = error("[control]\nwithout_token = [\"x\"]");
        assert_eq!(
            unknown,
            "'control.without_token': unknown value 'x'; the values allowed here are: unix or loopback"
        );
    }

    #[test]
    fn values_are_refused_with_an_example() {
        let time = "give a duration, such as 250ms, 5s, 2m, 1h or 1d, or a number of seconds";
        assert_eq!(error("drain = \"x\""), format!("'drain': {time}"));
        assert_eq!(error("drain = -1"), format!("'drain': {time}"));
        assert_eq!(error("drain = 1e9"), "'drain': give a time from 0 to a year, in seconds or with a unit");
        assert_eq!(error("log = \"loud\""), "'log': give one of error, warn, info, debug, trace and off");
        let size = "give a size from 1 to 4294967295 bytes, such as 65536 or \"64KiB\"";
        for wrong in ["0", "-5", "1.5"] {
            assert_eq!(
                error(&format!("delivery.client_buffer = {wrong}")),
                format!("'delivery.client_buffer': {size}")
            );
        }
        let here = error("control.listen = \"here\"");
        assert!(here.starts_with("'control.listen': 'here' is not a valid address"), "{here}");
    }

    #[test]
    fn all_errors_are_found_at_once_with_their_lines() {
        let text = "drain = \"x\"\nshrads = 1\n[client]\nproxies = [\n  \"::1\",\n  3,\n]\nidle_timeout = []\n\
                    [[route]]\nhost = \"a\"\n[[route]]\ntarget = \"a:1\"\ncolor = 1\n";
        let mut found: Vec<String> =
            errors(text).iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
        found.sort();
        assert_eq!(found, ["13:", "1:", "2:", "6:", "8:", "9:"]);
        // If a file is not TOML, nothing else can be said about it.
        let broken = errors("drain = \nshrads = 1\n[client\n[[route]]\nhost = \"a\"\n");
        assert!(broken.iter().any(|line| line.starts_with("1:")), "{broken:?}");
        assert!(broken.iter().any(|line| line.starts_with("3:")), "{broken:?}");
        assert!(broken.iter().all(|line| !line.contains("shrads") && !line.contains("missing")), "{broken:?}");
        for large in ["9223372036854775808", "99999999999999999999"] {
            let line = errors(&format!("\ndrain = {large}\n"));
            assert!(line.len() == 1 && line[0].starts_with("2: "), "{line:?}");
        }
    }

    #[test]
    fn secrets_are_not_repeated() {
        for text in [
            "[origin]\nsig_key = 99887766",
            "[[route]]\ntarget = \"a:1\"\nuser_key = 99887766",
            "[control]\ntoken = \"99887766\"",
            "webhook = \"http://x/?99887766\"",
            "[client]\nupstream_key = [99887766]",
        ] {
            let told = error(text);
            assert!(!told.contains("99887766") && told.contains("must be"), "{told}");
        }
    }
}
