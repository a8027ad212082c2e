//! The parts of a line of a routes file.

use crate::grip::similar::did_you_mean;

/// A space-separated part of a line: `value,property,property=value`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LineSection {
    pub(super) value: String,
    pub(super) properties: Vec<(String, String)>,
}

/// Returns the error of an unknown option of a route or a target, with the option that is probably meant.
pub(super) fn unknown_option(of: &str, name: &str, known: &[&str]) -> String {
    match did_you_mean(name, known.iter().copied()) {
        Some(question) => format!("unknown {of} option '{name}': {question}"),
        None => format!("unknown {of} option '{name}'"),
    }
}
