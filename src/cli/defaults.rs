//! The command `gripd config`, which prints a configuration file with all settings.

use super::{OK, say};

/// The configuration file with all settings, their defaults and their descriptions.
const DEFAULTS: &str = include_str!("../../config/gripd.toml");

/// Runs `gripd config --defaults`. Returns the exit code.
pub(super) fn print() -> u8 {
    say(DEFAULTS);
    OK
}
