//! The place of the configuration file: its name in messages, and the folder to which the paths in it are relative.

use std::path::Path;

/// Returns the name by which errors call a file. The name is empty if there is no file.
pub(super) fn display_name(path: Option<&Path>) -> String {
    path.map_or_else(String::new, |path| path.display().to_string())
}

/// Returns the folder of a file. It is the working directory of gripd if there is no file.
pub(super) fn folder(path: Option<&Path>) -> &Path {
    path.and_then(Path::parent).unwrap_or_else(|| Path::new(""))
}
