//! The parts of a line of a routes file.

/// A space-separated part of a line: `value,property,property=value`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LineSection {
    pub(super) value: String,
    pub(super) properties: Vec<(String, String)>,
}
