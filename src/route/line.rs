//! The lines of a routes file: `condition target [target...]`, as Pushpin writes them.

use super::section::LineSection;
use super::{Route, options, target};
use crate::grip::{InvalidText, invalid};
use std::fmt;

/// Something that was read from a line of a file, with the number of the line.
pub type Numbered<T> = (usize, T);

/// Reads the lines of a routes file.
///
/// Each route and each error comes with the number of its line, counted from 1.
///
/// # Errors
/// Returns all errors of all lines.
pub fn parse_lines(text: &str) -> Result<Vec<Numbered<Route>>, Vec<Numbered<InvalidText>>> {
    let (mut routes, mut errors) = (Vec::new(), Vec::new());
    // Some editors put a byte order mark at the beginning of a file.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        match parse_line(line) {
            Ok(route) => routes.extend(route.map(|route| (index + 1, route))),
            Err(InvalidLine(all)) => errors.extend(all.into_iter().map(|error| (index + 1, error))),
        }
    }
    if errors.is_empty() { Ok(routes) } else { Err(errors) }
}

/// Returns the routes of a file without the numbers of their lines.
#[cfg(test)]
pub(crate) fn routes_of(text: &str) -> Vec<Route> {
    parse_lines(text).unwrap_or_else(|errors| panic!("{errors:?}")).into_iter().map(|(_, route)| route).collect()
}

/// The errors of a line, all that could be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidLine(pub Vec<InvalidText>);

impl From<InvalidText> for InvalidLine {
    fn from(error: InvalidText) -> Self {
        Self(vec![error])
    }
}

impl fmt::Display for InvalidLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for InvalidLine {}

/// Reads one line. Returns `None` if the line is blank or contains only a comment.
///
/// # Errors
/// The line is not valid. The errors say what is wrong.
pub fn parse_line(line: &str) -> Result<Option<Route>, InvalidLine> {
    let sections = split(line)?;
    let [condition, targets @ ..] = sections.as_slice() else { return Ok(None) };
    if targets.is_empty() {
        return Err(InvalidText::new("must specify condition and at least one target").into());
    }
    let mut errors = Vec::new();
    let mut route = options::parse(condition, &mut errors);
    for section in targets {
        route.targets.extend(target::parse(section, &mut route.ignored, &mut errors));
    }
    if errors.is_empty() { Ok(Some(route)) } else { Err(InvalidLine(errors)) }
}

/// Splits a line into its sections. Quoted text may occur anywhere, and may contain the escapes `\\` and `\"`. A
/// `#` outside of quotes begins a comment.
fn split(line: &str) -> Result<Vec<LineSection>, InvalidText> {
    let mut sections = Vec::new();
    let mut parts: Vec<SectionPart> = Vec::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '#' => break,
            ' ' | '\t' => finish_section(&mut sections, &mut parts)?,
            ',' => {
                if parts.is_empty() {
                    parts.push(SectionPart::default());
                }
                parts.push(SectionPart::default());
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
struct SectionPart {
    name: String,
    value: Option<String>,
}

impl SectionPart {
    fn push(&mut self, c: char) {
        self.value.as_mut().unwrap_or(&mut self.name).push(c);
    }

    /// Handles an `=`. The first one starts the value; any further one is part of the value.
    fn equals(&mut self) {
        match &mut self.value {
            Some(value) => value.push('='),
            None => self.value = Some(String::new()),
        }
    }
}

fn last(parts: &mut Vec<SectionPart>) -> &mut SectionPart {
    if parts.is_empty() {
        parts.push(SectionPart::default());
    }
    let end = parts.len() - 1;
    &mut parts[end]
}

fn read_quoted(chars: &mut std::str::Chars<'_>, part: &mut SectionPart) -> Result<(), InvalidText> {
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

/// Makes a section of its parts, and empties `parts`. If the first part contains `=`, it is a property, and the
/// section has no value.
fn finish_section(sections: &mut Vec<LineSection>, parts: &mut Vec<SectionPart>) -> Result<(), InvalidText> {
    if parts.is_empty() {
        return Ok(());
    }
    let mut section = LineSection::default();
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
    use super::super::{Address, JsonpOptions, TargetPlace};
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
        assert_eq!(route.targets[0].place, TargetPlace::Address(Address { host: "localhost".into(), port: 8000 }));
        assert_eq!(route.name.to_string(), "main");
        assert_eq!(parse("* [::1]:80").targets[0].to_string(), "[::1]:80");
        assert_eq!(parse("*,path_beg=/b x:1").name.to_string(), "*/b");
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
        assert_eq!(error("* x:0"), "the port of the target 'x:0' must be from 1 to 65535");
        assert_eq!(error("* :80"), "the target ':80' has no host: give host:port");
    }

    #[test]
    fn options_of_routes_are_read() {
        let route = parse(
            "h,path_beg=/a,replace_beg=/b,path_rem=9,as_host=x:1,orig_headers,header=\"X-A: 1, 2\",header=X-B:,header=x-a:3,\
             no_grip,debug=false,sig_iss=me,sig_key=base64:QQ==,log_level=1,id=i o:1",
        );
        assert_eq!((route.rewrite.cut, route.rewrite.begin.as_str()), (2, "/b"));
        assert_eq!(route.rewrite.as_host.as_deref(), Some("x:1"));
        let headers = route.rewrite.headers.iter().map(|(n, v)| (n.as_str(), v.as_ref().map(|v| v.to_str().unwrap())));
        assert_eq!(headers.collect::<Vec<_>>(), [("x-a", Some("1, 2")), ("x-b", None)]);
        // A flag is on regardless of its value.
        assert!(route.no_grip && route.debug && route.rewrite.mark_originals && !route.cors);
        assert_eq!((route.signing.issuer.as_deref(), route.signing.key.as_deref()), (Some("me"), Some("base64:QQ==")));
        assert_eq!((route.log_level, route.jsonp), (Some(1), JsonpOptions::default()));
        assert_eq!(parse("*,path_rem=3 o:1").rewrite.cut, 3);
        let jsonp =
            parse("*,aco,jsonp_mode=basic,jsonp_cb=cb,jsonp_body=b,jsonp_defcb=d,jsonp_defmethod=PUT o:1").jsonp;
        assert!(!jsonp.extended && jsonp.callback == "cb" && jsonp.body.as_deref() == Some("b"));
        assert_eq!((jsonp.default_callback.as_deref(), jsonp.default_method), (Some("d"), Some(hyper::Method::PUT)));
        assert!(parse("id=only o:1").condition.is_by_id_only());
    }

    #[test]
    fn targets_and_their_options_are_read() {
        let route = parse("* a:1,host=h:9,sub=x,sub=y,untrusted,over_http test");
        assert_eq!(route.targets.len(), 2);
        let target = &route.targets[0];
        assert_eq!((target.host.as_deref(), &target.channels[..]), (Some("h:9"), &["x".to_owned(), "y".into()][..]));
        assert!(target.untrusted && target.over_http);
        assert_eq!(route.targets[1].place, TargetPlace::Test);
    }

    #[test]
    fn what_is_not_supported_is_refused_or_named() {
        assert!(error("* a:1,ssl").contains("'ssl' is not supported yet"));
        assert!(error("*,session a:1").contains("'session' is not supported"));
        assert!(error("*,sockjs=/s a:1").contains("'sockjs' is not supported"));
        assert!(error("* zhttp/tcp://x:1").contains("not supported"));
        assert!(error("x= a:1").contains("requires an id") || error("x= a:1").contains("unknown route option"));
        assert!(error("path_beg=/a a:1").contains("requires an id"));
        assert!(error("*,header=x a:1").contains("'Name: value'"));
        assert!(error("*,log_level=9 a:1").contains("0 to 4"));
        assert_eq!(parse("* a:1,ipc_file_mode=777").ignored, ["ipc_file_mode"]);
    }

    #[test]
    fn all_wrong_lines_of_a_file_are_told_with_their_numbers() {
        let errors = parse_lines("* a:1\n\nb\n* c\n").unwrap_err();
        assert_eq!(errors.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [3, 4]);
        let routes = parse_lines("# one\n* a:1\nb a:1\n").unwrap();
        assert_eq!(routes.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 3]);
    }

    proptest! {
        #[test]
        fn hostile_lines_are_errors_not_panics(line in ".{0,60}") {
            let _ = parse_line(&line);
        }
    }
}
