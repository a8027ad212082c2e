//! Keys, with the files that they may be in.

use crate::grip::signature::{InvalidKey, Key};
use std::path::Path;

/// Reads a key. `folder`: to which the file that it may name is relative.
pub(super) fn read(text: &str, folder: &Path) -> Result<Key, InvalidKey> {
    Key::parse(text, |path| std::fs::read_to_string(folder.join(path)).map_err(|error| error.to_string()))
}
