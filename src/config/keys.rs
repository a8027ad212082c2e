//! Keys and secrets of the configuration, which may be in files or in environment variables.

use crate::grip::signature::{InvalidKey, Key};
use crate::grip::{InvalidText, invalid};
use std::path::Path;

/// Reads a key, in one of the forms of `sig_key`: the key itself, or `env:` and the name of an environment variable
/// that holds the key. If the key names a file, its path is relative to `folder`.
pub(super) fn read(text: &str, folder: &Path) -> Result<Key, InvalidKey> {
    let text = resolve(text).map_err(|error| InvalidKey::new(&error.to_string()))?;
    Key::parse(&text, |path| read_file(path, folder))
}

/// Reads a secret that a caller sends as it is. It is written as text, as `file:` and the path of a file, or as
/// `env:` and the name of an environment variable that holds one of these. The path is relative to `folder`.
pub(super) fn read_secret(text: &str, folder: &Path) -> Result<String, InvalidText> {
    let text = resolve(text)?;
    let secret = match text.strip_prefix("file:") {
        Some(path) => read_file(path, folder).map_err(|error| InvalidText::new(format!("{path}: {error}")))?,
        None if text.starts_with("base64:") => {
            return invalid("the value must be text, 'file:PATH' or 'env:NAME': base64 is not supported here");
        }
        None => text,
    };
    let secret = secret.trim();
    if secret.is_empty() {
        return invalid("the value is empty");
    }
    if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        return invalid(
            "the value has characters that a header cannot contain: spaces, control characters, or characters \
             beyond ASCII",
        );
    }
    Ok(secret.to_owned())
}

/// Returns the value of the environment variable that the text names, or the text itself if it names none.
fn resolve(text: &str) -> Result<String, InvalidText> {
    let Some(name) = text.strip_prefix("env:") else { return Ok(text.to_owned()) };
    // On some systems `std::env::var` panics if no variable can have such a name.
    let value = if name.is_empty() || name.contains(['=', '\0']) { None } else { std::env::var(name).ok() };
    match value {
        None => invalid(format!("the environment variable '{name}' is not set")),
        Some(value) if value.starts_with("env:") => invalid(format!(
            "the environment variable '{name}' refers to another variable; it must contain the value itself"
        )),
        Some(value) => Ok(value),
    }
}

fn read_file(path: &str, folder: &Path) -> Result<String, String> {
    std::fs::read_to_string(folder.join(path)).map_err(|error| error.to_string())
}
