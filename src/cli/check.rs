//! The command `gripd check`, which checks the configuration.

use super::args::ConfigSource;
use super::{OK, refuse};

/// Runs `gripd check`, which reports all errors in the configuration. Returns the exit code.
pub(super) fn check(source: &ConfigSource) -> u8 {
    match source.load() {
        Ok(config) => {
            let routes = config.routes.map_or(0, |table| table.routes().count());
            println!("The configuration is valid: {routes} routes.");
            OK
        }
        Err(error) => refuse(&error),
    }
}
