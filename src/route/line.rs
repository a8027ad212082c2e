//! The lines of a routes file: `condition target`, as Pushpin writes them.

use super::{Condition, Protocol, Route, Target};
use crate::grip::{Invalid, invalid};

/// A space-separated part of a line: `value,property,property=value`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Section {
    value: String,
    properties: Vec<(String, String)>,
}

/// Reads the lines of a routes file.
///
/// # Errors
/// Every line that is wrong, with its number, counted from 1.
pub fn parse_lines(text: &str) -> Result<Vec<Route>, Vec<(usize, Invalid)>> {
    let (mut routes, mut errors) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        match parse_line(line) {
            Ok(route) => routes.extend(route),
            Err(error) => errors.push((index + 1, error)),
        }
    }
    if errors.is_empty() { Ok(routes) } else { Err(errors) }
}

/// Reads one line; `None` for a blank one.
///
/// # Errors
/// What is wrong with it.
pub fn parse_line(line: &str) -> Result<Option<Route>, Invalid> {
    let sections = split(line)?;
    let [condition, targets @ ..] = sections.as_slice() else { return Ok(None) };
    match targets {
        [] => invalid("must specify condition and at least one target"),
        [target] => route(condition, target).map(Some),
        _ => invalid("several targets for one route are not supported yet"),
    }
}

fn route(condition: &Section, target: &Section) -> Result<Route, Invalid> {
    let host = Some(condition.value.to_ascii_lowercase()).filter(|h| h != "*");
    if host.as_deref() == Some("") {
        return invalid("a condition without a host is not supported yet: write '*' for any");
    }
    let mut route = Route {
        condition: Condition { host, ..Condition::default() },
        id: None,
        prefix: String::new(),
        debug: false,
        target: parse_target(&target.value)?,
        ignored: Vec::new(),
    };
    for (name, value) in &condition.properties {
        condition_property(&mut route, name, value)?;
    }
    for (name, _) in &target.properties {
        target_property(&mut route, name)?;
    }
    Ok(route)
}

fn condition_property(route: &mut Route, name: &str, value: &str) -> Result<(), Invalid> {
    let condition = &mut route.condition;
    match (name, value) {
        ("proto", "http") => condition.protocol = Some(Protocol::Http),
        ("proto", "ws") => condition.protocol = Some(Protocol::WebSocket),
        ("proto", _) => return invalid("proto must be set to either 'http' or 'ws'"),
        ("ssl", "yes") => condition.secure = Some(true),
        ("ssl", "no") => condition.secure = Some(false),
        ("ssl", _) => return invalid("ssl must be set to 'yes' or 'no'"),
        ("path_beg", "") => return invalid("path_beg cannot be empty"),
        ("path_beg", _) => value.clone_into(&mut condition.path_beg),
        ("id", _) => route.id = Some(value.to_owned()),
        ("prefix", _) => value.clone_into(&mut route.prefix),
        ("debug", _) => route.debug = true,
        ("log_level" | "orig_headers", _) => route.ignored.push(name.to_owned()),
        (
            "sig_iss" | "sig_key" | "as_host" | "path_rem" | "replace_beg" | "aco" | "jsonp_mode" | "jsonp_cb"
            | "jsonp_body" | "jsonp_defcb" | "jsonp_defmethod" | "session" | "sockjs" | "sockjs_as_path" | "header"
            | "no_grip",
            _,
        ) => return invalid(format!("the route option '{name}' is not supported yet")),
        _ => return invalid(format!("unknown route option '{name}'")),
    }
    Ok(())
}

fn target_property(route: &mut Route, name: &str) -> Result<(), Invalid> {
    match name {
        // Without WebSockets there is nothing that they change.
        "over_http" | "one_event" | "ipc_file_mode" => route.ignored.push(name.to_owned()),
        "ssl" | "untrusted" | "trust_connect_host" | "insecure" | "host" | "sub" | "client_cert" | "client_key" => {
            return invalid(format!("the target option '{name}' is not supported yet"));
        }
        _ => return invalid(format!("unknown target option '{name}'")),
    }
    Ok(())
}

fn parse_target(text: &str) -> Result<Target, Invalid> {
    if text == "test" {
        return invalid("the target 'test' is not supported yet");
    }
    if text.starts_with("zhttp") {
        return invalid(format!("the target '{text}' is a ZeroMQ one, which is not supported: give host:port"));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0)),
        None => return invalid(format!("the target '{text}' has no port: give host:port")),
    };
    let Some(port) = port else { return invalid(format!("the target '{text}' has a port that is not 1 to 65535")) };
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() {
        return invalid(format!("the target '{text}' has no host: give host:port"));
    }
    Ok(Target { host: host.to_owned(), port })
}

/// Splits a line into its sections. Quotes may stand anywhere, with `\\` and `\"` inside; `#` outside of
/// them begins a comment.
fn split(line: &str) -> Result<Vec<Section>, Invalid> {
    let mut sections = Vec::new();
    let mut parts: Vec<Part> = Vec::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '#' => break,
            ' ' | '\t' => finish_section(&mut sections, &mut parts)?,
            ',' => {
                if parts.is_empty() {
                    parts.push(Part::default());
                }
                parts.push(Part::default());
            }
            '"' => read_quoted(&mut chars, last(&mut parts))?,
            '=' => last(&mut parts).equals(),
            _ => last(&mut parts).push(c),
        }
    }
    finish_section(&mut sections, &mut parts)?;
    Ok(sections)
}

/// A comma-separated part of a section: `name` or `name=value`.
#[derive(Default)]
struct Part {
    name: String,
    value: Option<String>,
}

impl Part {
    fn push(&mut self, c: char) {
        self.value.as_mut().unwrap_or(&mut self.name).push(c);
    }

    /// The first `=` begins the value, a further one is part of it.
    fn equals(&mut self) {
        match &mut self.value {
            Some(value) => value.push('='),
            None => self.value = Some(String::new()),
        }
    }
}

fn last(parts: &mut Vec<Part>) -> &mut Part {
    if parts.is_empty() {
        parts.push(Part::default());
    }
    let end = parts.len() - 1;
    &mut parts[end]
}

fn read_quoted(chars: &mut std::str::Chars<'_>, part: &mut Part) -> Result<(), Invalid> {
    loop {
        match chars.next() {
            Some('"') => return Ok(()),
            Some('\\') => match chars.next() {
                Some(c @ ('\\' | '"')) => part.push(c),
                Some(c) => return invalid(format!("unexpected escape '\\{c}'")),
                None => return invalid("unterminated escape"),
            },
            Some(c) => part.push(c),
            None => return invalid("unterminated quote"),
        }
    }
}

/// Makes a section of its parts. A first part with `=` is a property, and the section has no value.
fn finish_section(sections: &mut Vec<Section>, parts: &mut Vec<Part>) -> Result<(), Invalid> {
    if parts.is_empty() {
        return Ok(());
    }
    let mut section = Section::default();
    for (index, part) in parts.drain(..).enumerate() {
        if index == 0 && part.value.is_none() {
            section.value = part.name;
        } else if part.name.is_empty() {
            return invalid(if part.value.is_some() { "empty prop name" } else { "expecting prop" });
        } else {
            section.properties.push((part.name, part.value.unwrap_or_default()));
        }
    }
    sections.push(section);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(line: &str) -> Route {
        parse_line(line).unwrap().unwrap()
    }

    fn error(line: &str) -> String {
        parse_line(line).unwrap_err().to_string()
    }

    #[test]
    fn a_line_is_a_condition_and_a_target() {
        let route = parse("Example.com,path_beg=/a,prefix=\"x, \",id=main \t localhost:8000 # here");
        assert_eq!(route.condition.host.as_deref(), Some("example.com"));
        assert_eq!((route.condition.path_beg.as_str(), route.prefix.as_str()), ("/a", "x, "));
        assert_eq!(route.target, Target { host: "localhost".into(), port: 8000 });
        assert_eq!(route.label().to_string(), "main");
        assert_eq!(parse("* [::1]:80").target.to_string(), "[::1]:80");
        assert_eq!(parse("*,path_beg=/b x:1").label().to_string(), "*/b");
        assert_eq!(parse_line("  # nothing").unwrap(), None);
    }

    #[test]
    fn quotes_escapes_and_equal_signs() {
        let route = parse(r#"*,id="a \"b\" \\ c",prefix=x=y h:1"#);
        assert_eq!((route.id.as_deref(), route.prefix.as_str()), (Some(r#"a "b" \ c"#), "x=y"));
    }

    #[test]
    fn wrong_lines_say_what_is_wrong() {
        assert_eq!(error("*"), "must specify condition and at least one target");
        assert_eq!(error("* \"x"), "unterminated quote");
        assert_eq!(error(r#"* "x\n""#), r"unexpected escape '\n'");
        assert_eq!(error("*, x:1"), "expecting prop");
        assert_eq!(error("*,=1 x:1"), "empty prop name");
        assert_eq!(error("*,path_beg= x:1"), "path_beg cannot be empty");
        assert_eq!(error("*,colour=red x:1"), "unknown route option 'colour'");
        assert_eq!(error("* x"), "the target 'x' has no port: give host:port");
        assert_eq!(error("* x:0"), "the target 'x:0' has a port that is not 1 to 65535");
        assert_eq!(error("* :80"), "the target ':80' has no host: give host:port");
    }

    #[test]
    fn what_is_not_supported_is_refused_or_named() {
        assert!(error("* a:1 b:2").contains("not supported yet"));
        assert!(error("* a:1,ssl").contains("'ssl' is not supported yet"));
        assert!(error("*,header=X:1 a:1").contains("'header' is not supported yet"));
        assert!(error("* test").contains("not supported yet"));
        assert!(error("* zhttp/tcp://x:1").contains("not supported"));
        assert_eq!(parse("*,log_level=1 a:1,over_http").ignored, ["log_level", "over_http"]);
    }

    #[test]
    fn all_wrong_lines_of_a_file_are_told_with_their_numbers() {
        let errors = parse_lines("* a:1\n\nb\n* c\n").unwrap_err();
        assert_eq!(errors.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(parse_lines("# one\n* a:1\nb a:1\n").unwrap().len(), 2);
    }

    proptest! {
        #[test]
        fn hostile_lines_are_errors_not_panics(line in ".{0,60}") {
            let _ = parse_line(&line);
        }
    }
}
